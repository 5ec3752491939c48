//! Asks a pull consumer for messages, always for some more before the last ones have come, and never for more at once
//! than fits into memory.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, timeout_at};

use super::{ReadError, Scanned, limits};
use crate::client::Client;
use crate::raw::connection::Incoming;
use crate::raw::encode::Publish;
use crate::raw::exchange::Lent;
use crate::raw::js::{Api, Pull, PullRequest, Pulled, inbox};
use crate::raw::parse::Message;

/// Messages that are asked for at once.
const BATCH: u32 = 2048;
/// Bytes that are asked for at once. A single message that is larger is asked for alone.
const BATCH_BYTES: usize = 2 * 1024 * 1024;
/// How long the server keeps a request.
const EXPIRES: Duration = Duration::from_secs(30);
/// The shortest time that a request is worth.
const MIN_EXPIRES: Duration = Duration::from_millis(100);
/// How often the server says that it is still there while it has nothing.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// How long it may say nothing at all.
pub(crate) const SILENCE: Duration = Duration::from_secs(12);

/// What the server says about a delivery.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    /// Its number among the consumer's deliveries, from 1.
    pub number: u64,
    /// How many messages wait behind it.
    pub pending: u64,
    /// Where it is acknowledged.
    pub ack: Option<Bytes>,
}

/// A request that is under way.
#[derive(Debug)]
struct Asked {
    mark: u64,
    messages: u64,
    bytes: usize,
    /// Nothing was delivered for it yet.
    fresh: bool,
}

/// Reads one consumer.
pub(crate) struct Puller {
    lent: Lent,
    sid: u64,
    inbox: String,
    next: String,
    stream: Vec<u8>,
    consumer: Vec<u8>,
    /// What is asked for at once; made smaller when the server wants that.
    batch: u32,
    bytes: usize,
    expires: Duration,
    /// The next message is larger than `bytes`, and asked for alone.
    alone: bool,
    /// Requests under way, the oldest first: the server serves them in that order.
    asked: VecDeque<Asked>,
    mark: u64,
    heard: Instant,
}

impl Puller {
    /// Begins to read a consumer that exists.
    ///
    /// # Errors
    /// When there is no connection.
    pub async fn open(client: &Client, stream: &str, consumer: &str) -> Result<Self, ReadError> {
        let settings = client.pool.settings();
        let mut lent = client.pool.lend().await?;
        let inbox = inbox(settings);
        let sid = lent.exchange()?.subscribe(format!("{inbox}.*").as_bytes()).await?;
        Ok(Self {
            lent,
            sid,
            inbox,
            next: Api::new(settings).next(stream, consumer),
            stream: stream.as_bytes().to_vec(),
            consumer: consumer.as_bytes().to_vec(),
            batch: BATCH,
            bytes: BATCH_BYTES,
            expires: EXPIRES,
            alone: false,
            asked: VecDeque::new(),
            mark: 0,
            heard: Instant::now(),
        })
    }

    /// The next message, waiting for it if need be. Cancel-safe.
    ///
    /// # Errors
    /// When the connection is gone, the consumer is, or the server falls silent.
    pub async fn next(&mut self) -> Result<(Scanned, Delivery), ReadError> {
        loop {
            self.ask().await?;
            let reader = &mut self.lent.exchange()?.reader;
            let incoming = match reader.next_ready() {
                Some(incoming) => incoming,
                None => timeout_at(self.heard + SILENCE, reader.next()).await.map_err(|_| ReadError::Stalled)??,
            };
            // Also what was there already: whoever reads slowly, or without ever waiting, has heard the server.
            self.heard = Instant::now();
            match incoming {
                Incoming::Message(message) if message.sid() == self.sid => {
                    if let Some(delivered) = self.take(&message)? {
                        return Ok(delivered);
                    }
                }
                Incoming::Denied(denied) => return Err(denied.into()),
                // Left over from whoever had the connection before; or about the server, which says so when it ends.
                Incoming::Message(_) | Incoming::Info(_) => {}
            }
        }
    }

    /// Asks for more when less than half of it is under way.
    async fn ask(&mut self) -> Result<(), ReadError> {
        let messages: u64 = self.asked.iter().map(|asked| asked.messages).sum();
        let bytes: usize = self.asked.iter().map(|asked| asked.bytes).sum();
        let enough = if self.alone {
            !self.asked.is_empty()
        } else {
            messages > u64::from(self.batch / 2) && bytes > self.bytes / 2
        };
        if enough {
            return Ok(());
        }
        let mark = self.mark + 1;
        let batch = if self.alone { 1 } else { self.batch };
        let max_bytes = if self.alone { 0 } else { self.bytes };
        let idle_heartbeat = HEARTBEAT.min(self.expires * 2 / 5);
        let payload = PullRequest { batch, max_bytes, expires: self.expires, idle_heartbeat }.json().into();
        let reply = format!("{}.{mark}", self.inbox);
        let (subject, reply) = (self.next.as_bytes(), Some(reply.as_bytes()));
        let writer = &self.lent.exchange()?.writer;
        writer.publish(&Publish { subject, reply, headers: &[], payload: &payload }).await?;
        // Nothing is awaited behind the publishing, so both happen or none.
        self.mark = mark;
        if self.asked.is_empty() {
            self.heard = Instant::now();
        }
        let bytes = if self.alone { usize::MAX / 2 } else { self.bytes };
        self.asked.push_back(Asked { mark, messages: u64::from(batch), bytes, fresh: true });
        Ok(())
    }

    /// Takes what came; `None` when it is no message of the stream.
    fn take(&mut self, message: &Message) -> Result<Option<(Scanned, Delivery)>, ReadError> {
        match Pulled::read(message, self.inbox.as_bytes(), &self.stream, &self.consumer) {
            Pulled::Delivered(delivery) => {
                let scanned = Scanned::delivered(message, &delivery);
                let ack = message.shared_reply();
                let delivery = Delivery { number: delivery.consumer_seq, pending: delivery.pending, ack };
                self.count(message.wire_len());
                Ok(Some((scanned, delivery)))
            }
            Pulled::Status(Pull::Heartbeat) | Pulled::Stray => Ok(None),
            Pulled::Status(status) => {
                let mark = crate::raw::js::mark(message.subject()).unwrap_or_default();
                self.over(mark, status).map(|()| None)
            }
        }
    }

    /// A message was delivered for the oldest request.
    fn count(&mut self, len: usize) {
        self.alone = false;
        if let Some(asked) = self.asked.front_mut() {
            asked.fresh = false;
            asked.messages -= 1;
            asked.bytes = asked.bytes.saturating_sub(len);
            if asked.messages == 0 {
                self.asked.pop_front();
            }
        }
    }

    /// A request is over, and those before it are, whose end may have got lost.
    fn over(&mut self, mark: u64, status: Pull<'_>) -> Result<(), ReadError> {
        let fresh = self.asked.iter().find(|asked| asked.mark == mark).is_some_and(|asked| asked.fresh);
        self.asked.retain(|asked| asked.mark > mark);
        match status {
            Pull::Heartbeat | Pull::Over(_) => Ok(()),
            Pull::Full(_) => {
                self.alone |= fresh;
                Ok(())
            }
            Pull::NoConsumer => Err(ReadError::Ended { code: 503, text: "nobody knows the consumer".to_owned() }),
            Pull::Failed { code, text } if self.shrink(text) => {
                tracing::debug!(code, text = %String::from_utf8_lossy(text), "NATS wants smaller requests");
                Ok(())
            }
            Pull::Failed { code, text } => {
                Err(ReadError::Ended { code, text: String::from_utf8_lossy(text).into_owned() })
            }
        }
    }

    /// Asks for less from now on when the server says that it was asked for too much, and this is not the least.
    fn shrink(&mut self, words: &[u8]) -> bool {
        let says = |what: &[u8]| memchr::memmem::find(words, what).is_some();
        let named = limits::named(words);
        if says(b"MaxRequestBatch") {
            let batch = named.and_then(|limit| limit.try_into().ok()).unwrap_or(self.batch / 2);
            let smaller = (1..self.batch).contains(&batch);
            self.batch = if smaller { batch } else { self.batch };
            smaller
        } else if says(b"MaxRequestMaxBytes") {
            let bytes = named.and_then(|limit| limit.try_into().ok()).unwrap_or(self.bytes / 2);
            let smaller = (1..self.bytes).contains(&bytes);
            self.bytes = if smaller { bytes } else { self.bytes };
            smaller
        } else if says(b"MaxRequestExpires") {
            self.expires /= 2;
            self.expires >= MIN_EXPIRES
        } else {
            false
        }
    }
}
