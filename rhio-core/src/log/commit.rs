//! What a node writes into its own state stream: operations, and where they left the local stream. One state message is
//! one commit: all of it or nothing.
//!
//! | field | bytes |
//! | --- | --- |
//! | format version | u8, [`VERSION`] |
//! | last sequence number of the local stream that this log wrote, 0 for none | u64 |
//! | records that were gone at the source before they were sent, ever | u64 |
//! | operation count, 1..=[`MAX_OPERATIONS`] | u16 |
//! | per operation: length, bytes | u32, n |
//!
//! An author commits each operation of its own log before anyone sees it, with nothing written locally. A subscriber
//! commits operations once all their records are in its local stream: the last commit of a log is the cursor.

use bytes::{BufMut, Bytes, BytesMut};

use crate::codec::{DecodeError, Reader};
use crate::id::LocalSeq;

use super::operation::MAX_OPERATION_LEN;

/// Format version that this program writes.
pub const VERSION: u8 = 1;
/// Most operations in one commit.
pub const MAX_OPERATIONS: usize = 256;
/// A commit takes no further operation once it holds this many bytes, so that it fits a small `max_payload`.
pub const TARGET_LEN: usize = 64 * 1024;

/// One message of the state stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Where the log's records end in the local stream.
    pub local: LocalSeq,
    /// Records skipped so far because their source no longer had them.
    pub gone: u64,
    /// The operations, in the log's order.
    pub operations: Vec<Bytes>,
}

/// How many of these operations, given by their lengths in bytes, go into one commit: as many as stay within both
/// bounds, and one at least.
pub fn pack(lengths: impl Iterator<Item = usize>) -> usize {
    let mut len = 0;
    lengths
        .take(MAX_OPERATIONS)
        .enumerate()
        .take_while(|(index, operation)| {
            len += operation;
            *index == 0 || len <= TARGET_LEN
        })
        .count()
}

impl Commit {
    /// One operation of an own log, with nothing written locally.
    pub fn own(operation: Bytes) -> Self {
        Self { local: LocalSeq::default(), gone: 0, operations: vec![operation] }
    }

    /// The message's payload.
    pub fn encode(&self) -> Bytes {
        let len: usize = self.operations.iter().map(|op| op.len() + 4).sum();
        let mut out = BytesMut::with_capacity(19 + len);
        out.put_u8(VERSION);
        out.put_u64(self.local.0);
        out.put_u64(self.gone);
        out.put_u16(self.operations.len() as u16);
        for operation in &self.operations {
            out.put_u32(operation.len() as u32);
            out.put_slice(operation);
        }
        out.freeze()
    }

    /// Reads a payload.
    ///
    /// # Errors
    /// When it does not follow the layout.
    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let version = reader.u8("commit version")?;
        if version != VERSION {
            return Err(DecodeError::Version { what: "commit", got: version, known: VERSION });
        }
        let local = LocalSeq(reader.u64("local sequence")?);
        let gone = reader.u64("gone records")?;
        let count = usize::from(reader.u16("operation count")?);
        if count == 0 || count > MAX_OPERATIONS {
            return Err(DecodeError::Invalid("operation count"));
        }
        let mut operations = Vec::with_capacity(count);
        for _ in 0..count {
            let len = reader.u32("operation length")? as usize;
            if len > MAX_OPERATION_LEN {
                let (got, max) = (len as u64, MAX_OPERATION_LEN as u64);
                return Err(DecodeError::TooLarge { what: "operation", got, max });
            }
            operations.push(reader.take(len, "operation")?);
        }
        reader.finish()?;
        Ok(Self { local, gone, operations })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_takes_what_stays_within_both_bounds_and_one_at_least() {
        assert_eq!(pack([].into_iter()), 0);
        assert_eq!(pack([TARGET_LEN * 2, 1].into_iter()), 1);
        assert_eq!(pack([1, TARGET_LEN - 1, 1].into_iter()), 2);
        assert_eq!(pack([1, TARGET_LEN, 1].into_iter()), 1);
        assert_eq!(pack(std::iter::repeat_n(1, MAX_OPERATIONS + 9)), MAX_OPERATIONS);
    }

    #[test]
    fn the_encoding_is_the_one_that_was_agreed() {
        let commit = Commit {
            local: LocalSeq(258),
            gone: 3,
            operations: vec![Bytes::from_static(b"one"), Bytes::from_static(b"no2")],
        };
        let encoded = commit.encode();
        assert_eq!(
            hex::encode(&encoded),
            "0100000000000001020000000000000003000200000003\
             6f6e65000000036e6f32"
        );
        assert_eq!(Commit::decode(encoded.clone()), Ok(commit));
        for len in 0..encoded.len() {
            assert!(Commit::decode(encoded.slice(..len)).is_err());
        }
    }
}
