use crate::id::{Digest, SourceSeq};
use crate::manifest::{Entry, Manifest};
use crate::record::Position;

use super::*;

const LOG: LogId = LogId::from_bytes([5; 32]);

fn key(fill: u8) -> SigningKey {
    SigningKey::from_bytes(&[fill; 32])
}

fn body(seq: u64, items: u64) -> Body {
    let position = Position { seq: SourceSeq(seq), time: 1_700_000_000_000_000_005 };
    let entry = Entry { position, digest: Digest::from_bytes([9; 32]) };
    Body { before: Total { items, bytes: items * 40 }, content: Manifest::new(40, vec![entry]).unwrap().into() }
}

fn pair() -> (Operation, Operation) {
    let first = Operation::sign(&key(1), LOG, None, 1_700_000_000_000_000, body(1, 0));
    let second = Operation::sign(&key(1), LOG, Some(first.head()), 1_700_000_000_000_001, body(2, 1));
    (first, second)
}

#[test]
fn the_formats_are_the_ones_that_were_agreed() {
    let (first, second) = pair();
    assert_eq!(hex::encode(first.raw()), include_str!("../../../tests/vectors/operation-0.hex").trim());
    assert_eq!(hex::encode(second.raw()), include_str!("../../../tests/vectors/operation-1.hex").trim());
}

#[test]
fn an_operation_reads_back() {
    let (first, second) = pair();
    for operation in [&first, &second] {
        assert_eq!(&Operation::verify(operation.raw().clone()).unwrap(), operation);
        assert_eq!(&Operation::read_stored(operation.raw().clone()).unwrap(), operation);
    }
    assert_eq!((second.seq(), second.backlink()), (OpSeq(1), Some(first.hash())));
}

#[test]
fn the_format_before_is_told_from_damage() {
    let mut bytes = pair().0.raw().to_vec();
    bytes[0] = 1;
    let version = DecodeError::Version { what: "operation", got: 1, known: VERSION };
    assert_eq!(Operation::verify(bytes.into()), Err(version.into()));
}

#[test]
fn whatever_byte_is_changed_the_operation_is_refused() {
    let (_, second) = pair();
    for at in 0..second.raw().len() {
        let mut bytes = second.raw().to_vec();
        bytes[at] ^= 1;
        assert!(Operation::verify(bytes.into()).is_err(), "byte {at} was changed and nobody noticed");
    }
    for len in 0..second.raw().len() {
        assert!(Operation::verify(second.raw().slice(..len)).is_err());
    }
}
