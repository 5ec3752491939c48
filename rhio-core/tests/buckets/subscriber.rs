//! The subscriber: what it has stored, a bucket that takes and refuses, and the checks on every task.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use rhio_core::catalog::landing::{Deletes, Lag, Landing, Outcome, Task};
use rhio_core::catalog::progress::Progress;
use rhio_core::catalog::{Entry, Put};
use rhio_core::id::BlobHash;
use rhio_core::object::{Attributes, ObjectKey};

use crate::author::{Author, random_key};
use crate::random::Random;

/// An object in the subscriber's bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Object {
    Ours(BlobHash, Attributes),
    Theirs,
}

/// What is stored of an epoch.
#[derive(Debug, Default)]
struct Stored {
    epoch: usize,
    log: Vec<Entry>,
    progress: Bytes,
}

/// A task that is out.
#[derive(Debug)]
struct Flight {
    task: Task,
    epoch: usize,
}

/// Where an entry is in the author's history.
type Place = (usize, u64);

pub struct Subscriber {
    pub tasks: u64,
    pub crashes: u64,
    deletes: Deletes,
    landing: Landing,
    stored: Vec<Stored>,
    /// What the landing has received of the current epoch.
    received: Vec<Entry>,
    /// What was durably settled of it at the last crash.
    settled: Progress,
    flights: Vec<Flight>,
    bucket: BTreeMap<ObjectKey, Object>,
    /// The last place whose effect a key has seen.
    effects: BTreeMap<ObjectKey, Place>,
    /// Keys whose content is beyond doubt, as long as no task is about them.
    certain: BTreeMap<ObjectKey, (BlobHash, Attributes)>,
    /// Keys of ours that somebody else wrote.
    tampered: BTreeSet<ObjectKey>,
    /// Keys that a power cut made the node forget, with the entry that it has lost and not received again. If the author
    /// begins a new epoch before, nothing tells what is there.
    orphans: BTreeMap<ObjectKey, Place>,
    power_cuts: u64,
    now: u64,
}

fn fresh(epoch: usize) -> Stored {
    Stored { epoch, log: Vec::new(), progress: Progress::default().encode() }
}

fn identity(put: &Put) -> (BlobHash, Attributes) {
    (put.hash, put.attributes.clone())
}

impl Subscriber {
    pub fn new(deletes: Deletes) -> Self {
        Self {
            tasks: 0,
            crashes: 0,
            deletes,
            landing: Landing::new(deletes),
            stored: vec![fresh(0)],
            received: Vec::new(),
            settled: Progress::default(),
            flights: Vec::new(),
            bucket: BTreeMap::new(),
            effects: BTreeMap::new(),
            certain: BTreeMap::new(),
            tampered: BTreeSet::new(),
            orphans: BTreeMap::new(),
            power_cuts: 0,
            now: 0,
        }
    }

    pub fn step(&mut self, random: &mut Random, author: &Author) {
        self.now += random.below(700);
        match random.below(32) {
            0..=7 => self.pull(random, author),
            8..=14 => self.take(),
            15..=23 => self.end_one(random),
            24..=25 => self.store(),
            26 => self.tamper(random),
            27 => self.now += random.below(400_000),
            28 => self.confirm(random),
            29..=30 => self.succeed(author),
            _ => self.crash(random),
        }
    }

    fn current(&mut self) -> &mut Stored {
        self.stored.last_mut().unwrap()
    }

    /// Some more of the log arrives.
    fn pull(&mut self, random: &mut Random, author: &Author) {
        let epoch = self.current().epoch;
        let from = self.received.len();
        let all = &author.logs[epoch].entries[from..];
        let new = &all[..all.len().min(random.below(12) as usize)];
        self.current().log.extend_from_slice(new);
        for entry in new {
            // With deletes: keep, what is deleted is no longer ours.
            match (self.deletes, entry) {
                (Deletes::Keep, Entry::Delete(key)) => drop(self.certain.remove(key)),
                (Deletes::Keep, Entry::Complete) => {
                    let said: BTreeSet<_> = self.received.iter().filter_map(key_of).collect();
                    self.certain.retain(|key, _| said.contains(key));
                }
                _ => {}
            }
            let place = (epoch, self.received.len() as u64);
            self.orphans.retain(|_, lost| *lost != place);
            self.received.push(entry.clone());
        }
        self.landing.receive(from as u64, new, self.now);
        // After a restart, what the log says may have been under way before.
        if self.crashes > 0 {
            for entry in new {
                match entry {
                    Entry::Put(put) if self.certain.get(&put.key) == Some(&identity(put)) => {}
                    Entry::Complete => self.certain.clear(),
                    entry => drop(key_of(entry).map(|key| self.certain.remove(key))),
                }
            }
        }
        if !self.landing.needs_older() {
            self.stored.drain(..self.stored.len() - 1);
            // What the bookkeeping of older epochs was for must be settled in a stored progress, too.
            self.store();
        }
    }

    fn store(&mut self) {
        let progress = self.landing.progress().encode();
        assert_eq!(Progress::decode(progress.clone()).as_ref(), Ok(self.landing.progress()));
        self.current().progress = progress;
    }

    fn succeed(&mut self, author: &Author) {
        let epoch = self.current().epoch + 1;
        if epoch == author.logs.len() {
            return;
        }
        self.store();
        self.stored.push(fresh(epoch));
        self.received.clear();
        self.settled = Progress::default();
        let old = std::mem::replace(&mut self.landing, Landing::new(self.deletes));
        self.landing = Landing::succeed(old);
    }

    fn confirm(&mut self, random: &mut Random) {
        if random.one_in(2) {
            self.landing.confirm_deletes();
        }
    }

    fn take(&mut self) {
        let held = self.landing.deletes_held().is_some();
        let due = self.landing.next_due();
        let Some(task) = self.landing.next(self.now) else {
            assert!(due.is_none_or(|due| due > self.now), "nothing is done at {} about {due:?}", self.now);
            return;
        };
        assert!(due.is_some_and(|due| due <= self.now), "{task:?} at {}, which is due {due:?}", self.now);
        self.tasks += 1;
        self.check(&task, held);
        self.certain.remove(task.key());
        let epoch = self.current().epoch;
        self.flights.push(Flight { task, epoch });
    }

    fn check(&self, task: &Task, held: bool) {
        let (key, entry) = (task.key(), task.entry());
        assert!(self.flights.iter().all(|flight| flight.task.key() != key), "two tasks for {key}");
        assert!(self.landing.is_current(key, entry));
        assert!(!self.settled.contains(entry), "{task:?} was settled before the crash");
        assert!(!self.landing.progress().contains(entry), "{task:?} is settled");
        let last = self.received.iter().rposition(|entry| key_of(entry) == Some(key));
        match task {
            Task::Land { put, .. } => {
                assert_eq!(last, Some(entry as usize), "{task:?} is superseded");
                assert_eq!(self.received[entry as usize], Entry::Put(put.clone()));
                assert_ne!(self.certain.get(key), Some(&identity(put)), "{task:?} is done already");
            }
            Task::Remove { .. } => {
                assert_eq!(self.deletes, Deletes::Follow);
                assert!(!held, "{task:?} although deletes are held");
                match &self.received[entry as usize] {
                    Entry::Complete => assert_eq!(last, None, "{task:?} is superseded"),
                    said => assert!(last == Some(entry as usize) && *said == Entry::Delete(key.clone())),
                }
            }
        }
    }

    /// What a task does to the bucket.
    fn apply(&mut self, flight: &Flight) -> Outcome {
        let key = flight.task.key();
        let there = self.bucket.get(key);
        if there == Some(&Object::Theirs) {
            return Outcome::Kept;
        }
        let place = (flight.epoch, flight.task.entry());
        let before = self.effects.insert(key.clone(), place);
        assert!(before.is_none_or(|before| before <= place), "{key} goes back from {before:?} to {place:?}");
        self.orphans.remove(key);
        match &flight.task {
            Task::Land { put, .. } => {
                self.tampered.remove(key);
                let (hash, attributes) = identity(put);
                self.bucket.insert(key.clone(), Object::Ours(hash, attributes));
            }
            Task::Remove { .. } => drop(self.bucket.remove(key)),
        }
        Outcome::Done
    }

    /// One of the tasks ends, one way or the other.
    fn end_one(&mut self, random: &mut Random) {
        if self.flights.is_empty() {
            return;
        }
        let flight = self.flights.swap_remove(random.below(self.flights.len() as u64) as usize);
        let (key, entry) = (flight.task.key().clone(), flight.task.entry());
        let current = self.landing.is_current(&key, entry);
        match random.below(8) {
            0 => self.landing.fail(&key, entry, self.now),
            1 => {
                // Done, and nobody learns it.
                self.apply(&flight);
                self.landing.fail(&key, entry, self.now);
            }
            2 if !current => self.landing.fail(&key, entry, self.now),
            _ => self.end_well(&flight, current),
        }
        // An end that comes twice.
        if random.one_in(8) && self.flights.iter().all(|flight| *flight.task.key() != key) {
            self.landing.settle(&key, entry, Outcome::Done, self.now);
        }
    }

    fn end_well(&mut self, flight: &Flight, current: bool) {
        let outcome = self.apply(flight);
        let key = flight.task.key();
        self.landing.settle(key, flight.task.entry(), outcome, self.now);
        if let (true, Outcome::Done, Task::Land { put, .. }) = (current, outcome, &flight.task) {
            self.certain.insert(key.clone(), identity(put));
        }
        if !self.landing.needs_older() && self.stored.len() > 1 {
            self.store();
            self.stored.drain(..self.stored.len() - 1);
        }
    }

    /// Somebody else writes or deletes an object.
    fn tamper(&mut self, random: &mut Random) {
        let key = random_key(random);
        match self.bucket.get(&key) {
            Some(Object::Theirs) => drop(self.bucket.remove(&key)),
            None => drop(self.bucket.insert(key, Object::Theirs)),
            Some(Object::Ours(..)) if random.one_in(4) => {
                self.tampered.insert(key.clone());
                self.bucket.insert(key, Object::Theirs);
            }
            Some(Object::Ours(..)) => {}
        }
    }

    fn crash(&mut self, random: &mut Random) {
        self.crashes += 1;
        for flight in std::mem::take(&mut self.flights) {
            if random.one_in(2) {
                self.apply(&flight);
            }
        }
        if random.one_in(4) {
            self.power_cuts += 1;
            // A power cut: the log loses its end, the progress may be older or not.
            let epoch = self.current().epoch;
            let log = &mut self.current().log;
            let left = log.len().saturating_sub(random.below(4) as usize);
            let lost = log.split_off(left);
            // An object that is newer than what the node remembers may become older until the log is received again.
            self.effects.retain(|_, place| *place < (epoch, left as u64));
            for (entry, said) in (left as u64..).zip(&lost) {
                self.orphans.extend(key_of(said).map(|key| (key.clone(), (epoch, entry))));
            }
        }
        self.certain.clear();
        let mut landing: Option<Landing> = None;
        for stored in &self.stored {
            let mut next = landing.map_or_else(|| Landing::new(self.deletes), Landing::succeed);
            self.settled = Progress::decode(stored.progress.clone()).unwrap();
            next.restore(self.settled.clone());
            for (first, entry) in stored.log.iter().enumerate() {
                next.receive(first as u64, std::slice::from_ref(entry), self.now);
            }
            assert_eq!((next.next(u64::MAX), next.next_due()), (None, None));
            next.start();
            landing = Some(next);
        }
        self.landing = landing.unwrap();
        self.received = self.current().log.clone();
        self.settled.truncate(self.received.len() as u64);
    }

    /// Everything arrives and nothing fails any more.
    pub fn finish(&mut self, random: &mut Random, author: &Author) {
        if random.one_in(2) {
            self.bucket.retain(|_, object| *object != Object::Theirs);
        }
        for round in 0.. {
            assert!(round < 1000, "no end: {:?}, due {:?}", self.landing.lag(), self.landing.next_due());
            self.succeed(author);
            self.pull(random, author);
            self.landing.confirm_deletes();
            self.take();
            for flight in std::mem::take(&mut self.flights) {
                let current = self.landing.is_current(flight.task.key(), flight.task.entry());
                self.end_well(&flight, current);
            }
            let last = self.current().epoch + 1 == author.logs.len()
                && self.received.len() == author.logs[author.logs.len() - 1].entries.len();
            let at_rest = self.landing.lag().objects == self.landing.conflicts() as u64;
            let real = self.landing.conflicting().all(|key| self.bucket.get(key) == Some(&Object::Theirs));
            if last && at_rest && self.landing.lag().removals == 0 && real {
                break;
            }
            self.now = self.landing.next_due().unwrap_or(0).max(self.now);
        }
        self.compare(author);
    }

    /// Whether the node can't know what is there.
    fn in_doubt(&self, key: &ObjectKey) -> bool {
        self.tampered.contains(key) || self.orphans.contains_key(key)
    }

    fn compare(&self, author: &Author) {
        let said = author.said();
        let mut lag = Lag::default();
        for (key, put) in &said {
            let (hash, attributes) = identity(put);
            match self.bucket.get(key) {
                Some(Object::Theirs) if self.landing.conflicting().any(|conflict| conflict == key) => {
                    lag.objects += 1;
                    lag.bytes += put.size;
                }
                Some(Object::Ours(..)) | None if !self.in_doubt(key) => {
                    assert_eq!(self.bucket.get(key), Some(&Object::Ours(hash, attributes)), "{key}");
                    // After a power cut there are doubts that nothing dispels until the object changes.
                    let copy = self.landing.find(&hash);
                    assert!(copy.is_some() || self.power_cuts > 0, "content that is here is not found");
                    assert!(copy.is_none_or(|copy| said.get(copy).is_some_and(|put| put.hash == hash)));
                }
                other => assert!(self.in_doubt(key), "{key}: {other:?}, and nobody says so"),
            }
        }
        assert_eq!(self.landing.lag(), lag);
        assert_eq!(lag.objects, self.landing.conflicts() as u64);
        assert!(!self.landing.needs_older() && self.stored.len() == 1);
        assert_eq!(self.landing.landed(), said.len() - self.landing.conflicts());
        assert_eq!(self.landing.progress().count() + lag.objects, self.landing.received());
        let ours = self.bucket.iter().filter(|(_, object)| matches!(object, Object::Ours(..)));
        let ours = ours.filter(|(key, _)| !self.orphans.contains_key(*key));
        let left: Vec<_> = ours.filter(|(key, _)| !said.contains_key(*key)).map(|(key, _)| key).collect();
        assert!(left.is_empty() || self.deletes == Deletes::Keep, "left behind: {left:?}");
    }
}

fn key_of(entry: &Entry) -> Option<&ObjectKey> {
    match entry {
        Entry::Put(put) => Some(&put.key),
        Entry::Delete(key) => Some(key),
        Entry::Complete => None,
    }
}
