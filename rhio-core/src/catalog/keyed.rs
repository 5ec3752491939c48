//! A table of objects by key and by hash, which holds each key once.

use std::collections::BTreeSet;

use crate::id::BlobHash;
use crate::object::ObjectKey;

/// Values by key; each may be found by one hash, too. A slot names a value until it is removed.
///
/// Both indices hold eight bytes of a hash and the slot, and whoever looks compares what is there: that takes a third of
/// what a map with keys of its own would.
#[derive(Debug)]
pub(super) struct Keyed<V> {
    slots: Vec<Option<(ObjectKey, V)>>,
    free: Vec<usize>,
    by_key: BTreeSet<(u64, usize)>,
    by_hash: BTreeSet<(u64, usize)>,
}

impl<V> Default for Keyed<V> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new(), by_key: BTreeSet::new(), by_hash: BTreeSet::new() }
    }
}

impl<V> Keyed<V> {
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    pub fn slot(&self, key: &ObjectKey) -> Option<usize> {
        same_prefix(&self.by_key, key_prefix(key)).find(|slot| self.get(*slot).is_some_and(|(other, _)| other == key))
    }

    pub fn get(&self, slot: usize) -> Option<(&ObjectKey, &V)> {
        self.slots.get(slot)?.as_ref().map(|(key, value)| (key, value))
    }

    pub fn get_mut(&mut self, slot: usize) -> Option<&mut V> {
        self.slots.get_mut(slot)?.as_mut().map(|(_, value)| value)
    }

    /// Adds a key that is not there.
    pub fn insert(&mut self, key: ObjectKey, value: V) -> usize {
        let prefix = key_prefix(&key);
        let slot = self.free.pop().unwrap_or_else(|| {
            // Doubling would leave half of the largest allocation unused.
            if self.slots.len() == self.slots.capacity() {
                self.slots.reserve_exact(64.max(self.slots.len() / 8));
            }
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.slots[slot] = Some((key, value));
        self.by_key.insert((prefix, slot));
        slot
    }

    /// Takes a value out, which must not be found by a hash any more.
    pub fn remove(&mut self, slot: usize) -> Option<(ObjectKey, V)> {
        let (key, value) = self.slots.get_mut(slot)?.take()?;
        self.by_key.remove(&(key_prefix(&key), slot));
        self.free.push(slot);
        Some((key, value))
    }

    /// Lets a value be found by this hash instead of the one before.
    pub fn index(&mut self, slot: usize, before: Option<BlobHash>, now: Option<BlobHash>) {
        if let Some(hash) = before {
            self.by_hash.remove(&(hash_prefix(&hash), slot));
        }
        if let Some(hash) = now {
            self.by_hash.insert((hash_prefix(&hash), slot));
        }
    }

    /// Values that may have this hash.
    pub fn candidates(&self, hash: &BlobHash) -> impl Iterator<Item = (&ObjectKey, &V)> {
        same_prefix(&self.by_hash, hash_prefix(hash)).filter_map(|slot| self.get(slot))
    }

    /// All from this slot on.
    pub fn iter_from(&self, slot: usize) -> impl Iterator<Item = (usize, &ObjectKey, &V)> {
        let rest = self.slots.iter().enumerate().skip(slot);
        rest.filter_map(|(slot, entry)| entry.as_ref().map(|(key, value)| (slot, key, value)))
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = (usize, &mut V)> {
        let all = self.slots.iter_mut().enumerate();
        all.filter_map(|(slot, entry)| entry.as_mut().map(|(_, value)| (slot, value)))
    }
}

fn same_prefix(index: &BTreeSet<(u64, usize)>, prefix: u64) -> impl Iterator<Item = usize> {
    index.range((prefix, 0)..=(prefix, usize::MAX)).map(|(_, slot)| *slot)
}

fn key_prefix(key: &ObjectKey) -> u64 {
    prefix(blake3::hash(key.as_str().as_bytes()).as_bytes())
}

fn hash_prefix(hash: &BlobHash) -> u64 {
    prefix(hash.as_bytes())
}

fn prefix(bytes: &[u8; 32]) -> u64 {
    bytes.first_chunk().map_or(0, |first| u64::from_be_bytes(*first))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_used_again_and_hashes_with_one_prefix_do_not_mix() {
        let key = |n: u32| ObjectKey::new(n.to_string()).unwrap();
        let hash = |n: u8| BlobHash::from_bytes(std::array::from_fn(|at| if at < 8 { 1 } else { n }));
        let mut table = Keyed::default();
        let slots: Vec<_> = (0..100).map(|n| table.insert(key(n), n)).collect();
        for (n, slot) in slots.iter().enumerate() {
            table.index(*slot, None, Some(hash(n as u8)));
        }
        assert_eq!(table.candidates(&hash(5)).count(), 100);
        table.index(slots[7], Some(hash(7)), None);
        assert_eq!(table.remove(slots[7]), Some((key(7), 7)));
        assert_eq!(table.remove(slots[7]), None);
        assert_eq!((table.slot(&key(7)), table.slot(&key(8)), table.len()), (None, Some(slots[8]), 99));
        assert_eq!(table.insert(key(200), 200), slots[7]);
        assert_eq!(table.iter_from(98).count(), 2);
    }
}
