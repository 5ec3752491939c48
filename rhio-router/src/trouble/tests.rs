use std::collections::BTreeSet;

use rhio_nats::raw::connection::Lost;

use super::*;

#[test]
fn every_cause_has_a_remedy_and_a_code_of_its_own() {
    let mut codes = BTreeSet::new();
    for (index, cause) in Cause::ALL.iter().enumerate() {
        let code = cause.code();
        assert!(codes.insert(code), "{code} twice");
        assert!(code.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'), "{code}");
        assert!(!code.starts_with('-') && !code.ends_with('-') && !code.contains("--"), "{code}");
        assert!(cause.remedy().len() > 10 && !cause.remedy().ends_with('.'), "{code}: {}", cause.remedy());
        assert_eq!((cause.index(), Cause::find(code)), (index, Some(*cause)));
    }
    assert_eq!(Cause::find("no such code"), None);
}

#[test]
fn every_code_is_documented() {
    let text = include_str!("../../../docs/troubleshooting.md");
    for cause in Cause::ALL {
        assert!(text.contains(&format!("\n| `{}` | ", cause.code())), "{}", cause.code());
    }
}

#[test]
fn every_cause_is_counted_by_itself() {
    let mut tally = Tally::default();
    assert_eq!(tally.iter().count(), 0);
    for cause in Cause::ALL {
        tally.count(*cause);
    }
    tally.count(Cause::Internal);
    assert_eq!(tally.iter().count(), Cause::ALL.len());
    assert!(tally.iter().all(|(cause, count)| count == if cause == Cause::Internal { 2 } else { 1 }));
}

fn forbidden(why: Denied) -> BucketError {
    // The words of a server that are easily taken for another trouble.
    BucketError::Forbidden {
        bucket: "b".to_owned(),
        why,
        reason: "InvalidAccessKeyId (403): The access key Id you provided does not exist in our records.".to_owned(),
    }
}

#[test]
fn what_operators_run_into_has_an_answer() {
    let stream = || "s".to_owned();
    let unreachable = ConnectError::Unreachable { servers: "localhost:4222".to_owned(), reason: "refused".to_owned() };
    let full =
        |limit| SinkError::Refused { stream: stream(), fault: ServerFault::Full(limit), reason: "full".to_owned() };
    let not_captured = SinkError::NotCaptured { stream: stream(), subject: "a".to_owned(), subjects: "b".to_owned() };
    let refused = StreamError::Refused { code: CloseCode::Refused, reason: "no".to_owned() };
    for (trouble, code, answer) in [
        (Trouble::from(&unreachable), "nats-unreachable", "nats.endpoint"),
        (Trouble::from(&SinkError::Missing(stream())), "stream-missing", "create it"),
        (Trouble::from(&SinkError::Lost(Lost::Closed)), "nats-lost", "reconnects"),
        (Trouble::from(&full(Limit::Messages)), "stream-full-messages", "full"),
        (Trouble::from(&full(Limit::Bytes)), "stream-full-bytes", "full"),
        (Trouble::from(&full(Limit::Storage)), "nats-storage-full", "make room"),
        (Trouble::from(&not_captured), "stream-does-not-capture", "nats stream edit"),
        (Trouble::from(&StateError::Refused { stream: stream() }), "same-key-twice", "one rhio per private key"),
        (Trouble::from(&refused), "not-published-for-us", "'allow'"),
        (Trouble::from(&BucketError::Missing(stream())), "bucket-missing", "create the bucket"),
        (Trouble::from(&forbidden(Denied::Credentials)), "s3-credentials", "s3.credentials"),
        (Trouble::from(&forbidden(Denied::Permission)), "s3-permission", "list, read and write"),
        (Trouble::from(&forbidden(Denied::Clock)), "s3-clock", "clock"),
    ] {
        assert_eq!(trouble.code(), code, "{trouble}");
        assert!(trouble.remedy().contains(answer), "{trouble}: {}", trouble.remedy());
    }
}

#[test]
fn a_trouble_keeps_its_words_and_may_be_told_in_others() {
    let trouble = Trouble::from(&BucketError::Missing("b".to_owned()));
    assert_eq!(trouble.to_string(), "bucket 'b' does not exist");
    let told = trouble.told("local bucket 'b' does not exist");
    assert_eq!((told.cause(), told.to_string().as_str()), (Cause::BucketMissing, "local bucket 'b' does not exist"));
}
