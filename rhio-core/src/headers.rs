//! Blocks of headers: `NATS/1.0`, lines, an empty line. No server checks them, so anything may be in there, also behind
//! the empty line, and names and values are bytes. They are looked into here and never written anew: a line is taken
//! over as it is, or gets something put before it.

mod transform;

pub use transform::{Origin, Stamp, read_source, restore};

/// Names the author: 64 hex digits. A message that carries it came through rhio and is never published again.
pub const PUBLIC_KEY: &str = "X-Rhio-PublicKey";
/// Names the operation: the first 16 hex digits of its hash, `/`, and the record's index in it.
pub const OPERATION: &str = "X-Rhio-Operation";
/// Names the place at the author: the life of the author's stream ([`LogDescriptor::life`]), `/`, the sequence number
/// there, `/`, and the time there in nanoseconds. This is what a restart reads back to learn what has been written
/// already, also under a log that the author has forgotten since.
///
/// [`LogDescriptor::life`]: crate::log::descriptor::LogDescriptor::life
pub const SOURCE: &str = "X-Rhio-Source";
/// The `Nats-Msg-Id` that the message had at its source.
pub const MSG_ID: &str = "X-Rhio-Msg-Id";
/// What the names of rhio's own headers begin with, and what is put before others to keep them without their effect.
pub const PREFIX: &str = "X-Rhio-";

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

impl<'a> Line<'a> {
    fn read(raw: &'a [u8]) -> Self {
        let (name, value) = memchr::memchr(b':', raw).map_or((raw, &raw[..0]), |at| (&raw[..at], &raw[at + 1..]));
        Self { raw, name, value: value.trim_ascii() }
    }
}

/// The lines of a block in their order, without its first one, up to the empty line: those that clients see.
pub fn lines(block: &[u8]) -> impl Iterator<Item = Line<'_>> {
    let mut rest = split_line(block).1;
    std::iter::from_fn(move || {
        let (raw, behind) = split_line(rest);
        rest = behind;
        (!raw.is_empty()).then(|| Line::read(raw))
    })
}

/// The value of the first line with this name, in whatever case.
pub fn get<'a>(block: &'a [u8], name: &str) -> Option<&'a [u8]> {
    lines(block).find(|line| line.name.eq_ignore_ascii_case(name.as_bytes())).map(|line| line.value)
}

/// Whether a message came through rhio, so that it is never published again. Some clients write header names their own
/// way, so case does not matter.
pub fn came_through_rhio(block: &[u8]) -> bool {
    get(block, PUBLIC_KEY).is_some()
}

/// Whether a message is an instruction to JetStream to send others at some time. Those are messages of their own; the
/// instruction stays where it is, for at two places it would be carried out twice.
pub fn is_schedule(block: &[u8]) -> bool {
    get(block, "Nats-Schedule").is_some()
}

/// The block of a message with these headers; empty for none. What ends a line must not be in them.
pub fn block<'a>(headers: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in headers {
        if block.is_empty() {
            block.extend_from_slice(b"NATS/1.0\r\n");
        }
        block.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    if !block.is_empty() {
        block.extend_from_slice(CRLF);
    }
    block
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
    fn a_message_that_came_through_rhio_is_known_in_every_spelling() {
        assert!(came_through_rhio(b"NATS/1.0\r\nA: 1\r\nx-rhio-publickey: 0\r\n\r\n"));
        assert!(!came_through_rhio(b"NATS/1.0\r\nA: X-Rhio-PublicKey: 0\r\n\r\n"));
        assert!(!came_through_rhio(b""));
    }

    #[test]
    fn a_block_is_written_as_nats_has_it() {
        assert_eq!(block([("A", "1"), ("b", "x y")]), b"NATS/1.0\r\nA: 1\r\nb: x y\r\n\r\n");
        assert_eq!(block([]), b"");
    }
}
