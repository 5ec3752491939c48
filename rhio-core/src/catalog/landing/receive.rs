//! What each entry of the log does.

use super::state::{Here, Object, Trust, What, Wish};
use super::{Deletes, Landing, QUIET_MS};
use crate::catalog::{Entry, Known, Put};
use crate::object::ObjectKey;

impl Landing {
    /// Takes consecutive entries of the log, the first of which has this number; what was received before is skipped. It
    /// is the caller's duty to leave no gap: a log is a chain.
    pub fn receive(&mut self, first: u64, entries: &[Entry], now_ms: u64) {
        debug_assert!(first <= self.next, "entries are consecutive");
        for (index, entry) in (first..).zip(entries) {
            if index < self.next {
                continue;
            }
            self.next = index.saturating_add(1);
            self.progress.receive(self.next);
            match entry {
                Entry::Put(put) => self.receive_put(index, put),
                Entry::Delete(key) => self.receive_delete(index, key, now_ms),
                Entry::Complete => self.receive_complete(index, now_ms),
            }
        }
    }

    /// Whether the entry was settled before the restart.
    fn was_settled(&self, index: u64) -> bool {
        self.replaying && self.progress.contains(index)
    }

    fn receive_put(&mut self, index: u64, put: &Put) {
        let known = Known::new(put, &mut self.pool);
        let slot = match self.objects.slot(&put.key) {
            Some(slot) => slot,
            None => self.objects.insert(put.key.clone(), Object::new(self.epoch)),
        };
        self.settle_wish(slot);
        let (was_settled, replaying, epoch) = (self.was_settled(index), self.replaying, self.epoch);
        let wanted = Here::of(&known);
        let Some(object) = self.objects.get_mut(slot) else { return };
        object.said = epoch;
        // Certain also that no task was handed out before the restart for what is replayed.
        let same = object.trust == Trust::Sure || (object.trust == Trust::Presumed && !replaying);
        if same && object.here.as_ref() == Some(&wanted) {
            self.progress.insert(index);
            return self.tidy(slot);
        }
        if was_settled {
            self.set_here(slot, Some(wanted), Trust::Presumed);
            return self.tidy(slot);
        }
        // What is under way just now is this: it may go on.
        if object.flying().is_none_or(|flying| flying.here.as_ref() != Some(&wanted)) {
            object.disown();
        }
        if self.restored {
            self.doubt(slot, Some(wanted));
        }
        self.add_wish(slot, Wish::new(index, What::Put(known)));
    }

    fn receive_delete(&mut self, index: u64, key: &ObjectKey, now_ms: u64) {
        let Some(slot) = self.objects.slot(key) else { return self.progress.insert(index) };
        let was_settled = self.was_settled(index);
        let superseded = self.settle_wish(slot);
        if let Some(object) = self.objects.get_mut(slot) {
            object.said = self.epoch;
        }
        let mut wish = Wish::new(index, What::Delete);
        wish.confirmed = superseded.is_some_and(|old| !old.is_put() && old.confirmed);
        if !self.delete(slot, wish, was_settled, now_ms) {
            self.progress.insert(index);
        }
    }

    fn receive_complete(&mut self, index: u64, now_ms: u64) {
        // Only the first mark of a log says anything.
        if self.complete.is_some() {
            return self.progress.insert(index);
        }
        let was_settled = self.was_settled(index);
        let unsaid = |(slot, _, object): (usize, &ObjectKey, &Object)| (object.said != self.epoch).then_some(slot);
        let unsaid: Vec<_> = self.objects.iter_from(0).filter_map(unsaid).collect();
        let mut removals = 0;
        for slot in unsaid {
            if let Some(object) = self.objects.get_mut(slot) {
                object.said = self.epoch;
            }
            let wish = Wish { implied: true, ..Wish::new(index, What::Delete) };
            removals += usize::from(self.delete(slot, wish, was_settled, now_ms));
        }
        self.complete = Some((index, removals));
        if removals == 0 {
            self.progress.insert(index);
        }
    }

    /// The author has no object of a key any more. Returns whether anything is to be done about it.
    fn delete(&mut self, slot: usize, wish: Wish, was_settled: bool, now_ms: u64) -> bool {
        let Some(object) = self.objects.get_mut(slot) else { return false };
        let flying = object.flying();
        if self.deletes == Deletes::Keep || (object.here.is_none() && flying.is_none()) {
            object.disown();
            self.set_here(slot, None, Trust::Sure);
            self.tidy(slot);
            return false;
        }
        if was_settled {
            // Unless a later delete is why this one counts as settled: then the object may still be here.
            self.set_trust(slot, Trust::PresumedGone);
            self.presumed_gone.push(slot);
            return false;
        }
        if flying.is_none_or(|flying| flying.here.is_some()) {
            object.disown();
        }
        if self.restored {
            self.doubt(slot, None);
        }
        self.deleting = match self.deleting {
            Some((first, last)) if now_ms < last.saturating_add(QUIET_MS) => Some((first, now_ms)),
            _ => Some((now_ms, now_ms)),
        };
        self.add_wish(slot, wish);
        true
    }
}
