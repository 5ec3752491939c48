//! The publisher's side of a bucket: what its catalog has said, compared with what listings find.
//!
//! A listing takes time, and the bucket changes meanwhile. What is put into the catalog while a listing runs counts as
//! seen by it, so that an object written behind the listing's back is never taken for a deleted one.
//!
//! An object takes about 190 bytes besides its key's text, measured with a million of them with MD5 ETags and the same
//! content type; other ETags and attributes of an object's own come on top of it.

use std::collections::BTreeMap;

use super::keyed::Keyed;
use super::known::{Known, Pool, Tag};
use crate::log::total::Total;

use super::Entry;
use crate::id::BlobHash;
use crate::object::ObjectKey;

/// A log that has said this many entries is never worth a new epoch.
const SMALL_LOG: u64 = 10_000;

/// What a listing's object is to the catalog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observed {
    /// The version that the catalog has.
    Same,
    /// Another version than the catalog has: to be imported.
    Changed,
    /// Not in the catalog: to be imported. It may be one that this node landed and does not know any more, so whoever
    /// imports it looks for the mark of that first, and calls [`Inventory::exclude`].
    New,
    /// The version that this node landed from elsewhere: not to be published.
    Foreign,
    /// As [`Observed::Foreign`], and the catalog still has what was there before: to be deleted from it.
    BecameForeign,
}

/// What follows from a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The listing was complete. These keys are in the catalog and were not found: to be deleted from it.
    Gone(Vec<ObjectKey>),
    /// The listing was complete and empty although the catalog, or the one before it, has objects. That may be another bucket or a disk that
    /// is not mounted, so nothing follows.
    Empty {
        /// Objects in that catalog.
        known: usize,
    },
    /// Nothing follows.
    Incomplete,
}

#[derive(Debug)]
struct Object {
    known: Known,
    /// The last listing that found it.
    seen: u32,
}

/// A version that was landed from elsewhere.
#[derive(Debug)]
struct Mark {
    etag: Tag,
    seen: u32,
}

/// What a bucket's catalog has said by now.
#[derive(Debug, Default)]
pub struct Inventory {
    objects: Keyed<Object>,
    foreign: BTreeMap<ObjectKey, Mark>,
    pool: Pool,
    bytes: u64,
    complete: bool,
    /// Objects that older epochs knew, until this one has said everything.
    expected: usize,
    /// Number of the last listing that was begun; it wraps.
    generation: u32,
    /// Objects found by the listing that runs.
    listed: Option<u64>,
}

impl Inventory {
    /// Nothing said.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in what the catalog says: when it is read from the log, and after each entry that was stored there.
    pub fn apply(&mut self, entry: &Entry) {
        match entry {
            Entry::Put(put) => {
                let object = Object { known: Known::new(put, &mut self.pool), seen: self.generation };
                self.bytes = self.bytes.saturating_add(put.size);
                // Whoever published exactly this version found that it is not from elsewhere.
                if self.foreign.get(&put.key).is_some_and(|mark| mark.etag.is(&put.etag)) {
                    self.foreign.remove(&put.key);
                }
                let before = match self.objects.slot(&put.key) {
                    Some(slot) => self.objects.get_mut(slot).map(|old| (slot, std::mem::replace(old, object))),
                    None => {
                        let slot = self.objects.insert(put.key.clone(), object);
                        self.objects.index(slot, None, Some(put.hash));
                        None
                    }
                };
                if let Some((slot, old)) = before {
                    self.bytes = self.bytes.saturating_sub(old.known.size());
                    self.objects.index(slot, Some(old.known.hash()), Some(put.hash));
                }
            }
            Entry::Delete(key) => {
                let Some(slot) = self.objects.slot(key) else { return };
                let hash = self.objects.get(slot).map(|(_, object)| object.known.hash());
                self.objects.index(slot, hash, None);
                if let Some((_, old)) = self.objects.remove(slot) {
                    self.bytes = self.bytes.saturating_sub(old.known.size());
                }
            }
            Entry::Complete => (self.complete, self.expected) = (true, 0),
        }
    }

    /// Notes how many objects older epochs knew. Until this one has said everything, an empty listing is suspicious if
    /// there were any: what this epoch leaves out is gone.
    pub fn expect(&mut self, objects: usize) {
        if !self.complete {
            self.expected = objects;
        }
    }

    /// Notes that this version of an object was landed from elsewhere. It is not published as long as it is there.
    pub fn exclude(&mut self, key: &ObjectKey, etag: &str) {
        self.foreign.insert(key.clone(), Mark { etag: Tag::new(etag), seen: self.generation });
    }

    /// A listing begins. One that had not ended counts as failed.
    pub fn begin_listing(&mut self) {
        self.generation = self.generation.wrapping_add(1);
        self.listed = Some(0);
    }

    /// The listing found an object; in any order. Only for listings: what is learned otherwise (from a notification, say)
    /// goes to [`Inventory::is_current`], or an empty listing would not be known as one.
    pub fn observe(&mut self, key: &ObjectKey, size: u64, modified: u64, etag: &str) -> Observed {
        self.listed = self.listed.map(|count| count.saturating_add(1));
        let generation = self.generation;
        let slot = self.objects.slot(key);
        let object = slot.and_then(|slot| self.objects.get_mut(slot));
        let mark = self.foreign.get_mut(key).filter(|mark| mark.etag.is(etag));
        let foreign = mark.map(|mark| mark.seen = generation).is_some();
        match object {
            None if foreign => Observed::Foreign,
            None => Observed::New,
            Some(object) => {
                object.seen = generation;
                match object.known.is_version(size, modified, etag) {
                    _ if foreign => Observed::BecameForeign,
                    true => Observed::Same,
                    false => Observed::Changed,
                }
            }
        }
    }

    /// The listing ended; `complete` when every page of it came.
    pub fn end_listing(&mut self, complete: bool) -> Ended {
        let Some(listed) = self.listed.take().filter(|_| complete) else { return Ended::Incomplete };
        let known = self.objects.len().max(self.expected);
        if listed == 0 && known > 0 {
            return Ended::Empty { known };
        }
        let generation = self.generation;
        self.foreign.retain(|_, mark| mark.seen == generation);
        let unseen = self.objects.iter_from(0).filter(|(_, _, object)| object.seen != generation);
        Ended::Gone(unseen.map(|(_, key, _)| key.clone()).collect())
    }

    /// Whether the catalog has exactly this version.
    pub fn is_current(&self, key: &ObjectKey, size: u64, modified: u64, etag: &str) -> bool {
        self.get(key).is_some_and(|known| known.is_version(size, modified, etag))
    }

    /// What the catalog has under a key.
    pub fn get(&self, key: &ObjectKey) -> Option<&Known> {
        self.objects.slot(key).and_then(|slot| self.objects.get(slot)).map(|(_, object)| &object.known)
    }

    /// The objects with this content: any of them serves it.
    pub fn find(&self, hash: &BlobHash) -> impl Iterator<Item = (&ObjectKey, &Known)> {
        let same = self.objects.candidates(hash).filter(move |(_, object)| object.known.hash() == *hash);
        same.map(|(key, object)| (key, &object.known))
    }

    /// What a new epoch begins with: every object, and the mark behind the last.
    pub fn snapshot(&self) -> impl Iterator<Item = Entry> {
        let puts = self.objects.iter_from(0).map(|(_, key, object)| Entry::Put(object.known.put(key.clone())));
        puts.chain([Entry::Complete])
    }

    /// The same in pages of at most `max` objects, so that the inventory may change between them: `from` is 0 first and
    /// then what came with the page before; `None` after the last page. Every change meanwhile must be said in the new
    /// log as well, and [`Entry::Complete`] after the last page.
    pub fn page(&self, from: usize, max: usize) -> (Vec<Entry>, Option<usize>) {
        let mut rest = self.objects.iter_from(from);
        let mut puts = Vec::new();
        let mut next = from;
        for (slot, key, object) in rest.by_ref().take(max.max(1)) {
            puts.push(Entry::Put(object.known.put(key.clone())));
            next = slot + 1;
        }
        (puts, rest.next().is_some().then_some(next))
    }

    /// Objects in the catalog.
    pub fn len(&self) -> usize {
        self.objects.len()
    }

    /// Whether the catalog has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of content of all of them.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether the log has said [`Entry::Complete`].
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// Whether a log that has said so much is so much longer than what is left of it that a new one is worth while.
    pub fn worth_new_epoch(&self, said: &Total) -> bool {
        said.items > (self.len() as u64).saturating_mul(2).saturating_add(SMALL_LOG)
    }
}

#[cfg(test)]
mod tests;
