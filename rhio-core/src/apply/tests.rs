use p2panda_core::SigningKey;

use crate::codec::Reader;
use crate::id::OpHash;
use crate::log::body::Body;
use crate::manifest::{Entry, Manifest};
use crate::record::CanonicalRecord;

use super::*;

const LOG: LogId = LogId::from_bytes([5; 32]);

fn key() -> SigningKey {
    SigningKey::from_bytes(&[1; 32])
}

fn filter(text: &str) -> Filter {
    Filter::parse(text).unwrap()
}

fn at(seq: u64) -> Position {
    Position { seq: SourceSeq(seq), time: seq * 10 }
}

fn record(seq: u64, subject: &str) -> CanonicalRecord {
    CanonicalRecord::encode(subject, b"", &seq.to_be_bytes()).unwrap()
}

fn present(record: &CanonicalRecord) -> Slot {
    let (record, parts) = CanonicalRecord::read(&mut Reader::new(record.as_bytes().clone())).unwrap();
    Slot::Present(record, parts)
}

/// An author: signs operations that follow each other.
struct Author {
    key: SigningKey,
    log: LogId,
    head: Option<Head>,
    total: Total,
}

impl Author {
    fn new() -> Self {
        Self { key: key(), log: LOG, head: None, total: Total::default() }
    }

    /// The next operation, about records with these numbers on subject `a.x`.
    fn batch(&mut self, seqs: &[u64]) -> Batch {
        let records: Vec<_> = seqs.iter().map(|seq| (at(*seq), record(*seq, "a.x"))).collect();
        self.batch_of(&records)
    }

    fn batch_of(&mut self, records: &[(Position, CanonicalRecord)]) -> Batch {
        let entry =
            |(position, record): &(Position, CanonicalRecord)| Entry { position: *position, digest: record.digest() };
        let bytes = records.iter().map(|(_, record)| record.as_bytes().len() as u64).sum();
        let content = Manifest::new(bytes, records.iter().map(entry).collect()).unwrap().into();
        let operation = Operation::sign(&self.key, self.log, self.head, 0, Body { before: self.total, content });
        (self.head, self.total) = (Some(operation.head()), operation.after());
        let slots = records.iter().map(|(_, record)| present(record)).collect();
        Batch { operation: operation.raw().clone(), slots }
    }
}

fn applier_of(text: &str, floors: Vec<Floor>, durable: Cursor, found: Found) -> Applier {
    Applier::new((key().verifying_key().into(), LOG, filter("a.>")), filter(text), floors, durable, found)
}

fn applier() -> Applier {
    applier_of("a.>", vec![], Cursor::default(), Found::default())
}

fn found(records: &[(u64, u64)]) -> Found {
    let mut found = Found::default();
    records.iter().for_each(|(seq, local)| found.push_at(at(*seq), LocalSeq(*local)));
    found
}

fn sources(write: &Write) -> Vec<u64> {
    write.records.iter().map(|outgoing| outgoing.position.seq.0).collect()
}

fn locals(write: &Write) -> Vec<u64> {
    write.delete.iter().map(|local| local.0).collect()
}

// Order: written, then committed, then acknowledged.

#[test]
fn an_operation_is_committed_when_its_records_are_written_and_acknowledged_when_that_is_stored() {
    let (mut author, mut applier) = (Author::new(), applier());
    let write = applier.receive(author.batch(&[1, 2])).unwrap();
    assert_eq!(sources(&write), [1, 2]);
    assert_eq!(applier.commit(), None, "nothing is written yet");
    assert_eq!(applier.committed(), None);
    applier.written(Some(LocalSeq(7)));
    let commit = applier.commit().unwrap();
    assert_eq!((commit.local, commit.gone), (LocalSeq(7), 0));
    assert_eq!(commit.operations, [write.operation.raw().clone()]);
    assert_eq!(applier.durable(), Cursor::default(), "the commit is not stored yet");
    assert_eq!(applier.commit(), None, "one commit at a time");
    assert_eq!(applier.committed(), author.head);
    assert!(applier.is_idle());
    let durable = applier.durable();
    assert_eq!((durable.head, durable.through, durable.total), (author.head, at(2), author.total));
    assert_eq!((durable.local, durable.next()), (LocalSeq(7), OpSeq(1)));
}

#[test]
fn a_commit_holds_the_operations_that_are_written_and_no_later_one() {
    let (mut author, mut applier) = (Author::new(), applier());
    for seq in 1..=4 {
        applier.receive(author.batch(&[seq])).unwrap();
    }
    applier.written(Some(LocalSeq(1)));
    applier.written(Some(LocalSeq(2)));
    assert_eq!(applier.commit().unwrap().operations.len(), 2);
    applier.written(Some(LocalSeq(3)));
    assert_eq!(applier.committed().unwrap().seq, OpSeq(1), "what was written since is not in that commit");
    let next = applier.commit().unwrap();
    assert_eq!((next.operations.len(), next.local), (1, LocalSeq(3)));
    assert_eq!(applier.committed().unwrap().seq, OpSeq(2));
    assert_eq!(applier.commit(), None);
    assert!(!applier.is_idle());
}

#[test]
fn a_commit_is_bounded() {
    let (mut author, mut applier) = (Author::new(), applier());
    for first in 0..3 {
        let seqs: Vec<u64> = (1..=700).map(|n| first * 1000 + n).collect();
        applier.receive(author.batch(&seqs)).unwrap();
        applier.written(None);
    }
    let lengths: Vec<usize> = std::iter::from_fn(|| {
        let commit = applier.commit()?;
        applier.committed();
        Some(commit.operations.len())
    })
    .collect();
    assert_eq!(lengths, [2, 1], "about 25 kB each");
}

#[test]
fn the_pull_goes_on_behind_what_was_received() {
    let (mut author, mut applier) = (Author::new(), applier());
    assert_eq!((applier.pull().next, applier.pull().held), (OpSeq(0), None));
    applier.receive(author.batch(&[1])).unwrap();
    assert_eq!((applier.pull().next, applier.pull().held), (OpSeq(1), author.head.map(|head| head.hash)));
}

#[test]
fn what_the_source_no_longer_has_is_counted() {
    let (mut author, mut applier) = (Author::new(), applier());
    let mut batch = author.batch(&[1, 2, 3]);
    batch.slots[0] = Slot::Gone;
    batch.slots[2] = Slot::Gone;
    assert_eq!(sources(&applier.receive(batch).unwrap()), [2]);
    applier.written(Some(LocalSeq(1)));
    assert_eq!(applier.commit().unwrap().gone, 2);
    applier.committed();
    assert_eq!(applier.durable().gone, 2);
}

// What is refused. Nothing has changed then: the right batch is still taken.

/// Sends a batch that must be refused, then `good`, which must not.
fn refused(applier: &mut Applier, bad: Batch, good: Batch) -> Violation {
    let before = applier.pull();
    let violation = applier.receive(bad).unwrap_err();
    assert_eq!(applier.pull(), before);
    applier.receive(good).unwrap();
    violation
}

#[test]
fn a_forged_signature_is_refused() {
    let good = Author::new().batch(&[1]);
    // The signature is somewhere in the header; whatever bit of the operation is turned, it is refused.
    for at in 3..good.operation.len() {
        let mut raw = good.operation.to_vec();
        raw[at] ^= 1;
        let bad = Batch { operation: raw.into(), slots: good.slots.clone() };
        assert!(matches!(refused(&mut applier(), bad, good.clone()), Violation::Operation(_)), "bit at {at}");
    }
}

#[test]
fn another_authors_or_another_logs_operation_is_refused() {
    let good = Author::new().batch(&[1]);
    let other = SigningKey::from_bytes(&[2; 32]);
    let bad = Author { key: other, ..Author::new() }.batch(&[1]);
    let violation = refused(&mut applier(), bad, good.clone());
    assert!(matches!(violation, Violation::Operation(OperationError::Author { .. })));
    assert_eq!(violation.code(), CloseCode::Unverified);
    let bad = Author { log: LogId::from_bytes([6; 32]), ..Author::new() }.batch(&[1]);
    assert_eq!(refused(&mut applier(), bad, good), Violation::Operation(OperationError::Log));
}

#[test]
fn a_broken_chain_is_refused_and_means_that_the_logs_diverged() {
    let (mut author, mut applier) = (Author::new(), applier());
    applier.receive(author.batch(&[1])).unwrap();
    let head = author.head.map(|head| Head { hash: OpHash::from_bytes([9; 32]), ..head });
    let bad = Author { head, total: author.total, ..Author::new() }.batch(&[2]);
    let violation = refused(&mut applier, bad, author.batch(&[2]));
    assert_eq!(violation, Violation::Operation(OperationError::Backlink(OpSeq(1))));
    assert_eq!(violation.code(), CloseCode::Diverged);
}

#[test]
fn an_operation_out_of_turn_is_refused() {
    let (mut author, mut applier) = (Author::new(), applier());
    let first = author.batch(&[1]);
    let second = author.batch(&[2]);
    let violation = refused(&mut applier, second.clone(), first.clone());
    let sequence = |expected, got| OperationError::Sequence { expected: OpSeq(expected), got: OpSeq(got) };
    assert_eq!(violation, Violation::Operation(sequence(0, 1)));
    assert_eq!(refused(&mut applier, first, second), Violation::Operation(sequence(1, 0)));
}

#[test]
fn a_log_that_jumps_back_in_positions_or_totals_is_refused() {
    let backwards = |head: Option<Head>, total: Total, seq: u64, good: Batch, applier: &mut Applier| {
        let bad = Author { head, total, ..Author::new() }.batch(&[seq]);
        let violation = refused(applier, bad, good);
        assert_eq!(violation, Violation::Operation(OperationError::Backwards(OpSeq(1))));
    };
    for (records, bytes, seq) in [(0, 0, 5), (0, 0, 4), (1, 0, 6), (0, 1, 6)] {
        let (mut author, mut applier) = (Author::new(), applier());
        applier.receive(author.batch(&[5])).unwrap();
        let total = Total { items: author.total.items + records, bytes: author.total.bytes + bytes };
        backwards(author.head, total, seq, author.batch(&[6]), &mut applier);
    }
}

#[test]
fn a_record_that_is_not_what_was_signed_is_refused() {
    let mut author = Author::new();
    let good = author.batch(&[1, 2]);
    let mut bad = good.clone();
    bad.slots.swap(0, 1);
    assert_eq!(refused(&mut applier(), bad, good), Violation::Digest { seq: OpSeq(0), index: 0 });
}

#[test]
fn a_batch_needs_one_slot_for_each_record() {
    for count in [0, 1, 3] {
        let good = Author::new().batch(&[1, 2]);
        let mut bad = good.clone();
        bad.slots.resize(count, Slot::Gone);
        let slots = Violation::Slots { seq: OpSeq(0), expected: 2, got: count };
        assert_eq!(refused(&mut applier(), bad, good), slots);
    }
}

#[test]
fn a_record_that_was_asked_for_must_not_be_left_out() {
    let good = Author::new().batch(&[1, 2]);
    let mut bad = good.clone();
    bad.slots[1] = Slot::LeftOut;
    let withheld = Violation::Withheld { seq: OpSeq(0), index: 1 };
    assert_eq!(refused(&mut applier(), bad.clone(), good), withheld);
    // Under a narrower filter nobody can say without the record.
    let mut narrow = applier_of("a.y", vec![], Cursor::default(), Found::default());
    bad.slots[0] = Slot::LeftOut;
    assert!(sources(&narrow.receive(bad).unwrap()).is_empty());
}

#[test]
fn a_record_is_left_out_by_proof_only_when_its_subject_was_not_asked_for() {
    let good = Author::new().batch(&[1, 2]);
    let proven = |slot: &Slot, subject: Option<&'static [u8]>| match slot {
        Slot::Present(record, parts) => {
            Slot::Proven(subject.map_or_else(|| parts.subject.clone(), Bytes::from_static), record.proof())
        }
        other => panic!("{other:?} is no record"),
    };
    let withheld = Violation::Withheld { seq: OpSeq(0), index: 0 };
    let mut bad = good.clone();
    bad.slots[0] = proven(&good.slots[0], None);
    assert_eq!(refused(&mut applier(), bad, good.clone()), withheld);

    // Under another subject the proof does not give what was signed.
    let mut narrow = applier_of("a.y", vec![], Cursor::default(), Found::default());
    let mut polite = good.clone();
    polite.slots = good.slots.iter().map(|slot| proven(slot, None)).collect();
    let mut bad = polite.clone();
    bad.slots[1] = proven(&good.slots[1], Some(b"b.z"));
    let digest = Violation::Digest { seq: OpSeq(0), index: 1 };
    assert_eq!(refused(&mut narrow, bad, polite), digest);
}

#[test]
fn a_record_that_was_not_asked_for_is_refused() {
    let mut narrow = applier_of("a.y", vec![], Cursor::default(), Found::default());
    let bad = Author::new().batch(&[1]);
    let mut good = bad.clone();
    good.slots[0] = Slot::LeftOut;
    assert_eq!(refused(&mut narrow, bad, good), Violation::Unasked { seq: OpSeq(0), index: 0 });
}

#[test]
fn whoever_sends_more_than_was_asked_for_is_refused() {
    let (mut author, mut applier) = (Author::new(), applier());
    for seq in 1..=MAX_STAGED as u64 {
        assert!(applier.has_room());
        applier.receive(author.batch(&[seq])).unwrap();
    }
    assert!(!applier.has_room());
    let next = author.batch(&[1000]);
    assert_eq!(applier.receive(next.clone()).unwrap_err(), Violation::Flood);
    applier.written(Some(LocalSeq(1)));
    applier.commit().unwrap();
    applier.committed();
    applier.receive(next).unwrap();
}

#[test]
fn the_room_is_measured_in_what_came_whatever_the_author_says() {
    let mut applier = applier();
    let mut total = Total::default();
    let mut head = None;
    let big = CanonicalRecord::encode("a.x", b"", &vec![0; MAX_STAGED_BYTES / 2]).unwrap();
    for (seq, claimed) in [(1, u64::MAX), (2, u64::MAX), (3, 0)] {
        let entry = Entry { position: at(seq), digest: big.digest() };
        let content = Manifest::new(claimed, vec![entry]).unwrap().into();
        let operation = Operation::sign(&key(), LOG, head, 0, Body { before: total, content });
        (head, total) = (Some(operation.head()), operation.after());
        assert_eq!(applier.has_room(), seq < 3);
        if seq < 3 {
            applier.receive(Batch { operation: operation.raw().clone(), slots: vec![present(&big)] }).unwrap();
            applier.written(Some(LocalSeq(seq)));
        }
    }
    applier.commit().unwrap();
    applier.committed();
    assert!(applier.has_room());
}

// Pruned logs.

#[test]
fn a_log_may_begin_later_when_its_author_pruned_it() {
    let (mut author, mut applier) = (Author::new(), applier());
    applier.receive(author.batch(&[1])).unwrap();
    author.batch(&[2, 3]);
    author.batch(&[4]);
    let later = author.batch(&[6]);
    let next = author.batch(&[7]);
    assert!(applier.receive(later.clone()).is_err(), "nobody said that operations are lacking");
    applier.pruned(OpSeq(3)).unwrap();
    assert_eq!(sources(&applier.receive(later).unwrap()), [6]);
    applier.receive(next).unwrap();
    (0..3).for_each(|_| applier.written(None));
    assert_eq!(applier.commit().unwrap().gone, 3, "the records of what was pruned are gone");
}

#[test]
fn a_log_is_not_pruned_backwards() {
    let (mut author, mut applier) = (Author::new(), applier());
    applier.receive(author.batch(&[1])).unwrap();
    applier.receive(author.batch(&[2])).unwrap();
    let pruned = Violation::Pruned { expected: OpSeq(2), got: OpSeq(1) };
    assert_eq!(applier.pruned(OpSeq(1)), Err(pruned));
    assert_eq!(applier.pruned(OpSeq(2)), Ok(()), "nothing is lacking");
    applier.receive(author.batch(&[3])).unwrap();
}

#[test]
fn after_a_gap_an_operation_must_still_lie_ahead() {
    let mut author = Author::new();
    let first = author.batch(&[5]);
    author.batch(&[6]);
    let good = author.batch(&[9]);
    let jump = |total: Total, seq: u64| {
        let head = Some(Head { seq: OpSeq(1), hash: OpHash::from_bytes([0; 32]) });
        Author { head, total, ..Author::new() }.batch(&[seq])
    };
    let fewer = Total { items: 0, ..author.total };
    for bad in [jump(author.total, 5), jump(fewer, 9)] {
        let mut applier = applier();
        applier.receive(first.clone()).unwrap();
        applier.pruned(OpSeq(2)).unwrap();
        let backwards = Violation::Operation(OperationError::Backwards(OpSeq(2)));
        assert_eq!(refused(&mut applier, bad, good.clone()), backwards);
    }
}

#[test]
fn what_an_author_claims_of_pruned_records_overflows_nothing() {
    let mut applier = applier();
    applier.pruned(OpSeq(1)).unwrap();
    let head = Some(Head { seq: OpSeq(0), hash: OpHash::from_bytes([0; 32]) });
    let total = Total { items: u64::MAX, bytes: u64::MAX };
    let mut batch = Author { head, total, ..Author::new() }.batch(&[1]);
    batch.slots[0] = Slot::Gone;
    applier.receive(batch).unwrap();
    applier.written(None);
    assert_eq!(applier.commit().unwrap().gone, u64::MAX);
    applier.committed();
}

// What the local stream holds already.

#[test]
fn what_is_there_is_not_written_again() {
    let mut author = Author::new();
    let mut applier = applier_of("a.>", vec![], Cursor::default(), found(&[(1, 11), (2, 12), (3, 14)]));
    let first = applier.receive(author.batch(&[1, 2])).unwrap();
    assert_eq!((sources(&first), locals(&first)), (vec![], vec![]));
    let second = applier.receive(author.batch(&[3, 4])).unwrap();
    assert_eq!((sources(&second), locals(&second)), (vec![4], vec![]));
    applier.written(None);
    assert_eq!(applier.commit().unwrap().local, LocalSeq(12), "the last place of what was found");
    applier.committed();
    applier.written(Some(LocalSeq(15)));
    assert_eq!(applier.commit().unwrap().local, LocalSeq(15));
}

#[test]
fn what_stands_behind_a_gap_is_taken_out_and_written_in_its_turn() {
    let mut author = Author::new();
    let mut applier = applier_of("a.>", vec![], Cursor::default(), found(&[(1, 11), (3, 12), (5, 13)]));
    let write = applier.receive(author.batch(&[1, 2, 3])).unwrap();
    assert_eq!((sources(&write), locals(&write)), (vec![2, 3], vec![12, 13]));
    let write = applier.receive(author.batch(&[5])).unwrap();
    assert_eq!((sources(&write), locals(&write)), (vec![5], vec![]));
}

#[test]
fn second_copies_are_taken_out() {
    let mut author = Author::new();
    let mut applier =
        applier_of("a.>", vec![], Cursor::default(), found(&[(1, 11), (2, 12), (1, 13), (2, 14), (3, 15)]));
    let write = applier.receive(author.batch(&[1, 2, 3])).unwrap();
    assert_eq!((sources(&write), locals(&write)), (vec![], vec![13, 14]));
}

#[test]
fn what_is_gone_at_the_source_since_it_was_written_stays() {
    let mut author = Author::new();
    let mut applier = applier_of("a.>", vec![], Cursor::default(), found(&[(1, 11), (2, 12), (3, 13)]));
    let mut batch = author.batch(&[1, 2, 3]);
    batch.slots[0] = Slot::Gone;
    batch.slots[1] = Slot::Gone;
    let write = applier.receive(batch).unwrap();
    assert_eq!((sources(&write), locals(&write)), (vec![], vec![]));
}

#[test]
fn another_message_under_the_same_number_is_not_taken_for_the_record() {
    // The source forgot its records 2 and 3, which are here, and gave their numbers to later messages.
    let mut found = found(&[(1, 11), (2, 12), (3, 13)]);
    let again = |seq: u64| Position { seq: SourceSeq(seq), time: 500 + seq };
    let mut author = Author::new();
    let batch =
        author.batch_of(&[(at(1), record(1, "a.x")), (again(2), record(2, "a.y")), (again(3), record(3, "a.y"))]);
    let mut applier = applier_of("a.>", vec![], Cursor::default(), found.clone());
    let write = applier.receive(batch.clone()).unwrap();
    assert_eq!((sources(&write), locals(&write)), (vec![2, 3], vec![]), "what only this node has stays");
    // And the same when the new ones are here as well.
    found.push_at(again(2), LocalSeq(14));
    let mut applier = applier_of("a.>", vec![], Cursor::default(), found);
    let write = applier.receive(batch).unwrap();
    assert_eq!((sources(&write), locals(&write)), (vec![3], vec![]));
}

#[test]
fn numbers_alone_are_compared_when_no_time_is_known() {
    let mut author = Author::new();
    let mut found = Found::default();
    found.push(SourceSeq(1), LocalSeq(11));
    found.push(SourceSeq(3), LocalSeq(12));
    assert_eq!((found.len(), found.is_empty()), (2, false));
    let mut applier = applier_of("a.>", vec![], Cursor::default(), found);
    let write = applier.receive(author.batch(&[1, 2, 3])).unwrap();
    assert_eq!((sources(&write), locals(&write)), (vec![2, 3], vec![12]));
}

// What came through other logs of the same stream.

#[test]
fn what_an_earlier_log_brought_is_not_written_again() {
    let floors = vec![Floor { filter: filter("a.x"), through: at(2) }];
    let mut author = Author::new();
    let batch = author.batch_of(&[(at(1), record(1, "a.x")), (at(2), record(2, "a.y")), (at(3), record(3, "a.x"))]);
    let mut applier = applier_of("a.>", floors.clone(), Cursor::default(), Found::default());
    assert_eq!(applier.pull().want, Want::Messages { filter: filter("a.>"), floors: floors.clone() });
    let mut polite = batch.clone();
    polite.slots[0] = Slot::LeftOut;
    assert_eq!(sources(&applier.receive(polite).unwrap()), [2, 3]);
    // A provider that sends it all the same does no harm.
    let mut applier = applier_of("a.>", floors.clone(), Cursor::default(), Found::default());
    assert_eq!(sources(&applier.receive(batch.clone()).unwrap()), [2, 3]);
    // Above the floors nothing may be left out.
    let mut bad = batch.clone();
    bad.slots[2] = Slot::LeftOut;
    let mut applier = applier_of("a.>", floors, Cursor::default(), Found::default());
    assert_eq!(refused(&mut applier, bad, batch), Violation::Withheld { seq: OpSeq(0), index: 2 });
}

#[test]
fn a_floor_does_not_hide_a_later_message_under_an_old_number() {
    let floors = vec![Floor { filter: filter("a.>"), through: at(2) }];
    let again = Position { seq: SourceSeq(2), time: 500 };
    let batch = Author::new().batch_of(&[(at(1), record(1, "a.x")), (again, record(2, "a.x"))]);
    let mut applier = applier_of("a.>", floors, Cursor::default(), Found::default());
    assert_eq!(sources(&applier.receive(batch).unwrap()), [2]);
}
