//! Frames: header, payload layouts, bounds.
//!
//! Header: version u8, kind u8, payload length u32. A length above the kind's bound is refused before anything is read.
//!
//! | kind | frame | payload |
//! | --- | --- | --- |
//! | 1 | Watch | filter string16 |
//! | 2 | Logs | count u16, then per log: descriptor, flags u8 (1 = closed, 2 = has head, 4 = pending known), head seq u64 and hash 32 if flagged, through seq u64 and time u64, records u64, bytes u64, pending u64 if flagged |
//! | 3 | Pull | log 32, next u64, has-held u8, held 32 if so, filter string16, floor count u8, per floor: seq u64, time u64, filter string16 |
//! | 4 | Batch | operation length u32, operation, then per record of its manifest: u8 (0 gone, 1 present, 2 left out), and if present its canonical bytes |
//! | 5 | Pruned | first operation that is left u64 |
//! | 6 | Applied | op seq u64, hash 32 |
//! | 7 | Recall | log 32, from u64 |
//! | 8 | Operation | operation |
//! | 9 | End | nothing |
//! | 10 | Refused | close code u32, reason string16 |
//! | 11 | Bucket | bucket string16, has-log u8, and if so: log 32, next u64, has-held u8, held 32 if so |
//! | 12 | Catalog | descriptor, from u64, flags u8 (1 = has head, 2 = pending known), head seq u64 and hash 32 if flagged, entries u64, bytes u64, pending u64 if flagged |
//! | 13 | Blob | nothing; from here on the stream speaks the iroh-blobs protocol |
//!
//! Operation carries what it is asked for: a catalog's operations behind Bucket, a message log's behind Recall.

use bytes::{BufMut, Bytes, BytesMut};

use crate::codec::{DecodeError, Reader, put_string16};
use crate::id::{LogId, OpHash, OpSeq, SourceSeq};
use crate::manifest::{MAX_RECORDS, Total};
use crate::operation::{Head, LogDescriptor, MAX_OPERATION_LEN, MAX_STREAM_NAME_LEN};
use crate::record::{CanonicalRecord, MAX_RECORD_LEN, Position, RecordParts};
use crate::subject::{Filter, MAX_SUBJECT_LEN};

use super::bucket::{BucketPull, CatalogState, MAX_BUCKET_PULL_LEN, MAX_CATALOG_STATE_LEN};
use super::{CloseCode, VERSION};

/// Bytes of a frame's header.
pub const HEADER_LEN: usize = 6;
/// Most logs that one answer lists: publications that match one subscription, with their older epochs.
pub const MAX_LOGS: usize = 256;
/// Most earlier logs whose records a subscriber asks to leave out.
pub const MAX_FLOORS: usize = 32;
/// A batch holds records of at most this many canonical bytes, or a single larger one.
pub const TARGET_BATCH_LEN: usize = 512 * 1024;
/// Longest payload of a batch frame.
pub const MAX_BATCH_LEN: usize = 4 + MAX_OPERATION_LEN + MAX_RECORDS + TARGET_BATCH_LEN + MAX_RECORD_LEN;

const MAX_LOG_STATE_LEN: usize =
    (1 + 32 + 8 + 8 + 2 + MAX_STREAM_NAME_LEN + 2 + MAX_SUBJECT_LEN) + 1 + 8 + 32 + 16 + 16 + 8;
const MAX_REASON_LEN: usize = 1024;

/// A log as the provider has it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogState {
    /// What it is about.
    pub descriptor: LogDescriptor,
    /// Nothing will be added any more: a later epoch or a later life of the stream took over.
    pub closed: bool,
    /// Its last operation; `None` while it is empty.
    pub head: Option<Head>,
    /// Position of the last record that it covers.
    pub through: Position,
    /// How much it holds.
    pub total: Total,
    /// Messages that wait in the author's stream to be sealed; `None` while unknown.
    pub pending: Option<u64>,
}

/// Records up to `through` under `filter` that the subscriber has already, from an earlier log of the same stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Floor {
    /// The earlier log's filter.
    pub filter: Filter,
    /// The last record that came from there.
    pub through: Position,
}

impl Floor {
    /// Whether the subscriber has this record. The sequence number alone would not do: after a power cut the author's
    /// stream gives the same numbers to new messages, at later times.
    pub fn holds(&self, position: Position, subject: &str) -> bool {
        position.seq <= self.through.seq && position.time <= self.through.time && self.filter.matches(subject)
    }
}

/// A subscriber's request for a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pull {
    /// Which one.
    pub log: LogId,
    /// The subjects that it wants of it.
    pub filter: Filter,
    /// The first operation that it lacks.
    pub next: OpSeq,
    /// The hash of the operation before that, when it has one.
    pub held: Option<OpHash>,
    /// What it has from earlier logs.
    pub floors: Vec<Floor>,
}

/// What a batch has for one record of its manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Slot {
    /// The source's stream no longer holds it.
    Gone,
    /// Here it is.
    Present(CanonicalRecord, RecordParts),
    /// The subscriber did not ask for it, or has it.
    LeftOut,
}

/// An operation with the records that it covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The operation's bytes, not verified yet.
    pub operation: Bytes,
    /// One slot per record of the manifest, in its order.
    pub slots: Vec<Slot>,
}

/// Everything that nodes say.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Frame {
    Watch { filter: Filter },
    Logs(Vec<LogState>),
    Pull(Pull),
    Batch(Batch),
    Pruned { first: OpSeq },
    Applied(Head),
    Recall { log: LogId, from: OpSeq },
    Operation(Bytes),
    End,
    Refused { code: CloseCode, reason: String },
    Bucket(BucketPull),
    Catalog(CatalogState),
    Blob,
}

/// A frame's header, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    kind: u8,
    /// Payload bytes that follow.
    pub len: usize,
}

impl FrameHeader {
    /// Reads a header and checks its length against the kind's bound.
    ///
    /// # Errors
    /// For another version, an unknown kind, or a length above the bound.
    pub fn decode(bytes: [u8; HEADER_LEN]) -> Result<Self, DecodeError> {
        let [version, kind, len @ ..] = bytes;
        if version != VERSION {
            return Err(DecodeError::Version { what: "frame", got: version, known: VERSION });
        }
        let len = u32::from_be_bytes(len) as usize;
        let max = match kind {
            1 => 2 + MAX_SUBJECT_LEN,
            2 => 2 + MAX_LOGS * MAX_LOG_STATE_LEN,
            3 => 32 + 8 + 33 + 2 + MAX_SUBJECT_LEN + 1 + MAX_FLOORS * (16 + 2 + MAX_SUBJECT_LEN),
            4 => MAX_BATCH_LEN,
            5 => 8,
            6 => 40,
            7 => 40,
            8 => MAX_OPERATION_LEN,
            9 => 0,
            10 => 4 + 2 + MAX_REASON_LEN,
            11 => MAX_BUCKET_PULL_LEN,
            12 => MAX_CATALOG_STATE_LEN,
            13 => 0,
            _ => return Err(DecodeError::Invalid("frame kind")),
        };
        if len > max {
            return Err(DecodeError::TooLarge { what: "frame length", got: len as u64, max: max as u64 });
        }
        Ok(Self { kind, len })
    }
}

/// Encodes a batch frame. A slot is a record, or the frame's slot that stands for it.
pub fn encode_batch<'a>(
    operation: &Bytes,
    slots: impl Iterator<Item = Result<&'a CanonicalRecord, Absent>> + Clone,
) -> Bytes {
    let len: usize = slots.clone().map(|slot| 1 + slot.map_or(0, |record| record.as_bytes().len())).sum();
    let mut out = BytesMut::with_capacity(HEADER_LEN + 4 + operation.len() + len);
    begin(&mut out, 4);
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
        }
    }
    finish(out)
}

/// Why a batch lacks a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    /// The source's stream no longer holds it.
    Gone,
    /// The subscriber did not ask for it, or has it.
    LeftOut,
}

fn begin(out: &mut BytesMut, kind: u8) {
    out.put_u8(VERSION);
    out.put_u8(kind);
    out.put_u32(0);
}

fn start(kind: u8) -> BytesMut {
    let mut out = BytesMut::with_capacity(256);
    begin(&mut out, kind);
    out
}

fn finish(mut out: BytesMut) -> Bytes {
    let len = (out.len() - HEADER_LEN) as u32;
    out[2..HEADER_LEN].copy_from_slice(&len.to_be_bytes());
    out.freeze()
}

pub(super) fn put_head(out: &mut BytesMut, head: Head) {
    out.put_u64(head.seq.0);
    out.put_slice(head.hash.as_bytes());
}

pub(super) fn read_head(reader: &mut Reader) -> Result<Head, DecodeError> {
    let seq = OpSeq(reader.u64("operation number")?);
    Ok(Head { seq, hash: OpHash::from_bytes(reader.array32("operation hash")?) })
}

pub(super) fn put_hash(out: &mut BytesMut, hash: Option<OpHash>) {
    out.put_u8(u8::from(hash.is_some()));
    if let Some(hash) = hash {
        out.put_slice(hash.as_bytes());
    }
}

pub(super) fn read_hash(reader: &mut Reader) -> Result<Option<OpHash>, DecodeError> {
    match reader.u8("held flag")? {
        0 => Ok(None),
        1 => Ok(Some(OpHash::from_bytes(reader.array32("held hash")?))),
        _ => Err(DecodeError::Invalid("held flag")),
    }
}

fn put_position(out: &mut BytesMut, position: Position) {
    out.put_u64(position.seq.0);
    out.put_u64(position.time);
}

fn read_position(reader: &mut Reader) -> Result<Position, DecodeError> {
    Ok(Position { seq: SourceSeq(reader.u64("sequence")?), time: reader.u64("time")? })
}

fn read_filter(reader: &mut Reader) -> Result<Filter, DecodeError> {
    let text = reader.string16(MAX_SUBJECT_LEN, "filter")?;
    Filter::parse(&text).map_err(|_| DecodeError::Invalid("filter"))
}

fn put_log_state(out: &mut BytesMut, state: &LogState) {
    out.put_slice(&state.descriptor.encode());
    let flags = u8::from(state.closed) | u8::from(state.head.is_some()) << 1 | u8::from(state.pending.is_some()) << 2;
    out.put_u8(flags);
    if let Some(head) = state.head {
        put_head(out, head);
    }
    put_position(out, state.through);
    out.put_u64(state.total.records);
    out.put_u64(state.total.bytes);
    if let Some(pending) = state.pending {
        out.put_u64(pending);
    }
}

fn read_log_state(reader: &mut Reader) -> Result<LogState, DecodeError> {
    let descriptor = LogDescriptor::read(reader)?;
    let flags = reader.u8("log flags")?;
    if flags > 7 {
        return Err(DecodeError::Invalid("log flags"));
    }
    let head = if flags & 2 != 0 { Some(read_head(reader)?) } else { None };
    let through = read_position(reader)?;
    let total = Total { records: reader.u64("records")?, bytes: reader.u64("bytes")? };
    let pending = if flags & 4 != 0 { Some(reader.u64("pending")?) } else { None };
    Ok(LogState { descriptor, closed: flags & 1 != 0, head, through, total, pending })
}

impl Frame {
    /// Header and payload. Lists above their bounds are cut off; senders keep them.
    pub fn encode(&self) -> Bytes {
        let mut out;
        match self {
            Self::Watch { filter } => {
                out = start(1);
                put_string16(&mut out, filter.as_str());
            }
            Self::Logs(logs) => {
                out = start(2);
                let logs = &logs[..logs.len().min(MAX_LOGS)];
                out.put_u16(logs.len() as u16);
                logs.iter().for_each(|state| put_log_state(&mut out, state));
            }
            Self::Pull(pull) => {
                out = start(3);
                out.put_slice(pull.log.as_bytes());
                out.put_u64(pull.next.0);
                put_hash(&mut out, pull.held);
                put_string16(&mut out, pull.filter.as_str());
                let floors = &pull.floors[..pull.floors.len().min(MAX_FLOORS)];
                out.put_u8(floors.len() as u8);
                for floor in floors {
                    put_position(&mut out, floor.through);
                    put_string16(&mut out, floor.filter.as_str());
                }
            }
            Self::Batch(batch) => {
                let slot = |slot| match slot {
                    &Slot::Gone => Err(Absent::Gone),
                    &Slot::LeftOut => Err(Absent::LeftOut),
                    Slot::Present(record, _) => Ok(record),
                };
                return encode_batch(&batch.operation, batch.slots.iter().map(slot));
            }
            Self::Pruned { first } => {
                out = start(5);
                out.put_u64(first.0);
            }
            Self::Applied(head) => {
                out = start(6);
                put_head(&mut out, *head);
            }
            Self::Recall { log, from } => {
                out = start(7);
                out.put_slice(log.as_bytes());
                out.put_u64(from.0);
            }
            Self::Operation(raw) => {
                out = start(8);
                out.put_slice(raw);
            }
            Self::End => out = start(9),
            Self::Refused { code, reason } => {
                out = start(10);
                out.put_u32(code.code());
                let end = (0..=reason.len().min(MAX_REASON_LEN)).rev().find(|n| reason.is_char_boundary(*n));
                put_string16(&mut out, &reason[..end.unwrap_or(0)]);
            }
            Self::Bucket(pull) => {
                out = start(11);
                pull.put(&mut out);
            }
            Self::Catalog(state) => {
                out = start(12);
                state.put(&mut out);
            }
            Self::Blob => out = start(13),
        }
        finish(out)
    }

    /// Reads the payload that belongs to `header`.
    ///
    /// # Errors
    /// When it does not follow its layout or breaks a bound.
    pub fn decode(header: FrameHeader, payload: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(payload);
        let frame = match header.kind {
            1 => Self::Watch { filter: read_filter(&mut reader)? },
            2 => {
                let count = usize::from(reader.u16("log count")?);
                if count > MAX_LOGS {
                    return Err(DecodeError::TooLarge { what: "log count", got: count as u64, max: MAX_LOGS as u64 });
                }
                Self::Logs((0..count).map(|_| read_log_state(&mut reader)).collect::<Result<_, _>>()?)
            }
            3 => Self::Pull(read_pull(&mut reader)?),
            4 => Self::Batch(read_batch(&mut reader)?),
            5 => Self::Pruned { first: OpSeq(reader.u64("first operation")?) },
            6 => Self::Applied(read_head(&mut reader)?),
            7 => Self::Recall {
                log: LogId::from_bytes(reader.array32("log")?),
                from: OpSeq(reader.u64("first operation")?),
            },
            8 => {
                let len = reader.remaining();
                Self::Operation(reader.take(len, "operation")?)
            }
            9 => Self::End,
            10 => Self::Refused {
                code: CloseCode::from_code(u64::from(reader.u32("close code")?)),
                reason: reader.string16(MAX_REASON_LEN, "reason")?,
            },
            11 => Self::Bucket(BucketPull::read(&mut reader)?),
            12 => Self::Catalog(CatalogState::read(&mut reader)?),
            13 => Self::Blob,
            _ => return Err(DecodeError::Invalid("frame kind")),
        };
        reader.finish()?;
        Ok(frame)
    }
}

fn read_pull(reader: &mut Reader) -> Result<Pull, DecodeError> {
    let log = LogId::from_bytes(reader.array32("log")?);
    let next = OpSeq(reader.u64("next operation")?);
    let held = read_hash(reader)?;
    let filter = read_filter(reader)?;
    let count = usize::from(reader.u8("floor count")?);
    if count > MAX_FLOORS {
        return Err(DecodeError::TooLarge { what: "floor count", got: count as u64, max: MAX_FLOORS as u64 });
    }
    let floor = |reader: &mut Reader| Ok(Floor { through: read_position(reader)?, filter: read_filter(reader)? });
    let floors = (0..count).map(|_| floor(reader)).collect::<Result<_, DecodeError>>()?;
    Ok(Pull { log, filter, next, held, floors })
}

fn read_batch(reader: &mut Reader) -> Result<Batch, DecodeError> {
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
            _ => return Err(DecodeError::Invalid("slot")),
        });
    }
    Ok(Batch { operation, slots })
}

#[cfg(test)]
mod tests;
