//! Tracing: a message's way through both nodes is one OpenTelemetry trace, when that is switched on.
//!
//! A batch's trace is named by its operation's hash ([`ids`]), so nothing is sent between nodes for it. The author emits
//! the root span, others name it as the parent of theirs. There is no span per message. While tracing is off, every call
//! here is one branch. `docs/tracing.md` says what the spans mean.

mod ids;

use std::fmt::Display;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::span::{Link, SpanKind};
use opentelemetry_proto::tonic::trace::v1::{Span, SpanFlags};
use rhio_core::headers;
use rhio_core::id::{OpHash, PublicKey};
use rhio_core::log::descriptor::LogDescriptor;
use rhio_core::log::operation::Operation;
use rhio_core::record::{CanonicalRecord, SourceRecord};
use rhio_core::seal::Sealed;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::metrics::Metrics;
use crate::status::Count;

pub use ids::{Context, Sample, TRACEPARENT, root_id, span_id, trace_id};

/// Contexts of messages that a batch's span links to, at most.
const MAX_LINKS: usize = 32;
/// OpenTelemetry's flag for what is sampled.
const SAMPLED: u32 = 1;

/// Where the node's tasks tell what a batch went through. Shared by reference count.
#[derive(Clone, Default)]
pub struct Telemetry(Option<Arc<Tracer>>);

struct Tracer {
    sample: Sample,
    spans: mpsc::Sender<Span>,
    metrics: Arc<Metrics>,
}

/// A batch that a subscriber has verified and not committed yet.
#[derive(Debug)]
pub struct Received {
    hash: OpHash,
    attributes: Vec<KeyValue>,
    arrived: Instant,
    verified: Instant,
    stored: Option<Instant>,
}

impl Telemetry {
    /// Traces this share of batches. The spans go into a queue, from which somebody sends them.
    pub fn new(sample: Sample, spans: mpsc::Sender<Span>, metrics: Arc<Metrics>) -> Self {
        Self(Some(Arc::new(Tracer { sample, spans, metrics })))
    }

    /// The tracer, when this operation's batch is traced.
    fn of(&self, hash: &OpHash) -> Option<&Tracer> {
        self.0.as_deref().filter(|tracer| tracer.sample.takes(hash))
    }

    /// The author's state stream has acknowledged an operation that was signed at this instant.
    pub fn sealed(&self, log: &LogDescriptor, sealed: &Sealed, signed: Instant) {
        let Some(tracer) = self.of(&sealed.operation.hash()) else { return };
        let (operation, clock) = (&sealed.operation, Clock::now());
        let (signed, end) = (clock.at(signed), clock.nanos);
        let (links, more) = links(&sealed.records);
        let mut attributes = about(operation);
        attributes.extend([
            text("rhio.publication", log.source().map_or("", |source| source.filter.as_str())),
            text("rhio.stream", log.source().map_or("", |source| source.stream.as_str())),
            number("rhio.records", sealed.records.len() as u64),
            number("rhio.bytes", operation.body().content.amount().bytes),
        ]);
        tracer.emit(Span {
            span_id: root_id(&operation.hash()).to_vec(),
            links,
            dropped_links_count: more,
            // Another machine's clock says when the message came into the stream.
            ..span(operation.hash(), "rhio.batch", SpanKind::Producer, (operation.first().time.min(signed), end))
                .with(attributes)
        });
        tracer.emit(
            span(operation.hash(), "rhio.seal", SpanKind::Internal, (signed, end))
                .below(&root_id(&operation.hash()), false),
        );
    }

    /// An operation was handed to the connection with a subscriber, who waited since `begun`.
    pub fn sent(&self, operation: &Operation, peer: &PublicKey, begun: Instant, sent: Count) {
        let Some(tracer) = self.of(&operation.hash()) else { return };
        let clock = Clock::now();
        let mut attributes = about(operation);
        attributes.push(text("rhio.peer", peer));
        attributes.extend(counted(sent));
        tracer.emit(
            span(operation.hash(), "rhio.send", SpanKind::Internal, (clock.at(begun), clock.nanos))
                .with(attributes)
                .below(&root_id(&operation.hash()), false),
        );
    }

    /// An operation that arrived at this instant is verified.
    pub fn received(
        &self,
        operation: &Operation,
        into: &str,
        arrived: Instant,
        present: Count,
    ) -> Option<Box<Received>> {
        self.of(&operation.hash())?;
        let mut attributes = about(operation);
        attributes.extend([text("rhio.author", operation.author()), text("rhio.stream", into)]);
        attributes.extend(counted(present));
        let verified = Instant::now();
        Some(Box::new(Received { hash: operation.hash(), attributes, arrived, verified, stored: None }))
    }

    /// The state stream has acknowledged the commit of an operation that was begun at this instant.
    pub fn applied(&self, received: Received, committing: Instant) {
        let Some(tracer) = self.of(&received.hash) else { return };
        let Received { hash, attributes, arrived, verified, stored } = received;
        let (clock, own) = (Clock::now(), span_id());
        let stored = stored.unwrap_or(committing);
        let whole = span(hash, "rhio.receive", SpanKind::Consumer, (clock.at(arrived), clock.nanos));
        tracer.emit(Span { span_id: own.to_vec(), ..whole.with(attributes).below(&root_id(&hash), true) });
        for (name, begin, end) in [
            ("rhio.verify", clock.at(arrived), clock.at(verified)),
            ("rhio.apply", clock.at(verified), clock.at(stored)),
            ("rhio.commit", clock.at(committing), clock.nanos),
        ] {
            tracer.emit(span(hash, name, SpanKind::Internal, (begin, end)).below(&own, false));
        }
    }
}

impl Received {
    /// The local stream has acknowledged every record.
    pub fn stored(&mut self) {
        self.stored = Some(Instant::now());
    }
}

impl Tracer {
    /// Queues a span. When there is no room it is dropped: nothing waits for a collector.
    fn emit(&self, span: Span) {
        if self.spans.try_send(span).is_err() {
            self.metrics.spans.with_label_values(&["dropped"]).inc();
        }
    }
}

/// Turns instants into times.
struct Clock {
    instant: Instant,
    /// Nanoseconds since the Unix epoch.
    nanos: u64,
}

impl Clock {
    fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { instant: Instant::now(), nanos: u64::try_from(since.as_nanos()).unwrap_or(u64::MAX) }
    }

    fn at(&self, instant: Instant) -> u64 {
        let before = self.instant.saturating_duration_since(instant).as_nanos();
        self.nanos.saturating_sub(u64::try_from(before).unwrap_or(u64::MAX))
    }
}

/// A span of an operation's trace, without a parent.
fn span(operation: OpHash, name: &str, kind: SpanKind, (begin, end): (u64, u64)) -> Span {
    Span {
        trace_id: trace_id(&operation).to_vec(),
        span_id: span_id().to_vec(),
        flags: SAMPLED | SpanFlags::ContextHasIsRemoteMask as u32,
        name: name.to_owned(),
        kind: kind.into(),
        start_time_unix_nano: begin,
        end_time_unix_nano: end,
        ..Span::default()
    }
}

/// How a span is put together.
trait Build {
    /// With these attributes.
    fn with(self, attributes: Vec<KeyValue>) -> Self;
    /// With this parent, which may be another node's.
    fn below(self, parent: &[u8; 8], remote: bool) -> Self;
}

impl Build for Span {
    fn with(self, attributes: Vec<KeyValue>) -> Self {
        Self { attributes, ..self }
    }

    fn below(self, parent: &[u8; 8], remote: bool) -> Self {
        let flags = self.flags | if remote { SpanFlags::ContextIsRemoteMask as u32 } else { 0 };
        Self { parent_span_id: parent.to_vec(), flags, ..self }
    }
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

/// A text about something, as spans have it.
pub fn text(key: &str, value: impl Display) -> KeyValue {
    attribute(key, Value::StringValue(value.to_string()))
}

fn number(key: &str, value: u64) -> KeyValue {
    attribute(key, Value::IntValue(i64::try_from(value).unwrap_or(i64::MAX)))
}

/// Which operation it is about.
fn about(operation: &Operation) -> Vec<KeyValue> {
    vec![text("rhio.log", operation.log()), number("rhio.operation", operation.seq().0)]
}

fn counted(count: Count) -> [KeyValue; 2] {
    [number("rhio.records", count.messages), number("rhio.bytes", count.bytes)]
}

/// Links to the spans in which messages were published, each once, and how many were too many.
fn links(records: &[SourceRecord]) -> (Vec<Link>, u32) {
    let mut contexts: Vec<Context> = Vec::new();
    let mut more = 0;
    for context in records.iter().filter_map(|record| context(&record.record)) {
        if contexts.contains(&context) {
            continue;
        }
        if contexts.len() < MAX_LINKS { contexts.push(context) } else { more += 1 }
    }
    let link = |context: &Context| Link {
        trace_id: context.trace.to_vec(),
        span_id: context.span.to_vec(),
        flags: u32::from(context.flags),
        ..Link::default()
    };
    (contexts.iter().map(link).collect(), more)
}

/// The context that a message carries.
fn context(record: &CanonicalRecord) -> Option<Context> {
    headers::get(record.headers(), TRACEPARENT).and_then(Context::parse)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rhio_core::id::SourceSeq;
    use rhio_core::record::Position;

    use super::*;

    fn record(headers: &[(&str, &str)]) -> SourceRecord {
        let block = headers::block(headers.iter().copied());
        let record = CanonicalRecord::encode("a.b", &block, b"payload").unwrap();
        SourceRecord { position: Position { seq: SourceSeq(1), time: 1 }, record }
    }

    fn traceparent(number: usize) -> String {
        format!("00-{:032x}-{number:016x}-01", number + 1)
    }

    #[test]
    fn a_batch_links_to_each_context_once_and_to_a_bounded_number() {
        assert_eq!(links(&[record(&[]), record(&[("traceparent", "nonsense"), ("b", "c")])]), (Vec::new(), 0));
        let headers: Vec<String> = (1..=MAX_LINKS + 3).map(traceparent).collect();
        let mut records: Vec<SourceRecord> = headers.iter().map(|text| record(&[("Traceparent", text)])).collect();
        records.push(record(&[("a", "b"), ("traceparent", &headers[0])]));
        let (links, more) = links(&records);
        assert_eq!((links.len(), more), (MAX_LINKS, 3));
        assert_eq!(
            (hex::encode(&links[0].trace_id), hex::encode(&links[0].span_id)),
            (format!("{:032x}", 2), format!("{:016x}", 1))
        );
        assert_eq!(links[0].flags, 1);
    }

    #[test]
    fn what_finds_no_room_is_dropped_and_counted() {
        let metrics = Arc::new(Metrics::new().unwrap());
        let (spans, _queue) = mpsc::channel(2);
        let tracer = Tracer { sample: Sample::ALL, spans, metrics: Arc::clone(&metrics) };
        (0..5).for_each(|_| tracer.emit(Span::default()));
        assert_eq!(metrics.spans.with_label_values(&["dropped"]).get(), 3);
    }

    #[test]
    fn times_lie_as_the_instants_do() {
        let clock = Clock::now();
        let earlier = clock.instant - Duration::from_millis(5);
        assert_eq!((clock.nanos - clock.at(earlier), clock.at(clock.instant)), (5_000_000, clock.nanos));
        assert_eq!(clock.at(clock.instant + Duration::from_secs(1)), clock.nanos, "nothing lies in the future");
    }
}
