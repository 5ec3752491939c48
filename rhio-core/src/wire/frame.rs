//! Frames: header, kinds, bounds.
//!
//! Header: version u8, kind u8, payload length u32. A length above the kind's bound is refused before anything is read.
//!
//! | kind | frame | payload |
//! | --- | --- | --- |
//! | 1 | Watch | kind of log u8; 1: filter string16; 2: bucket string16 |
//! | 2 | Logs | count u16, then per log: descriptor, flags u8 (1 = closed, 2 = has head, 4 = pending known), head seq u64 and hash 32 if flagged, for messages through seq u64 and time u64, items u64, bytes u64, pending u64 if flagged |
//! | 3 | Pull | log 32, next u64, has-held u8, held 32 if so, kind u8 (0 settle, 1 messages, 2 bucket); 1: filter string16, floor count u8, per floor: seq u64, time u64, filter string16 |
//! | 4 | Batch | operation length u32, operation, then per record of its manifest: u8 (0 gone, 1 present, 2 left out), and if present its canonical bytes |
//! | 5 | Pruned | first operation that is left u64 |
//! | 6 | Applied | op seq u64, hash 32 |
//! | 7 | End | nothing |
//! | 8 | Refused | close code u32, reason string16 |
//! | 9 | Blob | nothing; from here on the stream speaks the iroh-blobs protocol |

use bytes::{BufMut, Bytes, BytesMut};

use crate::codec::{DecodeError, Reader, put_string16};
use crate::id::OpSeq;
use crate::log::operation::Head;

use super::batch::{Batch, MAX_BATCH_LEN, SlotRef, batch_len, put_batch};
use super::close::CloseCode;
use super::fields::{HEAD_LEN, put_head, read_head};
use super::pull::{Interest, MAX_INTEREST_LEN, MAX_PULL_LEN, Pull};
use super::state::{LogState, MAX_LOG_STATE_LEN};

/// Format version in every frame.
pub const VERSION: u8 = 2;
/// Bytes of a frame's header.
pub const HEADER_LEN: usize = 6;
/// Most logs that one answer lists: publications that match one subscription, with their older epochs.
pub const MAX_LOGS: usize = 256;

const MAX_REASON_LEN: usize = 1024;

/// The kinds of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FrameKind {
    Watch,
    Logs,
    Pull,
    Batch,
    Pruned,
    Applied,
    End,
    Refused,
    Blob,
}

impl FrameKind {
    /// Each with the byte that stands for it and the bound of its payload.
    const ALL: [(Self, u8, usize); 9] = [
        (Self::Watch, 1, MAX_INTEREST_LEN),
        (Self::Logs, 2, 2 + MAX_LOGS * MAX_LOG_STATE_LEN),
        (Self::Pull, 3, MAX_PULL_LEN),
        (Self::Batch, 4, MAX_BATCH_LEN),
        (Self::Pruned, 5, 8),
        (Self::Applied, 6, HEAD_LEN),
        (Self::End, 7, 0),
        (Self::Refused, 8, 4 + 2 + MAX_REASON_LEN),
        (Self::Blob, 9, 0),
    ];

    fn byte(self) -> u8 {
        Self::ALL.iter().find(|(kind, ..)| *kind == self).map_or(0, |(_, byte, _)| *byte)
    }
}

/// Everything that nodes say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A subscriber wants to be told of logs.
    Watch(Interest),
    /// The logs that there are, now; sent again when something changes.
    Logs(Vec<LogState>),
    /// A subscriber wants a log.
    Pull(Pull),
    /// An operation, with what it covers.
    Batch(Batch),
    /// The log begins later than what was asked for.
    Pruned {
        /// Its first operation.
        first: OpSeq,
    },
    /// A subscriber has everything up to here durably.
    Applied(Head),
    /// Everything that is held has been sent.
    End,
    /// What was asked for is not for this peer, or not to be had.
    Refused {
        /// Why, for the program.
        code: CloseCode,
        /// Why, for people.
        reason: String,
    },
    /// The stream is about content.
    Blob,
}

/// A frame's header, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    kind: FrameKind,
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
        let found = FrameKind::ALL.iter().find(|(_, byte, _)| *byte == kind);
        let (kind, _, max) = *found.ok_or(DecodeError::Invalid("frame kind"))?;
        if len > max {
            return Err(DecodeError::TooLarge { what: "frame length", got: len as u64, max: max as u64 });
        }
        Ok(Self { kind, len })
    }
}

/// Encodes a batch frame. A slot is a record, or the reason why there is none.
pub fn encode_batch<'a>(operation: &Bytes, slots: impl Iterator<Item = SlotRef<'a>> + Clone) -> Bytes {
    let mut out = BytesMut::with_capacity(HEADER_LEN + batch_len(operation, slots.clone()));
    begin(&mut out, FrameKind::Batch);
    put_batch(&mut out, operation, slots);
    finish(out)
}

fn begin(out: &mut BytesMut, kind: FrameKind) {
    out.put_u8(VERSION);
    out.put_u8(kind.byte());
    out.put_u32(0);
}

fn start(kind: FrameKind) -> BytesMut {
    let mut out = BytesMut::with_capacity(256);
    begin(&mut out, kind);
    out
}

fn finish(mut out: BytesMut) -> Bytes {
    let len = (out.len() - HEADER_LEN) as u32;
    out[2..HEADER_LEN].copy_from_slice(&len.to_be_bytes());
    out.freeze()
}

impl Frame {
    /// Header and payload. Lists above their bounds are cut off; senders keep them.
    pub fn encode(&self) -> Bytes {
        let mut out;
        match self {
            Self::Watch(interest) => {
                out = start(FrameKind::Watch);
                interest.put(&mut out);
            }
            Self::Logs(logs) => {
                out = start(FrameKind::Logs);
                let logs = logs.iter().take(MAX_LOGS);
                out.put_u16(logs.len() as u16);
                logs.for_each(|state| state.put(&mut out));
            }
            Self::Pull(pull) => {
                out = start(FrameKind::Pull);
                pull.put(&mut out);
            }
            Self::Batch(batch) => {
                return encode_batch(&batch.operation, batch.slots.iter().map(super::batch::Slot::as_ref));
            }
            Self::Pruned { first } => {
                out = start(FrameKind::Pruned);
                out.put_u64(first.0);
            }
            Self::Applied(head) => {
                out = start(FrameKind::Applied);
                put_head(&mut out, *head);
            }
            Self::End => out = start(FrameKind::End),
            Self::Refused { code, reason } => {
                out = start(FrameKind::Refused);
                out.put_u32(code.code());
                let end = (0..=reason.len().min(MAX_REASON_LEN)).rev().find(|n| reason.is_char_boundary(*n));
                put_string16(&mut out, &reason[..end.unwrap_or(0)]);
            }
            Self::Blob => out = start(FrameKind::Blob),
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
            FrameKind::Watch => Self::Watch(Interest::read(&mut reader)?),
            FrameKind::Logs => {
                let count = usize::from(reader.u16("log count")?);
                if count > MAX_LOGS {
                    return Err(DecodeError::TooLarge { what: "log count", got: count as u64, max: MAX_LOGS as u64 });
                }
                Self::Logs((0..count).map(|_| LogState::read(&mut reader)).collect::<Result<_, _>>()?)
            }
            FrameKind::Pull => Self::Pull(Pull::read(&mut reader)?),
            FrameKind::Batch => Self::Batch(Batch::read(&mut reader)?),
            FrameKind::Pruned => Self::Pruned { first: OpSeq(reader.u64("first operation")?) },
            FrameKind::Applied => Self::Applied(read_head(&mut reader)?),
            FrameKind::End => Self::End,
            FrameKind::Refused => Self::Refused {
                code: CloseCode::from_code(u64::from(reader.u32("close code")?)),
                reason: reader.string16(MAX_REASON_LEN, "reason")?,
            },
            FrameKind::Blob => Self::Blob,
        };
        reader.finish()?;
        Ok(frame)
    }
}

#[cfg(test)]
mod tests;
