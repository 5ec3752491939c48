//! What becomes of a message's headers on its way.

use std::collections::BTreeMap;

use super::Record;

/// Names the author of a replicated message.
pub(super) const PUBLIC_KEY: &str = "X-Rhio-PublicKey";
/// Names the signed operation that covers it, and its place in there.
pub(super) const OPERATION: &str = "X-Rhio-Operation";
/// JetStream's duplicate detection: at the destination it is kept under another name.
const MESSAGE_ID: &str = "Nats-Msg-Id";
/// Where the author's stream has it.
pub(super) const SOURCE: &str = "X-Rhio-Source";
const TTL: &str = "Nats-TTL";

/// Headers that make JetStream do something, beside the two above.
const CONTROL: &[&str] =
    &["Nats-Expected-", "Nats-Batch-", "Nats-Rollup", "Nats-Schedule", "Nats-Incr", "Nats-Required-Api-Level"];

/// What is wrong with the headers of an arrived message, seen beside the message that was published.
pub(super) fn differences(published: &Record, arrived: &Record) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut rest: BTreeMap<String, &Vec<String>> =
        arrived.headers.iter().map(|(name, values)| (name.clone(), values)).collect();
    for own in [PUBLIC_KEY, OPERATION, SOURCE] {
        rest.remove(own);
    }
    for (name, values) in &published.headers {
        let kept = format!("X-Rhio-{name}");
        let places: &[&str] = if name == MESSAGE_ID {
            &["X-Rhio-Msg-Id"]
        } else if name == TTL {
            &[TTL, &kept]
        } else if CONTROL.iter().any(|prefix| name.starts_with(prefix)) {
            &[&kept]
        } else {
            &[name]
        };
        match places.iter().find_map(|place| rest.remove(*place)) {
            Some(found) if found == values => {}
            Some(found) => wrong.push(format!("header {name} was {values:?} and is {found:?}")),
            None => wrong.push(format!("header {name} {values:?} is missing as {}", places.join(" or "))),
        }
    }
    wrong.extend(rest.into_iter().map(|(name, values)| format!("header {name} {values:?} was not published")));
    wrong
}

/// The hash and the index of a well-formed `X-Rhio-Operation`.
pub(super) fn operation(record: &Record) -> Result<(&str, u64), String> {
    let values = record.headers.get(OPERATION).map(Vec::as_slice).unwrap_or_default();
    let [value] = values else { return Err(format!("{} values of {OPERATION} instead of one", values.len())) };
    let hex = |text: &str| text.len() == 16 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    value
        .split_once('/')
        .filter(|(hash, index)| hex(hash) && digits(index))
        .and_then(|(hash, index)| Some((hash, index.parse().ok()?)))
        .ok_or_else(|| format!("{OPERATION} is {value:?} and not <16 hex digits>/<index>"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(headers: &[(&str, &str)]) -> Record {
        let mut record = Record::new("a", None, "x");
        for (name, value) in headers {
            record.headers.entry((*name).into()).or_default().push((*value).into());
        }
        record
    }

    #[test]
    fn headers_that_went_the_right_way_are_accepted() {
        let published = record(&[
            ("Trace", "1"),
            ("Trace", "2"),
            ("Nats-Msg-Id", "m"),
            ("Nats-Expected-Stream", "s"),
            ("Nats-TTL", "1h"),
        ]);
        let arrived = record(&[
            ("Trace", "1"),
            ("Trace", "2"),
            ("X-Rhio-Msg-Id", "m"),
            ("X-Rhio-Nats-Expected-Stream", "s"),
            ("Nats-TTL", "1h"),
            (SOURCE, "p"),
            (PUBLIC_KEY, "k"),
            (OPERATION, "o"),
        ]);
        assert_eq!(differences(&published, &arrived), Vec::<String>::new());
    }

    #[test]
    fn headers_that_changed_vanished_appeared_or_still_steer_are_found() {
        let published = record(&[("A", "1"), ("B", "1"), ("Nats-Rollup", "all")]);
        let arrived = record(&[("A", "2"), ("C", "1"), ("Nats-Rollup", "all")]);
        let wrong = differences(&published, &arrived).join("\n");
        for part in ["header A was", "header B [\"1\"] is missing", "is missing as X-Rhio-Nats-Rollup", "header C"] {
            assert!(wrong.contains(part), "{part} in\n{wrong}");
        }
    }

    #[test]
    fn operations_are_a_hash_and_an_index() {
        let hash = "0123456789abcdef".to_owned();
        assert_eq!(operation(&record(&[(OPERATION, &format!("{hash}/17"))])), Ok((hash.as_str(), 17)));
        for bad in ["", "17", &hash, &format!("{hash}/"), &format!("{hash}/-1"), &format!("{}/1", hash.to_uppercase())]
        {
            assert!(operation(&record(&[(OPERATION, bad)])).is_err(), "{bad}");
        }
        assert!(operation(&record(&[])).is_err());
    }
}
