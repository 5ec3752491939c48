use crate::id::SourceSeq;
use crate::log::chain::Chain;
use crate::log::descriptor::{Kind, Source};
use crate::record::CanonicalRecord;
use crate::subject::Filter;

use super::*;

fn sealer() -> Sealer {
    let key = SigningKey::from_bytes(&[1; 32]);
    let source = Source { stream: "s".to_owned(), created: 1, filter: Filter::parse(">").unwrap() };
    let descriptor = LogDescriptor::messages(key.verifying_key().into(), 1, source);
    Sealer::new(key, descriptor, Tail::default(), Position::default())
}

fn record(seq: u64, len: usize) -> SourceRecord {
    let record = CanonicalRecord::encode("a", b"", &vec![seq as u8; len]).unwrap();
    SourceRecord { position: Position { seq: SourceSeq(seq), time: seq * 10 }, record }
}

#[test]
fn one_waiting_message_is_sealed_at_once_and_the_rest_waits_for_the_acknowledgement() {
    let mut sealer = sealer();
    assert!(sealer.seal(0).is_none());
    sealer.deliver(record(1, 5));
    assert_eq!(sealer.seal(0).unwrap().records().len(), 1);
    sealer.deliver(record(2, 5));
    sealer.deliver(record(4, 5));
    assert!(sealer.seal(0).is_none(), "the first operation is not durable yet");
    let first = sealer.appended().unwrap();
    let second = sealer.seal(0).unwrap().clone();
    let mut chain = Chain::new(first.operation.author(), sealer.log(), Kind::Messages);
    chain.accept(&first.operation).unwrap();
    chain.accept(&second).unwrap();
    assert_eq!(second.records().len(), 2);
    assert_eq!(second.before().items, 1);
    assert_eq!(second.through().seq, SourceSeq(4));
}

#[test]
fn what_is_delivered_again_is_sealed_once() {
    let mut sealer = sealer();
    for seq in [1, 2, 1, 2, 3, 3] {
        sealer.deliver(record(seq, 1));
    }
    let operation = sealer.seal(0).unwrap();
    let seqs: Vec<u64> = operation.records().iter().map(|e| e.position.seq.0).collect();
    assert_eq!(seqs, [1, 2, 3]);
}

#[test]
fn batches_are_bounded_in_records_and_in_bytes() {
    let mut many = sealer();
    (1..=MAX_RECORDS as u64 + 1).for_each(|seq| many.deliver(record(seq, 1)));
    assert_eq!(many.seal(0).unwrap().records().len(), MAX_RECORDS);

    let mut large = sealer();
    large.deliver(record(1, TARGET_BATCH_LEN * 2));
    large.deliver(record(2, TARGET_BATCH_LEN - 100));
    large.deliver(record(3, 200));
    for expected in [1, 2, 3] {
        assert_eq!(large.seal(0).unwrap().first().seq, SourceSeq(expected));
        large.appended().unwrap();
    }
    large.deliver(record(4, QUEUE_BYTES));
    assert!(!large.has_room());
}

#[test]
fn a_log_is_continued_only_when_nothing_can_have_been_lost() {
    let tail = Tail { through: Position { seq: SourceSeq(9), time: 90 }, ..Tail::default() };
    let sure = Evidence { tail: Some(tail), same_server: true, all_answered: false, record: TailRecord::Held };
    assert_eq!(recover(sure), Plan::Continue(tail));
    assert_eq!(recover(Evidence { record: TailRecord::Expired, ..sure }), Plan::Continue(tail));
    assert_eq!(recover(Evidence { same_server: false, all_answered: true, ..sure }), Plan::Continue(tail));
    let silent = recover(Evidence { same_server: false, ..sure });
    assert_eq!(silent, Plan::Begin { after: tail.through, reason: Unsettled::ReaderSilent });
    let held = Position { seq: SourceSeq(7), time: 70 };
    let forgot = recover(Evidence { record: TailRecord::Forgotten(held), ..sure });
    assert_eq!(forgot, Plan::Begin { after: held, reason: Unsettled::SourceForgot });
    assert_eq!(forgot.start(), SourceSeq(8));
    assert_eq!(recover(Evidence { tail: None, ..sure }).start(), SourceSeq(1));
}
