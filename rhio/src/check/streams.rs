//! The streams that are read and written. They are opened as the daemon opens them; that leaves nothing behind.

use std::sync::Arc;
use std::time::Duration;

use rhio_core::subject::Filter;
use tokio::time::timeout;

use crate::config::{Publish, PublishSubject, SubscribeSubject};
use crate::control::render::numbers::{bytes, counted, duration};
use rhio_nats::sink::{Sink, SinkError};
use rhio_nats::source::{SourceError, SourceStream};
use rhio_nats::survey::{Retention, StreamFacts};
use rhio_router::trouble::Cause;

use super::finding::quoted;
use super::nats::NO_NATS;
use super::world::World;
use super::{Item, Plan, Seen};

/// How long opening a stream may take, with a connection of its own.
const OPEN: Duration = Duration::from_secs(6);

pub(super) fn plan(plan: &mut Plan, world: &Arc<World>) {
    for entry in world.config.publish.nats_subjects.clone() {
        let shared = Arc::clone(world);
        let item = Item::named("publish_stream", "stream", &entry.stream);
        plan.add(item, async move { published(&shared, &entry).await });
    }
    for entry in world.config.subscribe.nats_subjects.clone() {
        let shared = Arc::clone(world);
        let item = Item::named("subscribe_stream", "stream", &entry.stream);
        plan.add(item, async move { subscribed(&shared, &entry).await });
    }
    overlaps(plan, &world.config.publish);
}

/// Two publications of one message.
fn overlaps(plan: &mut Plan, publish: &Publish) {
    let entries = &publish.nats_subjects;
    for (i, entry) in entries.iter().enumerate() {
        for other in entries.iter().take(i) {
            // On one stream, what lies inside of another is sent once, and anything else is refused as configuration.
            if other.stream != entry.stream && other.subject.overlaps(&entry.subject) {
                let item = Item::named("overlap", "publications of", entry.subject.as_str());
                let seen = Seen::warn(
                    format!(
                        "'{}' of stream '{}' and '{}' of stream '{}' overlap: if both streams hold the same messages \
                         (one sources the other), a subscriber of both gets them twice",
                        other.subject, other.stream, entry.subject, entry.stream
                    ),
                    "publish each message from one stream only",
                );
                plan.known(item, seen);
            }
        }
    }
}

async fn published(world: &World, entry: &PublishSubject) -> Seen {
    let Ok(client) = world.nats().await else { return Seen::skipped(NO_NATS) };
    let about = format!("publishes '{}'", entry.subject);
    match timeout(OPEN, SourceStream::open(client, &entry.stream, &entry.subject)).await {
        Ok(Ok(source)) => source_remarks(&about, &source.info()),
        Ok(Err(SourceError::Missing(_))) => missing(&about, &entry.stream, &entry.subject),
        Ok(Err(SourceError::NotCaptured { subjects, .. })) => {
            not_captured(&about, &entry.stream, &entry.subject, &subjects)
        }
        Ok(Err(error)) => Seen::fail(format!("{about}: {error}"), Cause::from(&error).remedy()),
        Err(_) => Seen::fail(format!("{about}: no answer in time"), "see the line about JetStream"),
    }
}

fn missing(about: &str, stream: &str, filter: &Filter) -> Seen {
    Seen::fail(
        format!("{about}: does not exist"),
        format!("nats stream add {} --subjects {} --defaults", quoted(stream), quoted(filter.as_str())),
    )
}

fn not_captured(about: &str, stream: &str, filter: &Filter, subjects: &str) -> Seen {
    let mut all: Vec<&str> = subjects.split(", ").filter(|subject| !subject.is_empty()).collect();
    all.push(filter.as_str());
    let found = if subjects.is_empty() { "no subjects" } else { subjects };
    Seen::fail(
        format!("{about}: does not capture it (it has {found})"),
        format!("nats stream edit {} --subjects {}, or correct 'subject'", quoted(stream), quoted(&all.join(","))),
    )
}

fn source_remarks(about: &str, config: &StreamFacts) -> Seen {
    let held = format!("{about}: captured, {}", counted(config.messages, "message"));
    match config.retention {
        Retention::Limits => Seen::ok(format!("{held}; {}", limits(config))),
        Retention::WorkQueue => Seen::ok(format!(
            "{held}; a work queue: a message leaves it once a subscriber has it, and no other consumer may want the same \
             subjects"
        )),
        Retention::Interest => Seen::ok(format!(
            "{held}; an interest stream: messages are kept from rhio's first start on, until a subscriber has them"
        )),
    }
}

/// What a stream drops by itself.
fn limits(config: &StreamFacts) -> String {
    let mut limits: Vec<String> = Vec::new();
    limits.extend(config.max_messages.map(|n| counted(n, "message")));
    limits.extend(config.max_bytes.map(bytes));
    limits.extend(config.max_messages_per_subject.map(|n| format!("{} per subject", counted(n, "message"))));
    limits.extend(config.max_age.map(|age| duration(age.as_secs_f64())));
    if limits.is_empty() {
        return "keeps everything".to_owned();
    }
    format!("keeps at most {}: what goes before a subscriber fetched it is skipped", limits.join(", "))
}

async fn subscribed(world: &World, entry: &SubscribeSubject) -> Seen {
    let Ok(client) = world.nats().await else { return Seen::skipped(NO_NATS) };
    let about = format!("takes '{}' of {}", entry.subject, entry.public_key.short());
    match timeout(OPEN, Sink::open(client, &entry.stream, &entry.subject, entry.public_key)).await {
        Ok(Ok(sink)) => {
            let swallowed = world
                .config
                .publish
                .nats_subjects
                .iter()
                .find(|published| published.stream == entry.stream && published.subject.overlaps(&entry.subject));
            sink_remarks(&about, entry, &sink.info(), swallowed)
        }
        Ok(Err(SinkError::Missing(_))) => missing(&about, &entry.stream, &entry.subject),
        Ok(Err(SinkError::NotCaptured { subjects, .. })) => {
            not_captured(&about, &entry.stream, &entry.subject, &subjects)
        }
        Ok(Err(SinkError::Refused { reason, .. })) => {
            Seen::fail(format!("{about}: {reason}, so nothing can be written to it"), "name another stream")
        }
        Ok(Err(error)) => Seen::fail(format!("{about}: {error}"), Cause::from(&error).remedy()),
        Err(_) => Seen::fail(format!("{about}: no answer in time"), "see the line about JetStream"),
    }
}

fn sink_remarks(
    about: &str,
    entry: &SubscribeSubject,
    config: &StreamFacts,
    swallowed: Option<&PublishSubject>,
) -> Seen {
    let subjects = config.subjects.join(", ");
    let covered = config.subjects.iter().filter_map(|s| Filter::parse(s).ok()).any(|s| s.covers(&entry.subject));
    if !covered && config.subjects.len() < 2 {
        // A stream's own subjects may not overlap, so a narrower one gives way to what covers it.
        let replaceable = config.subjects.iter().all(|s| Filter::parse(s).is_ok_and(|s| entry.subject.covers(&s)));
        let remedy = if replaceable {
            let (name, subject) = (quoted(&config.name), quoted(entry.subject.as_str()));
            format!("nats stream edit {name} --subjects {subject}, or subscribe to less")
        } else {
            "let the stream capture all of it, or subscribe to less".to_owned()
        };
        return Seen::warn(
            format!("{about}: captures only a part of it ({subjects}); a message under another subject holds it up"),
            remedy,
        );
    }
    let queue = !matches!(config.retention, Retention::Limits);
    if let (true, Some(published)) = (queue, swallowed) {
        return Seen::warn(
            format!(
                "{about}: this stream drops what is consumed, and rhio also publishes '{}' from it: what arrives is \
                 never acknowledged",
                published.subject
            ),
            "use two streams",
        );
    }
    if matches!(config.retention, Retention::Interest) && config.consumers == 0 {
        return Seen::warn(
            format!("{about}: captured, but an interest stream without consumers keeps nothing"),
            "create the consumers first",
        );
    }
    if queue {
        return Seen::ok(format!(
            "{about}: captured; it drops what is consumed: after a crash, a batch that workers have consumed whole may \
             come again"
        ));
    }
    let refuses = config.refuses_when_full && (config.max_messages.is_some() || config.max_bytes.is_some());
    if refuses {
        return Seen::warn(
            format!("{about}: captured, but it refuses new messages when it is full (discard: new)"),
            format!("nats stream edit {} --discard old, or see that it never fills", quoted(&config.name)),
        );
    }
    let partly = if covered { "" } else { " by several subjects" };
    let memory = if config.in_memory { ", in memory" } else { "" };
    Seen::ok(format!("{about}: captured{partly}, {}{memory} (not written to)", counted(config.messages, "message")))
}

#[cfg(test)]
mod tests {
    use super::super::{Finding, Outcome};
    use super::*;

    fn stream() -> StreamFacts {
        StreamFacts { name: "S".into(), subjects: vec!["s.>".into()], replicas: 1, messages: 3, ..Default::default() }
    }

    fn entry(subject: &str) -> SubscribeSubject {
        let author = p2panda_core::SigningKey::from_bytes(&[1; 32]).verifying_key().into();
        SubscribeSubject { subject: Filter::parse(subject).unwrap(), stream: "S".into(), public_key: author }
    }

    #[test]
    fn what_is_said_of_sources() {
        let said = |config| source_remarks("x", &config).detail;
        assert_eq!(said(stream()), "x: captured, 3 messages; keeps everything");
        let limited =
            said(StreamFacts { max_messages: Some(1000), max_age: Some(Duration::from_secs(3600)), ..stream() });
        assert!(limited.contains("keeps at most 1,000 messages, 1 h: "), "{limited}");
        assert!(said(StreamFacts { retention: Retention::WorkQueue, ..stream() }).contains("a work queue"));
        assert!(said(StreamFacts { retention: Retention::Interest, ..stream() }).contains("an interest stream"));
    }

    #[test]
    fn what_is_said_of_destinations() {
        let seen = |subject: &str, config, published| sink_remarks("x", &entry(subject), &config, published);
        let fine = seen("s.a", stream(), None);
        assert_eq!((fine.outcome, fine.detail.as_str()), (Outcome::Ok, "x: captured, 3 messages (not written to)"));
        let part = seen("s.>", StreamFacts { subjects: vec!["s.a".into()], ..stream() }, None);
        assert!(part.outcome == Outcome::Warn && part.detail.contains("only a part"), "{part:?}");
        let full = seen("s.>", StreamFacts { refuses_when_full: true, max_messages: Some(5), ..stream() }, None);
        assert!(full.outcome == Outcome::Warn && full.detail.contains("discard: new"), "{full:?}");
        let idle = seen("s.>", StreamFacts { retention: Retention::Interest, ..stream() }, None);
        assert!(idle.outcome == Outcome::Warn && idle.detail.contains("keeps nothing"), "{idle:?}");
        let queue = seen("s.>", StreamFacts { retention: Retention::WorkQueue, ..stream() }, None);
        assert_eq!(queue.outcome, Outcome::Ok);
        let published = PublishSubject { subject: Filter::parse("s.a").unwrap(), stream: "S".into(), allow: None };
        let swallowed = seen("s.>", StreamFacts { retention: Retention::WorkQueue, ..stream() }, Some(&published));
        assert!(swallowed.outcome == Outcome::Warn && swallowed.detail.contains("never acknowledged"), "{swallowed:?}");
    }

    #[test]
    fn the_remedy_can_be_pasted() {
        let filter = Filter::parse("workload.>").unwrap();
        let seen = not_captured("publishes 'workload.>'", "workload", &filter, "a.>, b");
        assert_eq!(
            Finding::new(Item::named("publish_stream", "stream", "workload"), seen).line(17, false),
            "FAIL stream 'workload'  publishes 'workload.>': does not capture it (it has a.>, b)  → nats stream edit \
             'workload' --subjects 'a.>,b,workload.>', or correct 'subject'"
        );
    }

    #[test]
    fn publications_of_two_streams_that_overlap() {
        let entry = |subject: &str, stream: &str| PublishSubject {
            subject: Filter::parse(subject).unwrap(),
            stream: stream.into(),
            allow: None,
        };
        let warnings = |entries: Vec<PublishSubject>| {
            let mut plan = Plan::default();
            overlaps(&mut plan, &Publish { nats_subjects: entries, s3_buckets: Vec::new() });
            plan.0.len()
        };
        assert_eq!(warnings(vec![entry("a.>", "A"), entry("a.b", "A"), entry("b.>", "B")]), 0);
        assert_eq!(warnings(vec![entry("a.>", "A"), entry("a.b", "B")]), 1);
    }
}
