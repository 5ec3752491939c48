//! Reading and writing bytes for every format of ours. Integers are big-endian and of fixed width unless a layout says
//! `varint` (LEB128, at most ten bytes, shortest form only: one value has one encoding).

use bytes::{Buf, BufMut, Bytes};
use thiserror::Error;

/// Bytes that do not follow the layout they should have.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum DecodeError {
    /// The bytes end before the field does.
    #[error("ends in the middle of {0}")]
    Truncated(&'static str),
    /// A length or count above what the format allows.
    #[error("{what} is {got}, at most {max} is allowed")]
    TooLarge {
        /// The field.
        what: &'static str,
        /// What the bytes say.
        got: u64,
        /// The bound.
        max: u64,
    },
    /// A value that the format does not know.
    #[error("{0} has a value that is not allowed")]
    Invalid(&'static str),
    /// A format version that this program does not know.
    #[error("{what} has format version {got}, this program knows {known}")]
    Version {
        /// The format.
        what: &'static str,
        /// The version found.
        got: u8,
        /// The version known here.
        known: u8,
    },
    /// Bytes after the end.
    #[error("has {0} bytes too many")]
    Trailing(usize),
}

/// A bounds-checked cursor. Slices share the buffer; nothing is copied.
#[derive(Debug)]
pub struct Reader {
    bytes: Bytes,
}

impl Reader {
    /// Starts at the first byte.
    pub fn new(bytes: Bytes) -> Self {
        Self { bytes }
    }

    /// How many bytes are left.
    pub fn remaining(&self) -> usize {
        self.bytes.len()
    }

    /// The bytes that are left, without taking them.
    pub fn peek(&self) -> Bytes {
        self.bytes.clone()
    }

    /// The next `len` bytes.
    ///
    /// # Errors
    /// When fewer are left.
    pub fn take(&mut self, len: usize, what: &'static str) -> Result<Bytes, DecodeError> {
        if self.bytes.len() < len {
            return Err(DecodeError::Truncated(what));
        }
        Ok(self.bytes.split_to(len))
    }

    /// One byte.
    ///
    /// # Errors
    /// At the end.
    pub fn u8(&mut self, what: &'static str) -> Result<u8, DecodeError> {
        self.bytes.try_get_u8().map_err(|_| DecodeError::Truncated(what))
    }

    /// Two bytes, big-endian.
    ///
    /// # Errors
    /// At the end.
    pub fn u16(&mut self, what: &'static str) -> Result<u16, DecodeError> {
        self.bytes.try_get_u16().map_err(|_| DecodeError::Truncated(what))
    }

    /// Four bytes, big-endian.
    ///
    /// # Errors
    /// At the end.
    pub fn u32(&mut self, what: &'static str) -> Result<u32, DecodeError> {
        self.bytes.try_get_u32().map_err(|_| DecodeError::Truncated(what))
    }

    /// Eight bytes, big-endian.
    ///
    /// # Errors
    /// At the end.
    pub fn u64(&mut self, what: &'static str) -> Result<u64, DecodeError> {
        self.bytes.try_get_u64().map_err(|_| DecodeError::Truncated(what))
    }

    /// Thirty-two bytes: a hash or a key.
    ///
    /// # Errors
    /// At the end.
    pub fn array32(&mut self, what: &'static str) -> Result<[u8; 32], DecodeError> {
        let mut out = [0; 32];
        self.bytes.try_copy_to_slice(&mut out).map_err(|_| DecodeError::Truncated(what))?;
        Ok(out)
    }

    /// A varint in its shortest form.
    ///
    /// # Errors
    /// At the end, above `u64`, or with needless bytes.
    pub fn varint(&mut self, what: &'static str) -> Result<u64, DecodeError> {
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            let byte = self.u8(what)?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(DecodeError::Invalid(what));
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                if byte == 0 && shift > 0 {
                    return Err(DecodeError::Invalid(what));
                }
                return Ok(value);
            }
        }
        Err(DecodeError::Invalid(what))
    }

    /// A string with a 16-bit length before it, of at most `max` bytes of UTF-8.
    ///
    /// # Errors
    /// Too long, truncated, or not UTF-8.
    pub fn string16(&mut self, max: usize, what: &'static str) -> Result<String, DecodeError> {
        let len = usize::from(self.u16(what)?);
        if len > max {
            return Err(DecodeError::TooLarge { what, got: len as u64, max: max as u64 });
        }
        let bytes = self.take(len, what)?;
        String::from_utf8(bytes.into()).map_err(|_| DecodeError::Invalid(what))
    }

    /// Checks that nothing is left.
    ///
    /// # Errors
    /// When something is.
    pub fn finish(&self) -> Result<(), DecodeError> {
        if self.bytes.is_empty() { Ok(()) } else { Err(DecodeError::Trailing(self.bytes.len())) }
    }
}

/// Appends a varint in its shortest form.
pub fn put_varint(out: &mut impl BufMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8((value as u8 & 0x7f) | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// A number in decimal digits, and nothing else; `None` above `u64`.
pub fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, digit| {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 { None } else { number.checked_mul(10)?.checked_add(u64::from(digit)) }
    })
}

/// Appends a number in decimal digits.
pub fn put_decimal(out: &mut impl BufMut, mut number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.put_slice(&digits[at..]);
}

/// Appends a string with a 16-bit length before it. Longer strings are cut off at the bound, which callers check first.
pub fn put_string16(out: &mut impl BufMut, text: &str) {
    debug_assert!(text.len() <= usize::from(u16::MAX));
    let len = text.len().min(usize::from(u16::MAX));
    out.put_u16(len as u16);
    out.put_slice(&text.as_bytes()[..len]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_varint_with_needless_bytes_is_refused() {
        assert_eq!(Reader::new(Bytes::from_static(&[0x80, 0])).varint("n"), Err(DecodeError::Invalid("n")));
        assert_eq!(Reader::new(Bytes::from_static(&[0xff; 11])).varint("n"), Err(DecodeError::Invalid("n")));
        assert_eq!(Reader::new(Bytes::from_static(&[0x80])).varint("n"), Err(DecodeError::Truncated("n")));
    }

    proptest! {
        #[test]
        fn varints_read_back(value in any::<u64>()) {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            let mut reader = Reader::new(out.into());
            prop_assert_eq!(reader.varint("n"), Ok(value));
            prop_assert_eq!(reader.finish(), Ok(()));
        }
    }
}
