//! The streams that are written to.
//!
//! A sink has a connection of its own that never reconnects. The library would send what waits in its queue over the
//! next connection while what was on the wire is lost, and a message would overtake another. So a lost connection ends
//! the sink; the next one looks at what the stream really holds before it writes.

use std::time::Duration;

use async_nats::jetstream::stream::{DiscardPolicy, RetentionPolicy, Stream};
use rhio_core::apply::Outgoing;
use rhio_core::headers::Stamp;
use rhio_core::id::{LocalSeq, OpHash, PublicKey};
use rhio_core::subject::Filter;
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use super::client::Client;
use super::connect::ConnectError;
use super::fault::ServerFault;
use super::raw::connection::{Denied, Incoming, Lost, WriteError};
use super::raw::encode::Publish;
use super::raw::exchange::{AskError, Exchange};
use super::raw::js::{GetRequest, Refusal, Stored};
use super::reader::ReadError;
use super::reader::single::get;
use super::state::is_missing;
use super::subjects::changes;
use super::survey::StreamFacts;

mod presence;

/// Any error, in its own words.
pub type BoxedError = Box<dyn std::error::Error + Send + Sync>;

/// How long all servers of the list together may take to answer.
const OPEN: Duration = Duration::from_secs(20);

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
    /// The stream changes the subscription's subjects.
    #[error(
        "local stream '{stream}' stores '{filter}' as '{destination}' (subject_transform), so that what it holds can't be \
         told again after a restart"
    )]
    Changes {
        /// The stream.
        stream: String,
        /// The subscription's subjects.
        filter: Filter,
        /// What it makes of them.
        destination: String,
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
    /// The user may not do this.
    #[error("the local NATS forbids it: {}; give rhio's user the permission", .0.text)]
    Denied(Denied),
    /// The record can't be said to the server.
    #[error("a message can't be sent to the local NATS: {0}")]
    Unsayable(WriteError),
    /// The connection is gone.
    #[error("connection to the local NATS was lost: {0}")]
    Lost(#[from] Lost),
    /// Another connection writes the same log.
    #[error(
        "another connection of a rhio with this private key writes the same messages to local stream '{0}'; this one \
         waits until NATS has closed it. Run one rhio per key, or give each its own key."
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

impl From<AskError> for SinkError {
    fn from(error: AskError) -> Self {
        match error {
            AskError::Connect(error) => Self::Connect(error),
            AskError::Lost(lost) => Self::Lost(lost),
            AskError::Denied(denied) => Self::Denied(denied),
            AskError::Write(error) => Self::Unsayable(error),
            error @ AskError::TimedOut(_) => Self::Read(error.into()),
        }
    }
}

impl From<WriteError> for SinkError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Lost(lost) => Self::Lost(lost),
            WriteError::TooLarge { len, max } => {
                Self::TooLarge { len, max: usize::try_from(max).unwrap_or(usize::MAX) }
            }
            error @ WriteError::Encode(_) => Self::Unsayable(error),
        }
    }
}

/// A connection that writes to one stream.
pub struct Sink {
    client: Client,
    stream: Stream,
    name: String,
    created: u64,
    subjects: Vec<Filter>,
    ttl_allowed: bool,
    exchange: Exchange,
    author: PublicKey,
    /// The block of headers of the record that is being written.
    block: Vec<u8>,
}

impl Sink {
    /// Connects, and opens the stream that must capture `filter`.
    ///
    /// # Errors
    /// When there is no connection, no such stream, or it captures nothing under the filter.
    pub async fn open(client: &Client, name: &str, filter: &Filter, author: PublicKey) -> Result<Self, SinkError> {
        let settings = client.pool.settings();
        let purpose = format!("writes {name}");
        let opening = Exchange::open(settings, &purpose);
        let exchange = match tokio::time::timeout(OPEN, opening).await {
            Ok(exchange) => exchange?,
            Err(_) => return Err(AskError::TimedOut(OPEN).into()),
        };
        let stream = client.jetstream().get_stream(name).await.map_err(|error| {
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
        if let Some(destination) = changes(&info.config, filter) {
            let (stream, filter, destination) = (name.to_owned(), filter.clone(), destination.to_owned());
            return Err(SinkError::Changes { stream, filter, destination });
        }
        if info.config.sealed || info.config.mirror.is_some() {
            let reason = if info.config.sealed { "it is sealed" } else { "it is a mirror" }.to_owned();
            return Err(SinkError::Refused { stream: name.to_owned(), fault: ServerFault::ReadOnly, reason });
        }
        let created = u64::try_from(info.created.unix_timestamp_nanos()).unwrap_or_default();
        let ttl_allowed = info.config.allow_message_ttl;
        let (client, name, block) = (client.clone(), name.to_owned(), Vec::new());
        Ok(Self { client, stream, name, created, subjects, ttl_allowed, exchange, author, block })
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
        self.exchange.writer.info().server_id.clone()
    }

    /// Cancelled when the connection is gone.
    pub fn lost(&self) -> &CancellationToken {
        self.exchange.writer.lost()
    }

    fn failed(&self, source: impl Into<async_nats::Error>) -> SinkError {
        SinkError::Nats { stream: self.name.clone(), source: source.into() }
    }

    /// What the headers of an operation's records have in common.
    pub fn stamp(&self, life: &str, operation: OpHash) -> Stamp {
        Stamp::new(self.author, life, operation)
    }

    /// Sends a record. With a `mark`, which has to be unique among those under way, its answer comes from
    /// [`Sink::answer`]; without one there is no answer.
    ///
    /// # Errors
    /// When the stream would not take it, or the connection is gone. Nothing was sent then.
    pub async fn publish(&mut self, stamp: &Stamp, record: &Outgoing, mark: Option<u64>) -> Result<(), SinkError> {
        let subject = &record.parts.subject;
        if !self.subjects.iter().any(|filter| filter.matches(subject)) {
            let subjects = self.subjects.iter().map(Filter::as_str).collect::<Vec<_>>().join(", ");
            let (stream, subject) = (self.name.clone(), String::from_utf8_lossy(subject).into_owned());
            return Err(SinkError::NotCaptured { stream, subject, subjects });
        }
        self.block.clear();
        stamp.put(&mut self.block, &record.parts.headers, record.index, record.position, self.ttl_allowed);
        let reply = mark.map(|mark| self.exchange.answer_subject(mark));
        let reply = reply.as_ref().map(|reply| reply.as_bytes());
        let message = Publish { subject, reply, headers: &[&self.block], payload: &record.parts.payload };
        Ok(self.exchange.writer.publish(&message).await?)
    }

    /// The next answer: the mark, and the sequence number that the stream gave. Cancel-safe.
    ///
    /// # Errors
    /// When the server refused a message, or the connection is gone.
    pub async fn answer(&mut self) -> Result<(u64, LocalSeq), SinkError> {
        loop {
            match self.exchange.reader.next().await? {
                Incoming::Message(message) => {
                    // What is no answer asks whether this connection is still there.
                    if let Some(mark) = Exchange::answered(&message) {
                        return Ok((mark, self.read_answer(Stored::read(&message))?));
                    }
                }
                Incoming::Denied(denied) => return Err(SinkError::Denied(denied)),
                // Before it shuts down it closes the connection, which is noticed then.
                Incoming::Info(_) => {}
            }
        }
    }

    fn read_answer(&self, answer: Result<Stored<'_>, Refusal>) -> Result<LocalSeq, SinkError> {
        let refused =
            |fault: ServerFault, reason: String| SinkError::Refused { stream: self.name.clone(), fault, reason };
        match answer {
            Ok(stored) if stored.stream == self.name => Ok(LocalSeq(stored.seq)),
            Ok(stored) => Err(refused(ServerFault::Other, format!("stream '{}' captured its subject", stored.stream))),
            Err(Refusal::Nobody) => Err(refused(ServerFault::Missing, "no stream captures its subject".to_owned())),
            Err(Refusal::Server { err_code, description, .. }) => {
                Err(refused(ServerFault::answered(err_code.into(), &description), description))
            }
            Err(error @ Refusal::Unreadable) => Err(refused(ServerFault::Other, error.to_string())),
        }
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
        let read = get(&self.client, &self.name, GetRequest { seq: local.0, filter: None }).await;
        matches!(read, Ok(None))
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
