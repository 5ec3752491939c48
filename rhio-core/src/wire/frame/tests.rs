use p2panda_core::SigningKey;
use proptest::prelude::*;

use super::*;
use crate::id::{OpHash, PublicKey, SourceSeq};
use crate::log::descriptor::{LogDescriptor, Source};
use crate::log::total::Total;
use crate::record::{CanonicalRecord, Position};
use crate::subject::Filter;
use crate::wire::batch::Slot;
use crate::wire::pull::{Floor, Want};

fn author() -> PublicKey {
    SigningKey::from_bytes(&[1; 32]).verifying_key().into()
}

fn descriptor() -> LogDescriptor {
    let source = Source { stream: "s".to_owned(), created: 2, filter: Filter::parse("a.>").unwrap() };
    LogDescriptor::messages(author(), 3, source)
}

fn head() -> Head {
    Head { seq: OpSeq(7), hash: OpHash::from_bytes([8; 32]) }
}

fn position(seq: u64, time: u64) -> Position {
    Position { seq: SourceSeq(seq), time }
}

fn samples() -> Vec<(&'static str, Frame)> {
    let filter = Filter::parse("a.*").unwrap();
    let record = CanonicalRecord::encode("a.b", b"NATS/1.0\r\nH: v\r\n\r\n", b"payload").unwrap();
    let (record, parts) = CanonicalRecord::read(&mut Reader::new(record.as_bytes().clone())).unwrap();
    let state = LogState {
        descriptor: descriptor(),
        closed: true,
        head: Some(head()),
        through: position(9, 10),
        total: Total { items: 11, bytes: 12 },
        pending: Some(13),
    };
    let empty = LogState { closed: false, head: None, pending: None, ..state.clone() };
    let floor = Floor { filter: filter.clone(), through: position(14, 15) };
    let bucket =
        LogState { descriptor: LogDescriptor::bucket(author(), 3, "b"), through: Position::default(), ..empty.clone() };
    let pull = |next, held, want| Frame::Pull(Pull { log: descriptor().id(), next: OpSeq(next), held, want });
    let messages = |floors| Want::Messages { filter: filter.clone(), floors };
    let proven = Slot::Proven(Bytes::from_static(b"b.c"), record.proof());
    let slots = vec![Slot::Gone, Slot::Present(record, parts), Slot::LeftOut, proven];
    vec![
        ("watch", Frame::Watch(Interest::Messages(filter.clone()))),
        ("watch-bucket", Frame::Watch(Interest::Bucket("b".to_owned()))),
        ("logs", Frame::Logs(vec![state, empty, bucket])),
        ("pull", pull(8, Some(head().hash), messages(vec![floor]))),
        ("pull-first", pull(0, None, messages(vec![]))),
        ("pull-bucket", pull(8, Some(head().hash), Want::Bucket)),
        ("pull-settle", pull(8, None, Want::Settle)),
        ("batch", Frame::Batch(Batch { operation: Bytes::from_static(b"operation"), slots })),
        ("pruned", Frame::Pruned { first: OpSeq(16) }),
        ("applied", Frame::Applied(head())),
        ("batch-bare", Frame::Batch(Batch::bare(Bytes::from_static(b"operation")))),
        ("end", Frame::End),
        ("refused", Frame::Refused { code: CloseCode::Refused, reason: "not listed".to_owned() }),
        ("blob", Frame::Blob),
    ]
}

fn decode(bytes: &Bytes) -> Result<Frame, DecodeError> {
    let header: [u8; HEADER_LEN] = bytes[..HEADER_LEN].try_into().unwrap();
    let header = FrameHeader::decode(header)?;
    Frame::decode(header, bytes.slice(HEADER_LEN..))
}

#[test]
fn the_frames_are_the_ones_that_were_agreed() {
    let vectors = include_str!("../../../tests/vectors/frames.txt");
    let lines: Vec<String> =
        samples().iter().map(|(name, frame)| format!("{name} {}", hex::encode(frame.encode()))).collect();
    assert_eq!(lines.join("\n"), vectors.trim());
}

#[test]
fn every_frame_reads_back_and_no_part_of_one_does() {
    for (name, frame) in samples() {
        let bytes = frame.encode();
        assert_eq!(decode(&bytes).unwrap(), frame, "{name}");
        let mut longer = bytes.to_vec();
        longer.push(9);
        assert!(decode(&longer.into()).is_err(), "{name} with a byte too many");
        for len in HEADER_LEN..bytes.len() {
            if !matches!(frame, Frame::Batch(_)) {
                assert!(decode(&bytes.slice(..len)).is_err(), "{name} cut to {len} bytes");
            }
        }
    }
}

#[test]
fn lengths_are_refused_before_anything_is_read() {
    for kind in 0..=255u8 {
        let result = FrameHeader::decode([VERSION, kind, 0xff, 0xff, 0xff, 0xff]);
        assert!(result.is_err(), "kind {kind} with 4 GiB");
    }
    assert!(matches!(FrameHeader::decode([1, 1, 0, 0, 0, 0]), Err(DecodeError::Version { .. })));
}

proptest! {
    #[test]
    fn garbage_never_panics(kind in 0..FrameKind::ALL.len(), bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let header = FrameHeader { kind: FrameKind::ALL[kind].0, len: bytes.len() };
        let _ = Frame::decode(header, bytes.into());
    }
}
