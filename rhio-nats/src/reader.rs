//! Reads a stream in order with bounded memory: a pull consumer whose deliveries are checked for gaps, over a connection
//! that is lent for it.

use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::stream::Stream;
use bytes::Bytes;
use rhio_core::id::SourceSeq;
use rhio_core::record::Position;
use thiserror::Error;

use super::client::Client;
use super::raw::connection::{Denied, Lost, WriteError};
use super::raw::exchange::AskError;
use super::raw::js::{Delivery, Refusal};
use super::raw::parse::Message;

pub(crate) mod limits;
pub(crate) mod puller;
pub mod single;

use puller::Puller;

/// The server forgets the consumer when nobody has asked for this long, unless the stream allows less.
const INACTIVE: Duration = Duration::from_secs(60);
/// Attempts in a row to begin anew without a message in between.
const ATTEMPTS: usize = 5;

/// Reading a stream failed.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The library's error.
    #[error("reading the stream failed: {0}")]
    Nats(#[source] async_nats::Error),
    /// There is no connection to read over, or it is gone.
    #[error("reading the stream failed: {0}")]
    Ask(#[from] AskError),
    /// The server ended what was asked for.
    #[error("reading the stream failed: NATS says '{text}' ({code})")]
    Ended {
        /// As in HTTP.
        code: u16,
        /// The server's words.
        text: String,
    },
    /// The server's answer about one message.
    #[error("reading a message of the stream failed: {0}")]
    Message(#[from] Refusal),
    /// A message under a subject that the server can't tell in an answer.
    #[error(
        "message {0} has a subject that is no text, and the stream does not let it be read; set allow_direct on the stream"
    )]
    Untold(u64),
    /// The server says that messages are left, and sends none.
    #[error("the stream stopped delivering with messages left")]
    Stalled,
}

impl From<Lost> for ReadError {
    fn from(lost: Lost) -> Self {
        Self::Ask(lost.into())
    }
}

impl From<WriteError> for ReadError {
    fn from(error: WriteError) -> Self {
        Self::Ask(error.into())
    }
}

impl From<Denied> for ReadError {
    fn from(denied: Denied) -> Self {
        Self::Ask(AskError::Denied(denied))
    }
}

/// A message of a stream, as bytes. What it holds may share memory with other messages: copy what is kept for long.
#[derive(Debug)]
pub struct Scanned {
    /// Its sequence number.
    pub seq: u64,
    /// When it was stored, in nanoseconds since the Unix epoch.
    pub time: u64,
    /// Its subject.
    pub subject: Bytes,
    /// Its block of headers; empty for none.
    pub headers: Bytes,
    /// Its payload; empty when only headers were asked for.
    pub payload: Bytes,
}

impl Scanned {
    /// Where the stream holds it.
    pub fn position(&self) -> Position {
        Position { seq: SourceSeq(self.seq), time: self.time }
    }

    pub(crate) fn delivered(message: &Message, delivery: &Delivery<'_>) -> Self {
        Self {
            seq: delivery.stream_seq,
            time: delivery.time,
            subject: message.shared_subject(),
            headers: message.shared_headers(),
            payload: message.shared_payload(),
        }
    }
}

/// Where reading begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At this sequence number, or the first behind it.
    At(u64),
    /// At the first message that was stored behind this time, in nanoseconds since the Unix epoch.
    Behind(u64),
}

/// Reads a stream from some place on, for ever.
pub struct Reader {
    client: Client,
    stream: Stream,
    filter: String,
    headers_only: bool,
    puller: Puller,
    /// Deliveries of the present consumer so far.
    delivered: u64,
    /// Where a new consumer begins.
    next: Start,
    /// How many messages are left, by the server's last word.
    left: u64,
}

impl Reader {
    /// Begins. With `headers_only`, payloads stay where they are.
    ///
    /// # Errors
    /// When NATS does not answer.
    pub async fn open(
        client: &Client,
        stream: &Stream,
        filter: &str,
        start: Start,
        headers_only: bool,
    ) -> Result<Self, ReadError> {
        let (puller, left) = consume(client, stream, filter, start, headers_only).await?;
        let (client, stream, filter) = (client.clone(), stream.clone(), filter.to_owned());
        Ok(Self { client, stream, filter, headers_only, puller, delivered: 0, next: start, left })
    }

    /// How many messages are left, by the server's last word.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// The next message, waiting for it if need be; `None` when reading can't go on without being begun anew, as after a
    /// restart of the server. It may have forgotten what was read, so whoever follows a stream must look first where it
    /// ends now. Cancel-safe.
    ///
    /// # Errors
    /// When the server forbids it.
    pub async fn next_unbroken(&mut self) -> Result<Option<Scanned>, ReadError> {
        match self.read().await {
            Ok(scanned) => Ok(scanned),
            Err(error @ ReadError::Ask(AskError::Denied(_))) => Err(error),
            Err(error) => {
                tracing::debug!("reading {} was interrupted: {error}", self.stream.cached_info().config.name);
                Ok(None)
            }
        }
    }

    /// The next message, waiting for it if need be. Cancel-safe.
    ///
    /// # Errors
    /// When NATS does not answer.
    pub async fn next(&mut self) -> Result<Scanned, ReadError> {
        let mut failures = 0;
        loop {
            let failure = match self.read().await {
                Ok(Some(scanned)) => return Ok(scanned),
                // Deliveries were lost on the way; they are asked for again.
                Ok(None) => ReadError::Stalled,
                Err(error) => error,
            };
            failures += 1;
            if failures > ATTEMPTS {
                return Err(failure);
            }
            self.again().await?;
        }
    }

    /// The next message; `None` behind a gap.
    async fn read(&mut self) -> Result<Option<Scanned>, ReadError> {
        let (scanned, delivery) = self.puller.next().await?;
        if delivery.number != self.delivered + 1 {
            return Ok(None);
        }
        self.delivered = delivery.number;
        (self.next, self.left) = (Start::At(scanned.seq + 1), delivery.pending);
        Ok(Some(scanned))
    }

    /// Begins anew behind the last message.
    ///
    /// # Errors
    /// When NATS does not answer.
    pub async fn again(&mut self) -> Result<(), ReadError> {
        let again = consume(&self.client, &self.stream, &self.filter, self.next, self.headers_only).await?;
        (self.puller, self.left) = again;
        self.delivered = 0;
        Ok(())
    }
}

async fn consume(
    client: &Client,
    stream: &Stream,
    filter: &str,
    start: Start,
    headers_only: bool,
) -> Result<(Puller, u64), ReadError> {
    let deliver_policy = match start {
        Start::At(seq) => DeliverPolicy::ByStartSequence { start_sequence: seq.max(1) },
        Start::Behind(time) => match time::OffsetDateTime::from_unix_timestamp_nanos(i128::from(time) + 1) {
            Ok(start_time) => DeliverPolicy::ByStartTime { start_time },
            Err(_) => DeliverPolicy::New,
        },
    };
    let config = pull::Config {
        filter_subject: if filter == ">" { String::new() } else { filter.to_owned() },
        deliver_policy,
        ack_policy: AckPolicy::None,
        inactive_threshold: limits::inactive(stream, INACTIVE),
        num_replicas: 1,
        memory_storage: true,
        headers_only,
        ..pull::Config::default()
    };
    let consumer = stream.create_consumer(config).await.map_err(|error| ReadError::Nats(error.into()))?;
    let info = consumer.cached_info();
    let puller = Puller::open(client, &info.stream_name, &info.name).await?;
    Ok((puller, info.num_pending))
}

/// The sequence number of the first message that was stored later than `time`, in nanoseconds since the Unix epoch.
/// Work queues can't be asked this way.
///
/// # Errors
/// When NATS does not answer.
pub async fn first_after(client: &Client, stream: &Stream, time: u64) -> Result<Option<u64>, ReadError> {
    let mut reader = Reader::open(client, stream, ">", Start::Behind(time), true).await?;
    if reader.left() == 0 {
        return Ok(None);
    }
    let first = tokio::time::timeout(puller::SILENCE, reader.next()).await.map_err(|_| ReadError::Stalled)??;
    Ok(Some(first.seq))
}
