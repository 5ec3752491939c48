//! What JetStream says over a connection, as far as the hot paths need it: asking for messages of a consumer, telling
//! them from the server's own words, acknowledging, and reading what became of a message that was sent.

use std::borrow::Cow;
use std::time::Duration;

use rhio_core::codec::decimal;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::headers;
use super::parse::Message;
use crate::settings::Nats;

mod single;
#[cfg(test)]
mod tests;

pub use single::{GetRequest, Single, subject_of_direct};

/// What an acknowledgement of a message says.
pub const ACK: &[u8] = b"+ACK";

/// Subjects of the JetStream API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Api {
    prefix: String,
}

impl Api {
    /// The API of the settings' domain.
    pub fn new(settings: &Nats) -> Self {
        let prefix = settings.domain.as_ref().map_or_else(|| "$JS.API".into(), |domain| format!("$JS.{domain}.API"));
        Self { prefix }
    }

    /// Where to ask for messages of a pull consumer, with a [`PullRequest`].
    pub fn next(&self, stream: &str, consumer: &str) -> String {
        format!("{}.CONSUMER.MSG.NEXT.{stream}.{consumer}", self.prefix)
    }

    /// Where to ask for one stored message, with a [`GetRequest`].
    pub fn get(&self, stream: &str) -> String {
        format!("{}.STREAM.MSG.GET.{stream}", self.prefix)
    }

    /// The same at a stream that allows direct reads, with the same [`GetRequest`].
    pub fn direct_get(&self, stream: &str) -> String {
        format!("{}.DIRECT.GET.{stream}", self.prefix)
    }

    /// Any other: `STREAM.INFO.S`, say.
    pub fn subject(&self, rest: &str) -> String {
        format!("{}.{rest}", self.prefix)
    }
}

/// A subject for answers that nobody else has.
pub fn inbox(settings: &Nats) -> String {
    let unique: String = std::iter::repeat_with(fastrand::alphanumeric).take(22).collect();
    format!("{}.{unique}", settings.inbox_prefix)
}

/// The number at the end of a subject: what an answer is for, when the inbox was given as `<inbox>.<number>`.
pub fn mark(subject: &[u8]) -> Option<u64> {
    decimal(subject.rsplit(|byte| *byte == b'.').next()?)
}

/// Asks a pull consumer for messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PullRequest {
    /// So many at most.
    pub batch: u32,
    /// So many bytes at most; 0 for any number. A message that is larger ends the request with status 409.
    #[serde(skip_serializing_if = "is_zero")]
    pub max_bytes: usize,
    /// So long at most; the server says when it is over.
    #[serde(serialize_with = "nanoseconds")]
    pub expires: Duration,
    /// So often the server says that it is there while it has nothing. At most half of `expires`.
    #[serde(serialize_with = "nanoseconds")]
    pub idle_heartbeat: Duration,
}

impl PullRequest {
    /// As the server takes it.
    pub fn json(&self) -> Vec<u8> {
        // A struct of numbers can always be written as JSON.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

fn nanoseconds<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
}

/// What comes to the inbox of a pull request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pulled<'a> {
    /// A message of the stream, delivered for the time that it says. Whatever its headers say is the publisher's word.
    Delivered(Delivery<'a>),
    /// The server's own word about the request.
    Status(Pull<'a>),
    /// Neither. Anybody may send to an inbox.
    Stray,
}

/// What the server says about a pull request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pull<'a> {
    /// 100: it is there, and has nothing.
    Heartbeat,
    /// 404, 408, or 409 for a batch that is complete: the request is over in the normal way.
    Over(Left),
    /// 409: the request is over because the next message does not fit into what is left of its bytes. If it got none,
    /// it never will.
    Full(Left),
    /// 503: nobody knows the consumer.
    NoConsumer,
    /// Anything else, mostly 409: the consumer is gone or refuses the request.
    Failed {
        /// The status.
        code: u16,
        /// The server's own words.
        text: &'a [u8],
    },
}

/// What a pull request that is over still stood for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// Messages that were asked for and not delivered.
    pub messages: u64,
    /// Bytes that were.
    pub bytes: u64,
}

impl Left {
    fn read(block: &[u8]) -> Self {
        let left = |name| headers::get(block, name).and_then(decimal).unwrap_or_default();
        Self { messages: left("Nats-Pending-Messages"), bytes: left("Nats-Pending-Bytes") }
    }
}

impl<'a> Pulled<'a> {
    /// Tells what a message is that came for `inbox`, which this consumer was asked to send to, by where it came: a
    /// delivery says where to acknowledge it, the server's own word has no such place and is addressed to the inbox
    /// itself, or to `<inbox>.<mark>`.
    pub fn read(message: &'a Message, inbox: &[u8], stream: &[u8], consumer: &[u8]) -> Self {
        if let Some(reply) = message.reply() {
            return match Delivery::read(reply) {
                Some(delivery) if delivery.stream == stream && delivery.consumer == consumer => {
                    Self::Delivered(delivery)
                }
                _ => Self::Stray,
            };
        }
        let is_ours = message.subject().strip_prefix(inbox).is_some_and(|rest| matches!(rest, [] | [b'.', ..]));
        if !is_ours || !message.payload().is_empty() {
            return Self::Stray;
        }
        let block = message.headers();
        headers::status(block).map_or(Self::Stray, |status| Self::Status(Pull::read(status, block)))
    }
}

impl<'a> Pull<'a> {
    fn read(status: headers::Status<'a>, block: &[u8]) -> Self {
        // "Leadership Change", "Consumer Deleted" and the like come with 409 too: why the request is over matters then.
        let says = |text: &str| status.text.eq_ignore_ascii_case(text.as_bytes());
        match status.code {
            100 => Self::Heartbeat,
            404 | 408 => Self::Over(Left::read(block)),
            409 if says("Batch Completed") => Self::Over(Left::read(block)),
            409 if says("Message Size Exceeds MaxBytes") => Self::Full(Left::read(block)),
            503 => Self::NoConsumer,
            code => Self::Failed { code, text: status.text },
        }
    }
}

/// What the subject says on which a delivered message is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery<'a> {
    /// The stream.
    pub stream: &'a [u8],
    /// The consumer.
    pub consumer: &'a [u8],
    /// How often this message has been delivered, this time included.
    pub times: u64,
    /// The message's number in the stream.
    pub stream_seq: u64,
    /// The delivery's number at the consumer, from 1.
    pub consumer_seq: u64,
    /// When the message was stored, in nanoseconds since the Unix epoch.
    pub time: u64,
    /// Messages that wait behind it.
    pub pending: u64,
}

impl<'a> Delivery<'a> {
    /// Reads `$JS.ACK.<stream>.<consumer>.<times>.<stream seq>.<consumer seq>.<time>.<pending>`, or the newer form with
    /// the domain and a hash of the account in front of the stream, and perhaps more at the end.
    pub fn read(reply: &'a [u8]) -> Option<Self> {
        let rest = reply.strip_prefix(b"$JS.ACK.")?;
        let mut words: [&[u8]; 9] = [&[]; 9];
        let mut count = 0;
        for word in rest.split(|byte| *byte == b'.') {
            if let Some(place) = words.get_mut(count) {
                *place = word;
            }
            count += 1;
        }
        let words = match count {
            7 => words.get(..7)?,
            9.. => words.get(2..)?,
            _ => return None,
        };
        let [stream, consumer, times, stream_seq, consumer_seq, time, pending] = words.try_into().ok()?;
        Some(Self {
            stream,
            consumer,
            times: decimal(times)?,
            stream_seq: decimal(stream_seq)?,
            consumer_seq: decimal(consumer_seq)?,
            time: decimal(time)?,
            pending: decimal(pending)?,
        })
    }
}

/// That a stream has stored a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored<'a> {
    /// Which stream.
    pub stream: Cow<'a, str>,
    /// Under which number.
    pub seq: u64,
    /// It had been stored before, under this number.
    pub duplicate: bool,
}

/// Why the answer to a message or a question is not what was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// Nobody listens: no stream captures the subject, or JetStream is not there.
    #[error("nobody listens there: no stream captures the subject, or JetStream is not available")]
    Nobody,
    /// JetStream says no.
    #[error("{description}")]
    Server {
        /// As in HTTP.
        code: u16,
        /// JetStream's own number for it.
        err_code: u32,
        /// Its own words.
        description: String,
    },
    /// It is no answer of JetStream's.
    #[error("the answer can't be read")]
    Unreadable,
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(default, borrow)]
    stream: Cow<'a, str>,
    #[serde(default)]
    seq: u64,
    #[serde(default)]
    duplicate: bool,
    error: Option<AnswerError>,
}

#[derive(Deserialize)]
struct AnswerError {
    #[serde(default)]
    code: u16,
    #[serde(default)]
    err_code: u32,
    #[serde(default)]
    description: String,
}

impl From<AnswerError> for Refusal {
    fn from(error: AnswerError) -> Self {
        Self::Server { code: error.code, err_code: error.err_code, description: error.description }
    }
}

impl<'a> Stored<'a> {
    /// Reads the answer to a message that was sent.
    ///
    /// # Errors
    /// When it was not stored.
    pub fn read(message: &'a Message) -> Result<Self, Refusal> {
        check_listened(message)?;
        let answer: Answer<'_> = serde_json::from_slice(message.payload()).map_err(|_| Refusal::Unreadable)?;
        match answer.error {
            Some(error) => Err(error.into()),
            None if answer.stream.is_empty() || answer.seq == 0 => Err(Refusal::Unreadable),
            None => Ok(Self { stream: answer.stream, seq: answer.seq, duplicate: answer.duplicate }),
        }
    }
}

/// Whether this is the server's own answer to a question that nobody listens to.
pub fn is_nobody(answer: &Message) -> bool {
    answer.payload().is_empty() && headers::status(answer.headers()).is_some_and(|status| status.code == 503)
}

fn check_listened(message: &Message) -> Result<(), Refusal> {
    if is_nobody(message) { Err(Refusal::Nobody) } else { Ok(()) }
}
