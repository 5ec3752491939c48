//! In which order wishes become tasks.

use std::collections::BTreeSet;

/// A wish: the entry that asks for it, and the slot of its key. Keys that one entry is about differ in the slot.
pub type Item = (u64, usize);

/// Items that wait: fresh ones, and others that have failed, which wait for their time first.
#[derive(Debug, Default)]
pub struct Queue {
    fresh: BTreeSet<Item>,
    /// Failed items whose time has come.
    retry: BTreeSet<Item>,
    /// Failed items with their time.
    later: BTreeSet<(u64, Item)>,
}

impl Queue {
    pub fn push(&mut self, item: Item) {
        self.fresh.insert(item);
    }

    pub fn push_later(&mut self, due: u64, item: Item) {
        self.later.insert((due, item));
    }

    /// Takes an item out, wherever it is. `due` is what it was last pushed with.
    pub fn remove(&mut self, due: u64, item: Item) {
        let _ = self.fresh.remove(&item) || self.retry.remove(&item) || self.later.remove(&(due, item));
    }

    pub fn wake(&mut self, now: u64) {
        while let Some((_, item)) = self.later.first().copied().filter(|(due, _)| *due <= now) {
            self.later.pop_first();
            self.retry.insert(item);
        }
    }

    pub fn fresh(&self) -> Option<Item> {
        self.fresh.first().copied()
    }

    pub fn retry(&self) -> Option<Item> {
        self.retry.first().copied()
    }

    /// When there is something to do; 0 for at once.
    pub fn due(&self) -> Option<u64> {
        let now = !self.fresh.is_empty() || !self.retry.is_empty();
        if now { Some(0) } else { self.later.first().map(|(due, _)| *due) }
    }
}
