//! The streams that are published: following them as they grow, and reading again what an operation covers.

use std::time::Duration;

use async_nats::Subject;
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::consumer::{AckPolicy, Consumer, DeliverPolicy, pull};
use async_nats::jetstream::stream::{ConsumerError, ConsumerErrorKind, RetentionPolicy, Stream};
use rhio_core::headers;
use rhio_core::id::{PublicKey, SourceSeq};
use rhio_core::manifest::Entry;
use rhio_core::record::{CanonicalRecord, Position, RecordError, SourceRecord};
use rhio_core::subject::Filter;
use thiserror::Error;

use super::client::{Ack, Client};
use super::fault::ServerFault;
use super::raw::js::{GetRequest, Single};
use super::reader::puller::Puller;
use super::reader::single::{get, get_all};
use super::reader::{ReadError, Reader, Scanned, Start, first_after, limits};
use super::scan::Scan;
use super::state::is_missing;
use super::subjects::may_hold;
use super::survey::StreamFacts;

/// Messages of a work queue that may be delivered and not yet acknowledged. While no subscriber takes them, no more are
/// delivered; they stay in the stream.
const MAX_UNACKNOWLEDGED: i64 = 65_536;
/// After this long, a work queue delivers again what was not acknowledged.
const ACK_WAIT: Duration = Duration::from_secs(60);
/// Reads of single messages that are under way at once.
const CONCURRENT_READS: usize = 64;

/// What went wrong with a source stream.
#[derive(Debug, Error)]
pub enum SourceError {
    /// There is no such stream.
    #[error("stream '{0}' does not exist; create it, rhio goes on by itself")]
    Missing(String),
    /// The stream has no subject under the publication's filter.
    #[error("stream '{stream}' does not capture '{filter}' (it has {subjects}); add the subject to the stream")]
    NotCaptured {
        /// The stream.
        stream: String,
        /// The publication's filter.
        filter: Filter,
        /// What it captures.
        subjects: String,
    },
    /// The stream refuses a consumer.
    #[error("stream '{stream}' refuses a consumer for '{filter}': {reason}")]
    Consumer {
        /// The stream.
        stream: String,
        /// The publication's filter.
        filter: Filter,
        /// What that is.
        fault: ServerFault,
        /// The server's words.
        reason: String,
    },
    /// Reading failed.
    #[error("stream '{stream}': {source}")]
    Nats {
        /// The stream.
        stream: String,
        /// The library's error.
        source: async_nats::Error,
    },
    /// Following the stream was interrupted.
    #[error("following the stream was interrupted")]
    Interrupted,
    /// Reading a range of it failed.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// A stream that is published.
#[derive(Clone, Debug)]
pub struct SourceStream {
    client: Client,
    stream: Stream,
    name: String,
    created: u64,
    /// Messages leave the stream when they are acknowledged.
    queue: bool,
}

/// A message that was delivered.
#[derive(Debug)]
pub struct Delivered {
    /// Where the stream holds it.
    pub position: Position,
    /// What it says; `Ok(None)` for one that came through rhio, and for a schedule.
    pub record: Result<Option<CanonicalRecord>, RecordError>,
    /// How many wait behind it.
    pub pending: u64,
    /// Where to acknowledge it, on a stream that drops what is acknowledged.
    pub ack: Option<Ack>,
}

impl SourceStream {
    /// Opens a stream and checks that it has anything under `filter`.
    ///
    /// # Errors
    /// When it has not, or NATS does not answer.
    pub async fn open(client: &Client, name: &str, filter: &Filter) -> Result<Self, SourceError> {
        let context = client.jetstream();
        let stream = context.get_stream(name).await.map_err(|error| {
            if is_missing(&error) {
                SourceError::Missing(name.to_owned())
            } else {
                SourceError::Nats { stream: name.to_owned(), source: error.into() }
            }
        })?;
        let info = stream.cached_info();
        if !may_hold(&info.config, filter) {
            return Err(SourceError::NotCaptured {
                stream: name.to_owned(),
                filter: filter.clone(),
                subjects: info.config.subjects.join(", "),
            });
        }
        let created = u64::try_from(info.created.unix_timestamp_nanos()).unwrap_or_default();
        let queue = !matches!(info.config.retention, RetentionPolicy::Limits);
        Ok(Self { client: client.clone(), stream, name: name.to_owned(), created, queue })
    }

    /// The stream as it was when it was opened.
    pub fn info(&self) -> StreamFacts {
        self.stream.cached_info().into()
    }

    /// When it was created, in nanoseconds since the Unix epoch.
    pub fn created(&self) -> u64 {
        self.created
    }

    /// Whether messages leave it when they are acknowledged.
    pub fn is_queue(&self) -> bool {
        self.queue
    }

    fn failed(&self, source: impl Into<async_nats::Error>) -> SourceError {
        SourceError::Nats { stream: self.name.clone(), source: source.into() }
    }

    /// When it was created, its first and its last sequence number, now.
    ///
    /// # Errors
    /// When it is gone, or NATS does not answer.
    pub async fn bounds(&self) -> Result<(u64, SourceSeq, SourceSeq), SourceError> {
        let info = self.stream.get_info().await.map_err(|e| self.failed(e))?;
        let created = u64::try_from(info.created.unix_timestamp_nanos()).unwrap_or_default();
        Ok((created, SourceSeq(info.state.first_sequence), SourceSeq(info.state.last_sequence)))
    }

    /// The message with this sequence number, if it is there and did not come through rhio.
    ///
    /// # Errors
    /// When NATS does not answer.
    pub async fn message(&self, seq: SourceSeq) -> Result<Option<SourceRecord>, SourceError> {
        let single = get(&self.client, &self.name, GetRequest { seq: seq.0, filter: None }).await?;
        Ok(single.and_then(|single| recorded(&scanned(single))))
    }

    /// The first message at or behind `from` under a filter.
    async fn next_message(&self, filter: &str, from: u64) -> Result<Option<Scanned>, SourceError> {
        let single = get(&self.client, &self.name, GetRequest { seq: from, filter: Some(filter) }).await?;
        Ok(single.map(scanned))
    }

    /// The first message that was stored after this time, whatever its subject; `None` when there is none, or when the
    /// stream can't be asked.
    ///
    /// # Errors
    /// When NATS does not answer.
    pub async fn first_after(&self, time: u64) -> Result<Option<SourceSeq>, SourceError> {
        if self.queue {
            return Ok(None);
        }
        Ok(first_after(&self.client, &self.stream, time).await?.map(SourceSeq))
    }

    /// When the message with this sequence number was stored; `None` when there is none.
    ///
    /// # Errors
    /// When NATS does not answer.
    pub async fn time_of(&self, seq: SourceSeq) -> Result<Option<u64>, SourceError> {
        let single = get(&self.client, &self.name, GetRequest { seq: seq.0, filter: None }).await?;
        Ok(single.map(|single| single.time))
    }

    /// Follows the stream from sequence number `from`, for ever. `node` names the consumer that a work queue needs.
    ///
    /// # Errors
    /// When NATS does not answer or refuses the consumer.
    pub async fn follow(&self, node: PublicKey, filter: &Filter, from: SourceSeq) -> Result<Follower, SourceError> {
        if self.queue {
            return self.work(node, filter, from).await;
        }
        let reader = Reader::open(&self.client, &self.stream, filter.as_str(), Start::At(from.0), false).await?;
        Ok(Follower { pending: reader.left(), kind: Kind::Ordered(Box::new(reader)), source: self.clone() })
    }

    /// A queue keeps its consumer for ever under one name: a second one for the same subjects would be refused, and
    /// with the consumer of an interest stream its messages would vanish.
    ///
    /// What was delivered and not acknowledged comes again only after the consumer's wait, behind newer messages. So
    /// that the order holds, it is read from the stream before anything that the consumer delivers.
    async fn work(&self, node: PublicKey, filter: &Filter, from: SourceSeq) -> Result<Follower, SourceError> {
        let mark = blake3::hash(format!("{node} {filter}").as_bytes());
        let name = format!("rhio-{}", &mark.to_hex()[..16]);
        let wanted = limits::unacknowledged(&self.stream, MAX_UNACKNOWLEDGED);
        let consumer = match self.create_worker(&name, filter, wanted).await {
            Err(error) => match allowed(error) {
                Ok(limit) if limit < wanted => self.create_worker(&name, filter, limit).await,
                Ok(_) => self.create_worker(&name, filter, wanted).await,
                Err(error) => Err(error),
            },
            created => created,
        };
        let consumer = consumer.map_err(|error| {
            let (stream, filter, reason) = (self.name.clone(), filter.clone(), error.to_string());
            SourceError::Consumer { stream, filter, fault: ServerFault::of(&error.into()), reason }
        })?;
        let info = consumer.get_info().await.map_err(|e| self.failed(e))?;
        let (pending, delivered) = (info.num_pending, info.delivered.stream_sequence);
        let puller = Puller::open(&self.client, &self.name, &name).await?;
        let again = Again { filter: filter.to_string(), next: from.0, through: delivered };
        Ok(Follower { kind: Kind::Work(Box::new(puller), again), pending, source: self.clone() })
    }

    async fn create_worker(
        &self,
        name: &str,
        filter: &Filter,
        max_ack_pending: i64,
    ) -> Result<Consumer<pull::Config>, ConsumerError> {
        let config = pull::Config {
            durable_name: Some(name.to_owned()),
            description: Some(format!("rhio publishes '{filter}'")),
            filter_subject: if filter.as_str() == ">" { String::new() } else { filter.to_string() },
            deliver_policy: DeliverPolicy::All,
            ack_policy: AckPolicy::Explicit,
            ack_wait: failpoint::setting("RHIO_TEST_ACK_WAIT_SECONDS").map_or(ACK_WAIT, Duration::from_secs),
            max_ack_pending,
            ..pull::Config::default()
        };
        self.stream.create_consumer(config).await
    }

    /// Begins to read again what operations cover.
    pub fn history(&self, filter: &Filter) -> History {
        History { source: self.clone(), filter: filter.clone(), scan: None, ahead: None }
    }
}

enum Kind {
    Ordered(Box<Reader>),
    Work(Box<Puller>, Again),
}

/// What a queue's consumer has delivered before, to be read again: `next..=through`.
struct Again {
    filter: String,
    next: u64,
    through: u64,
}

/// Follows a stream.
pub struct Follower {
    kind: Kind,
    /// Messages that waited when following began.
    pub pending: u64,
    source: SourceStream,
}

impl Follower {
    /// The next message. Cancel-safe.
    ///
    /// # Errors
    /// When following can't go on; it must be begun anew.
    pub async fn next(&mut self) -> Result<Delivered, SourceError> {
        match &mut self.kind {
            Kind::Ordered(reader) => {
                let scanned = reader.next_unbroken().await?.ok_or(SourceError::Interrupted)?;
                Ok(delivered(&scanned, reader.left(), None))
            }
            Kind::Work(puller, again) => {
                while again.next <= again.through {
                    match self.source.next_message(&again.filter, again.next).await? {
                        Some(scanned) if scanned.seq <= again.through => {
                            again.next = scanned.seq + 1;
                            return Ok(delivered(&scanned, self.pending, None));
                        }
                        _ => again.next = again.through + 1,
                    }
                }
                let (scanned, delivery) = puller.next().await?;
                let ack = delivery.ack.and_then(|ack| Subject::from_utf8(ack).ok());
                Ok(delivered(&scanned, delivery.pending, ack.map(Ack)))
            }
        }
    }
}

/// The largest number that the server allows, when that is what an error is about.
fn allowed(error: ConsumerError) -> Result<i64, ConsumerError> {
    let limit = match error.kind() {
        ConsumerErrorKind::JetStream(refusal) if refusal.error_code() == ErrorCode::CONSUMER_MAX_PENDING_ACK_EXCESS => {
            limits::named(error.to_string().as_bytes()).and_then(|limit| i64::try_from(limit).ok())
        }
        _ => None,
    };
    limit.ok_or(error)
}

fn delivered(message: &Scanned, pending: u64, ack: Option<Ack>) -> Delivered {
    Delivered { position: message.position(), record: canonical(message), pending, ack }
}

/// `None` for a message that came through rhio: it is never published again. And for a schedule, which stays.
fn canonical(message: &Scanned) -> Result<Option<CanonicalRecord>, RecordError> {
    if headers::came_through_rhio(&message.headers) || headers::is_schedule(&message.headers) {
        return Ok(None);
    }
    CanonicalRecord::encode(&message.subject, &message.headers, &message.payload).map(Some)
}

fn recorded(message: &Scanned) -> Option<SourceRecord> {
    let record = canonical(message).ok().flatten()?;
    Some(SourceRecord { position: message.position(), record })
}

fn scanned(single: Single) -> Scanned {
    Scanned {
        seq: single.seq,
        time: single.time,
        subject: single.subject.unwrap_or_default().into(),
        headers: single.headers.into(),
        payload: single.payload.into(),
    }
}

/// Reads again what operations cover, one after the other.
pub struct History {
    source: SourceStream,
    filter: Filter,
    scan: Option<Scan>,
    ahead: Option<Scanned>,
}

impl History {
    /// The records of these entries that the stream still holds, in its order. Those before `skip` are not read.
    ///
    /// # Errors
    /// When NATS does not answer.
    pub async fn records(
        &mut self,
        entries: &[Entry],
        skip: impl Fn(Position) -> bool,
    ) -> Result<Vec<SourceRecord>, SourceError> {
        let positions = entries.iter().map(|entry| entry.position);
        let wanted: Vec<Position> = positions.filter(|position| !skip(*position)).collect();
        if self.source.queue {
            // A work queue allows no second consumer, so its messages are read one by one.
            let mut records = Vec::with_capacity(wanted.len());
            for some in wanted.chunks(CONCURRENT_READS) {
                let questions: Vec<_> = some.iter().map(|at| GetRequest { seq: at.seq.0, filter: None }).collect();
                let found = get_all(&self.source.client, &self.source.name, &questions).await?;
                records.extend(found.into_iter().flatten().filter_map(|single| recorded(&scanned(single))));
            }
            return Ok(records);
        }
        let mut records = Vec::new();
        for position in wanted {
            if let Some(record) = self.seek(position.seq).await? {
                records.push(record);
            }
        }
        Ok(records)
    }

    async fn seek(&mut self, seq: SourceSeq) -> Result<Option<SourceRecord>, SourceError> {
        let mut fresh = false;
        loop {
            match self.ahead.take().filter(|message| message.seq >= seq.0) {
                Some(message) if message.seq > seq.0 => {
                    self.ahead = Some(message);
                    return Ok(None);
                }
                Some(message) => {
                    return Ok(recorded(&message));
                }
                None => {}
            }
            if let Some(scan) = &mut self.scan {
                self.ahead = scan.next().await?;
            }
            if self.ahead.is_none() {
                // What was the end when reading began; the stream may have grown since.
                if fresh {
                    return Ok(None);
                }
                let (client, stream) = (&self.source.client, &self.source.stream);
                self.scan = Some(Scan::open(client, stream, self.filter.as_str(), seq.0, false).await?);
                fresh = true;
            }
        }
    }
}
