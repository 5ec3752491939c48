//! A record is one NATS message as it is replicated. Its canonical bytes are what the author's digest covers, and what
//! travels: one encoding per record, whoever makes it.
//!
//! | field | bytes |
//! | --- | --- |
//! | subject length, subject | u16, n |
//! | header count | u16 |
//! | per header: name length, name, value length, value | u16, n, u32, n |
//! | payload length, payload | u32, n |
//!
//! Headers are sorted by name (bytewise); values of one name keep their order. rhio's own headers (`X-Rhio-…`) are not
//! part of a record.

use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;

use crate::codec::{DecodeError, Reader};
use crate::id::{Digest, SourceSeq};
use crate::subject::{MAX_SUBJECT_LEN, SubjectError, check_subject};

/// Largest NATS message: the server caps `max_payload` at 64 MiB.
pub const MAX_MESSAGE_LEN: usize = 64 * 1024 * 1024;

/// Most header bytes of one message that JetStream stores (its header length is a 16-bit number).
pub const MAX_HEADERS_LEN: usize = 65_535;

/// Largest canonical encoding: a message at both limits, and the lengths between its fields.
pub const MAX_RECORD_LEN: usize = MAX_MESSAGE_LEN + MAX_HEADERS_LEN + MAX_SUBJECT_LEN + 64 * 1024;

/// Prefix of the headers that belong to rhio itself, compared without regard to case.
pub const RHIO_HEADER_PREFIX: &str = "X-Rhio-";

/// A message that can't become a record.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum RecordError {
    /// The subject is none that NATS takes.
    #[error("subject {0}")]
    Subject(#[from] SubjectError),
    /// Headers above [`MAX_HEADERS_LEN`].
    #[error("headers take more than {MAX_HEADERS_LEN} bytes")]
    Headers,
    /// A header that could not be written into a NATS message again.
    #[error("has a header with a name or value that NATS can't carry")]
    Header,
    /// A payload above [`MAX_MESSAGE_LEN`].
    #[error("payload takes more than {MAX_MESSAGE_LEN} bytes")]
    Payload,
}

/// The canonical bytes of a record. Only this module makes them, so they are always well-formed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CanonicalRecord(Bytes);

/// A record as the author's stream delivered it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceRecord {
    /// Where the author's stream holds it.
    pub position: Position,
    /// What it says.
    pub record: CanonicalRecord,
}

/// Where and when the author's stream stored a message. JetStream never gives one pair twice within a stream, also not
/// when a power cut took back the sequence numbers: the time is another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Sequence number in the author's stream.
    pub seq: SourceSeq,
    /// When JetStream stored it, in nanoseconds since the Unix epoch.
    pub time: u64,
}

/// The parts of a record, sharing its buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordParts {
    /// The subject that it was published to.
    pub subject: Bytes,
    /// Header names and values.
    pub headers: Vec<(Bytes, Bytes)>,
    /// The payload.
    pub payload: Bytes,
}

/// Whether a header name belongs to rhio.
pub fn is_rhio_header(name: &[u8]) -> bool {
    name.get(..RHIO_HEADER_PREFIX.len()).is_some_and(|p| p.eq_ignore_ascii_case(RHIO_HEADER_PREFIX.as_bytes()))
}

impl CanonicalRecord {
    /// Encodes a message. `headers` may come in any order of names.
    ///
    /// # Errors
    /// When the message is none that NATS could have stored.
    pub fn encode<'a>(
        subject: &str,
        headers: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
        payload: &[u8],
    ) -> Result<Self, RecordError> {
        check_subject(subject)?;
        if payload.len() > MAX_MESSAGE_LEN {
            return Err(RecordError::Payload);
        }
        let mut headers: Vec<_> = headers.into_iter().filter(|(name, _)| !is_rhio_header(name)).collect();
        headers.sort_by(|a, b| a.0.cmp(b.0));
        let headers_len: usize = headers.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
        if headers_len > MAX_HEADERS_LEN {
            return Err(RecordError::Headers);
        }
        if headers.iter().any(|(name, value)| check_header(name, value).is_err()) {
            return Err(RecordError::Header);
        }
        let mut out = BytesMut::with_capacity(8 + subject.len() + headers_len + headers.len() * 2 + payload.len());
        out.put_u16(subject.len() as u16);
        out.put_slice(subject.as_bytes());
        out.put_u16(headers.len() as u16);
        for (name, value) in headers {
            out.put_u16(name.len() as u16);
            out.put_slice(name);
            out.put_u32(value.len() as u32);
            out.put_slice(value);
        }
        out.put_u32(payload.len() as u32);
        out.put_slice(payload);
        Ok(Self(out.freeze()))
    }

    /// Takes one record off the reader, checking every bound and the canonical order.
    ///
    /// # Errors
    /// When the bytes are not the canonical encoding of a record.
    pub fn read(reader: &mut Reader) -> Result<(Self, RecordParts), DecodeError> {
        let whole = reader.peek();
        let parts = read_parts(reader)?;
        let len = whole.len() - reader.remaining();
        Ok((Self(whole.slice(..len)), parts))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// What a manifest says about this record.
    pub fn digest(&self) -> Digest {
        Digest::from_bytes(*blake3::hash(&self.0).as_bytes())
    }

    /// The subject alone, without looking at the rest.
    pub fn subject(&self) -> &str {
        let len = usize::from(u16::from_be_bytes([self.0[0], self.0[1]]));
        std::str::from_utf8(&self.0[2..2 + len]).unwrap_or_default()
    }
}

fn read_parts(reader: &mut Reader) -> Result<RecordParts, DecodeError> {
    let subject_len = usize::from(reader.u16("subject length")?);
    let subject = reader.take(subject_len, "subject")?;
    let text = std::str::from_utf8(&subject).map_err(|_| DecodeError::Invalid("subject"))?;
    check_subject(text).map_err(|_| DecodeError::Invalid("subject"))?;

    let count = usize::from(reader.u16("header count")?);
    let mut headers: Vec<(Bytes, Bytes)> = Vec::with_capacity(count.min(64));
    let mut headers_len = 0;
    for _ in 0..count {
        let name_len = usize::from(reader.u16("header name length")?);
        let name = reader.take(name_len, "header name")?;
        let value_len = reader.u32("header value length")? as usize;
        headers_len += name_len + value_len.min(MAX_HEADERS_LEN + 1) + 4;
        if headers_len > MAX_HEADERS_LEN {
            return Err(DecodeError::TooLarge {
                what: "headers",
                got: headers_len as u64,
                max: MAX_HEADERS_LEN as u64,
            });
        }
        let value = reader.take(value_len, "header value")?;
        check_header(&name, &value)?;
        if headers.last().is_some_and(|(last, _)| *last > name) {
            return Err(DecodeError::Invalid("header order"));
        }
        headers.push((name, value));
    }

    let payload_len = reader.u32("payload length")? as usize;
    if payload_len > MAX_MESSAGE_LEN {
        return Err(DecodeError::TooLarge { what: "payload", got: payload_len as u64, max: MAX_MESSAGE_LEN as u64 });
    }
    let payload = reader.take(payload_len, "payload")?;
    Ok(RecordParts { subject, headers, payload })
}

/// A header that comes from a peer is written into a NATS protocol line, so it must not be able to end that line.
fn check_header(name: &[u8], value: &[u8]) -> Result<(), DecodeError> {
    let name_ok = !name.is_empty() && name.iter().all(|b| b.is_ascii_graphic() && *b != b':');
    if !name_ok || is_rhio_header(name) {
        return Err(DecodeError::Invalid("header name"));
    }
    if value.iter().any(|b| matches!(b, b'\r' | b'\n')) || std::str::from_utf8(value).is_err() {
        return Err(DecodeError::Invalid("header value"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
