//! The subscriber's side of a bucket: what the author's catalog says against what is durably here, and what to do next.
//!
//! What is known about a key is what the last task that succeeded left there. From the moment in which a task is handed
//! out that is a belief only, until the task ends as the wanted one: a transfer that failed or came too late may have
//! written all the same. So what the catalog says next gets a task of its own then, even if it is what was believed.
//!
//! After a restart: [`Landing::new`], [`Landing::restore`] with the stored progress, [`Landing::receive`] with the stored
//! copy of the log, [`Landing::start`]. While [`Landing::needs_older`], the logs and the progress of older epochs are
//! needed too: each is restored and received in turn, with [`Landing::succeed`] between them.
//!
//! Entries should be in the stored copy before they are received the first time. What a power cut takes from its end is
//! mended when it is received again; only when the author begins a new epoch before that, an object that was landed in
//! between may be one that nobody knows of.
//!
//! An object that is settled takes about 160 bytes besides its key's text, one that waits about 360, measured with a
//! million of them with MD5 ETags and the same content type.

use std::collections::BTreeSet;

use super::Put;
use super::keyed::Keyed;
use super::known::Pool;
use super::progress::Progress;
use crate::id::BlobHash;
use crate::object::ObjectKey;
use queue::Queue;
use state::{Object, Stock, Trust, What, Wish};

mod queue;
mod receive;
mod state;

/// How long no delete must have arrived before the first is carried out, so that all of a mass delete are counted.
pub const QUIET_MS: u64 = 1_000;
/// Deletes that never stop arriving are carried out after this long all the same.
pub const LONGEST_QUIET_MS: u64 = 30_000;
/// After how long a task that failed is handed out again; twice as long after each further failure.
pub const FIRST_RETRY_MS: u64 = 1_000;
/// Longest time until a task is handed out again after a failure, and the time after a conflict.
pub const LAST_RETRY_MS: u64 = 300_000;
/// So many deletes are never held.
pub const FEW_DELETES: usize = 10;

/// What a delete at the author means here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Deletes {
    /// Nothing: the object stays.
    #[default]
    Keep,
    /// The object is removed here, too.
    Follow,
}

/// Something to do. Whoever does it ends with [`Landing::settle`] or [`Landing::fail`], under the same key and entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    /// The object is to be there.
    Land {
        /// Its key.
        key: ObjectKey,
        /// The entry that says so.
        entry: u64,
        /// What it says.
        put: Put,
    },
    /// No object that came from the author is to be there.
    Remove {
        /// The key.
        key: ObjectKey,
        /// The entry that says so: a delete, or the mark behind the last object of an epoch that left it out.
        entry: u64,
        /// What is believed to be here. After a transfer that failed it may be another version that the author had, so
        /// that it is the author that decides whether an object is ours to remove.
        hash: BlobHash,
    },
}

impl Task {
    /// Its key.
    pub fn key(&self) -> &ObjectKey {
        match self {
            Self::Land { key, .. } | Self::Remove { key, .. } => key,
        }
    }

    /// The entry that asks for it.
    pub fn entry(&self) -> u64 {
        match self {
            Self::Land { entry, .. } | Self::Remove { entry, .. } => *entry,
        }
    }
}

/// How a task ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The object is durably there, or nothing of ours is there any more.
    Done,
    /// Somebody else's object is there and was left alone. A [`Task::Land`] stays a conflict and is tried again after
    /// [`LAST_RETRY_MS`]; a [`Task::Remove`] has nothing more to do.
    Kept,
}

/// An object that is here or wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its key.
    pub key: ObjectKey,
    /// Its content.
    pub hash: BlobHash,
    /// Its bytes.
    pub size: u64,
    /// Whether this very version is here, as far as is known.
    pub here: bool,
}

/// What is lacking here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lag {
    /// Objects to land, conflicts among them.
    pub objects: u64,
    /// Bytes of their content.
    pub bytes: u64,
    /// Objects to remove, those that are held among them.
    pub removals: u64,
}

/// Deletes that wait for somebody to confirm them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Objects that would be removed.
    pub count: usize,
    /// Objects that are here.
    pub of: usize,
}

/// One subscription's bucket.
#[derive(Debug)]
pub struct Landing {
    deletes: Deletes,
    objects: Keyed<Object>,
    pool: Pool,
    epoch: u32,
    /// The entry that comes next.
    next: u64,
    progress: Progress,
    /// The stored copy of the log is being received.
    replaying: bool,
    /// There was a restart, and a task may have been out before it for any entry that was not settled: also for one
    /// that the copy of the log has lost since.
    restored: bool,
    /// Slots that are gone unless the replay says more about them.
    presumed_gone: Vec<usize>,
    /// The mark behind the last object, and how many removals it still asks for.
    complete: Option<(u64, usize)>,
    puts: Queue,
    removals: Queue,
    /// When the deletes that arrive now began, and when the last one arrived.
    deleting: Option<(u64, u64)>,
    /// Objects that are here or were when they were last looked at.
    here: Stock,
    lag: Lag,
    /// Removals that nobody has confirmed.
    unconfirmed: usize,
    conflicts: BTreeSet<usize>,
}

impl Landing {
    /// Nothing here, nothing said.
    pub fn new(deletes: Deletes) -> Self {
        Self {
            deletes,
            objects: Keyed::default(),
            pool: Pool::default(),
            epoch: 0,
            next: 0,
            progress: Progress::default(),
            replaying: false,
            restored: false,
            presumed_gone: Vec::new(),
            complete: None,
            puts: Queue::default(),
            removals: Queue::default(),
            deleting: None,
            here: Stock::default(),
            lag: Lag::default(),
            unconfirmed: 0,
            conflicts: BTreeSet::new(),
        }
    }

    /// A new epoch begins: nothing is said, what is here stays known. What the new log has not said again at its mark is
    /// deleted. Tasks that are out go on; what the new log says of their keys decides whether they are wanted.
    #[must_use]
    pub fn succeed(mut old: Self) -> Self {
        old.start();
        let slots: Vec<_> = old.objects.iter_from(0).map(|(slot, _, _)| slot).collect();
        for slot in slots {
            old.clear_wish(slot);
            // A replay of the new log must not take this for something that it presumes itself.
            if let Some(object) = old.objects.get_mut(slot).filter(|object| object.trust == Trust::Presumed) {
                object.trust = Trust::Sure;
            }
            old.tidy(slot);
        }
        let (next, progress, complete, deleting) = (0, Progress::default(), None, None);
        Self { epoch: old.epoch.wrapping_add(1), next, progress, complete, deleting, ..old }
    }

    /// Takes what was settled before a restart, before anything is received. Nothing is handed out until
    /// [`Landing::start`].
    pub fn restore(&mut self, progress: Progress) {
        debug_assert_eq!(self.next, 0, "progress comes before entries");
        self.progress = progress;
        self.replaying = true;
        self.restored = true;
    }

    /// The stored copy of the log has been received; what is received from now on is new.
    pub fn start(&mut self) {
        self.replaying = false;
        // The copy has lost its end, and with it what may have been the reason why something counted as settled.
        if self.progress.truncate(self.next) {
            let presumed = self.objects.iter_from(0).filter(|(_, _, object)| object.is_presumed());
            for slot in presumed.map(|(slot, _, _)| slot).collect::<Vec<_>>() {
                self.presume_nothing(slot);
            }
        }
        for slot in std::mem::take(&mut self.presumed_gone) {
            if self.objects.get(slot).is_some_and(|(_, object)| object.trust == Trust::PresumedGone) {
                self.set_here(slot, None, Trust::Sure);
                self.tidy(slot);
            }
        }
    }

    /// What to do next, if anything is due: fresh entries before those that have failed, and in the order of the log.
    pub fn next(&mut self, now_ms: u64) -> Option<Task> {
        if self.replaying {
            return None;
        }
        self.puts.wake(now_ms);
        let mut queues = vec![&self.puts];
        if self.deletes_held().is_none() && self.quiet_until().is_none_or(|until| until <= now_ms) {
            self.removals.wake(now_ms);
            queues.push(&self.removals);
        }
        let fresh = queues.iter().filter_map(|queue| queue.fresh()).min();
        let (_, slot) = fresh.or_else(|| queues.iter().filter_map(|queue| queue.retry()).min())?;
        self.issue(slot)
    }

    /// When [`Landing::next`] may have something that it has not now; 0 for at once, `None` when only an entry, an
    /// outcome or a confirmation can change that.
    pub fn next_due(&self) -> Option<u64> {
        if self.replaying {
            return None;
        }
        let removals = self.removals.due().filter(|_| self.deletes_held().is_none());
        let removals = removals.map(|due| due.max(self.quiet_until().unwrap_or(0)));
        [self.puts.due(), removals].into_iter().flatten().min()
    }

    /// Whether a task that is out is still wanted. One that is not had better stop, and must end all the same.
    pub fn is_current(&self, key: &ObjectKey, entry: u64) -> bool {
        let object = self.objects.slot(key).and_then(|slot| self.objects.get(slot));
        let flying = object.and_then(|(_, object)| object.flying());
        flying.is_some_and(|flying| flying.entry == entry && flying.wanted)
    }

    /// A task has ended well. The end of one that was not wanted any more only frees its key.
    pub fn settle(&mut self, key: &ObjectKey, entry: u64, outcome: Outcome, now_ms: u64) {
        let Some((slot, flying)) = self.land_flying(key, entry) else { return };
        if !flying.wanted {
            return self.free(slot, flying.here.filter(|_| outcome == Outcome::Done));
        }
        match (flying.here, outcome) {
            (Some(here), Outcome::Done) => self.set_here(slot, Some(here), Trust::Sure),
            // Whatever of ours was there is there no more.
            (_, Outcome::Kept) | (None, Outcome::Done) => self.set_here(slot, None, Trust::Sure),
        }
        if outcome == Outcome::Kept && self.wish(slot).is_some_and(Wish::is_put) {
            self.retry(slot, now_ms.saturating_add(LAST_RETRY_MS), |wish| wish.conflict = true);
            self.conflicts.insert(slot);
        } else {
            self.settle_wish(slot);
        }
        self.tidy(slot);
    }

    /// A task has failed. It is handed out again later, if it is still wanted.
    pub fn fail(&mut self, key: &ObjectKey, entry: u64, now_ms: u64) {
        let Some((slot, flying)) = self.land_flying(key, entry) else { return };
        if !flying.wanted {
            return self.free(slot, None);
        }
        let failures = self.wish(slot).map_or(0, |wish| wish.failures);
        let wait = FIRST_RETRY_MS.saturating_mul(1 << failures.min(32)).min(LAST_RETRY_MS);
        self.retry(slot, now_ms.saturating_add(wait), |wish| wish.failures = failures.saturating_add(1));
        self.tidy(slot);
    }

    /// Which entries are settled. It may be stored at any time.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Entries received.
    pub fn received(&self) -> u64 {
        self.next
    }

    /// Whether older epochs must be kept: the log has not said everything yet, or what it left out is still here.
    pub fn needs_older(&self) -> bool {
        self.complete.is_none_or(|(_, removals)| removals > 0)
    }

    /// How often what is wanted under a key has failed.
    pub fn failures(&self, key: &ObjectKey) -> u32 {
        self.objects.slot(key).and_then(|slot| self.wish(slot)).map_or(0, |wish| wish.failures)
    }

    /// The object that is to be under a key and is not known to be there.
    pub fn wanted(&self, key: &ObjectKey) -> Option<Put> {
        match &self.wish(self.objects.slot(key)?)?.what {
            What::Put(known) => Some(known.put(key.clone())),
            What::Delete => None,
        }
    }

    /// Every entry below this one is settled.
    pub fn settled_below(&self) -> u64 {
        self.progress.low()
    }

    /// What is lacking here, by what was received.
    pub fn lag(&self) -> Lag {
        self.lag
    }

    /// Objects of the author's that are here.
    pub fn landed(&self) -> usize {
        self.here.objects
    }

    /// Bytes of the author's objects that are here.
    pub fn landed_bytes(&self) -> u64 {
        self.here.bytes
    }

    /// The objects that are here or wanted, in pages that look at most at `max` keys: `from` is 0 first and then what
    /// came with the page before; `None` after the last page.
    pub fn page(&self, from: usize, max: usize) -> (Vec<Listed>, Option<usize>) {
        let mut rest = self.objects.iter_from(from);
        let (mut page, mut next) = (Vec::new(), from);
        for (slot, key, object) in rest.by_ref().take(max.max(1)) {
            next = slot + 1;
            let wanted = object.wish().and_then(|wish| match &wish.what {
                What::Put(known) => Some((known.hash(), known.size(), false)),
                What::Delete => None,
            });
            let here = || object.counts().map(|here| (here.hash, here.size, true));
            if let Some((hash, size, here)) = wanted.or_else(here) {
                page.push(Listed { key: key.clone(), hash, size, here });
            }
        }
        (page, rest.next().is_some().then_some(next))
    }

    /// How many keys somebody else's object has.
    pub fn conflicts(&self) -> usize {
        self.conflicts.len()
    }

    /// Which keys; as many as are taken.
    pub fn conflicting(&self) -> impl Iterator<Item = &ObjectKey> {
        self.conflicts.iter().filter_map(|slot| self.objects.get(*slot)).map(|(key, _)| key)
    }

    /// A key under which this content is here for certain, to copy it from.
    pub fn find(&self, hash: &BlobHash) -> Option<&ObjectKey> {
        let certain = |object: &&Object| object.is_certain(self.replaying);
        let mut same = self.objects.candidates(hash).filter(|(_, object)| certain(object));
        same.find(|(_, object)| object.here.as_ref().is_some_and(|here| here.hash == *hash)).map(|(key, _)| key)
    }

    /// Deletes that are too many at once to be carried out unasked. A restart forgets what was confirmed, and asks again
    /// if what is left is still too much.
    pub fn deletes_held(&self) -> Option<Held> {
        let (count, of) = (self.unconfirmed, self.here.objects);
        (count > FEW_DELETES && count.saturating_mul(5) > of).then_some(Held { count, of })
    }

    /// Lets the deletes that wait now be carried out.
    pub fn confirm_deletes(&mut self) {
        self.unconfirmed = 0;
        for (_, object) in self.objects.iter_mut() {
            if let Some(wish) = object.wish_mut().filter(|wish| !wish.is_put()) {
                wish.confirmed = true;
            }
        }
    }

    /// Until when no delete is carried out.
    fn quiet_until(&self) -> Option<u64> {
        let (first, last) = self.deleting?;
        Some(last.saturating_add(QUIET_MS).min(first.saturating_add(LONGEST_QUIET_MS)))
    }
}

#[cfg(test)]
mod tests;
