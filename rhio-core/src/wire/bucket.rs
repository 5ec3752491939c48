//! Payloads of the frames about buckets; their layouts are in [`super::frame`]'s table.

use bytes::{BufMut, BytesMut};

use crate::catalog::{CatalogDescriptor, Said, read_bucket};
use crate::codec::{DecodeError, Reader, put_string16};
use crate::id::{LogId, OpHash, OpSeq};
use crate::object::MAX_BUCKET_LEN;
use crate::operation::Head;

use super::frame::{put_hash, put_head, read_hash, read_head};

/// Longest payload of a Bucket frame.
pub(super) const MAX_BUCKET_PULL_LEN: usize = 2 + MAX_BUCKET_LEN + 1 + 32 + 8 + 33;
/// Longest payload of a Catalog frame.
pub(super) const MAX_CATALOG_STATE_LEN: usize = (1 + 32 + 8 + 2 + MAX_BUCKET_LEN) + 8 + 1 + 40 + 16 + 8;

/// A subscriber's request for a bucket's catalog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketPull {
    /// The author's bucket.
    pub bucket: String,
    /// What the subscriber has of its newest catalog.
    pub held: Option<HeldCatalog>,
}

/// What a subscriber has of a catalog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldCatalog {
    /// The log.
    pub log: LogId,
    /// The first operation that it lacks.
    pub next: OpSeq,
    /// The hash of the operation before that, when it has one.
    pub hash: Option<OpHash>,
}

/// A catalog as its author has it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatalogState {
    /// What it is about.
    pub descriptor: CatalogDescriptor,
    /// The first operation that this stream sends.
    pub from: OpSeq,
    /// Its last operation; `None` while it is empty.
    pub head: Option<Head>,
    /// How much it says.
    pub said: Said,
    /// Changes of the bucket that are known and not said yet; `None` while unknown.
    pub pending: Option<u64>,
}

impl BucketPull {
    pub(super) fn put(&self, out: &mut BytesMut) {
        put_string16(out, &self.bucket);
        out.put_u8(u8::from(self.held.is_some()));
        if let Some(held) = self.held {
            out.put_slice(held.log.as_bytes());
            out.put_u64(held.next.0);
            put_hash(out, held.hash);
        }
    }

    pub(super) fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        let bucket = read_bucket(reader)?;
        let held = match reader.u8("log flag")? {
            0 => None,
            1 => Some(HeldCatalog {
                log: LogId::from_bytes(reader.array32("log")?),
                next: OpSeq(reader.u64("next operation")?),
                hash: read_hash(reader)?,
            }),
            _ => return Err(DecodeError::Invalid("log flag")),
        };
        Ok(Self { bucket, held })
    }
}

impl CatalogState {
    pub(super) fn put(&self, out: &mut BytesMut) {
        out.put_slice(&self.descriptor.encode());
        out.put_u64(self.from.0);
        out.put_u8(u8::from(self.head.is_some()) | u8::from(self.pending.is_some()) << 1);
        if let Some(head) = self.head {
            put_head(out, head);
        }
        out.put_u64(self.said.entries);
        out.put_u64(self.said.bytes);
        if let Some(pending) = self.pending {
            out.put_u64(pending);
        }
    }

    pub(super) fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        let descriptor = CatalogDescriptor::read(reader)?;
        let from = OpSeq(reader.u64("first operation")?);
        let flags = reader.u8("catalog flags")?;
        if flags > 3 {
            return Err(DecodeError::Invalid("catalog flags"));
        }
        let head = if flags & 1 != 0 { Some(read_head(reader)?) } else { None };
        let said = Said { entries: reader.u64("entries")?, bytes: reader.u64("bytes")? };
        let pending = if flags & 2 != 0 { Some(reader.u64("pending")?) } else { None };
        Ok(Self { descriptor, from, head, said, pending })
    }
}
