//! Reads what a stream holds now, in order, up to the end that it had when reading began.
//!
//! A stream's messages may vanish while they are read (limits, purges, deletes), so their number cannot be counted on.
//! The server says with every message how many are left, and with the consumer's state when none arrives.

use std::time::Duration;

use async_nats::jetstream::consumer::{self, DeliverPolicy, push};
use async_nats::jetstream::stream::Stream;
use async_nats::{Client, HeaderMap};
use bytes::Bytes;
use futures_util::StreamExt;
use rhio_core::id::SourceSeq;
use rhio_core::record::Position;
use thiserror::Error;

/// How long nothing may arrive before the server is asked whether anything is left.
const IDLE: Duration = Duration::from_millis(500);
/// How often in a row it may say that something is left while nothing arrives.
const MAX_IDLE: usize = 20;

/// Reading a stream failed.
#[derive(Debug, Error)]
pub enum ScanError {
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

impl Scanned {
    pub(crate) fn position(&self) -> Position {
        Position { seq: SourceSeq(self.seq), time: self.time }
    }

    pub(crate) fn read(message: async_nats::jetstream::Message) -> Result<(Self, u64), ScanError> {
        let info = message.info().map_err(ScanError::Nats)?;
        let (seq, pending) = (info.stream_sequence, info.pending);
        let time = u64::try_from(info.published.unix_timestamp_nanos()).map_err(|_| ScanError::NoPosition)?;
        let (message, _) = message.split();
        let scanned = Self { seq, time, subject: message.subject, headers: message.headers, payload: message.payload };
        Ok((scanned, pending))
    }
}

/// A reader of what a stream holds under a filter.
pub struct Scan {
    client: Client,
    stream: Stream,
    filter: String,
    headers_only: bool,
    messages: push::Ordered,
    /// How many are left, by the server's last word.
    left: u64,
    next: u64,
}

impl Scan {
    /// Starts at sequence number `from`. With `headers_only`, payloads stay where they are.
    ///
    /// # Errors
    /// When NATS does not answer.
    pub async fn open(
        client: &Client,
        stream: &Stream,
        filter: &str,
        from: u64,
        headers_only: bool,
    ) -> Result<Self, ScanError> {
        let (messages, left) = Self::consume(client, stream, filter, from, headers_only).await?;
        let (client, stream, filter) = (client.clone(), stream.clone(), filter.to_owned());
        Ok(Self { client, stream, filter, headers_only, messages, left, next: from })
    }

    async fn consume(
        client: &Client,
        stream: &Stream,
        filter: &str,
        from: u64,
        headers_only: bool,
    ) -> Result<(push::Ordered, u64), ScanError> {
        let consumer = ordered(client, stream, filter, from, headers_only).await?;
        let left = consumer.cached_info().num_pending;
        let messages = consumer.messages().await.map_err(|e| ScanError::Nats(e.into()))?;
        Ok((messages, left))
    }

    /// The next message; `None` at the end.
    ///
    /// # Errors
    /// When NATS does not answer, or stops delivering.
    pub async fn next(&mut self) -> Result<Option<Scanned>, ScanError> {
        for _ in 0..MAX_IDLE {
            if self.left == 0 {
                return Ok(None);
            }
            match tokio::time::timeout(IDLE, self.messages.next()).await {
                Ok(Some(Ok(message))) => {
                    let (scanned, left) = Scanned::read(message)?;
                    (self.left, self.next) = (left, scanned.seq + 1);
                    return Ok(Some(scanned));
                }
                Ok(Some(Err(error))) => return Err(ScanError::Nats(error.into())),
                // Nothing comes: what was left may have vanished. A new consumer tells.
                Ok(None) | Err(_) => {
                    let (client, stream) = (&self.client, &self.stream);
                    let again = Self::consume(client, stream, &self.filter, self.next, self.headers_only).await?;
                    (self.messages, self.left) = again;
                }
            }
        }
        Err(ScanError::Stalled)
    }
}

/// An ordered consumer from a sequence number on.
pub(crate) async fn ordered(
    client: &Client,
    stream: &Stream,
    filter: &str,
    from: u64,
    headers_only: bool,
) -> Result<consumer::Consumer<push::OrderedConfig>, ScanError> {
    let config = push::OrderedConfig {
        deliver_subject: client.new_inbox(),
        filter_subject: if filter == ">" { String::new() } else { filter.to_owned() },
        deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: from.max(1) },
        headers_only,
        ..push::OrderedConfig::default()
    };
    stream.create_consumer(config).await.map_err(|e| ScanError::Nats(e.into()))
}
