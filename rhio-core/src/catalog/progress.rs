//! Which entries of a catalog are settled: what a subscriber stores, so that after a restart only the others are looked
//! at again.
//!
//! The encoding:
//!
//! | field | bytes |
//! | --- | --- |
//! | format version | u8, [`VERSION`] |
//! | low: every entry below it is settled, it is not | varint |
//! | entries received, less low | varint |
//! | range count, 0..=[`MAX_RANGES`] | varint |
//! | per range of settled entries above low, in order: | |
//! | entries between the end before it (or low) and its first, less one | varint |
//! | its entries, less one | varint |
//!
//! An entry may be settled because a later one superseded it. So what a progress says holds only together with a log that
//! has all the entries that were received by then, settled or not.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use bytes::{BufMut, Bytes, BytesMut};

use crate::codec::{DecodeError, Reader, put_varint};

/// Format version that this program writes.
pub const VERSION: u8 = 1;
/// Most ranges that are written. What is above them is not said to be settled, and so is looked at again.
pub const MAX_RANGES: usize = 16 * 1024;

/// A set of settled entries. It takes as much memory as there are gaps in it, however many entries it has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    low: u64,
    /// First and last of each range above; there is a gap between any two, and after `low`.
    above: BTreeMap<u64, u64>,
    /// Entries in `above`.
    count: u64,
    /// More than the last that is settled.
    received: u64,
}

impl Progress {
    /// Every entry below this one is settled; this one is not.
    pub fn low(&self) -> u64 {
        self.low
    }

    /// What is settled above, in order.
    pub fn above(&self) -> impl ExactSizeIterator<Item = RangeInclusive<u64>> {
        self.above.iter().map(|(first, last)| *first..=*last)
    }

    /// How many entries are settled.
    pub fn count(&self) -> u64 {
        self.low.saturating_add(self.count)
    }

    /// How many entries of the log were received.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Notes that so many entries of the log were received.
    pub fn receive(&mut self, entries: u64) {
        self.received = self.received.max(entries);
    }

    /// Whether an entry is settled.
    pub fn contains(&self, entry: u64) -> bool {
        entry < self.low || self.above.range(..=entry).next_back().is_some_and(|(_, last)| entry <= *last)
    }

    /// Notes that an entry is settled. `u64::MAX` is no entry.
    pub fn insert(&mut self, entry: u64) {
        if entry == u64::MAX || self.contains(entry) {
            return;
        }
        self.receive(entry + 1);
        let (mut first, mut last) = (entry, entry);
        if let Some(before) = entry.checked_sub(1)
            && let Some((&start, &end)) = self.above.range(..=before).next_back()
            && end == before
        {
            self.above.remove(&start);
            self.count -= end - start + 1;
            first = start;
        }
        if let Some(end) = self.above.remove(&(entry + 1)) {
            self.count -= end - entry;
            last = end;
        }
        if first == self.low {
            self.low = last + 1;
        } else {
            self.above.insert(first, last);
            self.count += last - first + 1;
        }
    }

    /// The log has only so many entries: what it does not have is not settled. Returns whether that is fewer than were
    /// received, which stays noted until they have been received again.
    pub fn truncate(&mut self, end: u64) -> bool {
        if self.received <= end {
            return false;
        }
        self.low = self.low.min(end);
        for (first, last) in self.above.split_off(&end) {
            self.count -= last - first + 1;
        }
        if let Some(mut range) = self.above.last_entry().filter(|range| *range.get() >= end) {
            // It begins before `end`, which therefore has a number before it.
            self.count -= *range.get() - (end - 1);
            range.insert(end - 1);
        }
        true
    }

    /// The bytes to store: at most [`MAX_RANGES`] ranges, the lowest.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(16 + self.above.len().min(MAX_RANGES) * 4);
        out.put_u8(VERSION);
        put_varint(&mut out, self.low);
        put_varint(&mut out, self.received - self.low);
        put_varint(&mut out, self.above.len().min(MAX_RANGES) as u64);
        let mut end = self.low;
        for (first, last) in self.above.iter().take(MAX_RANGES) {
            put_varint(&mut out, first - end - 1);
            put_varint(&mut out, last - first);
            end = last + 1;
        }
        out.freeze()
    }

    /// Reads them.
    ///
    /// # Errors
    /// When they do not follow the layout or break a bound.
    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let version = reader.u8("progress version")?;
        if version != VERSION {
            return Err(DecodeError::Version { what: "progress", got: version, known: VERSION });
        }
        let mut progress = Self { low: reader.varint("low")?, ..Self::default() };
        let behind = progress.low.checked_add(reader.varint("entries received")?);
        progress.received = behind.ok_or(DecodeError::Invalid("entries received"))?;
        let count = reader.varint("range count")?;
        if count > MAX_RANGES as u64 {
            return Err(DecodeError::TooLarge { what: "range count", got: count, max: MAX_RANGES as u64 });
        }
        let mut end = progress.low;
        for _ in 0..count {
            let (gap, more) = (reader.varint("gap")?, reader.varint("range")?);
            let range = || {
                let first = end.checked_add(gap)?.checked_add(1)?;
                let last = first.checked_add(more)?;
                Some((first, last, last.checked_add(1).filter(|next| *next <= progress.received)?))
            };
            let (first, last, next) = range().ok_or(DecodeError::Invalid("range"))?;
            progress.above.insert(first, last);
            progress.count += next - first;
            end = next;
        }
        reader.finish()?;
        Ok(progress)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn of(entries: &[u64]) -> Progress {
        let mut progress = Progress::default();
        entries.iter().for_each(|entry| progress.insert(*entry));
        progress
    }

    #[test]
    fn the_format_is_the_one_that_was_agreed() {
        let mut progress = of(&[0, 1, 2, 4, 300, 301, 302]);
        progress.receive(310);
        assert_eq!(hex::encode(progress.encode()), include_str!("../../tests/vectors/progress.hex").trim());
        assert_eq!(Progress::decode(progress.encode()), Ok(progress));
    }

    #[test]
    fn ranges_grow_together() {
        let mut progress = of(&[1, 3, 5, 4]);
        assert_eq!((progress.low(), progress.above().collect::<Vec<_>>()), (0, vec![1..=1, 3..=5]));
        progress.insert(0);
        assert_eq!((progress.low(), progress.above().collect::<Vec<_>>()), (2, vec![3..=5]));
        progress.insert(2);
        assert_eq!((progress.low(), progress.above().len(), progress.count()), (6, 0, 6));
        progress.insert(u64::MAX);
        progress.insert(u64::MAX - 1);
        assert!(progress.contains(u64::MAX - 1) && !progress.contains(u64::MAX));
        assert_eq!(Progress::decode(progress.encode()), Ok(progress));
    }

    #[test]
    fn of_too_many_ranges_the_lowest_are_written() {
        let many: Vec<_> = (0..=MAX_RANGES as u64).map(|n| n * 2 + 1).collect();
        let read = Progress::decode(of(&many).encode()).unwrap();
        let mut expected = of(&many[..MAX_RANGES]);
        expected.receive(MAX_RANGES as u64 * 2 + 2);
        assert_eq!(read, expected);
    }

    #[test]
    fn broken_bytes_are_refused_with_the_reason() {
        let decode = |text: &str| Progress::decode(hex::decode(text).unwrap().into()).unwrap_err();
        let max = MAX_RANGES as u64;
        assert_eq!(decode("02"), DecodeError::Version { what: "progress", got: 2, known: 1 });
        assert_eq!(decode("01"), DecodeError::Truncated("low"));
        assert_eq!(decode("01000401"), DecodeError::Truncated("gap"));
        assert_eq!(decode("0100040100"), DecodeError::Truncated("range"));
        assert_eq!(decode("01000000ff"), DecodeError::Trailing(1));
        assert_eq!(decode("0101ffffffffffffffffff0100"), DecodeError::Invalid("entries received"));
        // A claim of more ranges than any program writes; and of many, with nothing behind it.
        assert_eq!(decode("010000818001"), DecodeError::TooLarge { what: "range count", got: max + 1, max });
        assert_eq!(decode("010000808001"), DecodeError::Truncated("gap"));
        // Ranges beyond what was received, and beyond the numbers.
        assert!(Progress::decode(Bytes::from_static(&[1, 0, 4, 1, 0, 2])).is_ok());
        assert_eq!(decode("010004010003"), DecodeError::Invalid("range"));
        assert_eq!(decode("0100040101feffffffffffffffff01"), DecodeError::Invalid("range"));
        assert_eq!(decode("01000401ffffffffffffffffff0100"), DecodeError::Invalid("range"));
    }

    proptest! {
        #[test]
        fn it_is_a_set(entries in prop::collection::vec(0u64..40, 0..60), end in prop::option::of(0u64..42)) {
            let mut progress = of(&entries);
            let mut set: BTreeSet<_> = entries.into_iter().collect();
            if let Some(end) = end {
                let received = set.last().map_or(0, |last| last + 1);
                prop_assert_eq!((progress.received(), progress.truncate(end)), (received, received > end));
                set.split_off(&end);
            }
            for entry in 0..42 {
                prop_assert_eq!(progress.contains(entry), set.contains(&entry));
            }
            prop_assert_eq!(progress.low(), (0..).find(|n| !set.contains(n)).unwrap());
            prop_assert_eq!(progress.count(), set.len() as u64);
            prop_assert_eq!(Progress::decode(progress.encode()), Ok(progress));
        }

        #[test]
        fn whatever_decodes_encodes_to_the_same_bytes(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let bytes = Bytes::from([&[VERSION], &bytes[..]].concat());
            if let Ok(progress) = Progress::decode(bytes.clone()) {
                prop_assert_eq!(progress.encode(), bytes);
            }
        }
    }
}
