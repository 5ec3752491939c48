//! What is remembered of each key, and the sums that are kept along with it.

use super::{Deletes, Landing, Task};
use crate::catalog::known::Labels;
use crate::catalog::{Known, Put};
use crate::id::BlobHash;
use crate::object::ObjectKey;

/// Content and attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Here {
    pub hash: BlobHash,
    pub size: u64,
    pub labels: Labels,
}

impl Here {
    pub fn of(known: &Known) -> Self {
        Self { hash: known.hash(), size: known.size(), labels: known.labels().clone() }
    }
}

/// How much is known of what is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// The object has exactly this; without one, nothing of the author's is there.
    Sure,
    /// While the log is replayed: this was settled, unless a later entry was only received and is why it counts as
    /// settled. After the replay there is no such entry.
    Presumed,
    /// The same for an object that is gone.
    PresumedGone,
    /// This was here. By now it may be another version of the author's, or nothing.
    Belief,
    /// Nothing was here, as far as is known. By now it may be this.
    Maybe,
}

#[derive(Debug)]
pub struct Object {
    pub here: Option<Here>,
    pub trust: Trust,
    /// The last epoch that said anything about the key.
    pub said: u32,
    /// Most objects have nothing to do.
    work: Option<Box<Work>>,
}

#[derive(Debug, Default)]
struct Work {
    wish: Option<Wish>,
    flying: Option<Flying>,
}

/// What the log says and is not settled.
#[derive(Debug)]
pub struct Wish {
    pub entry: u64,
    pub what: What,
    pub due: u64,
    pub failures: u32,
    pub conflict: bool,
    pub confirmed: bool,
    /// Its entry is the mark, which other keys may have to do with, too.
    pub implied: bool,
}

#[derive(Debug)]
pub enum What {
    Put(Known),
    Delete,
}

impl Wish {
    pub fn new(entry: u64, what: What) -> Self {
        Self { entry, what, due: 0, failures: 0, conflict: false, confirmed: false, implied: false }
    }

    pub fn is_put(&self) -> bool {
        matches!(self.what, What::Put(_))
    }
}

/// A task that is out.
#[derive(Debug)]
pub struct Flying {
    pub entry: u64,
    pub wanted: bool,
    /// What it lands; `None` when it removes.
    pub here: Option<Here>,
}

impl Object {
    pub fn new(epoch: u32) -> Self {
        Self { here: None, trust: Trust::Sure, said: epoch, work: None }
    }

    pub fn wish(&self) -> Option<&Wish> {
        self.work.as_ref()?.wish.as_ref()
    }

    pub fn wish_mut(&mut self) -> Option<&mut Wish> {
        self.work.as_mut()?.wish.as_mut()
    }

    pub fn flying(&self) -> Option<&Flying> {
        self.work.as_ref()?.flying.as_ref()
    }

    /// A task that is out is not wanted any more.
    pub fn disown(&mut self) {
        if let Some(flying) = self.work.as_mut().and_then(|work| work.flying.as_mut()) {
            flying.wanted = false;
        }
    }

    /// Whether what is here is known for certain.
    pub fn is_certain(&self, replaying: bool) -> bool {
        match self.trust {
            Trust::Sure => true,
            Trust::Presumed => !replaying,
            Trust::PresumedGone | Trust::Belief | Trust::Maybe => false,
        }
    }

    /// Whether the end of the replay decides.
    pub fn is_presumed(&self) -> bool {
        matches!(self.trust, Trust::Presumed | Trust::PresumedGone)
    }

    /// Whether it counts as here.
    pub fn counts(&self) -> Option<&Here> {
        self.here.as_ref().filter(|_| self.trust != Trust::Maybe)
    }
}

/// How much is here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stock {
    pub objects: usize,
    pub bytes: u64,
}

impl Stock {
    fn add(&mut self, here: Option<&Here>) {
        self.objects += usize::from(here.is_some());
        self.bytes = self.bytes.saturating_add(here.map_or(0, |here| here.size));
    }

    fn remove(&mut self, here: Option<&Here>) {
        self.objects -= usize::from(here.is_some());
        self.bytes = self.bytes.saturating_sub(here.map_or(0, |here| here.size));
    }
}

impl Landing {
    pub(super) fn wish(&self, slot: usize) -> Option<&Wish> {
        self.objects.get(slot).and_then(|(_, object)| object.wish())
    }

    pub(super) fn set_here(&mut self, slot: usize, here: Option<Here>, trust: Trust) {
        let Some(object) = self.objects.get_mut(slot) else { return };
        let now = here.as_ref().map(|here| here.hash);
        self.here.remove(object.counts());
        let before = std::mem::replace(&mut object.here, here).map(|here| here.hash);
        object.trust = trust;
        self.here.add(object.counts());
        if before != now {
            self.objects.index(slot, before, now);
        }
    }

    pub(super) fn set_trust(&mut self, slot: usize, trust: Trust) {
        let Some(object) = self.objects.get_mut(slot) else { return };
        self.here.remove(object.counts());
        object.trust = trust;
        self.here.add(object.counts());
    }

    /// Something may be done to a key: it may get what is wanted, or lose what it has.
    pub(super) fn doubt(&mut self, slot: usize, wanted: Option<Here>) {
        match self.objects.get(slot).map(|(_, object)| (object.here.is_some(), object.trust)) {
            Some((true, trust)) if trust != Trust::Maybe => self.set_trust(slot, Trust::Belief),
            Some((false, _)) if wanted.is_some() => self.set_here(slot, wanted, Trust::Maybe),
            _ => {}
        }
    }

    /// What was presumed of a key has no ground any more.
    pub(super) fn presume_nothing(&mut self, slot: usize) {
        match self.objects.get(slot).map(|(_, object)| object.trust) {
            Some(Trust::Presumed) => self.set_trust(slot, Trust::Belief),
            Some(Trust::PresumedGone) => self.set_trust(slot, Trust::Maybe),
            _ => {}
        }
    }

    /// Adds a wish to a key that has none.
    pub(super) fn add_wish(&mut self, slot: usize, wish: Wish) {
        let Some(object) = self.objects.get_mut(slot) else { return };
        let item = (wish.entry, slot);
        let queue = match &wish.what {
            What::Put(known) => {
                self.lag.objects += 1;
                self.lag.bytes = self.lag.bytes.saturating_add(known.size());
                &mut self.puts
            }
            What::Delete => {
                self.lag.removals += 1;
                self.unconfirmed += usize::from(!wish.confirmed);
                &mut self.removals
            }
        };
        let work = object.work.get_or_insert_default();
        if work.flying.is_none() {
            queue.push(item);
        }
        work.wish = Some(wish);
    }

    /// Takes a key's wish back.
    pub(super) fn clear_wish(&mut self, slot: usize) -> Option<Wish> {
        let wish = self.objects.get_mut(slot)?.work.as_mut()?.wish.take()?;
        let item = (wish.entry, slot);
        match &wish.what {
            What::Put(known) => {
                self.lag.objects -= 1;
                self.lag.bytes = self.lag.bytes.saturating_sub(known.size());
                self.puts.remove(wish.due, item);
            }
            What::Delete => {
                self.lag.removals -= 1;
                self.unconfirmed -= usize::from(!wish.confirmed);
                self.removals.remove(wish.due, item);
            }
        }
        if wish.conflict {
            self.conflicts.remove(&slot);
        }
        Some(wish)
    }

    /// A key's wish is fulfilled, or its entry is superseded. Returns the wish.
    pub(super) fn settle_wish(&mut self, slot: usize) -> Option<Wish> {
        let wish = self.clear_wish(slot)?;
        if !wish.implied {
            self.progress.insert(wish.entry);
        } else if let Some((entry, removals)) = &mut self.complete {
            *removals -= 1;
            if *removals == 0 {
                self.progress.insert(*entry);
            }
        }
        Some(wish)
    }

    /// Makes a task of a wish.
    pub(super) fn issue(&mut self, slot: usize) -> Option<Task> {
        let (key, object) = self.objects.get(slot)?;
        let (key, wish) = (key.clone(), object.wish()?);
        let (entry, due) = (wish.entry, wish.due);
        let (task, landing) = match &wish.what {
            What::Put(known) => {
                let put: Put = known.put(key.clone());
                (Task::Land { key, entry, put }, Some(Here::of(known)))
            }
            What::Delete => {
                let hash = object.here.as_ref()?.hash;
                (Task::Remove { key, entry, hash }, None)
            }
        };
        match &landing {
            Some(_) => self.puts.remove(due, (entry, slot)),
            None => self.removals.remove(due, (entry, slot)),
        }
        self.doubt(slot, landing.clone());
        let work = self.objects.get_mut(slot)?.work.as_mut()?;
        work.flying = Some(Flying { entry, wanted: true, here: landing });
        Some(task)
    }

    /// The task of this key and entry ends.
    pub(super) fn land_flying(&mut self, key: &ObjectKey, entry: u64) -> Option<(usize, Flying)> {
        let slot = self.objects.slot(key)?;
        let work = self.objects.get_mut(slot)?.work.as_mut()?;
        work.flying.take_if(|flying| flying.entry == entry).map(|flying| (slot, flying))
    }

    /// A task that was not wanted any more has ended, and may have landed something.
    pub(super) fn free(&mut self, slot: usize, landed: Option<Here>) {
        let Some(object) = self.objects.get_mut(slot) else { return };
        // With deletes: keep, a key that was said and has no wish was deleted, and so is no longer ours.
        let forgotten = self.deletes == Deletes::Keep && object.said == self.epoch && object.wish().is_none();
        if forgotten {
            self.set_here(slot, None, Trust::Sure);
        } else if landed.is_some() {
            self.set_here(slot, landed, Trust::Belief);
        }
        if let Some(wish) = self.wish(slot) {
            let item = (wish.entry, slot);
            match wish.what {
                What::Put(_) => self.puts.push(item),
                What::Delete => self.removals.push(item),
            }
        }
        self.tidy(slot);
    }

    /// A wish waits for another try.
    pub(super) fn retry(&mut self, slot: usize, due: u64, change: impl FnOnce(&mut Wish)) {
        let Some(wish) = self.objects.get_mut(slot).and_then(|object| object.wish_mut()) else { return };
        change(wish);
        wish.due = due;
        let item = (wish.entry, slot);
        match wish.what {
            What::Put(_) => self.puts.push_later(due, item),
            What::Delete => self.removals.push_later(due, item),
        }
    }

    /// Forgets what needs no memory any more.
    pub(super) fn tidy(&mut self, slot: usize) {
        let Some(object) = self.objects.get_mut(slot) else { return };
        object.work.take_if(|work| work.wish.is_none() && work.flying.is_none());
        if object.work.is_none() && object.here.is_none() {
            self.objects.remove(slot);
        }
    }
}
