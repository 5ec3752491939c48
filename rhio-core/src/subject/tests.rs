use proptest::prelude::*;

use super::*;

fn filter(text: &str) -> Filter {
    Filter::parse(text).unwrap()
}

#[test]
fn wildcards_mean_what_they_mean_in_nats() {
    for (pattern, subject, expected) in [
        ("foo", "foo", true),
        ("foo", "foo.bar", false),
        ("foo.*", "foo.bar", true),
        ("foo.*", "foo", false),
        ("foo.*", "foo.bar.baz", false),
        ("foo.>", "foo", false),
        ("foo.>", "foo.bar", true),
        ("foo.>", "foo.bar.baz", true),
        ("*.bar", "foo.bar", true),
        ("*.bar.>", "foo.bar", false),
        (">", "anything.at.all", true),
        // A wildcard is a whole token; inside a token the character is just a character.
        ("foo*", "foo*", true),
        ("foo*", "foobar", false),
        ("foo.b>", "foo.b>", true),
        // In a subject that was published, the characters mean themselves.
        ("foo.bar", "foo.*", false),
    ] {
        assert_eq!(filter(pattern).matches(subject), expected, "{pattern} against {subject}");
    }
    assert!(filter("foo.*").matches(&b"foo.\xFF"[..]));
    assert!(!filter("foo").matches(&b"foo\xFF"[..]));
}

#[test]
fn what_nats_refuses_is_refused() {
    assert_eq!(Filter::parse(""), Err(SubjectError::Empty));
    assert_eq!(Filter::parse("a..b"), Err(SubjectError::EmptyToken));
    assert_eq!(Filter::parse(".a"), Err(SubjectError::EmptyToken));
    assert_eq!(Filter::parse("a."), Err(SubjectError::EmptyToken));
    assert_eq!(Filter::parse("a b"), Err(SubjectError::Whitespace));
    assert_eq!(Filter::parse("a.>.b"), Err(SubjectError::FullWildcardNotLast));
    assert_eq!(check_subject(b"a.b c"), Err(SubjectError::Whitespace));
    assert_eq!(check_subject(b"a."), Err(SubjectError::EmptyToken));
    assert_eq!(check_subject(b"a.\xFF.\x01.*"), Ok(()));
    assert_eq!(Filter::parse(&"a".repeat(MAX_SUBJECT_LEN + 1)), Err(SubjectError::TooLong));
}

fn tokens(wildcards: bool) -> impl Strategy<Value = String> {
    let word = prop_oneof![Just("a".to_owned()), Just("b".to_owned()), Just("c".to_owned())];
    let token = if wildcards { prop_oneof![3 => word, 1 => Just("*".to_owned())].boxed() } else { word.boxed() };
    (prop::collection::vec(token, 1..5), any::<bool>()).prop_map(move |(mut tokens, full)| {
        if wildcards && full {
            tokens.push(">".to_owned());
        }
        tokens.join(".")
    })
}

/// Every subject of up to five tokens over the alphabet that [`tokens`] uses, plus one token that no filter names.
fn universe() -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    let mut last = vec![String::new()];
    for _ in 0..5 {
        last = last
            .iter()
            .flat_map(|prefix| {
                ["a", "b", "c", "z"].map(|t| if prefix.is_empty() { t.to_owned() } else { format!("{prefix}.{t}") })
            })
            .collect();
        all.extend(last.iter().cloned());
    }
    all
}

proptest! {
    #[test]
    fn overlap_and_cover_agree_with_matching(left in tokens(true), right in tokens(true)) {
        let (left, right) = (filter(&left), filter(&right));
        let universe = universe();
        prop_assert_eq!(left.overlaps(&right), universe.iter().any(|s| left.matches(s) && right.matches(s)));
        prop_assert_eq!(left.overlaps(&right), right.overlaps(&left));
        prop_assert_eq!(left.covers(&right), universe.iter().all(|s| left.matches(s) || !right.matches(s)));
    }

    #[test]
    fn a_subject_as_filter_matches_only_itself(subject in tokens(false), other in tokens(false)) {
        prop_assert_eq!(filter(&subject).matches(&other), subject == other);
    }
}
