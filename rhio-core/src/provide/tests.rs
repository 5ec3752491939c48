use p2panda_core::SigningKey;

use crate::id::{LogId, SourceSeq};
use crate::manifest::{Entry, Manifest, Total};
use crate::record::CanonicalRecord;

use super::*;

const LOG: LogId = LogId::from_bytes([5; 32]);

fn filter(text: &str) -> Filter {
    Filter::parse(text).unwrap()
}

fn head(seq: u64) -> Head {
    Head { seq: OpSeq(seq), hash: OpHash::from_bytes([seq as u8; 32]) }
}

fn pull(next: u64, held: Option<u8>) -> Pull {
    let held = held.map(|fill| OpHash::from_bytes([fill; 32]));
    Pull { log: LOG, filter: filter("a.>"), next: OpSeq(next), held, floors: vec![] }
}

fn record(seq: u64, subject: &str) -> SourceRecord {
    let record = CanonicalRecord::encode(subject, [], b"").unwrap();
    SourceRecord { position: Position { seq: SourceSeq(seq), time: seq * 10 }, record }
}

fn operation(records: &[SourceRecord]) -> Operation {
    let entries = records.iter().map(|r| Entry { position: r.position, digest: r.record.digest() }).collect();
    let manifest = Manifest::new(Total::default(), 1, entries).unwrap();
    Operation::sign(&SigningKey::from_bytes(&[1; 32]), LOG, None, 0, manifest)
}

#[test]
fn a_subscriber_that_holds_more_or_other_than_the_log_is_not_served() {
    let open = |pull, log: Option<u64>, before: Option<u8>| {
        let before = before.map(|fill| OpHash::from_bytes([fill; 32]));
        Session::open(pull, &filter(">"), log.map(head), before).map(|s| s.next())
    };
    assert_eq!(open(pull(0, None), None, None), Ok(OpSeq(0)));
    assert_eq!(open(pull(4, Some(3)), Some(3), Some(3)), Ok(OpSeq(4)));
    assert_eq!(open(pull(5, Some(4)), Some(3), None), Err(Refusal::Behind));
    assert_eq!(open(pull(4, Some(9)), Some(3), Some(3)), Err(Refusal::Diverged));
    assert_eq!(open(pull(1, Some(0)), Some(3), None), Ok(OpSeq(1)), "what was pruned can't be compared");
}

#[test]
fn what_is_recent_comes_from_the_ring_and_the_rest_from_the_log() {
    let session = Session::open(pull(4, None), &filter(">"), Some(head(9)), None).unwrap();
    assert_eq!(session.step(Some(head(9)), Some(OpSeq(5))), Step::Log(OpSeq(4)));
    assert_eq!(session.step(Some(head(9)), Some(OpSeq(4))), Step::Ring(OpSeq(4)));
    assert_eq!(session.step(Some(head(9)), None), Step::Log(OpSeq(4)));
    assert_eq!(session.step(Some(head(3)), None), Step::Wait);
}

#[test]
fn only_wanted_records_go_out_and_missing_ones_are_marked() {
    let all = [record(1, "a.x"), record(2, "b.x"), record(4, "a.y"), record(6, "a.z")];
    let operation = operation(&all);
    let mut session = Session::open(pull(0, None), &filter(">"), Some(operation.head()), None).unwrap();
    let replaced = SourceRecord { position: Position { time: 999, ..all[3].position }, ..all[3].clone() };
    let there = [all[0].clone(), all[1].clone(), record(3, "a.stray"), replaced];
    let selected = session.select(&operation, &there);
    assert_eq!(selected, [Selected::Record(0), Selected::LeftOut, Selected::LeftOut, Selected::Gone]);
    assert_eq!(session.next(), OpSeq(1));
}

#[test]
fn what_the_source_no_longer_holds_is_marked() {
    let all = [record(1, "a.x"), record(2, "a.y")];
    let operation = operation(&all);
    let mut session = Session::open(pull(0, None), &filter("a.>"), Some(operation.head()), None).unwrap();
    assert_eq!(session.select(&operation, &all[1..]), [Selected::Gone, Selected::Record(0)]);
}

#[test]
fn what_came_through_an_earlier_log_is_left_out() {
    let all = [record(1, "a.x"), record(2, "a.y"), record(3, "a.z")];
    let operation = operation(&all);
    let mut wanted = pull(0, None);
    wanted.floors = vec![Floor { filter: filter("a.x"), through: Position { seq: SourceSeq(2), time: 20 } }];
    let mut session = Session::open(wanted, &filter(">"), Some(operation.head()), None).unwrap();
    assert!(!session.is_below_floors(all[0].position), "the floor says nothing of a.y");
    assert_eq!(session.select(&operation, &all), [Selected::LeftOut, Selected::Record(1), Selected::Record(2)]);
}

#[test]
fn an_acknowledgement_of_what_was_not_sent_is_a_violation() {
    let operation = operation(&[record(1, "a.x")]);
    let mut session = Session::open(pull(0, None), &filter(">"), Some(operation.head()), None).unwrap();
    assert_eq!(session.applied(operation.head()), Err(CloseCode::Protocol));
    session.select(&operation, &[]);
    assert_eq!(session.applied(operation.head()), Ok(()));
    assert_eq!(session.durable(), Some(operation.head()));
}
