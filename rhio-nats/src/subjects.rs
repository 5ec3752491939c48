//! What a stream holds is not what it captures: it may change subjects, or take them from elsewhere.

use async_nats::jetstream::stream::Config;
use rhio_core::subject::Filter;

/// Whether a stream may hold anything under a filter. In doubt it may.
pub(crate) fn may_hold(config: &Config, filter: &Filter) -> bool {
    // A mirror or a stream with sources may hold any subject.
    if config.mirror.is_some() || config.sources.as_ref().is_some_and(|sources| !sources.is_empty()) {
        return true;
    }
    let overlaps = |subject: &String| Filter::parse(subject).is_ok_and(|subject| subject.overlaps(filter));
    let changed = config.subject_transform.as_ref().map(|transform| image(&transform.destination));
    config.subjects.iter().any(overlaps)
        || changed.is_some_and(|image| image.is_none_or(|image| image.overlaps(filter)))
}

/// What a stream changes the subjects under a filter to, as it is configured; `None` when it leaves them as they are.
pub(crate) fn changes<'a>(config: &'a Config, filter: &Filter) -> Option<&'a str> {
    let transform = config.subject_transform.as_ref()?;
    let all = transform.source.is_empty();
    let applies = all || Filter::parse(&transform.source).is_ok_and(|source| source.overlaps(filter));
    (applies && transform.destination != transform.source).then_some(transform.destination.as_str())
}

/// The subjects that a transform makes; `None` when they can't be told.
fn image(destination: &str) -> Option<Filter> {
    let lower = destination.to_ascii_lowercase();
    // These make any number of tokens of one.
    if ["split", "slice"].iter().any(|function| lower.contains(function)) {
        return None;
    }
    let token =
        |token: &'_ str| if token.contains("{{") || token.starts_with('$') { "*".to_owned() } else { token.to_owned() };
    let tokens: Vec<String> = destination.split('.').map(token).collect();
    Filter::parse(&tokens.join(".")).ok()
}

#[cfg(test)]
mod tests {
    use async_nats::jetstream::stream::SubjectTransform;

    use super::*;

    fn config(source: &str, destination: &str) -> Config {
        let subject_transform = Some(SubjectTransform { source: source.into(), destination: destination.into() });
        Config { subjects: vec!["raw.>".into()], subject_transform, ..Config::default() }
    }

    fn filter(text: &str) -> Filter {
        Filter::parse(text).unwrap()
    }

    #[test]
    fn a_stream_may_hold_what_it_makes_of_subjects() {
        for (destination, wanted, held) in [
            ("s.>", "s.>", true),
            ("s.>", "t.>", false),
            ("s.$1.x", "s.a.x", true),
            ("s.{{wildcard(1)}}.x", "s.a.x", true),
            ("s.{{partition(3,1)}}", "t.*", false),
            ("{{SplitFromLeft(1,2)}}", "t.a.b", true),
        ] {
            assert_eq!(may_hold(&config("raw.>", destination), &filter(wanted)), held, "{destination} for {wanted}");
        }
        assert!(may_hold(&config("raw.x", "s.x"), &filter("raw.y")), "what is not changed");
    }

    #[test]
    fn a_change_counts_where_it_applies() {
        assert_eq!(changes(&config("raw.>", "s.>"), &filter("raw.a")), Some("s.>"));
        assert_eq!(changes(&config("", "s.>"), &filter("raw.a")), Some("s.>"));
        assert_eq!(changes(&config("raw.b.>", "s.>"), &filter("raw.a")), None);
        assert_eq!(changes(&config("raw.>", "raw.>"), &filter("raw.a")), None);
    }
}
