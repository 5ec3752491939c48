//! What a provider says of a log.

use bytes::{BufMut, BytesMut};

use crate::codec::{DecodeError, Reader};
use crate::log::descriptor::{LogDescriptor, MAX_DESCRIPTOR_LEN};
use crate::log::operation::Head;
use crate::log::total::Total;
use crate::record::Position;

use super::fields::{HEAD_LEN, put_head, put_position, read_head, read_position};

/// Longest state.
pub(super) const MAX_LOG_STATE_LEN: usize = MAX_DESCRIPTOR_LEN + 1 + HEAD_LEN + 16 + 16 + 8;

const CLOSED: u8 = 1;
const HAS_HEAD: u8 = 2;
const PENDING_KNOWN: u8 = 4;

/// A log as the provider has it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogState {
    /// What it is about.
    pub descriptor: LogDescriptor,
    /// Nothing will be added any more: a later epoch or a later life of the stream took over.
    pub closed: bool,
    /// Its last operation; `None` while it is empty.
    pub head: Option<Head>,
    /// Position of the last record that it covers; zero for a bucket.
    pub through: Position,
    /// How much it holds.
    pub total: Total,
    /// Messages that wait to be sealed, or changes of a bucket that are not said yet; `None` while unknown.
    pub pending: Option<u64>,
}

impl LogState {
    pub(super) fn put(&self, out: &mut BytesMut) {
        out.put_slice(&self.descriptor.encode());
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        out.put_u8(
            flag(self.closed, CLOSED)
                | flag(self.head.is_some(), HAS_HEAD)
                | flag(self.pending.is_some(), PENDING_KNOWN),
        );
        if let Some(head) = self.head {
            put_head(out, head);
        }
        if self.descriptor.source().is_some() {
            put_position(out, self.through);
        }
        out.put_u64(self.total.items);
        out.put_u64(self.total.bytes);
        if let Some(pending) = self.pending {
            out.put_u64(pending);
        }
    }

    pub(super) fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        let descriptor = LogDescriptor::read(reader)?;
        let flags = reader.u8("log flags")?;
        if flags > CLOSED | HAS_HEAD | PENDING_KNOWN {
            return Err(DecodeError::Invalid("log flags"));
        }
        let head = if flags & HAS_HEAD != 0 { Some(read_head(reader)?) } else { None };
        let through = if descriptor.source().is_some() { read_position(reader)? } else { Position::default() };
        let total = Total { items: reader.u64("items")?, bytes: reader.u64("bytes")? };
        let pending = if flags & PENDING_KNOWN != 0 { Some(reader.u64("pending")?) } else { None };
        Ok(Self { descriptor, closed: flags & CLOSED != 0, head, through, total, pending })
    }
}
