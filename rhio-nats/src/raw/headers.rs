//! What the server itself says in a block of headers. What else is in one is read by [`rhio_core::headers`].

use rhio_core::codec::decimal;
pub use rhio_core::headers::{CRLF, VERSION, get, lines};

/// What the server says instead of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status<'a> {
    /// Its number, as in HTTP.
    pub code: u16,
    /// Its words.
    pub text: &'a [u8],
}

/// What the first line of a block says behind its version. It is the server's word only where no stored message can be:
/// anybody can store a message with such a line.
pub fn status(block: &[u8]) -> Option<Status<'_>> {
    let line = memchr::memmem::find(block, CRLF).map_or(block, |end| &block[..end]);
    let rest = line.strip_prefix(VERSION)?.trim_ascii();
    let len = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
    let code = decimal(&rest[..len])?.try_into().ok()?;
    Some(Status { code, text: rest[len..].trim_ascii() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_a_number_and_words() {
        let status_of = |block| status(block).map(|status| (status.code, status.text));
        assert_eq!(status_of(b"NATS/1.0 408 Request Timeout\r\nX: 1\r\n\r\n"), Some((408, &b"Request Timeout"[..])));
        assert_eq!(status_of(b"NATS/1.0 503\r\n\r\n"), Some((503, &b""[..])));
        assert_eq!(status_of(b"NATS/1.0   100  Idle  \r\n\r\n"), Some((100, &b"Idle"[..])));
        for none in [&b""[..], b"NATS/1.0\r\n\r\n", b"NATS/1.0 x\r\n\r\n", b"NATS/1.0 99999\r\n\r\n", b"HTTP/1.1 200"] {
            assert_eq!(status_of(none), None);
        }
    }
}
