//! What the author of a catalog has to say: listings in, entries out.

use std::collections::{BTreeSet, VecDeque};

use rhio_core::catalog::inventory::{Ended, Inventory, Observed};
use rhio_core::catalog::resume::Resumed;
use rhio_core::catalog::{Catalog, Entry, Put};
use rhio_core::log::descriptor::LogDescriptor;
use rhio_core::log::operation::Operation;
use rhio_core::log::writer::Writer;
use rhio_core::object::ObjectKey;

use crate::bucket::{Object, client};
use crate::config::Broken;
use crate::exec::{Cx, Job};

/// Looks at objects that are under way at once.
const MAX_RUNNING: usize = 3;

/// What a look at one object found.
pub enum Found {
    /// It is there and read.
    Put(Put),
    /// This node brought it here from elsewhere.
    Foreign(Object),
    /// It is not there.
    Gone,
    /// It is there, although a listing did not tell.
    There,
    /// It can't be said.
    Failed,
}

/// What is known, and what is to be said.
pub struct Publishing {
    cx: Cx,
    broken: Option<Broken>,
    pub descriptor: LogDescriptor,
    pub state_seq: u64,
    pub inventory: Inventory,
    pub writer: Writer,
    /// Everything has been said since this epoch began.
    complete: bool,
    /// A listing that began in this epoch has come to its end.
    pub listed: bool,
    /// What older epochs knew, until this one is complete.
    remembered: Inventory,
    older: Vec<LogDescriptor>,
    /// To be said, in this order.
    pub waiting: VecDeque<Entry>,
    /// Objects to be looked at.
    queue: VecDeque<ObjectKey>,
    pub running: Vec<Job<(ObjectKey, Found)>>,
    /// Keys that are in one of the above, so that a listing does not bring them in again.
    busy: BTreeSet<ObjectKey>,
    failing: BTreeSet<ObjectKey>,
}

fn put_of(key: &ObjectKey, object: &Object) -> Put {
    let Object { version, modified, etag, .. } = object;
    let (hash, attributes, etag) = (version.hash(), version.attributes(), etag.to_string());
    Put { key: key.clone(), hash, size: version.size(), modified: *modified, etag, attributes }
}

impl Publishing {
    pub fn new(cx: &Cx, found: Resumed) -> Self {
        let (key, broken) = cx.with(|w| (w.key(cx.node), w.config.broken));
        let Resumed { descriptor, end, inventory, remembered, older, .. } = found;
        let writer = Writer::new(key, descriptor.id(), end.head, end.total);
        Self {
            cx: cx.clone(),
            broken,
            descriptor,
            state_seq: end.state_seq,
            inventory,
            writer,
            complete: end.complete,
            listed: false,
            remembered,
            older,
            waiting: VecDeque::new(),
            queue: VecDeque::new(),
            running: Vec::new(),
            busy: BTreeSet::new(),
            failing: BTreeSet::new(),
        }
    }

    /// How much is known and not said.
    pub fn pending(&self) -> u64 {
        let staged = self.writer.staged().map_or(0, |staged| staged.entries().len());
        (staged + self.waiting.len() + self.queue.len() + self.running.len()) as u64
    }

    /// Takes a page of a listing.
    pub fn page(&mut self, page: Vec<(ObjectKey, Object)>) {
        for (key, object) in page {
            let (size, etag) = (object.version.size(), object.etag.to_string());
            match self.inventory.observe(&key, size, object.modified, &etag) {
                Observed::Same => drop(self.failing.remove(&key)),
                Observed::Foreign => {}
                Observed::New | Observed::Changed => self.notice(key, size, object.modified, &etag),
                Observed::BecameForeign => self.say_gone(key),
            }
        }
    }

    /// An object is there that the catalog does not tell of.
    fn notice(&mut self, key: ObjectKey, size: u64, modified: u64, etag: &str) {
        if !self.busy.insert(key.clone()) {
            return;
        }
        match self.remembered.get(&key).filter(|known| known.is_version(size, modified, etag)) {
            Some(known) => self.waiting.push_back(Entry::Put(known.put(key))),
            None => self.queue.push_back(key),
        }
    }

    pub fn end_listing(&mut self) {
        let gone = match self.inventory.end_listing(true) {
            Ended::Gone(keys) => keys,
            Ended::Empty { .. } if self.broken == Some(Broken::TrustEmpty) => {
                let said = self.inventory.snapshot();
                said.filter_map(|entry| if let Entry::Put(put) = entry { Some(put.key) } else { None }).collect()
            }
            Ended::Empty { .. } | Ended::Incomplete => return,
        };
        for key in gone {
            if self.broken == Some(Broken::TrustListing) {
                self.say_gone(key);
            } else if self.busy.insert(key.clone()) {
                self.look_for(key);
            }
        }
        // One that could not be read and was not listed since may be gone, which would never be known otherwise.
        for key in self.failing.clone() {
            if self.busy.insert(key.clone()) {
                self.look_for(key);
            }
        }
        self.listed = true;
    }

    /// Makes sure that an object is gone which a listing did not tell.
    fn look_for(&mut self, key: ObjectKey) {
        let cx = self.cx.clone();
        self.running.push(Box::pin(async move {
            let found = match client::head(&cx, &key).await {
                Ok(None) => Found::Gone,
                Ok(Some(_)) => Found::There,
                Err(_) => Found::Failed,
            };
            (key, found)
        }));
    }

    /// Lets as many objects be read as may be.
    pub fn fill(&mut self) {
        while self.running.len() < MAX_RUNNING {
            let Some(key) = self.queue.pop_front() else { return };
            let (cx, echo) = (self.cx.clone(), self.broken == Some(Broken::Echo));
            self.running.push(Box::pin(async move {
                let found = match client::head(&cx, &key).await {
                    Ok(Some(object)) if object.origin.is_some() && !echo => Found::Foreign(object),
                    Ok(Some(object)) => Found::Put(put_of(&key, &object)),
                    Ok(None) => Found::Gone,
                    Err(_) => Found::Failed,
                };
                (key, found)
            }));
        }
    }

    pub fn found(&mut self, key: ObjectKey, found: Found) {
        match found {
            Found::Put(put) => {
                self.failing.remove(&key);
                return self.waiting.push_back(Entry::Put(put));
            }
            Found::Failed => drop(self.failing.insert(key.clone())),
            Found::Gone | Found::Foreign(_) => drop(self.failing.remove(&key)),
            Found::There => {}
        }
        self.busy.remove(&key);
        match found {
            Found::Foreign(object) => {
                self.inventory.exclude(&key, &object.etag.to_string());
                self.say_gone(key);
            }
            Found::Gone => self.say_gone(key),
            Found::Put(_) | Found::There | Found::Failed => {}
        }
    }

    /// Says that an object is gone, if the catalog has it.
    fn say_gone(&mut self, key: ObjectKey) {
        if self.inventory.get(&key).is_some() && self.busy.insert(key.clone()) {
            self.waiting.push_back(Entry::Delete(key));
        }
    }

    /// Signs the next operation, when there is something to say and nothing is being said.
    pub fn stage(&mut self) -> Option<&Operation> {
        let idle = self.waiting.is_empty() && self.queue.is_empty() && self.running.is_empty();
        if !self.complete && self.listed && idle && self.failing.is_empty() && self.writer.staged().is_none() {
            self.complete = true;
            self.waiting.push_back(Entry::Complete);
        }
        if self.writer.staged().is_some() {
            return None;
        }
        let catalog = Catalog::take(&mut self.waiting)?;
        self.writer.stage(catalog, self.cx.now() / 1000)
    }

    /// What was staged is durable. Returns the epochs that nobody needs any more.
    pub fn said(&mut self) -> Vec<LogDescriptor> {
        let Some(operation) = self.writer.appended() else { return Vec::new() };
        for entry in operation.entries() {
            self.inventory.apply(entry);
            if let Entry::Put(Put { key, .. }) | Entry::Delete(key) = entry {
                self.busy.remove(key);
            }
        }
        if !operation.entries().contains(&Entry::Complete) {
            return Vec::new();
        }
        self.remembered = Inventory::default();
        std::mem::take(&mut self.older)
    }
}
