use crate::id::{Digest, SourceSeq};
use crate::manifest::{Entry, Total};
use crate::record::Position;

use super::*;

fn key(fill: u8) -> SigningKey {
    SigningKey::from_bytes(&[fill; 32])
}

fn descriptor() -> LogDescriptor {
    LogDescriptor {
        author: key(1).verifying_key().into(),
        stream: "workload".to_owned(),
        created: 1_700_000_000_000_000_001,
        filter: Filter::parse("workload.*.energy").unwrap(),
        epoch: 1_700_000_000_123,
    }
}

fn manifest(seq: u64) -> Manifest {
    let entry = Entry {
        position: Position { seq: SourceSeq(seq), time: 1_700_000_000_000_000_005 },
        digest: Digest::from_bytes([9; 32]),
    };
    Manifest::new(Total::default(), 40, vec![entry]).unwrap()
}

fn chain() -> (Operation, Operation) {
    let log = descriptor().id();
    let first = Operation::sign(&key(1), log, None, 1_700_000_000_000_000, manifest(1));
    let second = Operation::sign(&key(1), log, Some(first.head()), 1_700_000_000_000_001, manifest(2));
    (first, second)
}

#[test]
fn the_formats_are_the_ones_that_were_agreed() {
    let (first, second) = chain();
    assert_eq!(descriptor().id().to_string(), include_str!("../../tests/vectors/log-id.hex").trim());
    assert_eq!(hex::encode(first.raw()), include_str!("../../tests/vectors/operation-0.hex").trim());
    assert_eq!(hex::encode(second.raw()), include_str!("../../tests/vectors/operation-1.hex").trim());
}

#[test]
fn an_operation_reads_back_and_follows_its_predecessor() {
    let (first, second) = chain();
    for operation in [&first, &second] {
        assert_eq!(&Operation::verify(operation.raw().clone()).unwrap(), operation);
        assert_eq!(&Operation::read_stored(operation.raw().clone()).unwrap(), operation);
        operation.belongs_to(key(1).verifying_key().into(), descriptor().id()).unwrap();
    }
    first.follows(None).unwrap();
    second.follows(Some(first.head())).unwrap();
}

#[test]
fn whatever_byte_is_changed_the_operation_is_refused() {
    let (_, second) = chain();
    for at in 0..second.raw().len() {
        let mut bytes = second.raw().to_vec();
        bytes[at] ^= 1;
        assert!(Operation::verify(bytes.into()).is_err(), "byte {at} was changed and nobody noticed");
    }
    for len in 0..second.raw().len() {
        assert!(Operation::verify(second.raw().slice(..len)).is_err());
    }
}

#[test]
fn a_broken_chain_is_noticed() {
    let (first, second) = chain();
    assert!(matches!(second.follows(None), Err(OperationError::Sequence { .. })));
    assert!(matches!(first.follows(Some(second.head())), Err(OperationError::Sequence { .. })));
    let fork = Operation::sign(&key(1), descriptor().id(), None, 5, manifest(1));
    assert_eq!(second.follows(Some(fork.head())), Err(OperationError::Backlink(OpSeq(1))));
    let other = Operation::sign(&key(2), descriptor().id(), None, 5, manifest(1));
    let author = key(1).verifying_key().into();
    assert!(matches!(other.belongs_to(author, descriptor().id()), Err(OperationError::Author { .. })));
    assert_eq!(first.belongs_to(author, LogId::from_bytes([0; 32])), Err(OperationError::Log));
}

#[test]
fn a_stream_created_again_is_another_log() {
    let mut again = descriptor();
    again.created += 1;
    assert_ne!(again.id(), descriptor().id());
    assert!(!again.same_stream(&descriptor()));
    let mut epoch = descriptor();
    epoch.epoch += 1;
    assert_ne!(epoch.id(), descriptor().id());
    assert!(epoch.same_stream(&descriptor()));
}

#[test]
fn a_descriptor_reads_back() {
    let mut reader = Reader::new(descriptor().encode());
    assert_eq!(LogDescriptor::read(&mut reader).unwrap(), descriptor());
    reader.finish().unwrap();
}
