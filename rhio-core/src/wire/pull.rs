//! What a subscriber asks for: to be told of logs, and for the operations of one.

use bytes::{BufMut, BytesMut};

use crate::codec::{DecodeError, Reader, put_string16};
use crate::id::{LogId, OpHash, OpSeq};
use crate::log::descriptor::{Kind, read_bucket};
use crate::object::MAX_BUCKET_LEN;
use crate::record::Position;
use crate::subject::{Filter, MAX_SUBJECT_LEN};

use super::fields::{put_hash, put_position, read_filter, read_hash, read_position};

/// Most earlier logs whose records a subscriber asks to leave out.
pub const MAX_FLOORS: usize = 32;
/// Longest payload of a Watch frame.
pub(super) const MAX_INTEREST_LEN: usize =
    1 + 2 + if MAX_SUBJECT_LEN > MAX_BUCKET_LEN { MAX_SUBJECT_LEN } else { MAX_BUCKET_LEN };
/// Longest payload of a Pull frame.
pub(super) const MAX_PULL_LEN: usize =
    32 + 8 + 33 + 1 + 2 + MAX_SUBJECT_LEN + 1 + MAX_FLOORS * (16 + 2 + MAX_SUBJECT_LEN);

/// Byte that asks to settle, beside the bytes of kinds.
const SETTLE: u8 = 0;

/// Which logs a subscriber wants to be told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Those with messages under this filter.
    Messages(Filter),
    /// The one of this bucket.
    Bucket(String),
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
    pub fn holds(&self, position: Position, subject: &[u8]) -> bool {
        position.seq <= self.through.seq && position.time <= self.through.time && self.filter.matches(subject)
    }
}

/// What a subscriber wants of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Want {
    /// Messages.
    Messages {
        /// The subjects that it wants.
        filter: Filter,
        /// What it has from earlier logs.
        floors: Vec<Floor>,
    },
    /// The entries of a bucket.
    Bucket,
    /// It is the author, who may have lost the end of the log: everything that is held of it, without payloads, once
    /// nothing more of it is being applied. The answer ends with [`End`](super::Frame::End).
    Settle,
}

/// A request for a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pull {
    /// Which one.
    pub log: LogId,
    /// The first operation that is lacking.
    pub next: OpSeq,
    /// The hash of the operation before that, when there is one.
    pub held: Option<OpHash>,
    /// What is wanted of it.
    pub want: Want,
}

impl Interest {
    pub(super) fn put(&self, out: &mut BytesMut) {
        match self {
            Self::Messages(filter) => {
                out.put_u8(Kind::Messages.byte());
                put_string16(out, filter.as_str());
            }
            Self::Bucket(bucket) => {
                out.put_u8(Kind::Bucket.byte());
                put_string16(out, bucket);
            }
        }
    }

    pub(super) fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(match Kind::read(reader, "kind of interest")? {
            Kind::Messages => Self::Messages(read_filter(reader)?),
            Kind::Bucket => Self::Bucket(read_bucket(reader)?),
        })
    }
}

impl Pull {
    /// Floors above their bound are left out; senders keep it.
    pub(super) fn put(&self, out: &mut BytesMut) {
        out.put_slice(self.log.as_bytes());
        out.put_u64(self.next.0);
        put_hash(out, self.held);
        match &self.want {
            Want::Messages { filter, floors } => {
                out.put_u8(Kind::Messages.byte());
                put_string16(out, filter.as_str());
                let floors = floors.iter().take(MAX_FLOORS);
                out.put_u8(floors.len() as u8);
                for floor in floors {
                    put_position(out, floor.through);
                    put_string16(out, floor.filter.as_str());
                }
            }
            Want::Bucket => out.put_u8(Kind::Bucket.byte()),
            Want::Settle => out.put_u8(SETTLE),
        }
    }

    pub(super) fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        let log = LogId::from_bytes(reader.array32("log")?);
        let next = OpSeq(reader.u64("next operation")?);
        let held = read_hash(reader)?;
        let want = reader.u8("kind of pull")?;
        let want = match Kind::ALL.into_iter().find(|kind| kind.byte() == want) {
            Some(Kind::Messages) => read_messages(reader)?,
            Some(Kind::Bucket) => Want::Bucket,
            None if want == SETTLE => Want::Settle,
            None => return Err(DecodeError::Invalid("kind of pull")),
        };
        Ok(Self { log, next, held, want })
    }
}

fn read_messages(reader: &mut Reader) -> Result<Want, DecodeError> {
    let filter = read_filter(reader)?;
    let count = usize::from(reader.u8("floor count")?);
    if count > MAX_FLOORS {
        return Err(DecodeError::TooLarge { what: "floor count", got: count as u64, max: MAX_FLOORS as u64 });
    }
    let floor = |reader: &mut Reader| Ok(Floor { through: read_position(reader)?, filter: read_filter(reader)? });
    let floors = (0..count).map(|_| floor(reader)).collect::<Result<_, DecodeError>>()?;
    Ok(Want::Messages { filter, floors })
}

#[cfg(test)]
mod tests {
    use crate::id::SourceSeq;

    use super::*;

    #[test]
    fn a_floor_holds_only_what_is_not_newer_in_either_sense() {
        let at = |seq, time| Position { seq: SourceSeq(seq), time };
        let floor = Floor { filter: Filter::parse("a.>").unwrap(), through: at(10, 100) };
        assert!(floor.holds(at(10, 100), b"a.b"));
        assert!(floor.holds(at(3, 30), b"a.b"));
        assert!(!floor.holds(at(3, 30), b"b.a"));
        assert!(!floor.holds(at(11, 90), b"a.b"));
        assert!(!floor.holds(at(9, 101), b"a.b"), "a number given again after a power cut");
    }
}
