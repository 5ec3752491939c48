//! Signed operations in hash-chained logs: p2panda headers around our bodies.
//!
//! An operation is stored and sent as the same bytes:
//!
//! | field | bytes |
//! | --- | --- |
//! | format version | u8, [`VERSION`] |
//! | header length, header (p2panda CBOR) | u16, n |
//! | body (see [`crate::manifest`]) | the rest |

use bytes::{BufMut, Bytes, BytesMut};
use p2panda_core::{Body, Header, SigningKey, Timestamp};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use crate::codec::{DecodeError, Reader, put_string16};
use crate::id::{LogId, OpHash, OpSeq, PublicKey};
use crate::manifest::{MAX_MANIFEST_LEN, Manifest};
use crate::subject::{Filter, MAX_SUBJECT_LEN};

/// Format version that this program writes.
pub const VERSION: u8 = 1;
/// Longest header: p2panda's fields and our extension take about 270 bytes.
pub const MAX_HEADER_LEN: usize = 512;
/// Longest operation.
pub const MAX_OPERATION_LEN: usize = 3 + MAX_HEADER_LEN + MAX_MANIFEST_LEN;
/// Longest stream name that NATS takes.
pub const MAX_STREAM_NAME_LEN: usize = 255;

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
    /// Its totals or positions go back behind the operation before it.
    #[error("operation {0} goes back behind the one before it")]
    Backwards(OpSeq),
}

/// What a log is about. Its hash names the log, so that a stream deleted and created again is another log, and so is a
/// log begun anew because the old one could not be continued safely.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LogDescriptor {
    /// Who signs it.
    pub author: PublicKey,
    /// Name of the author's stream.
    pub stream: String,
    /// When that stream was created, in nanoseconds since the Unix epoch.
    pub created: u64,
    /// The publication's filter.
    pub filter: Filter,
    /// When this log was begun, in milliseconds since the Unix epoch. Later logs of one stream have larger ones.
    pub epoch: u64,
}

impl LogDescriptor {
    /// The log's name.
    pub fn id(&self) -> LogId {
        LogId::from_bytes(blake3::derive_key("rhio log descriptor 1", &self.encode()))
    }

    /// Whether both are about the same messages: same author, stream and life of that stream.
    pub fn same_stream(&self, other: &Self) -> bool {
        self.author == other.author && self.stream == other.stream && self.created == other.created
    }

    /// Names the life of the author's stream, whatever log covers it: 16 hex digits.
    pub fn life(&self) -> String {
        let mut text = self.author.as_bytes().to_vec();
        text.extend_from_slice(&self.created.to_be_bytes());
        text.extend_from_slice(self.stream.as_bytes());
        hex::encode(&blake3::derive_key("rhio stream life 1", &text)[..8])
    }

    /// Layout: version u8, author 32, created u64, epoch u64, stream string16, filter string16.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(64 + self.stream.len() + self.filter.as_str().len());
        out.put_u8(VERSION);
        out.put_slice(self.author.as_bytes());
        out.put_u64(self.created);
        out.put_u64(self.epoch);
        put_string16(&mut out, &self.stream);
        put_string16(&mut out, self.filter.as_str());
        out.freeze()
    }

    /// Reads a descriptor.
    ///
    /// # Errors
    /// When the bytes do not follow the layout.
    pub fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        let version = reader.u8("descriptor version")?;
        if version != VERSION {
            return Err(DecodeError::Version { what: "log descriptor", got: version, known: VERSION });
        }
        let author = PublicKey::from_bytes(reader.array32("author")?).map_err(|_| DecodeError::Invalid("author"))?;
        let created = reader.u64("created")?;
        let epoch = reader.u64("epoch")?;
        let stream = reader.string16(MAX_STREAM_NAME_LEN, "stream name")?;
        let filter = reader.string16(MAX_SUBJECT_LEN, "filter")?;
        let filter = Filter::parse(&filter).map_err(|_| DecodeError::Invalid("filter"))?;
        Ok(Self { author, stream, created, filter, epoch })
    }
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

/// What an operation says.
pub trait OperationBody: Sized {
    /// The bytes that the operation signs.
    fn encode(&self) -> Bytes;

    /// Reads them.
    ///
    /// # Errors
    /// When they do not follow the layout or break a bound.
    fn decode(bytes: Bytes) -> Result<Self, DecodeError>;
}

impl OperationBody for Manifest {
    fn encode(&self) -> Bytes {
        Self::encode(self)
    }

    fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        Self::decode(bytes)
    }
}

/// A body that is not looked into.
impl OperationBody for Bytes {
    fn encode(&self) -> Bytes {
        self.clone()
    }

    fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        Ok(bytes)
    }
}

/// A signed operation about messages.
pub type Operation = SignedOperation<Manifest>;

/// An operation that is known to be well-formed; made by [`SignedOperation::sign`] or checked by
/// [`SignedOperation::verify`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedOperation<B> {
    hash: OpHash,
    seq: OpSeq,
    backlink: Option<OpHash>,
    time: u64,
    author: PublicKey,
    log: LogId,
    content: B,
    raw: Bytes,
}

impl<B: OperationBody> SignedOperation<B> {
    /// Signs the next operation of a log. `time` is in microseconds since the Unix epoch.
    pub fn sign(key: &SigningKey, log: LogId, previous: Option<Head>, time: u64, content: B) -> Self {
        let body = Body::from(content.encode().to_vec());
        let seq = previous.map_or(OpSeq(0), |head| head.seq.next());
        let mut header = Header {
            version: 1,
            verifying_key: key.verifying_key(),
            signature: None,
            payload_size: body.size(),
            payload_hash: Some(body.hash()),
            timestamp: Timestamp::new(time),
            seq_num: seq.0,
            backlink: previous.map(|head| p2panda_core::Hash::from_bytes(*head.hash.as_bytes())),
            extensions: Extensions { log },
        };
        header.sign(key);
        let header = header.to_bytes();
        let mut raw = BytesMut::with_capacity(3 + header.len() + body.as_bytes().len());
        raw.put_u8(VERSION);
        raw.put_u16(header.len() as u16);
        raw.put_slice(&header);
        raw.put_slice(body.as_bytes());
        Self {
            hash: OpHash::from_bytes(*blake3::hash(&header).as_bytes()),
            seq,
            backlink: previous.map(|head| head.hash),
            time,
            author: key.verifying_key().into(),
            log,
            content,
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
            content: B::decode(body)?,
            raw,
        };
        Ok((header, operation))
    }

    /// Checks that this is an operation of this author's log.
    ///
    /// # Errors
    /// When it is another's.
    pub fn belongs_to(&self, author: PublicKey, log: LogId) -> Result<(), OperationError> {
        if self.author != author {
            return Err(OperationError::Author { expected: author, got: self.author });
        }
        if self.log != log {
            return Err(OperationError::Log);
        }
        Ok(())
    }

    /// Checks that this is the next operation after `previous`, or the first.
    ///
    /// # Errors
    /// When it has another number or is not chained to it.
    pub fn follows(&self, previous: Option<Head>) -> Result<(), OperationError> {
        let expected = previous.map_or(OpSeq(0), |head| head.seq.next());
        if self.seq != expected {
            return Err(OperationError::Sequence { expected, got: self.seq });
        }
        if self.backlink != previous.map(|head| head.hash) {
            return Err(OperationError::Backlink(self.seq));
        }
        Ok(())
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
    pub fn content(&self) -> &B {
        &self.content
    }

    /// The bytes to store and to send.
    pub fn raw(&self) -> &Bytes {
        &self.raw
    }
}

impl SignedOperation<Manifest> {
    /// What it says.
    pub fn manifest(&self) -> &Manifest {
        &self.content
    }
}

#[cfg(test)]
mod tests;
