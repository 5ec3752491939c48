//! The author: a bucket, its listings, and the logs that come of them.

use std::collections::BTreeMap;

use rhio_core::catalog::inventory::{Ended, Inventory, Observed};
use rhio_core::catalog::{Entry, Put};
use rhio_core::id::BlobHash;
use rhio_core::object::{Attributes, ObjectKey};

use crate::random::Random;

/// Few enough keys that histories cross, and enough for the brake on deletes.
const KEYS: u64 = 24;
/// Always there, so that the bucket is never really empty.
const ANCHOR: &str = "anchor";

/// An object in the author's bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    pub content: u8,
    pub kind: u8,
    modified: u64,
    /// This node landed it from elsewhere.
    foreign: bool,
}

impl Object {
    fn etag(&self) -> String {
        format!("{}-{}", self.content, self.foreign)
    }

    fn size(&self) -> u64 {
        u64::from(self.content)
    }

    fn put(&self, key: &ObjectKey) -> Put {
        let (hash, attributes) = identity(self.content, self.kind);
        Put { key: key.clone(), hash, size: self.size(), modified: self.modified, etag: self.etag(), attributes }
    }
}

/// What the contents and kinds of the model are in a catalog.
pub fn identity(content: u8, kind: u8) -> (BlobHash, Attributes) {
    // All hashes begin alike, so that an index by their beginning must tell them apart.
    let hash = BlobHash::from_bytes(std::array::from_fn(|at| if at < 8 { 0 } else { content }));
    (hash, Attributes::keep([("content-type".to_owned(), kind.to_string())]))
}

pub fn key(number: u64) -> ObjectKey {
    ObjectKey::new(format!("k{number}")).unwrap()
}

pub fn random_key(random: &mut Random) -> ObjectKey {
    key(random.below(KEYS))
}

#[derive(Debug, Default)]
pub struct Log {
    pub entries: Vec<Entry>,
}

pub struct Author {
    pub bucket: BTreeMap<ObjectKey, Object>,
    pub logs: Vec<Log>,
    pub crashes: u64,
    inventory: Inventory,
    clock: u64,
}

impl Author {
    pub fn new(random: &mut Random) -> Self {
        let mut author = Self {
            bucket: BTreeMap::new(),
            logs: vec![Log::default()],
            crashes: 0,
            inventory: Inventory::new(),
            clock: 1,
        };
        author.put(ObjectKey::new(ANCHOR).unwrap(), 1, false);
        for _ in 0..random.below(KEYS) {
            author.change(random);
        }
        author.list(random, false);
        author.seal(Entry::Complete);
        author
    }

    /// What the last log says in the end.
    pub fn said(&self) -> BTreeMap<ObjectKey, Put> {
        let mut said = BTreeMap::new();
        for entry in &self.logs[self.logs.len() - 1].entries {
            match entry {
                Entry::Put(put) => drop(said.insert(put.key.clone(), put.clone())),
                Entry::Delete(key) => drop(said.remove(key)),
                Entry::Complete => {}
            }
        }
        said
    }

    pub fn step(&mut self, random: &mut Random) {
        match random.below(16) {
            0..=7 => self.change(random),
            8..=9 => self.list(random, true),
            10 => self.fail_listing(random),
            11 => self.empty_listing(),
            12 => self.import(random),
            13 => self.clear(random),
            14 => self.begin_epoch(random),
            _ => self.crash(),
        }
    }

    /// Lists until the log says what is there.
    pub fn settle(&mut self, random: &mut Random) {
        for _ in 0..3 {
            self.list(random, false);
        }
        let ours = self.bucket.iter().filter(|(_, object)| !object.foreign);
        let ours: BTreeMap<_, _> = ours.map(|(key, object)| (key.clone(), object.put(key))).collect();
        assert_eq!(self.said(), ours, "the log and the bucket differ");
        assert_eq!(self.inventory.len(), ours.len());
        assert_eq!(self.inventory.bytes(), ours.values().map(|put| put.size).sum::<u64>());
        for put in ours.values() {
            assert!(self.inventory.find(&put.hash).any(|(key, _)| *key == put.key));
        }
    }

    fn put(&mut self, key: ObjectKey, content: u8, foreign: bool) {
        self.clock += 1;
        let object = Object { content, kind: (self.clock % 2) as u8, modified: self.clock, foreign };
        if foreign {
            self.inventory.exclude(&key, &object.etag());
        }
        self.bucket.insert(key, object);
    }

    fn change(&mut self, random: &mut Random) {
        let key = random_key(random);
        match random.below(8) {
            0..=1 => drop(self.bucket.remove(&key)),
            2 => self.put(key, random.below(4) as u8, true),
            _ => self.put(key, random.below(4) as u8, false),
        }
    }

    /// Most objects go at once.
    fn clear(&mut self, random: &mut Random) {
        if random.one_in(3) {
            self.bucket.retain(|key, _| key.as_str() == ANCHOR || random.one_in(8));
        }
    }

    fn seal(&mut self, entry: Entry) {
        if let Entry::Delete(key) = &entry {
            let there = self.bucket.get(key);
            assert!(there.is_none_or(|object| object.foreign), "{key} is deleted and there");
        }
        let last = self.logs.len() - 1;
        self.logs[last].entries.push(entry.clone());
        self.inventory.apply(&entry);
    }

    /// An object is read and published, unless it has gone or turns out to be from elsewhere.
    fn publish(&mut self, key: &ObjectKey) {
        match self.bucket.get(key) {
            Some(object) if object.foreign => self.inventory.exclude(key, &object.etag()),
            Some(object) => {
                let put = object.put(key);
                self.seal(Entry::Put(put));
            }
            None => {}
        }
    }

    /// An object is written and published by this node, whatever listing may run.
    fn import(&mut self, random: &mut Random) {
        let key = random_key(random);
        self.put(key.clone(), random.below(4) as u8, false);
        self.publish(&key);
    }

    /// Takes a page's worth of what is there now.
    fn observe(&mut self, keys: &[ObjectKey]) {
        for key in keys {
            let Some(object) = self.bucket.get(key).cloned() else { continue };
            let current = self.inventory.is_current(key, object.size(), object.modified, &object.etag());
            match self.inventory.observe(key, object.size(), object.modified, &object.etag()) {
                Observed::New | Observed::Changed => self.publish(key),
                Observed::BecameForeign => self.seal(Entry::Delete(key.clone())),
                Observed::Same => assert!(current && !object.foreign),
                Observed::Foreign => assert!(object.foreign),
            }
        }
    }

    fn pages(&self, random: &mut Random) -> Vec<ObjectKey> {
        // Keys that are not there yet have their place, too.
        let mut keys: Vec<_> = (0..KEYS).map(key).chain(self.bucket.keys().cloned()).collect();
        keys.sort();
        keys.dedup();
        random.shuffle(&mut keys);
        keys
    }

    fn list(&mut self, random: &mut Random, changing: bool) {
        let keys = self.pages(random);
        self.inventory.begin_listing();
        for page in keys.chunks(7) {
            self.observe(page);
            if changing && random.one_in(2) {
                if random.one_in(2) { self.change(random) } else { self.import(random) }
            }
        }
        let Ended::Gone(gone) = self.inventory.end_listing(true) else { panic!("a listing that was complete") };
        for key in gone {
            // It may be back by now.
            if self.bucket.get(&key).is_none_or(|object| object.foreign) {
                self.seal(Entry::Delete(key));
            }
        }
    }

    fn fail_listing(&mut self, random: &mut Random) {
        let mut keys = self.pages(random);
        keys.truncate(random.below(keys.len() as u64) as usize);
        self.inventory.begin_listing();
        self.observe(&keys);
        assert_eq!(self.inventory.end_listing(false), Ended::Incomplete);
    }

    /// The server answers as if there were nothing.
    fn empty_listing(&mut self) {
        self.inventory.begin_listing();
        let known = self.inventory.len();
        assert_eq!(self.inventory.end_listing(true), Ended::Empty { known });
    }

    fn begin_epoch(&mut self, random: &mut Random) {
        self.logs.push(Log::default());
        let mut from = Some(0);
        while let Some(slot) = from {
            let (puts, next) = self.inventory.page(slot, 3);
            for put in puts {
                self.seal(put);
            }
            from = next;
            if random.one_in(3) {
                self.import(random);
            }
            if random.one_in(30) {
                // What the new log says by now counts, and the rest comes again.
                self.crash();
                from = Some(0);
            }
        }
        self.seal(Entry::Complete);
        let last = self.logs.len() - 1;
        let mut again = Inventory::new();
        self.logs[last].entries.iter().for_each(|entry| again.apply(entry));
        let sorted = |inventory: &Inventory| {
            let mut said: Vec<_> = inventory.snapshot().collect();
            said.sort_by_key(|entry| if let Entry::Put(put) = entry { Some(put.key.clone()) } else { None });
            said
        };
        assert_eq!(sorted(&again), sorted(&self.inventory), "a log that does not stand alone");
    }

    fn crash(&mut self) {
        self.crashes += 1;
        self.inventory = Inventory::new();
        self.logs.iter().flat_map(|log| &log.entries).for_each(|entry| self.inventory.apply(entry));
    }
}
