//! The checker finds what it is for.

use std::collections::BTreeMap;

use testkit::checker::{Record, compare, expected_of};

const AUTHOR: &str = "aa";

fn published(count: u64) -> Vec<Record> {
    (1..=count)
        .map(|n| {
            let mut record = Record::new(format!("s.{}", n % 3), None, format!("message {n}"));
            record.sequence = n;
            record.headers = BTreeMap::from([("N".to_owned(), vec![n.to_string()])]);
            record
        })
        .collect()
}

/// The same as a faithful rhio would write them, three to an operation.
fn replicated(published: &[Record]) -> Vec<Record> {
    let mark = |index: usize, record: &Record| {
        let mut record = record.clone();
        record.sequence = index as u64 + 1;
        record.headers.insert("X-Rhio-PublicKey".into(), vec![AUTHOR.into()]);
        let operation = format!("{:016x}/{}", index / 3, index % 3);
        record.headers.insert("X-Rhio-Source".into(), vec![operation.clone()]);
        record.headers.insert("X-Rhio-Operation".into(), vec![operation]);
        record
    };
    published.iter().enumerate().map(|(index, record)| mark(index, record)).collect()
}

#[test]
fn a_faithful_copy_is_clean_whatever_else_the_stream_holds() {
    let mut source = published(20);
    let expected = expected_of(&source, "s.>");
    let mut destination = replicated(&source);
    destination.insert(4, Record::new("s.1", None, "a local message"));
    let mut from_another = destination[0].clone();
    from_another.headers.insert("X-Rhio-PublicKey".into(), vec!["bb".into()]);
    destination.insert(9, from_another.clone());
    let report = compare(&expected, &destination, "s.>", AUTHOR);
    report.assert_clean();
    assert_eq!(report.to_string(), "20 of 20 messages arrived, each once, in order and unchanged");

    source.push(from_another);
    assert_eq!(expected_of(&source, "s.>").len(), 20, "what came from elsewhere is not published again");
    let one = expected_of(&source, "s.1");
    compare(&one, &destination, "s.1", AUTHOR).assert_clean();
}

#[test]
fn what_is_missing_is_lost() {
    let source = published(20);
    let mut destination = replicated(&source);
    destination.drain(5..7);
    let report = compare(&source, &destination, ">", AUTHOR);
    assert_eq!((report.lost.count, report.arrived), (2, 18));
    assert!(report.is_clean_so_far() && !report.is_clean());
    assert!(report.to_string().contains("2 lost:\n  #6 on s.0, 9 bytes \"message 6\""), "{report}");
}

#[test]
fn what_is_there_twice_is_duplicated() {
    let source = published(20);
    let mut destination = replicated(&source);
    destination.push(destination[3].clone());
    let report = compare(&source, &destination, ">", AUTHOR);
    assert_eq!((report.duplicated.count, report.lost.count), (1, 0));
    assert!(!report.is_clean_so_far());
    assert!(report.malformed.count > 0, "its marks give it away as well");
}

#[test]
fn equal_messages_are_counted_each() {
    let mut source = published(5);
    source.push(source[2].clone());
    compare(&source, &replicated(&source), ">", AUTHOR).assert_clean();
    let report = compare(&source, &replicated(&source[..5]), ">", AUTHOR);
    assert_eq!(report.lost.count, 1);
}

#[test]
fn what_changed_places_is_reordered() {
    let source = published(20);
    let mut destination = replicated(&source);
    destination.swap(6, 7);
    let report = compare(&source, &destination, ">", AUTHOR);
    assert_eq!((report.reordered.count, report.lost.count, report.duplicated.count), (1, 0, 0));
    assert!(report.to_string().contains("#7 on s.1, 9 bytes \"message 7\" came after #8"), "{report}");
}

#[test]
fn what_was_changed_is_altered() {
    let source = published(20);
    let mut destination = replicated(&source);
    destination[4].payload = "message X".into();
    destination[8].headers.insert("N".into(), vec!["99".into()]);
    destination[12].subject = "s.9".into();
    let report = compare(&source, &destination, ">", AUTHOR);
    assert_eq!((report.altered.count, report.lost.count, report.unexpected.count), (3, 0, 0));
    let text = report.to_string();
    for part in ["different from byte 8 on", "header N was [\"9\"] and is [\"99\"]", "the subject is s.9"] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
}

#[test]
fn what_nobody_published_is_unexpected() {
    let source = published(6);
    let mut more = published(7);
    let destination = replicated(&more);
    let report = compare(&source, &destination, ">", AUTHOR);
    assert_eq!(report.unexpected.count, 1);
    more.remove(0);
    assert_eq!(compare(&more, &destination, ">", AUTHOR).unexpected.count, 1);
}

#[test]
fn bad_marks_are_malformed() {
    let source = published(4);
    let mut destination = replicated(&source);
    destination[1].headers.remove("X-Rhio-Operation");
    destination[3].headers.insert("X-Rhio-Operation".into(), vec![format!("{:016x}/0", 0)]);
    let report = compare(&source, &destination, ">", AUTHOR);
    assert_eq!(report.malformed.count, 2, "{report}");
    assert!(report.to_string().contains("0 values of X-Rhio-Operation"), "{report}");
}
