//! The streams that are written to.
//!
//! A sink has a connection of its own that never reconnects. The library would send what waits in its queue over the
//! next connection while what was on the wire is lost, and a message would overtake another. So a lost connection ends
//! the sink; the next one looks at what the stream really holds before it writes.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::jetstream::stream::{DiscardPolicy, RawMessageErrorKind, RetentionPolicy, Stream};
use async_nats::{Event, HeaderMap, HeaderName, HeaderValue, Message, StatusCode, Subject, Subscriber, jetstream};
use futures_util::StreamExt;
use rhio_core::apply::Outgoing;
use rhio_core::headers;
use rhio_core::id::{LocalSeq, OpHash, PublicKey};
use rhio_core::subject::Filter;
use serde::Deserialize;
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use crate::settings;

use super::client::Client;
use super::connect::{self, ConnectError, ConnectSettings};
use super::fault::ServerFault;
use super::reader::ReadError;
use super::state::is_missing;
use super::survey::StreamFacts;

mod presence;

const PUBLIC_KEY: HeaderName = HeaderName::from_static(headers::PUBLIC_KEY);
const OPERATION: HeaderName = HeaderName::from_static(headers::OPERATION);
const SOURCE: HeaderName = HeaderName::from_static(headers::SOURCE);

/// Any error, in its own words.
pub type BoxedError = Box<dyn std::error::Error + Send + Sync>;

/// Never: the connection is not made again.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);
/// How long all servers of the list together may take to answer.
const OPEN: Duration = Duration::from_secs(20);
/// Acknowledgements that may wait to be read.
const ACKS: usize = 256 * 1024;

/// What went wrong with a local stream.
#[derive(Debug, Error)]
pub enum SinkError {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// There is no such stream.
    #[error("local stream '{0}' does not exist; create it, rhio goes on by itself")]
    Missing(String),
    /// The stream does not take a subject.
    #[error("local stream '{stream}' does not capture '{subject}' (it has {subjects}); add the subject to the stream")]
    NotCaptured {
        /// The stream.
        stream: String,
        /// The record's subject, or the subscription's.
        subject: String,
        /// What it captures.
        subjects: String,
    },
    /// The server refused a message.
    #[error("local stream '{stream}' refuses a message: {reason}")]
    Refused {
        /// The stream.
        stream: String,
        /// What that is.
        fault: ServerFault,
        /// The server's words.
        reason: String,
    },
    /// The message is too large for the local server.
    #[error("a message of {len} bytes is larger than the local NATS server allows ({max}); raise its max_payload")]
    TooLarge {
        /// With the headers that rhio adds.
        len: usize,
        /// The server's limit.
        max: usize,
    },
    /// The connection is gone.
    #[error("connection to the local NATS was lost")]
    Lost,
    /// Another connection writes the same log.
    #[error(
        "another connection of a rhio with this private key writes the same messages to local stream '{0}'; this one \
         waits until NATS has closed it. Run one rhio per key, or give each its own key. (If there is no other, this NATS \
         user lacks the permission to publish to '_INBOX.>'.)"
    )]
    Occupied(String),
    /// NATS did not answer as it should.
    #[error("local stream '{stream}': {source}")]
    Nats {
        /// The stream.
        stream: String,
        /// The library's error.
        source: async_nats::Error,
    },
    /// Reading a range of it failed.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// Whether the local stream still has a record where a commit says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It has, or the message was removed since.
    Held,
    /// The stream ends before, or has another message there.
    Lost,
}

/// A connection that writes to one stream.
pub struct Sink {
    client: Client,
    stream: Stream,
    name: String,
    created: u64,
    subjects: Vec<Filter>,
    ttl_allowed: bool,
    max_payload: usize,
    acks: Subscriber,
    inbox: String,
    lost: CancellationToken,
    author: HeaderValue,
    /// Tells later sinks for the same log that this one's connection is still there.
    claim: Option<Subscriber>,
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(default, borrow)]
    stream: std::borrow::Cow<'a, str>,
    #[serde(default)]
    seq: u64,
    error: Option<AnswerError>,
}

#[derive(Deserialize)]
struct AnswerError {
    #[serde(default)]
    err_code: u64,
    #[serde(default)]
    description: String,
}

impl Sink {
    /// Connects, and opens the stream that must capture `filter`.
    ///
    /// # Errors
    /// When there is no connection, no such stream, or it captures nothing under the filter.
    pub async fn open(
        config: &settings::Nats,
        name: &str,
        filter: &Filter,
        author: PublicKey,
    ) -> Result<Self, SinkError> {
        let settings = ConnectSettings { subscription_capacity: ACKS, ..ConnectSettings::default() };
        let lost = CancellationToken::new();
        // Until there is a connection the servers of the list are tried, one after the other; afterwards none is.
        let connected = Arc::new(AtomicBool::new(false));
        let (event, is_connected) = (lost.clone(), Arc::clone(&connected));
        let servers: Vec<_> = config.endpoint.iter().map(settings::Endpoint::url).collect();
        let connecting = connect::options(config, &format!("writes {name}"), settings)?
            .event_callback(move |e| {
                if matches!(e, Event::Disconnected | Event::Closed | Event::SlowConsumer(_)) {
                    event.cancel();
                }
                async {}
            })
            .reconnect_delay_callback(
                move |_| {
                    if is_connected.load(Ordering::Relaxed) { NEVER } else { Duration::ZERO }
                },
            )
            .skip_subject_validation(true)
            .client_capacity(8192)
            .connect(servers);
        let client = match tokio::time::timeout(OPEN, connecting).await {
            Ok(client) => client.map_err(|error| connect::explain(config, &error))?,
            Err(_) => return Err(connect::silent(config, OPEN).into()),
        };
        connected.store(true, Ordering::Relaxed);
        let client = Client { sdk: client };
        let context = jetstream::new(client.sdk.clone());
        let stream = context.get_stream(name).await.map_err(|error| {
            if is_missing(&error) {
                SinkError::Missing(name.to_owned())
            } else {
                SinkError::Nats { stream: name.to_owned(), source: error.into() }
            }
        })?;
        let info = stream.cached_info();
        let subjects: Vec<Filter> = info.config.subjects.iter().filter_map(|s| Filter::parse(s).ok()).collect();
        if !subjects.iter().any(|s| s.overlaps(filter)) {
            return Err(SinkError::NotCaptured {
                stream: name.to_owned(),
                subject: filter.to_string(),
                subjects: info.config.subjects.join(", "),
            });
        }
        if info.config.sealed || info.config.mirror.is_some() {
            let reason = if info.config.sealed { "it is sealed" } else { "it is a mirror" }.to_owned();
            return Err(SinkError::Refused { stream: name.to_owned(), fault: ServerFault::ReadOnly, reason });
        }
        let created = u64::try_from(info.created.unix_timestamp_nanos()).unwrap_or_default();
        let ttl_allowed = info.config.allow_message_ttl;
        let inbox = client.sdk.new_inbox();
        let acks = client
            .sdk
            .subscribe(format!("{inbox}.*"))
            .await
            .map_err(|e| SinkError::Nats { stream: name.to_owned(), source: e.into() })?;
        let max_payload = client.max_payload();
        let author = HeaderValue::from(author.to_string());
        let name = name.to_owned();
        let claim = None;
        Ok(Self { client, stream, name, created, subjects, ttl_allowed, max_payload, acks, inbox, lost, author, claim })
    }

    /// Asks for the first sequence number that the stream holds now. The sink can be used meanwhile.
    pub fn first_held(&self) -> impl Future<Output = Result<LocalSeq, BoxedError>> + Send + 'static {
        let stream = self.stream.clone();
        async move { Ok(LocalSeq(stream.get_info().await?.state.first_sequence)) }
    }

    /// When the stream was created, in nanoseconds since the Unix epoch.
    pub fn created(&self) -> u64 {
        self.created
    }

    /// The stream as it was when it was opened.
    pub fn info(&self) -> StreamFacts {
        self.stream.cached_info().into()
    }

    /// The server that this connection leads to; another one after every restart.
    pub fn server_id(&self) -> String {
        self.client.server_info().server_id
    }

    /// Cancelled when the connection is gone.
    pub fn lost(&self) -> &CancellationToken {
        &self.lost
    }

    fn failed(&self, source: impl Into<async_nats::Error>) -> SinkError {
        SinkError::Nats { stream: self.name.clone(), source: source.into() }
    }

    /// What the headers of an operation's records have in common.
    pub fn stamp(life: &str, operation: OpHash) -> Stamp {
        Stamp { operation: format!("{}/", operation.mark()), source: format!("{life}/") }
    }

    /// Sends a record. With a `mark`, which has to be unique among those under way, its answer comes from
    /// [`Sink::answer`]; without one there is no answer.
    ///
    /// # Errors
    /// When the stream would not take it, or the connection is gone. Nothing was sent then.
    pub async fn publish(&self, stamp: &Stamp, record: &Outgoing, mark: Option<u64>) -> Result<(), SinkError> {
        if self.lost.is_cancelled() {
            return Err(SinkError::Lost);
        }
        let subject = Subject::from_utf8(record.parts.subject.clone()).map_err(|e| self.failed(e))?;
        if !self.subjects.iter().any(|filter| filter.matches(&subject)) {
            let subjects = self.subjects.iter().map(Filter::as_str).collect::<Vec<_>>().join(", ");
            let (stream, subject) = (self.name.clone(), subject.to_string());
            return Err(SinkError::NotCaptured { stream, subject, subjects });
        }
        let mut map = HeaderMap::new();
        map.insert(PUBLIC_KEY, self.author.clone());
        map.insert(OPERATION, joined(&stamp.operation, record.index as u64));
        map.insert(SOURCE, presence::mark(&stamp.source, record.position));
        let mut len = record.parts.payload.len() + 300;
        for (name, value) in &record.parts.headers {
            // Both were checked when the record was read.
            let (name, value) = (String::from_utf8_lossy(name), String::from_utf8_lossy(value));
            len += name.len() + value.len() + 16;
            map.append(headers::destination_name(&name, self.ttl_allowed).as_ref(), value.as_ref());
        }
        if len > self.max_payload {
            return Err(SinkError::TooLarge { len, max: self.max_payload });
        }
        let payload = record.parts.payload.clone();
        let sent = match mark {
            Some(mark) => {
                let reply = Subject::from(format!("{}.{mark}", self.inbox));
                self.client.sdk.publish_with_reply_and_headers(subject, reply, map, payload).await
            }
            None => self.client.sdk.publish_with_headers(subject, map, payload).await,
        };
        sent.map_err(|e| self.failed(e))
    }

    /// The next answer: the mark, and the sequence number that the stream gave. Cancel-safe.
    ///
    /// # Errors
    /// When the server refused a message, or the connection is gone.
    pub async fn answer(&mut self) -> Result<(u64, LocalSeq), SinkError> {
        let message = tokio::select! {
            biased;
            message = self.acks.next() => message.ok_or(SinkError::Lost)?,
            () = self.lost.cancelled() => return Err(SinkError::Lost),
        };
        self.read_answer(&message)
    }

    fn read_answer(&self, message: &Message) -> Result<(u64, LocalSeq), SinkError> {
        let refused =
            |fault: ServerFault, reason: String| SinkError::Refused { stream: self.name.clone(), fault, reason };
        if message.status == Some(StatusCode::NO_RESPONDERS) {
            return Err(refused(ServerFault::Missing, "no stream captures its subject".to_owned()));
        }
        let mark = message.subject.rsplit('.').next().and_then(|mark| mark.parse().ok());
        let answer: Answer<'_> = serde_json::from_slice(&message.payload).map_err(|e| self.failed(e))?;
        if let Some(error) = answer.error {
            return Err(refused(ServerFault::answered(error.err_code, &error.description), error.description));
        }
        if answer.stream != self.name {
            return Err(refused(ServerFault::Other, format!("stream '{}' captured its subject", answer.stream)));
        }
        let mark = mark.ok_or_else(|| refused(ServerFault::Other, "the answer names no message".to_owned()))?;
        Ok((mark, LocalSeq(answer.seq)))
    }

    /// The last sequence number that the stream gave.
    ///
    /// # Errors
    /// When NATS does not answer.
    pub async fn last(&self) -> Result<LocalSeq, SinkError> {
        let info = self.stream.get_info().await.map_err(|e| self.failed(e))?;
        Ok(LocalSeq(info.state.last_sequence))
    }

    /// The first sequence number that is still there.
    ///
    /// # Errors
    /// When NATS does not answer.
    pub async fn first(&self) -> Result<LocalSeq, SinkError> {
        let info = self.stream.get_info().await.map_err(|e| self.failed(e))?;
        Ok(LocalSeq(info.state.first_sequence))
    }

    /// Removes a message that is out of place.
    ///
    /// # Errors
    /// When NATS does not answer, or the stream denies deletes.
    pub async fn delete(&self, local: LocalSeq) -> Result<(), SinkError> {
        match self.stream.delete_message(local.0).await {
            Ok(_) => Ok(()),
            // It is gone already.
            Err(_) if self.is_gone(local).await => Ok(()),
            Err(error) => Err(self.failed(error)),
        }
    }

    async fn is_gone(&self, local: LocalSeq) -> bool {
        let read = self.stream.get_raw_message(local.0).await;
        read.is_err_and(|error| matches!(error.kind(), RawMessageErrorKind::NoMessageFound))
    }

    /// Whether messages leave the stream when they are consumed, so that one that is not there may have been.
    pub fn drops_consumed(&self) -> bool {
        !matches!(self.stream.cached_info().config.retention, RetentionPolicy::Limits)
    }

    /// Whether the stream is a work queue.
    fn is_queue(&self) -> bool {
        matches!(self.stream.cached_info().config.retention, RetentionPolicy::WorkQueue)
    }

    /// Whether the answer to the last record of a batch can speak for the others: a single server that never refuses
    /// for lack of room stores what one connection sends in its order, so the sequence numbers tell whether all of it
    /// is there. A replicated stream may lose some when its leader changes, a stream with limits may refuse some.
    pub fn answers_for_all(&self) -> bool {
        let config = &self.stream.cached_info().config;
        config.num_replicas <= 1
            && matches!(config.discard, DiscardPolicy::Old)
            && matches!(config.retention, RetentionPolicy::Limits)
            && config.max_message_size <= 0
    }
}

/// What [`Sink::stamp`] prepares.
#[derive(Clone, Debug)]
pub struct Stamp {
    operation: String,
    source: String,
}

fn joined(prefix: &str, number: u64) -> String {
    let mut text = String::with_capacity(prefix.len() + 20);
    text.push_str(prefix);
    // Writing into a string does not fail.
    let _ = write!(text, "{number}");
    text
}
