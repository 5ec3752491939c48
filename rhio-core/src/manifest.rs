//! What a [body](crate::log::body) says of messages: which records of the source's stream it covers, and their digests.
//!
//! | field | bytes |
//! | --- | --- |
//! | canonical bytes of this operation's records | varint |
//! | record count, 1..=[`MAX_RECORDS`] | varint |
//! | first record: sequence number, time in ns | varint, varint |
//! | every later record: sequence number less the one before (at least 1), time less the one before | varint, zigzag varint |
//! | every record, after its position: digest | 32 |

use bytes::{BufMut, BytesMut};

use crate::codec::{DecodeError, Reader, put_varint};
use crate::id::{Digest, SourceSeq};
use crate::log::total::Total;
use crate::record::Position;

/// Most records that one operation covers. With 40 bytes each, a full manifest stays far below the smallest usual
/// `max_payload`.
pub const MAX_RECORDS: usize = 1024;
/// Longest manifest: every varint at its longest.
pub const MAX_MANIFEST_LEN: usize = 2 * 10 + MAX_RECORDS * (10 + 10 + 32);

/// One record of a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where the author's stream holds the record.
    pub position: Position,
    /// The digest of its canonical bytes.
    pub digest: Digest,
}

/// Consecutive records of one publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    bytes: u64,
    entries: Vec<Entry>,
}

impl Manifest {
    /// Describes `entries`, of `bytes` canonical bytes in all.
    ///
    /// # Errors
    /// When there is none, too many, or they are not in the stream's order.
    pub fn new(bytes: u64, entries: Vec<Entry>) -> Result<Self, DecodeError> {
        check_count(entries.len() as u64)?;
        if entries.windows(2).any(|pair| pair[0].position.seq >= pair[1].position.seq) {
            return Err(DecodeError::Invalid("record order"));
        }
        Ok(Self { bytes, entries })
    }

    /// What it covers; never empty.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// How much it adds to the log.
    pub fn amount(&self) -> Total {
        Total { items: self.entries.len() as u64, bytes: self.bytes }
    }

    /// Appends its bytes.
    pub(crate) fn put(&self, out: &mut BytesMut) {
        out.reserve(32 + self.entries.len() * 40);
        put_varint(out, self.bytes);
        put_varint(out, self.entries.len() as u64);
        let mut last: Option<Position> = None;
        for entry in &self.entries {
            match last {
                None => {
                    put_varint(out, entry.position.seq.0);
                    put_varint(out, entry.position.time);
                }
                Some(last) => {
                    put_varint(out, entry.position.seq.0 - last.seq.0);
                    put_varint(out, zigzag(entry.position.time.wrapping_sub(last.time) as i64));
                }
            }
            out.put_slice(entry.digest.as_bytes());
            last = Some(entry.position);
        }
    }

    /// Reads a manifest.
    ///
    /// # Errors
    /// When the bytes do not follow the layout or break a bound.
    pub(crate) fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
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
        Ok(Self { bytes: total_bytes, entries })
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
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn entry(seq: u64, time: u64, fill: u8) -> Entry {
        Entry { position: Position { seq: SourceSeq(seq), time }, digest: Digest::from_bytes([fill; 32]) }
    }

    fn encode(manifest: &Manifest) -> Bytes {
        let mut out = BytesMut::new();
        manifest.put(&mut out);
        out.freeze()
    }

    fn decode(bytes: Bytes) -> Result<Manifest, DecodeError> {
        let mut reader = Reader::new(bytes);
        let manifest = Manifest::read(&mut reader)?;
        reader.finish().map(|()| manifest)
    }

    #[test]
    fn the_encoding_is_the_one_that_was_agreed() {
        let entries = vec![entry(7, 1_000, 0xaa), entry(9, 1_300, 0xbb), entry(10, 1_299, 0xcc)];
        let manifest = Manifest::new(700, entries).unwrap();
        let expected = format!("bc050307e807{}02d804{}0101{}", "aa".repeat(32), "bb".repeat(32), "cc".repeat(32));
        assert_eq!(hex::encode(encode(&manifest)), expected);
        assert_eq!(decode(encode(&manifest)), Ok(manifest));
    }

    #[test]
    fn a_manifest_is_never_empty_too_long_or_out_of_order() {
        assert!(Manifest::new(0, vec![]).is_err());
        assert!(Manifest::new(0, vec![entry(2, 0, 0), entry(2, 1, 0)]).is_err());
        let many = (0..=MAX_RECORDS as u64).map(|n| entry(n, 0, 0)).collect();
        assert!(matches!(Manifest::new(0, many), Err(DecodeError::TooLarge { .. })));
    }

    proptest! {
        #[test]
        fn manifests_read_back(
            own in any::<u64>(),
            steps in prop::collection::vec((1u64..1_000_000, any::<u64>(), any::<u8>()), 1..50),
        ) {
            let mut seq = 0;
            let entries: Vec<_> = steps.into_iter().map(|(s, t, d)| { seq += s; entry(seq, t, d) }).collect();
            let manifest = Manifest::new(own, entries).unwrap();
            prop_assert!(encode(&manifest).len() <= MAX_MANIFEST_LEN);
            prop_assert_eq!(decode(encode(&manifest)), Ok(manifest));
        }
    }
}
