//! Signed operations: p2panda headers around our bodies.
//!
//! An operation is stored and sent as the same bytes:
//!
//! | field | bytes |
//! | --- | --- |
//! | format version | u8, [`VERSION`] |
//! | header length, header (p2panda CBOR) | u16, n |
//! | body (see [`super::body`]) | the rest |

use bytes::{BufMut, Bytes, BytesMut};
use p2panda_core::{Header, SigningKey, Timestamp};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use crate::catalog::Entry as CatalogEntry;
use crate::codec::{DecodeError, Reader};
use crate::id::{LogId, OpHash, OpSeq, PublicKey};
use crate::manifest::Entry as RecordEntry;
use crate::record::Position;

use super::body::{Body, MAX_BODY_LEN};
use super::descriptor::Kind;
use super::total::Total;

/// Format version that this program writes.
pub const VERSION: u8 = 2;
/// Longest header: p2panda's fields and our extension take about 270 bytes.
pub const MAX_HEADER_LEN: usize = 512;
/// Longest operation.
pub const MAX_OPERATION_LEN: usize = 3 + MAX_HEADER_LEN + MAX_BODY_LEN;

/// Why bytes are not a valid operation, or not the next one.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum OperationError {
    /// The bytes do not follow the layout.
    #[error("operation {0}")]
    Decode(#[from] DecodeError),
    /// The header is no p2panda header, or not in its canonical form.
    #[error("operation header is not a canonical p2panda header")]
    Header,
    /// p2panda's own checks: signature, version, payload hash.
    #[error("operation is not valid: {0}")]
    Invalid(String),
    /// Not the number that comes next.
    #[error("operation has number {got}, expected {expected}")]
    Sequence {
        /// What comes next.
        expected: OpSeq,
        /// What came.
        got: OpSeq,
    },
    /// Not chained to the operation before it.
    #[error("operation {0} does not link to the one before it")]
    Backlink(OpSeq),
    /// Another author's.
    #[error("operation is signed by {got}, expected {expected}")]
    Author {
        /// Whose log it is.
        expected: PublicKey,
        /// Who signed.
        got: PublicKey,
    },
    /// Another log's.
    #[error("operation belongs to another log")]
    Log,
    /// Not about what its log is about.
    #[error("operation is of another kind than its log")]
    Kind,
    /// Its totals or positions go back behind the operation before it.
    #[error("operation {0} goes back behind the one before it")]
    Backwards(OpSeq),
}

/// The last operation of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its number.
    pub seq: OpSeq,
    /// Its hash.
    pub hash: OpHash,
}

/// Our header extension: the log that an operation belongs to. A struct with fixed fields, so it has one encoding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Extensions {
    #[serde(rename = "rhio", serialize_with = "write_log", deserialize_with = "read_log")]
    log: LogId,
}

fn write_log<S: Serializer>(log: &LogId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(log.as_bytes())
}

fn read_log<'de, D: Deserializer<'de>>(deserializer: D) -> Result<LogId, D::Error> {
    struct Bytes32;
    impl serde::de::Visitor<'_> for Bytes32 {
        type Value = LogId;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("32 bytes")
        }

        fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<LogId, E> {
            let bytes = bytes.try_into().map_err(|_| E::invalid_length(bytes.len(), &self))?;
            Ok(LogId::from_bytes(bytes))
        }
    }
    deserializer.deserialize_bytes(Bytes32)
}

/// An operation that is known to be well-formed; made by [`Operation::sign`] or checked by [`Operation::verify`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    hash: OpHash,
    seq: OpSeq,
    backlink: Option<OpHash>,
    time: u64,
    author: PublicKey,
    log: LogId,
    body: Body,
    raw: Bytes,
}

impl Operation {
    /// Signs the next operation of a log. `time` is in microseconds since the Unix epoch. Whoever signs goes through
    /// [`super::writer::Writer`], which signs no number twice.
    pub fn sign(key: &SigningKey, log: LogId, previous: Option<Head>, time: u64, body: Body) -> Self {
        let encoded = p2panda_core::Body::from(body.encode().to_vec());
        let seq = previous.map_or(OpSeq(0), |head| head.seq.next());
        let mut header = Header {
            version: 1,
            verifying_key: key.verifying_key(),
            signature: None,
            payload_size: encoded.size(),
            payload_hash: Some(encoded.hash()),
            timestamp: Timestamp::new(time),
            seq_num: seq.0,
            backlink: previous.map(|head| p2panda_core::Hash::from_bytes(*head.hash.as_bytes())),
            extensions: Extensions { log },
        };
        header.sign(key);
        let header = header.to_bytes();
        let mut raw = BytesMut::with_capacity(3 + header.len() + encoded.as_bytes().len());
        raw.put_u8(VERSION);
        raw.put_u16(header.len() as u16);
        raw.put_slice(&header);
        raw.put_slice(encoded.as_bytes());
        Self {
            hash: OpHash::from_bytes(*blake3::hash(&header).as_bytes()),
            seq,
            backlink: previous.map(|head| head.hash),
            time,
            author: key.verifying_key().into(),
            log,
            body,
            raw: raw.freeze(),
        }
    }

    /// Reads an operation that comes from outside and checks its signature, its payload's hash and its form.
    ///
    /// # Errors
    /// When anything about it is not as it must be.
    pub fn verify(raw: Bytes) -> Result<Self, OperationError> {
        let (header, operation) = Self::parse(raw)?;
        p2panda_core::validate_header(&header).map_err(|e| OperationError::Invalid(e.to_string()))?;
        Ok(operation)
    }

    /// Reads an operation that this node has verified before it stored it: everything but the signature is checked.
    ///
    /// # Errors
    /// When the bytes are not an operation.
    pub fn read_stored(raw: Bytes) -> Result<Self, OperationError> {
        Self::parse(raw).map(|(_, operation)| operation)
    }

    fn parse(raw: Bytes) -> Result<(Header<Extensions>, Self), OperationError> {
        if raw.len() > MAX_OPERATION_LEN {
            let (got, max) = (raw.len() as u64, MAX_OPERATION_LEN as u64);
            return Err(DecodeError::TooLarge { what: "length", got, max }.into());
        }
        let mut reader = Reader::new(raw.clone());
        let version = reader.u8("version")?;
        if version != VERSION {
            return Err(DecodeError::Version { what: "operation", got: version, known: VERSION }.into());
        }
        let header_len = usize::from(reader.u16("header length")?);
        if header_len > MAX_HEADER_LEN {
            let (got, max) = (header_len as u64, MAX_HEADER_LEN as u64);
            return Err(DecodeError::TooLarge { what: "header", got, max }.into());
        }
        let header_bytes = reader.take(header_len, "header")?;
        let body = reader.peek();
        let header: Header<Extensions> =
            p2panda_core::cbor::decode_cbor(&header_bytes[..]).map_err(|_| OperationError::Header)?;
        // The hash names the bytes and the signature covers a re-encoding: both must be about one thing.
        if header.to_bytes() != header_bytes {
            return Err(OperationError::Header);
        }
        let hash = blake3::hash(&body);
        if header.payload_size != body.len() as u64
            || header.payload_hash.as_ref().map(p2panda_core::Hash::as_bytes) != Some(hash.as_bytes())
        {
            return Err(OperationError::Invalid("body does not match the header".to_owned()));
        }
        let operation = Self {
            hash: OpHash::from_bytes(*blake3::hash(&header_bytes).as_bytes()),
            seq: OpSeq(header.seq_num),
            backlink: header.backlink.as_ref().map(|hash| OpHash::from_bytes(*hash.as_bytes())),
            time: header.timestamp.into(),
            author: header.verifying_key.into(),
            log: header.extensions.log,
            body: Body::decode(body)?,
            raw,
        };
        Ok((header, operation))
    }

    /// p2panda's operation id.
    pub fn hash(&self) -> OpHash {
        self.hash
    }

    /// Its number in the log.
    pub fn seq(&self) -> OpSeq {
        self.seq
    }

    /// Number and hash.
    pub fn head(&self) -> Head {
        Head { seq: self.seq, hash: self.hash }
    }

    /// The hash of the operation before it.
    pub fn backlink(&self) -> Option<OpHash> {
        self.backlink
    }

    /// When it was signed, in microseconds since the Unix epoch, by the author's clock.
    pub fn signed_at(&self) -> u64 {
        self.time
    }

    /// Who signed it.
    pub fn author(&self) -> PublicKey {
        self.author
    }

    /// The log that it belongs to.
    pub fn log(&self) -> LogId {
        self.log
    }

    /// What it says.
    pub fn body(&self) -> &Body {
        &self.body
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        self.body.content.kind()
    }

    /// What the log held before it.
    pub fn before(&self) -> Total {
        self.body.before
    }

    /// What the log holds with it.
    pub fn after(&self) -> Total {
        self.body.after()
    }

    /// The records that it covers, in the stream's order; none when it is about a bucket.
    pub fn records(&self) -> &[RecordEntry] {
        self.body.manifest().map_or(&[], |manifest| manifest.entries())
    }

    /// Position of its first record; zero when it is about a bucket.
    pub fn first(&self) -> Position {
        self.records().first().map_or_else(Position::default, |entry| entry.position)
    }

    /// Position of its last record; zero when it is about a bucket.
    pub fn through(&self) -> Position {
        self.records().last().map_or_else(Position::default, |entry| entry.position)
    }

    /// What it says of objects; nothing when it is about messages.
    pub fn entries(&self) -> &[CatalogEntry] {
        self.body.entries()
    }

    /// The bytes to store and to send.
    pub fn raw(&self) -> &Bytes {
        &self.raw
    }
}

#[cfg(test)]
mod tests;
