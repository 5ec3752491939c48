//! A record is one NATS message as it is replicated. Its canonical bytes are what the author's digest covers, and what
//! travels: one encoding per record, whoever makes it. They are the message's own bytes, and nothing is read into them.
//!
//! | field | bytes |
//! | --- | --- |
//! | subject length, subject | u16, n |
//! | header length, block of headers as it was sent; empty for none | u16, n |
//! | payload length, payload | u32, n |
//!
//! The digest is `H(H(subject) ‖ H(the other fields))`, with BLAKE3, so that whoever gets the subject and the second
//! hash can tell that a record has that subject without getting the rest of it.

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

/// A message that can't become a record.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum RecordError {
    /// The subject is none that NATS takes.
    #[error("subject {0}")]
    Subject(#[from] SubjectError),
    /// Headers above [`MAX_HEADERS_LEN`].
    #[error("headers take more than {MAX_HEADERS_LEN} bytes")]
    Headers,
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
    /// The block of headers; empty for none.
    pub headers: Bytes,
    /// The payload.
    pub payload: Bytes,
}

/// That a record has some subject: with it, the digest of the record can be made without the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubjectProof(Digest);

impl SubjectProof {
    /// From its bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Digest::from_bytes(bytes))
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// The digest of the record with this subject.
    pub fn digest(&self, subject: &[u8]) -> Digest {
        let mut both = [0; 64];
        both[..32].copy_from_slice(blake3::hash(subject).as_bytes());
        both[32..].copy_from_slice(self.as_bytes());
        Digest::from_bytes(*blake3::hash(&both).as_bytes())
    }
}

impl CanonicalRecord {
    /// Encodes a message.
    ///
    /// # Errors
    /// When the message is none that NATS could have stored.
    pub fn encode(subject: impl AsRef<[u8]>, headers: &[u8], payload: &[u8]) -> Result<Self, RecordError> {
        let subject = subject.as_ref();
        check_subject(subject)?;
        if payload.len() > MAX_MESSAGE_LEN {
            return Err(RecordError::Payload);
        }
        let headers_len = u16::try_from(headers.len()).map_err(|_| RecordError::Headers)?;
        let mut out = BytesMut::with_capacity(8 + subject.len() + headers.len() + payload.len());
        out.put_u16(subject.len() as u16);
        out.put_slice(subject);
        out.put_u16(headers_len);
        out.put_slice(headers);
        out.put_u32(payload.len() as u32);
        out.put_slice(payload);
        Ok(Self(out.freeze()))
    }

    /// Takes one record off the reader, checking every bound.
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
        self.proof().digest(self.subject())
    }

    /// What proves this record's subject to who does not get the record.
    pub fn proof(&self) -> SubjectProof {
        SubjectProof(Digest::from_bytes(*blake3::hash(&self.0[2 + self.subject_len()..]).as_bytes()))
    }

    /// The subject alone, without looking at the rest.
    pub fn subject(&self) -> &[u8] {
        &self.0[2..2 + self.subject_len()]
    }

    /// The block of headers alone; empty for none.
    pub fn headers(&self) -> &[u8] {
        let at = 4 + self.subject_len();
        let len = usize::from(u16::from_be_bytes([self.0[at - 2], self.0[at - 1]]));
        &self.0[at..at + len]
    }

    fn subject_len(&self) -> usize {
        usize::from(u16::from_be_bytes([self.0[0], self.0[1]]))
    }
}

fn read_parts(reader: &mut Reader) -> Result<RecordParts, DecodeError> {
    let subject = read_subject(reader)?;
    let headers_len = usize::from(reader.u16("header length")?);
    let headers = reader.take(headers_len, "headers")?;
    let payload_len = reader.u32("payload length")? as usize;
    if payload_len > MAX_MESSAGE_LEN {
        return Err(DecodeError::TooLarge { what: "payload", got: payload_len as u64, max: MAX_MESSAGE_LEN as u64 });
    }
    let payload = reader.take(payload_len, "payload")?;
    Ok(RecordParts { subject, headers, payload })
}

/// Takes a record's subject off the reader. It is written into a line of the NATS protocol, which it must not end.
///
/// # Errors
/// When it is none that NATS takes.
pub(crate) fn read_subject(reader: &mut Reader) -> Result<Bytes, DecodeError> {
    let len = usize::from(reader.u16("subject length")?);
    let subject = reader.take(len, "subject")?;
    check_subject(&subject).map_err(|_| DecodeError::Invalid("subject"))?;
    Ok(subject)
}

#[cfg(test)]
mod tests;
