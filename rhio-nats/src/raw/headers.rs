//! Blocks of headers as NATS carries them: `NATS/1.0`, lines, an empty line. No server checks them, so anything may be in
//! there; they are looked into here, never rewritten.

use super::parse::decimal;

/// What a block begins with.
pub const VERSION: &[u8] = b"NATS/1.0";
/// What ends a line, and the block.
pub const CRLF: &[u8] = b"\r\n";

/// One line of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// All of it, without its end.
    pub raw: &'a [u8],
    /// What is before the colon; the whole line when it has none.
    pub name: &'a [u8],
    /// What is behind the colon, without white space around it.
    pub value: &'a [u8],
}

/// What the server says instead of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status<'a> {
    /// Its number, as in HTTP.
    pub code: u16,
    /// Its words.
    pub text: &'a [u8],
}

/// The lines of a block in their order, without its first one.
pub fn lines(block: &[u8]) -> impl Iterator<Item = Line<'_>> {
    let mut rest = split_line(block).1;
    std::iter::from_fn(move || {
        let (raw, behind) = split_line(rest);
        rest = behind;
        (!raw.is_empty()).then(|| {
            let colon = memchr::memchr(b':', raw);
            let (name, value) = colon.map_or((raw, &raw[..0]), |at| (&raw[..at], &raw[at + 1..]));
            Line { raw, name, value: value.trim_ascii() }
        })
    })
}

/// The value of the first line with this name, in whatever case.
pub fn get<'a>(block: &'a [u8], name: &str) -> Option<&'a [u8]> {
    lines(block).find(|line| line.name.eq_ignore_ascii_case(name.as_bytes())).map(|line| line.value)
}

/// What the first line of a block says behind its version. It is the server's word only where no stored message can be:
/// anybody can store a message with such a line.
pub fn status(block: &[u8]) -> Option<Status<'_>> {
    let rest = split_line(block).0.strip_prefix(VERSION)?.trim_ascii();
    let len = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
    let code = decimal(&rest[..len])?.try_into().ok()?;
    Some(Status { code, text: rest[len..].trim_ascii() })
}

/// A line without its end, and what is behind it.
fn split_line(block: &[u8]) -> (&[u8], &[u8]) {
    memchr::memmem::find(block, CRLF).map_or((block, &block[block.len()..]), |at| (&block[..at], &block[at + 2..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_given_as_they_are() {
        let block = b"NATS/1.0\r\ntest header: a\r\nA:\xE9\r\na:  2 \r\nodd\r\n\r\nX: behind the end\r\n";
        let found: Vec<_> = lines(block).map(|line| (line.name, line.value)).collect();
        let expected: [(&[u8], &[u8]); 4] = [(b"test header", b"a"), (b"A", b"\xE9"), (b"a", b"2"), (b"odd", b"")];
        assert_eq!(found, expected);
        assert_eq!(get(block, "a"), Some(&b"\xE9"[..]));
        assert_eq!(get(block, "X"), None);
        assert_eq!(lines(b"").count(), 0);
        assert_eq!(lines(b"NATS/1.0\r\n\r\n").count(), 0);
    }

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
