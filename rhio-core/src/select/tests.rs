use p2panda_core::SigningKey;

use crate::id::{LogId, SourceSeq};
use crate::log::total::Total;
use crate::log::writer::Writer;
use crate::manifest::{Entry, Manifest};
use crate::record::CanonicalRecord;

use super::*;

const LOG: LogId = LogId::from_bytes([5; 32]);

fn filter(text: &str) -> Filter {
    Filter::parse(text).unwrap()
}

fn record(seq: u64, subject: &str) -> SourceRecord {
    let record = CanonicalRecord::encode(subject, b"", b"").unwrap();
    SourceRecord { position: Position { seq: SourceSeq(seq), time: seq * 10 }, record }
}

fn operation(records: &[SourceRecord]) -> Operation {
    let entries = records.iter().map(|r| Entry { position: r.position, digest: r.record.digest() }).collect();
    let mut writer = Writer::new(SigningKey::from_bytes(&[1; 32]), LOG, None, Total::default());
    writer.stage(Manifest::new(1, entries).unwrap(), 0).unwrap().clone()
}

#[test]
fn only_wanted_records_go_out_and_missing_ones_are_marked() {
    let all = [record(1, "a.x"), record(2, "b.x"), record(4, "a.y"), record(6, "a.z")];
    let operation = operation(&all);
    let selection = Selection::new(filter("a.>"), vec![], &filter(">"));
    let replaced = SourceRecord { position: Position { time: 999, ..all[3].position }, ..all[3].clone() };
    let there = [all[0].clone(), all[1].clone(), record(3, "a.stray"), replaced];
    let selected = selection.select(&operation, &there);
    assert_eq!(selected, [Selected::Record(0), Selected::LeftOut, Selected::LeftOut, Selected::Gone]);
}

#[test]
fn what_the_source_no_longer_holds_is_marked() {
    let all = [record(1, "a.x"), record(2, "a.y")];
    let operation = operation(&all);
    let selection = Selection::new(filter("a.>"), vec![], &filter("a.>"));
    assert_eq!(selection.select(&operation, &all[1..]), [Selected::Gone, Selected::Record(0)]);
}

#[test]
fn what_came_through_an_earlier_log_is_left_out() {
    let all = [record(1, "a.x"), record(2, "a.y"), record(3, "a.z")];
    let operation = operation(&all);
    let floors = vec![Floor { filter: filter("a.x"), through: Position { seq: SourceSeq(2), time: 20 } }];
    let selection = Selection::new(filter("a.>"), floors, &filter(">"));
    assert!(!selection.is_below_floors(all[0].position), "the floor says nothing of a.y");
    assert_eq!(selection.select(&operation, &all), [Selected::LeftOut, Selected::Record(1), Selected::Record(2)]);
}
