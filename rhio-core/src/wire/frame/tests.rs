use p2panda_core::SigningKey;
use proptest::prelude::*;

use super::*;

fn descriptor() -> LogDescriptor {
    LogDescriptor {
        author: SigningKey::from_bytes(&[1; 32]).verifying_key().into(),
        stream: "s".to_owned(),
        created: 2,
        filter: Filter::parse("a.>").unwrap(),
        epoch: 3,
    }
}

fn head() -> Head {
    Head { seq: OpSeq(7), hash: OpHash::from_bytes([8; 32]) }
}

fn position(seq: u64, time: u64) -> Position {
    Position { seq: SourceSeq(seq), time }
}

fn samples() -> Vec<(&'static str, Frame)> {
    let filter = Filter::parse("a.*").unwrap();
    let record = CanonicalRecord::encode("a.b", [(&b"H"[..], &b"v"[..])], b"payload").unwrap();
    let (record, parts) = CanonicalRecord::read(&mut Reader::new(record.as_bytes().clone())).unwrap();
    let state = LogState {
        descriptor: descriptor(),
        closed: true,
        head: Some(head()),
        through: position(9, 10),
        total: Total { records: 11, bytes: 12 },
        pending: Some(13),
    };
    let empty = LogState { closed: false, head: None, pending: None, ..state.clone() };
    let floor = Floor { filter: filter.clone(), through: position(14, 15) };
    let pull = Pull {
        log: descriptor().id(),
        filter: filter.clone(),
        next: OpSeq(8),
        held: Some(head().hash),
        floors: vec![floor],
    };
    let first = Pull { next: OpSeq(0), held: None, floors: vec![], ..pull.clone() };
    let slots = vec![Slot::Gone, Slot::Present(record, parts), Slot::LeftOut];
    vec![
        ("watch", Frame::Watch { filter }),
        ("logs", Frame::Logs(vec![state, empty])),
        ("pull", Frame::Pull(pull)),
        ("pull-first", Frame::Pull(first)),
        ("batch", Frame::Batch(Batch { operation: Bytes::from_static(b"operation"), slots })),
        ("pruned", Frame::Pruned { first: OpSeq(16) }),
        ("applied", Frame::Applied(head())),
        ("recall", Frame::Recall { log: descriptor().id(), from: OpSeq(17) }),
        ("operation", Frame::Operation(Bytes::from_static(b"operation"))),
        ("end", Frame::End),
        ("refused", Frame::Refused { code: CloseCode::Refused, reason: "not listed".to_owned() }),
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
        // One byte more is an operation's last byte or a fourth slot, and an error everywhere else.
        if !matches!(frame, Frame::Operation(_)) {
            assert!(decode(&longer.into()).is_err(), "{name} with a byte too many");
        }
        for len in HEADER_LEN..bytes.len() {
            if !matches!(frame, Frame::Operation(_) | Frame::Batch(_)) {
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
    assert!(matches!(FrameHeader::decode([2, 1, 0, 0, 0, 0]), Err(DecodeError::Version { .. })));
}

#[test]
fn a_floor_holds_only_what_is_not_newer_in_either_sense() {
    let floor = Floor { filter: Filter::parse("a.>").unwrap(), through: position(10, 100) };
    assert!(floor.holds(position(10, 100), "a.b"));
    assert!(floor.holds(position(3, 30), "a.b"));
    assert!(!floor.holds(position(3, 30), "b.a"));
    assert!(!floor.holds(position(11, 90), "a.b"));
    assert!(!floor.holds(position(9, 101), "a.b"), "a number given again after a power cut");
}

proptest! {
    #[test]
    fn garbage_never_panics(kind in 0u8..12, bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let header = FrameHeader { kind, len: bytes.len() };
        let _ = Frame::decode(header, bytes.into());
    }
}
