//! What becomes of a message's block of headers where it arrives, and how the block at the source is got back from
//! that.
//!
//! Behind the block's first line come three of rhio's own: [`PUBLIC_KEY`], [`OPERATION`] and [`SOURCE`]. What steered
//! JetStream at the source must not steer it again: such a line, and any that looks like one of rhio's own, gets
//! [`PREFIX`] put before it, and `Nats-Msg-Id:` becomes `X-Rhio-Msg-Id:`. All else stays as it is, byte for byte.
//!
//! Lines are told apart as a server does it: anything between two `CR LF`, wherever in the block. A server finds a
//! header by its name and colon behind a `CR LF`, and does not stop at the empty line.
//!
//! The order of rhio's lines tells how the block at the source began, so that it is got back to the byte:
//!
//! | order | the source's block |
//! | --- | --- |
//! | key, operation, source | has a first line: ours are put behind it |
//! | key, source, operation | none: the message has no headers, and all of the block is ours |
//! | source, key, operation | has no `CR LF` at all: everything from the first one on is ours |

use super::{CRLF, Line, MSG_ID, OPERATION, PREFIX, PUBLIC_KEY, SOURCE, VERSION, split_line};
use crate::codec::{decimal, put_decimal};
use crate::id::{OpHash, PublicKey, SourceSeq};
use crate::record::Position;

/// `Nats-` headers that only inform, so that they travel unchanged. Every other one may steer a server, today's or a
/// later one.
const HARMLESS: [&str; 10] = [
    // Why a server put an end to a key. What it says is what makes the message an end rather than an empty value.
    "Nats-Marker-Reason",
    "Nats-Service-Error",
    "Nats-Service-Error-Code",
    "Nats-Stream",
    "Nats-Subject",
    "Nats-Sequence",
    "Nats-Last-Sequence",
    "Nats-Time-Stamp",
    "Nats-Num-Pending",
    "Nats-Msg-Size",
];

/// How the source's block begins.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// A first line, and more.
    Lines,
    /// There is no block.
    None,
    /// A block without an end of a line.
    Unended,
}

impl Shape {
    fn of(block: &[u8]) -> Self {
        if block.is_empty() {
            Self::None
        } else if memchr::memmem::find(block, CRLF).is_some() {
            Self::Lines
        } else {
            Self::Unended
        }
    }

    fn order(self) -> [&'static str; 3] {
        match self {
            Self::Lines => [PUBLIC_KEY, OPERATION, SOURCE],
            Self::None => [PUBLIC_KEY, SOURCE, OPERATION],
            Self::Unended => [SOURCE, PUBLIC_KEY, OPERATION],
        }
    }
}

/// What the headers that rhio adds to an operation's records have in common.
#[derive(Clone, Debug)]
pub struct Stamp {
    author: String,
    operation: String,
    life: String,
}

impl Stamp {
    /// For the records of one operation. `life` is the life of the author's stream.
    pub fn new(author: PublicKey, life: &str, operation: OpHash) -> Self {
        Self { author: author.to_string(), operation: operation.mark(), life: life.to_owned() }
    }

    /// Appends the block that a record gets at the destination. `ttl_allowed` says whether the local stream takes
    /// per-message TTLs (`allow_msg_ttl`).
    pub fn put(&self, out: &mut Vec<u8>, block: &[u8], index: usize, position: Position, ttl_allowed: bool) {
        let shape = Shape::of(block);
        let (first, rest) = if shape == Shape::None { (VERSION, &b""[..]) } else { split_line(block) };
        out.extend_from_slice(first);
        out.extend_from_slice(CRLF);
        for name in shape.order() {
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b": ");
            let number = |out: &mut Vec<u8>, number: u64| {
                out.push(b'/');
                put_decimal(out, number);
            };
            if name == PUBLIC_KEY {
                out.extend_from_slice(self.author.as_bytes());
            } else if name == OPERATION {
                out.extend_from_slice(self.operation.as_bytes());
                number(out, index as u64);
            } else {
                out.extend_from_slice(self.life.as_bytes());
                number(out, position.seq.0);
                number(out, position.time);
            }
            out.extend_from_slice(CRLF);
        }
        if shape != Shape::Lines {
            out.extend_from_slice(CRLF);
            return;
        }
        each_line(rest, |line, end| {
            put_line(out, line, ttl_allowed);
            out.extend_from_slice(end);
        });
    }
}

/// What the headers that rhio added say about a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin<'a> {
    /// The author's public key, in hex digits.
    pub author: &'a [u8],
    /// What names the operation.
    pub operation: &'a [u8],
    /// The record's index in it.
    pub index: u64,
    /// The life of the author's stream.
    pub life: &'a [u8],
    /// Where and when that stream stored it.
    pub position: Position,
}

impl<'a> Origin<'a> {
    /// Reads the values of [`PUBLIC_KEY`], [`OPERATION`] and [`SOURCE`].
    fn read(author: &'a [u8], operation: &'a [u8], source: &'a [u8]) -> Option<Self> {
        let (operation, index) = split_once(operation)?;
        let (life, position) = read_source(source)?;
        Some(Self { author, operation, index: decimal(index)?, life, position })
    }
}

/// Reads the value of [`SOURCE`]: the life of the author's stream, and the place there.
pub fn read_source(value: &[u8]) -> Option<(&[u8], Position)> {
    let (life, place) = split_once(value)?;
    let (seq, time) = split_once(place)?;
    Some((life, Position { seq: SourceSeq(decimal(seq)?), time: decimal(time)? }))
}

/// The block that a record had at its source, and what rhio had added; `None` for a block that rhio has not written.
pub fn restore(block: &[u8]) -> Option<(Vec<u8>, Origin<'_>)> {
    let (first, behind) = split_line(block);
    let mut rest = behind;
    let mut added = [Line::read(b""); 3];
    for line in &mut added {
        let (raw, behind) = split_line(rest);
        (*line, rest) = (Line::read(raw), behind);
    }
    let names = added.map(|line| line.name);
    let shape = [Shape::Lines, Shape::None, Shape::Unended];
    let shape = shape.into_iter().find(|shape| shape.order().map(str::as_bytes) == names)?;
    let value = |name: &str| added.iter().find(|line| line.name == name.as_bytes()).map(|line| line.value);
    let origin = Origin::read(value(PUBLIC_KEY)?, value(OPERATION)?, value(SOURCE)?)?;
    let mut source = Vec::with_capacity(block.len());
    match shape {
        Shape::None => {}
        Shape::Unended => source.extend_from_slice(first),
        Shape::Lines => {
            source.extend_from_slice(first);
            source.extend_from_slice(CRLF);
            each_line(rest, |line, end| {
                restore_line(&mut source, line);
                source.extend_from_slice(end);
            });
        }
    }
    Some((source, origin))
}

/// Gives each line and its end; the last one may have none.
fn each_line<'a>(mut rest: &'a [u8], mut take: impl FnMut(&'a [u8], &'a [u8])) {
    while !rest.is_empty() {
        let (line, behind) = split_line(rest);
        let end = &rest[line.len()..rest.len() - behind.len()];
        take(line, end);
        rest = behind;
    }
}

fn put_line(out: &mut Vec<u8>, line: &[u8], ttl_allowed: bool) {
    match line.strip_prefix(b"Nats-Msg-Id:") {
        Some(value) => {
            out.extend_from_slice(MSG_ID.as_bytes());
            out.push(b':');
            out.extend_from_slice(value);
        }
        None => {
            if must_be_prefixed(line, ttl_allowed) {
                out.extend_from_slice(PREFIX.as_bytes());
            }
            out.extend_from_slice(line);
        }
    }
}

/// Whether a line could steer a server, or be taken for one of rhio's own.
fn must_be_prefixed(line: &[u8], ttl_allowed: bool) -> bool {
    if begins_with(line, PREFIX) {
        return true;
    }
    if !begins_with(line, "Nats-") {
        return false;
    }
    let name = Line::read(line).name;
    let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
    !(HARMLESS.into_iter().any(is) || ttl_allowed && is("Nats-TTL"))
}

fn restore_line(out: &mut Vec<u8>, line: &[u8]) {
    let ours = line.strip_prefix(PREFIX.as_bytes());
    match ours.map(|rest| (rest, rest.strip_prefix(b"Msg-Id:"))) {
        Some((_, Some(value))) => {
            out.extend_from_slice(b"Nats-Msg-Id:");
            out.extend_from_slice(value);
        }
        Some((rest, None)) => out.extend_from_slice(rest),
        None => out.extend_from_slice(line),
    }
}

fn begins_with(line: &[u8], prefix: &str) -> bool {
    line.get(..prefix.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(prefix.as_bytes()))
}

fn split_once(text: &[u8]) -> Option<(&[u8], &[u8])> {
    memchr::memchr(b'/', text).map(|at| (&text[..at], &text[at + 1..]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIFE: &str = "0123456789abcdef";
    const POSITION: Position = Position { seq: SourceSeq(17), time: 1_790_000_000_000_000_001 };

    fn author() -> PublicKey {
        p2panda_core::SigningKey::from_bytes(&[1; 32]).verifying_key().into()
    }

    fn stamp() -> Stamp {
        Stamp::new(author(), LIFE, OpHash::from_bytes([0xab; 32]))
    }

    fn there(block: &[u8], ttl_allowed: bool) -> Vec<u8> {
        let mut out = Vec::new();
        stamp().put(&mut out, block, 3, POSITION, ttl_allowed);
        out
    }

    fn added(order: Shape) -> String {
        let key = format!("X-Rhio-PublicKey: {}\r\n", author());
        let operation = "X-Rhio-Operation: abababababababab/3\r\n";
        let source = "X-Rhio-Source: 0123456789abcdef/17/1790000000000000001\r\n";
        match order {
            Shape::Lines => format!("{key}{operation}{source}"),
            Shape::None => format!("{key}{source}{operation}"),
            Shape::Unended => format!("{source}{key}{operation}"),
        }
    }

    #[test]
    fn the_blocks_are_the_ones_that_were_agreed() {
        let text = |block: &[u8]| String::from_utf8(there(block, false)).unwrap();
        let lines = added(Shape::Lines);
        assert_eq!(
            text(b"NATS/1.0\r\nb: 2\r\nA:1\r\nb: 3\r\nnats-msg-id: x\r\nNats-Msg-Id:y\r\n\r\n"),
            format!("NATS/1.0\r\n{lines}b: 2\r\nA:1\r\nb: 3\r\nX-Rhio-nats-msg-id: x\r\nX-Rhio-Msg-Id:y\r\n\r\n")
        );
        assert_eq!(text(b""), format!("NATS/1.0\r\n{}\r\n", added(Shape::None)));
        assert_eq!(text(b"NATS/1.0\r\n\r\n"), format!("NATS/1.0\r\n{lines}\r\n"));
        assert_eq!(text(b"odd"), format!("odd\r\n{}\r\n", added(Shape::Unended)));
    }

    #[test]
    fn at_most_190_bytes_are_added() {
        let position = Position { seq: SourceSeq(99_999_999_999), time: 9_999_999_999_999_999_999 };
        let mut out = Vec::new();
        let block = b"NATS/1.0\r\nA: 1\r\n\r\n";
        stamp().put(&mut out, block, 1023, position, false);
        assert!(out.len() <= block.len() + 190, "{} bytes are added", out.len() - block.len());
    }

    #[test]
    fn what_steers_jetstream_is_kept_without_its_effect() {
        let line = |line: &str, ttl_allowed: bool| {
            let mut out = Vec::new();
            put_line(&mut out, line.as_bytes(), ttl_allowed);
            String::from_utf8(out).unwrap()
        };
        for (source, destination) in [
            ("Content-Type: a", "Content-Type: a"),
            ("traceparent: a", "traceparent: a"),
            ("Nats-Msg-Id: a", "X-Rhio-Msg-Id: a"),
            ("nats-msg-id: a", "X-Rhio-nats-msg-id: a"),
            ("Nats-Msg-Id : a", "X-Rhio-Nats-Msg-Id : a"),
            ("Nats-Rollup: a", "X-Rhio-Nats-Rollup: a"),
            ("Nats-Expected-Stream: a", "X-Rhio-Nats-Expected-Stream: a"),
            ("Nats-Batch-Id: a", "X-Rhio-Nats-Batch-Id: a"),
            ("Nats-Schedule-Target: a", "X-Rhio-Nats-Schedule-Target: a"),
            ("Nats-Incr: a", "X-Rhio-Nats-Incr: a"),
            ("Nats-Stream-Source: a", "X-Rhio-Nats-Stream-Source: a"),
            ("Nats-TTL: a", "X-Rhio-Nats-TTL: a"),
            ("Nats-Something-Of-Tomorrow: a", "X-Rhio-Nats-Something-Of-Tomorrow: a"),
            ("Nats-Service-Error: a", "Nats-Service-Error: a"),
            ("Nats-Marker", "X-Rhio-Nats-Marker"),
            ("Nats-Marker-Reason: MaxAge", "Nats-Marker-Reason: MaxAge"),
            ("X-Rhio-Source: a", "X-Rhio-X-Rhio-Source: a"),
            ("x-rhio-anything: a", "X-Rhio-x-rhio-anything: a"),
        ] {
            assert_eq!(line(source, false), destination);
        }
        assert_eq!(line("Nats-TTL: a", true), "Nats-TTL: a");
    }

    #[test]
    fn a_header_behind_the_empty_line_steers_nothing_either() {
        let block = there(b"NATS/1.0\r\n\r\nNats-Rollup: all\r\n", false);
        assert!(block.ends_with(b"\r\n\r\nX-Rhio-Nats-Rollup: all\r\n"));
    }

    #[test]
    fn a_block_that_rhio_has_not_written_is_not_restored() {
        let good = there(b"NATS/1.0\r\nA: 1\r\n\r\n", false);
        assert!(restore(&good).is_some());
        assert_eq!(restore(b""), None);
        assert_eq!(restore(b"NATS/1.0\r\nA: 1\r\n\r\n"), None);
        let text = String::from_utf8(good).unwrap();
        assert_eq!(restore(text.replace("/17/", "/x/").as_bytes()), None);
        assert_eq!(restore(text.replace("X-Rhio-Source", "X-Rhio-source").as_bytes()), None);
    }

    /// Blocks made of what a server or rhio looks for, in every spelling, with anything between.
    fn blocks() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            3 => Just(b"\r\n".to_vec()),
            1 => Just(b"NATS/1.0".to_vec()),
            2 => "(?i)(Nats-(Msg-Id|TTL|Rollup|Subject|X)|X-Rhio-(Msg-Id|PublicKey|Source|Operation|Nats-Msg-Id|Z)|A|)"
                .prop_map(String::into_bytes),
            2 => prop::sample::select(vec![&b":"[..], b": ", b" ", b"\r", b"\n", b"\xE9", b"\0", b"v", b"/1/2"])
                .prop_map(<[u8]>::to_vec),
        ];
        prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn whatever_a_block_is_the_stored_one_gives_it_back(block in blocks(), ttl_allowed in any::<bool>()) {
            let stored = there(&block, ttl_allowed);
            let (source, origin) = restore(&stored).unwrap();
            prop_assert_eq!(source, block);
            let author = author().to_string();
            prop_assert_eq!(origin.author, author.as_bytes());
            prop_assert_eq!((origin.operation, origin.index), (&b"abababababababab"[..], 3));
            prop_assert_eq!((origin.life, origin.position), (LIFE.as_bytes(), POSITION));
        }

        #[test]
        fn nothing_steers_the_local_jetstream(block in blocks()) {
            let stored = there(&block, false);
            for at in (2..stored.len()).filter(|at| stored[..*at].ends_with(CRLF)) {
                let line = String::from_utf8_lossy(&stored[at..]).to_ascii_lowercase();
                prop_assert!(!line.starts_with("nats-") || line.starts_with("nats-subject"), "{line}");
            }
        }

        #[test]
        fn garbage_never_panics(block in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = restore(&block);
        }
    }
}
