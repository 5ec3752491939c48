//! Reads a stream in order with bounded memory: a pull consumer whose deliveries are checked for gaps.
//!
//! The library's ordered push consumer would do as well, but with it the server sends up to 32 MB ahead of a reader
//! that is slow, for each reader. Here at most one batch is under way.

use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::stream::Stream;
use bytes::Bytes;
use futures_util::StreamExt;
use rhio_core::id::SourceSeq;
use rhio_core::record::Position;
use thiserror::Error;

/// Messages that are asked for at once.
const BATCH: usize = 2048;
/// Bytes that are asked for at once, unless a single message may be larger.
const BATCH_BYTES: usize = 2 * 1024 * 1024;
/// What a message may take beyond its payload.
const OVERHEAD: usize = 128 * 1024;
/// The server forgets the consumer when nobody has asked for this long.
const INACTIVE: Duration = Duration::from_secs(60);
/// How often the server says that it is still there.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// Attempts in a row to begin anew without a message in between.
const ATTEMPTS: usize = 5;

/// Reading a stream failed.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The library's error.
    #[error("reading the stream failed: {0}")]
    Nats(#[source] async_nats::Error),
    /// A message without JetStream's marks.
    #[error("the stream delivered a message without its position")]
    NoPosition,
    /// The server says that messages are left, and sends none.
    #[error("the stream stopped delivering with messages left")]
    Stalled,
}

/// A message of a stream.
#[derive(Debug)]
pub struct Scanned {
    /// Its sequence number.
    pub seq: u64,
    /// When it was stored, in nanoseconds since the Unix epoch.
    pub time: u64,
    /// Its subject.
    pub subject: async_nats::Subject,
    /// Its headers.
    pub headers: Option<HeaderMap>,
    /// Its payload; empty when only headers were asked for.
    pub payload: Bytes,
}

/// What the server says about a delivery.
#[derive(Clone, Copy, Debug)]
pub struct Delivery {
    /// Its number among the consumer's deliveries, from 1.
    pub number: u64,
    /// How many messages wait behind it.
    pub pending: u64,
}

impl Scanned {
    /// Where the stream holds it.
    pub fn position(&self) -> Position {
        Position { seq: SourceSeq(self.seq), time: self.time }
    }

    pub(super) fn read(message: async_nats::jetstream::Message) -> Result<(Self, Delivery), ReadError> {
        let info = message.info().map_err(ReadError::Nats)?;
        let (seq, delivery) =
            (info.stream_sequence, Delivery { number: info.consumer_sequence, pending: info.pending });
        let time = u64::try_from(info.published.unix_timestamp_nanos()).map_err(|_| ReadError::NoPosition)?;
        let (message, _) = message.split();
        let scanned = Self { seq, time, subject: message.subject, headers: message.headers, payload: message.payload };
        Ok((scanned, delivery))
    }
}

/// Reads a stream from some place on, for ever.
pub struct Reader {
    stream: Stream,
    filter: String,
    headers_only: bool,
    max_payload: usize,
    messages: Box<pull::Stream>,
    /// Deliveries of the present consumer so far.
    delivered: u64,
    /// Where a new consumer begins.
    next: u64,
    /// How many messages are left, by the server's last word.
    left: u64,
}

impl Reader {
    /// Starts at sequence number `from`. With `headers_only`, payloads stay where they are. `max_payload` is the
    /// server's limit: no batch is smaller.
    ///
    /// # Errors
    /// When NATS does not answer.
    pub async fn open(
        stream: &Stream,
        max_payload: usize,
        filter: &str,
        from: u64,
        headers_only: bool,
    ) -> Result<Self, ReadError> {
        let (messages, left) = consume(stream, max_payload, filter, from, headers_only).await?;
        let (stream, filter) = (stream.clone(), filter.to_owned());
        Ok(Self { stream, filter, headers_only, max_payload, messages, delivered: 0, next: from, left })
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
    /// When a delivery can't be read.
    pub async fn next_unbroken(&mut self) -> Result<Option<Scanned>, ReadError> {
        let Some(Ok(message)) = self.messages.next().await else { return Ok(None) };
        let (scanned, delivery) = Scanned::read(message)?;
        if delivery.number != self.delivered + 1 {
            return Ok(None);
        }
        self.delivered = delivery.number;
        (self.next, self.left) = (scanned.seq + 1, delivery.pending);
        Ok(Some(scanned))
    }

    /// The next message, waiting for it if need be. Cancel-safe.
    ///
    /// # Errors
    /// When NATS does not answer.
    pub async fn next(&mut self) -> Result<Scanned, ReadError> {
        let mut failures = 0;
        loop {
            let failure = match self.messages.next().await {
                Some(Ok(message)) => {
                    let (scanned, delivery) = Scanned::read(message)?;
                    if delivery.number == self.delivered + 1 {
                        self.delivered = delivery.number;
                        (self.next, self.left) = (scanned.seq + 1, delivery.pending);
                        return Ok(scanned);
                    }
                    // Deliveries were lost on the way; they are asked for again.
                    None
                }
                Some(Err(error)) => Some(ReadError::Nats(error.into())),
                None => Some(ReadError::Stalled),
            };
            failures += 1;
            if failures > ATTEMPTS {
                return Err(failure.unwrap_or(ReadError::Stalled));
            }
            self.again().await?;
        }
    }

    /// Begins anew behind the last message.
    ///
    /// # Errors
    /// When NATS does not answer.
    pub async fn again(&mut self) -> Result<(), ReadError> {
        let again = consume(&self.stream, self.max_payload, &self.filter, self.next, self.headers_only).await?;
        (self.messages, self.left) = again;
        self.delivered = 0;
        Ok(())
    }
}

async fn consume(
    stream: &Stream,
    max_payload: usize,
    filter: &str,
    from: u64,
    headers_only: bool,
) -> Result<(Box<pull::Stream>, u64), ReadError> {
    let config = pull::Config {
        filter_subject: if filter == ">" { String::new() } else { filter.to_owned() },
        deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: from.max(1) },
        ack_policy: AckPolicy::None,
        inactive_threshold: INACTIVE,
        num_replicas: 1,
        memory_storage: true,
        headers_only,
        ..pull::Config::default()
    };
    let failed = |error: async_nats::Error| ReadError::Nats(error);
    let consumer = stream.create_consumer(config).await.map_err(|e| failed(e.into()))?;
    let left = consumer.cached_info().num_pending;
    let messages = consumer
        .stream()
        .max_messages_per_batch(BATCH)
        .max_bytes_per_batch(BATCH_BYTES.max(max_payload + OVERHEAD))
        .heartbeat(HEARTBEAT)
        .messages()
        .await
        .map_err(|e| failed(e.into()))?;
    Ok((Box::new(messages), left))
}

/// The sequence number of the first message that was stored later than `time`, in nanoseconds since the Unix epoch.
/// Work queues can't be asked this way.
///
/// # Errors
/// When NATS does not answer.
pub async fn first_after(stream: &Stream, time: u64) -> Result<Option<u64>, ReadError> {
    let start = time::OffsetDateTime::from_unix_timestamp_nanos(i128::from(time) + 1);
    let Ok(start_time) = start else { return Ok(None) };
    let config = pull::Config {
        deliver_policy: DeliverPolicy::ByStartTime { start_time },
        ack_policy: AckPolicy::None,
        inactive_threshold: Duration::from_secs(10),
        num_replicas: 1,
        memory_storage: true,
        headers_only: true,
        ..pull::Config::default()
    };
    let failed = |error: async_nats::Error| ReadError::Nats(error);
    let consumer = stream.create_consumer(config).await.map_err(|e| failed(e.into()))?;
    if consumer.cached_info().num_pending == 0 {
        return Ok(None);
    }
    let mut batch = consumer.fetch().max_messages(1).messages().await.map_err(|e| failed(e.into()))?;
    let Some(message) = batch.next().await else { return Ok(None) };
    let (scanned, _) = Scanned::read(message.map_err(failed)?)?;
    let _ = stream.delete_consumer(&consumer.cached_info().name).await;
    Ok(Some(scanned.seq))
}
