//! The body of a message operation: which records of the source's stream it covers, and their digests.
//!
//! | field | bytes |
//! | --- | --- |
//! | format version | u8, [`VERSION`] |
//! | kind | u8, [`KIND_MESSAGES`] |
//! | records in this log before this operation | varint |
//! | canonical bytes in this log before this operation | varint |
//! | canonical bytes of this operation's records | varint |
//! | record count, 1..=[`MAX_RECORDS`] | varint |
//! | first record: sequence number, time in ns | varint, varint |
//! | every later record: sequence number less the one before (at least 1), time less the one before | varint, zigzag varint |
//! | every record, after its position: digest | 32 |

use bytes::{BufMut, Bytes, BytesMut};

use crate::codec::{DecodeError, Reader, put_varint};
use crate::id::{Digest, SourceSeq};
use crate::record::Position;

/// Format version that this program writes.
pub const VERSION: u8 = 1;
/// The kind of body that describes messages.
pub const KIND_MESSAGES: u8 = 1;
/// Most records that one operation covers. With 40 bytes each, a full manifest stays far below the smallest usual
/// `max_payload`.
pub const MAX_RECORDS: usize = 1024;
/// Longest manifest: every varint at its longest.
pub const MAX_MANIFEST_LEN: usize = 2 + 4 * 10 + MAX_RECORDS * (10 + 10 + 32);

/// One record of a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where the author's stream holds the record.
    pub position: Position,
    /// The digest of its canonical bytes.
    pub digest: Digest,
}

/// How much a log holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Total {
    /// Records.
    pub records: u64,
    /// Their canonical bytes.
    pub bytes: u64,
}

/// Consecutive records of one publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    before: Total,
    bytes: u64,
    entries: Vec<Entry>,
}

impl Manifest {
    /// Describes `entries`, of `bytes` canonical bytes in all, after what the log holds already.
    ///
    /// # Errors
    /// When there is none, too many, or they are not in the stream's order.
    pub fn new(before: Total, bytes: u64, entries: Vec<Entry>) -> Result<Self, DecodeError> {
        check_count(entries.len() as u64)?;
        if entries.windows(2).any(|pair| pair[0].position.seq >= pair[1].position.seq) {
            return Err(DecodeError::Invalid("record order"));
        }
        Ok(Self { before, bytes, entries })
    }

    /// What it covers; never empty.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// What the log held before.
    pub fn before(&self) -> Total {
        self.before
    }

    /// What the log holds with this operation.
    pub fn after(&self) -> Total {
        Total {
            records: self.before.records.saturating_add(self.entries.len() as u64),
            bytes: self.before.bytes.saturating_add(self.bytes),
        }
    }

    /// Position of the last record.
    pub fn last(&self) -> Position {
        self.entries.last().map_or_else(Position::default, |entry| entry.position)
    }

    /// Position of the first record.
    pub fn first(&self) -> Position {
        self.entries.first().map_or_else(Position::default, |entry| entry.position)
    }

    /// The bytes that the operation signs.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(64 + self.entries.len() * 40);
        out.put_u8(VERSION);
        out.put_u8(KIND_MESSAGES);
        put_varint(&mut out, self.before.records);
        put_varint(&mut out, self.before.bytes);
        put_varint(&mut out, self.bytes);
        put_varint(&mut out, self.entries.len() as u64);
        let mut last: Option<Position> = None;
        for entry in &self.entries {
            match last {
                None => {
                    put_varint(&mut out, entry.position.seq.0);
                    put_varint(&mut out, entry.position.time);
                }
                Some(last) => {
                    put_varint(&mut out, entry.position.seq.0 - last.seq.0);
                    put_varint(&mut out, zigzag(entry.position.time.wrapping_sub(last.time) as i64));
                }
            }
            out.put_slice(entry.digest.as_bytes());
            last = Some(entry.position);
        }
        out.freeze()
    }

    /// Reads a manifest.
    ///
    /// # Errors
    /// When the bytes do not follow the layout or break a bound.
    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let version = reader.u8("manifest version")?;
        if version != VERSION {
            return Err(DecodeError::Version { what: "manifest", got: version, known: VERSION });
        }
        if reader.u8("body kind")? != KIND_MESSAGES {
            return Err(DecodeError::Invalid("body kind"));
        }
        let before = Total { records: reader.varint("records before")?, bytes: reader.varint("bytes before")? };
        let total_bytes = reader.varint("bytes")?;
        let count = reader.varint("record count")?;
        check_count(count)?;
        let mut entries: Vec<Entry> = Vec::with_capacity(count as usize);
        for _ in 0..count {
            let position = match entries.last() {
                None => Position { seq: SourceSeq(reader.varint("sequence")?), time: reader.varint("time")? },
                Some(last) => {
                    let step = reader.varint("sequence step")?;
                    let seq = last.position.seq.0.checked_add(step).filter(|_| step > 0);
                    let delta = unzigzag(reader.varint("time step")?);
                    Position {
                        seq: SourceSeq(seq.ok_or(DecodeError::Invalid("sequence step"))?),
                        time: last.position.time.wrapping_add(delta as u64),
                    }
                }
            };
            let digest = Digest::from_bytes(reader.array32("digest")?);
            entries.push(Entry { position, digest });
        }
        reader.finish()?;
        Ok(Self { before, bytes: total_bytes, entries })
    }
}

fn check_count(count: u64) -> Result<(), DecodeError> {
    match count {
        0 => Err(DecodeError::Invalid("record count")),
        n if n > MAX_RECORDS as u64 => {
            Err(DecodeError::TooLarge { what: "record count", got: n, max: MAX_RECORDS as u64 })
        }
        _ => Ok(()),
    }
}

const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

const fn unzigzag(value: u64) -> i64 {
    ((value >> 1) as i64) ^ -((value & 1) as i64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(seq: u64, time: u64, fill: u8) -> Entry {
        Entry { position: Position { seq: SourceSeq(seq), time }, digest: Digest::from_bytes([fill; 32]) }
    }

    #[test]
    fn the_encoding_is_the_one_that_was_agreed() {
        let manifest = Manifest::new(
            Total { records: 300, bytes: 9 },
            700,
            vec![entry(7, 1_000, 0xaa), entry(9, 1_300, 0xbb), entry(10, 1_299, 0xcc)],
        )
        .unwrap();
        let expected =
            format!("0101ac0209bc050307e807{}02d804{}0101{}", "aa".repeat(32), "bb".repeat(32), "cc".repeat(32));
        assert_eq!(hex::encode(manifest.encode()), expected);
        assert_eq!(Manifest::decode(manifest.encode()), Ok(manifest));
    }

    #[test]
    fn a_manifest_is_never_empty_too_long_or_out_of_order() {
        assert!(Manifest::new(Total::default(), 0, vec![]).is_err());
        assert!(Manifest::new(Total::default(), 0, vec![entry(2, 0, 0), entry(2, 1, 0)]).is_err());
        let many = (0..=MAX_RECORDS as u64).map(|n| entry(n, 0, 0)).collect();
        assert!(matches!(Manifest::new(Total::default(), 0, many), Err(DecodeError::TooLarge { .. })));
    }

    proptest! {
        #[test]
        fn manifests_read_back(
            records in any::<u64>(), bytes in any::<u64>(), own in any::<u64>(),
            steps in prop::collection::vec((1u64..1_000_000, any::<u64>(), any::<u8>()), 1..50),
        ) {
            let mut seq = 0;
            let entries: Vec<_> = steps.into_iter().map(|(s, t, d)| { seq += s; entry(seq, t, d) }).collect();
            let manifest = Manifest::new(Total { records, bytes }, own, entries).unwrap();
            let encoded = manifest.encode();
            prop_assert!(encoded.len() <= MAX_MANIFEST_LEN);
            prop_assert_eq!(Manifest::decode(encoded).unwrap(), manifest);
        }

        #[test]
        fn whatever_decodes_encodes_to_the_same_bytes(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            let bytes = Bytes::from(bytes);
            if let Ok(manifest) = Manifest::decode(bytes.clone()) {
                prop_assert_eq!(manifest.encode(), bytes);
            }
        }
    }
}
