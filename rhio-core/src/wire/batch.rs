//! An operation on its way, with what it covers.

use bytes::{BufMut, Bytes, BytesMut};

use crate::codec::{DecodeError, Reader};
use crate::log::operation::MAX_OPERATION_LEN;
use crate::manifest::MAX_RECORDS;
use crate::record::{CanonicalRecord, MAX_RECORD_LEN, RecordParts, SubjectProof, read_subject};

/// A batch holds records of at most this many canonical bytes, or a single larger one.
pub const TARGET_BATCH_LEN: usize = 512 * 1024;
/// Bytes that a slot takes besides the record, or the subject, in it: its kind, the subject's length, a proof.
const MAX_SLOT_LEN: usize = 1 + 2 + 32;
/// Longest payload of a batch frame.
pub const MAX_BATCH_LEN: usize = 4 + MAX_OPERATION_LEN + MAX_RECORDS * MAX_SLOT_LEN + TARGET_BATCH_LEN + MAX_RECORD_LEN;

/// What a batch has for one record of its manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Slot {
    /// The source's stream no longer holds it.
    Gone,
    /// Here it is.
    Present(CanonicalRecord, RecordParts),
    /// The subscriber did not ask for it, or has it. Only the author's word for it counts.
    LeftOut,
    /// The subscriber did not ask for this subject, whoever says so.
    Proven(Bytes, SubjectProof),
}

/// An operation with the records that it covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The operation's bytes, not verified yet.
    pub operation: Bytes,
    /// One slot per record of the manifest, in its order; none for a bucket, and none to settle.
    pub slots: Vec<Slot>,
}

/// Why a batch lacks a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent<'a> {
    /// The source's stream no longer holds it.
    Gone,
    /// The subscriber did not ask for it, or has it.
    LeftOut,
    /// The subscriber did not ask for this subject.
    Proven(&'a [u8], SubjectProof),
}

/// What a slot of a batch has: a record, or why there is none.
pub type SlotRef<'a> = Result<&'a CanonicalRecord, Absent<'a>>;

/// Bytes that a batch takes.
pub(super) fn batch_len<'a>(operation: &Bytes, slots: impl Iterator<Item = SlotRef<'a>>) -> usize {
    let slot_len = |slot: SlotRef<'_>| match slot {
        Ok(record) => 1 + record.as_bytes().len(),
        Err(Absent::Gone | Absent::LeftOut) => 1,
        Err(Absent::Proven(subject, _)) => MAX_SLOT_LEN + subject.len(),
    };
    4 + operation.len() + slots.map(slot_len).sum::<usize>()
}

/// Appends a batch.
pub(super) fn put_batch<'a>(out: &mut BytesMut, operation: &Bytes, slots: impl Iterator<Item = SlotRef<'a>>) {
    out.put_u32(operation.len() as u32);
    out.put_slice(operation);
    for slot in slots {
        match slot {
            Ok(record) => {
                out.put_u8(1);
                out.put_slice(record.as_bytes());
            }
            Err(Absent::Gone) => out.put_u8(0),
            Err(Absent::LeftOut) => out.put_u8(2),
            Err(Absent::Proven(subject, proof)) => {
                out.put_u8(3);
                out.put_u16(subject.len() as u16);
                out.put_slice(subject);
                out.put_slice(proof.as_bytes());
            }
        }
    }
}

impl Slot {
    /// As it is encoded.
    pub(super) fn as_ref(&self) -> SlotRef<'_> {
        match self {
            Self::Gone => Err(Absent::Gone),
            Self::LeftOut => Err(Absent::LeftOut),
            Self::Proven(subject, proof) => Err(Absent::Proven(subject, *proof)),
            Self::Present(record, _) => Ok(record),
        }
    }
}

impl Batch {
    /// Only an operation: of a bucket, or to settle.
    pub fn bare(operation: Bytes) -> Self {
        Self { operation, slots: Vec::new() }
    }

    pub(super) fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        let len = reader.u32("operation length")? as usize;
        if len > MAX_OPERATION_LEN {
            return Err(DecodeError::TooLarge { what: "operation", got: len as u64, max: MAX_OPERATION_LEN as u64 });
        }
        let operation = reader.take(len, "operation")?;
        let mut slots = Vec::new();
        while reader.remaining() > 0 {
            if slots.len() == MAX_RECORDS {
                return Err(DecodeError::Trailing(reader.remaining()));
            }
            slots.push(match reader.u8("slot")? {
                0 => Slot::Gone,
                1 => {
                    let (record, parts) = CanonicalRecord::read(reader)?;
                    Slot::Present(record, parts)
                }
                2 => Slot::LeftOut,
                3 => Slot::Proven(read_subject(reader)?, SubjectProof::from_bytes(reader.array32("proof")?)),
                _ => return Err(DecodeError::Invalid("slot")),
            });
        }
        Ok(Self { operation, slots })
    }
}
