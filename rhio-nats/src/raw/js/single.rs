//! Single messages of a stream, read by their numbers.

use std::borrow::Cow;

use data_encoding::BASE64;
use rhio_core::codec::decimal;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{AnswerError, Refusal, check_listened};
use crate::raw::headers::{self, CRLF, VERSION};
use crate::raw::parse::Message;

/// Asks for one stored message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct GetRequest<'a> {
    /// The one with this number; the first at or behind it when a filter is given.
    pub seq: u64,
    /// Only subjects under it count.
    #[serde(rename = "next_by_subj", skip_serializing_if = "Option::is_none")]
    pub filter: Option<&'a str>,
}

impl GetRequest<'_> {
    /// As the server takes it.
    pub fn json(&self) -> Vec<u8> {
        // Numbers and texts can always be written as JSON.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// One stored message as it was read alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Single {
    /// Its number.
    pub seq: u64,
    /// When it was stored, in nanoseconds since the Unix epoch.
    pub time: u64,
    /// Its subject, unless it was answered in JSON and is no UTF-8: the server replaces what JSON can't hold.
    pub subject: Option<Vec<u8>>,
    /// Its block of headers as it was sent; empty when it has none.
    pub headers: Vec<u8>,
    /// Its payload.
    pub payload: Vec<u8>,
}

#[derive(Deserialize)]
struct GetAnswer<'a> {
    #[serde(borrow)]
    message: Option<GetMessage<'a>>,
    error: Option<AnswerError>,
}

#[derive(Deserialize)]
struct GetMessage<'a> {
    subject: String,
    seq: u64,
    #[serde(default, borrow)]
    hdrs: Cow<'a, str>,
    #[serde(default, borrow)]
    data: Cow<'a, str>,
    time: String,
}

impl Single {
    /// Reads the answer to a [`GetRequest`] at [`Api::get`](super::Api::get); `None` when there is no such message.
    ///
    /// # Errors
    /// When it is no answer, or the server can't tell.
    pub fn read(message: &Message) -> Result<Option<Self>, Refusal> {
        const NO_MESSAGE: u32 = 10037;
        check_listened(message)?;
        let answer: GetAnswer<'_> = serde_json::from_slice(message.payload()).map_err(|_| Refusal::Unreadable)?;
        match (answer.message, answer.error) {
            (_, Some(error)) if error.err_code == NO_MESSAGE => Ok(None),
            (_, Some(error)) => Err(error.into()),
            (None, None) => Err(Refusal::Unreadable),
            (Some(found), None) => {
                let decode = |text: &str| BASE64.decode(text.as_bytes()).map_err(|_| Refusal::Unreadable);
                let exact = !found.subject.contains(char::REPLACEMENT_CHARACTER);
                Ok(Some(Self {
                    seq: found.seq,
                    time: nanoseconds(&found.time).ok_or(Refusal::Unreadable)?,
                    subject: exact.then(|| found.subject.into_bytes()),
                    headers: decode(&found.hdrs)?,
                    payload: decode(&found.data)?,
                }))
            }
        }
    }

    /// Reads the answer to a [`GetRequest`] at [`Api::direct_get`](super::Api::direct_get); `None` when there is no such
    /// message. The server gives the message itself, with four headers of its own behind what was sent.
    ///
    /// # Errors
    /// When it is no answer, or the server can't tell.
    pub fn read_direct(message: &Message) -> Result<Option<Self>, Refusal> {
        let block = message.headers();
        let Some((sent, [_, subject, seq, time])) = split_added(block) else {
            check_listened(message)?;
            return match headers::status(block) {
                Some(status) if status.code == 404 => Ok(None),
                Some(status) => {
                    let description = String::from_utf8_lossy(status.text).into_owned();
                    Err(Refusal::Server { code: status.code, err_code: 0, description })
                }
                None => Err(Refusal::Unreadable),
            };
        };
        let time = std::str::from_utf8(time).ok().and_then(nanoseconds);
        // A block without a line is the same as none.
        let headers = if sent == VERSION { Vec::new() } else { [sent, CRLF, CRLF].concat() };
        Ok(Some(Self {
            seq: decimal(seq).ok_or(Refusal::Unreadable)?,
            time: time.ok_or(Refusal::Unreadable)?,
            subject: Some(subject.to_vec()),
            headers,
            payload: message.payload().to_vec(),
        }))
    }
}

/// The subject of the message with this number in the answer to a [`GetRequest`] at
/// [`Api::direct_get`](super::Api::direct_get). The server writes it behind the block that was sent, of which it first
/// takes away the last two bytes, whatever they are: for an odd block the rest of the answer is not exact.
pub fn subject_of_direct(answer: &Message, seq: u64) -> Option<Vec<u8>> {
    let block = answer.headers().strip_suffix(b"\r\n\r\n")?;
    let value = |name: &[u8]| {
        let begin = memchr::memmem::rfind(block, name)? + name.len();
        let end = memchr::memmem::find(&block[begin..], CRLF).map_or(block.len(), |len| begin + len);
        Some(block[begin..end].trim_ascii())
    };
    let is_this = value(b"Nats-Sequence:").and_then(decimal) == Some(seq);
    value(b"Nats-Subject:").filter(|_| is_this).map(<[u8]>::to_vec)
}

/// What a block was before the server put its own lines behind it, without its end, and the values of those.
fn split_added(block: &[u8]) -> Option<(&[u8], [&[u8]; 4])> {
    const NAMES: [&[u8]; 4] = [b"Nats-Stream", b"Nats-Subject", b"Nats-Sequence", b"Nats-Time-Stamp"];
    let mut rest = block.strip_suffix(b"\r\n\r\n")?;
    let mut values: [&[u8]; 4] = [&[]; 4];
    for (name, value) in NAMES.into_iter().zip(&mut values).rev() {
        let at = memchr::memmem::rfind(rest, CRLF)?;
        *value = rest[at + 2..].strip_prefix(name)?.strip_prefix(b":")?.trim_ascii();
        rest = &rest[..at];
    }
    Some((rest, values))
}

fn nanoseconds(text: &str) -> Option<u64> {
    u64::try_from(OffsetDateTime::parse(text, &Rfc3339).ok()?.unix_timestamp_nanos()).ok()
}
