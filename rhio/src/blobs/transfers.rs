//! What goes on between buckets, for whoever looks: kept in memory only.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use rhio_core::id::PublicKey;
use rhio_core::object::ObjectKey;
use tokio::time::Instant;

/// Which way content goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From a local bucket or file into the catalog.
    Import,
    /// To another node.
    Send,
    /// From another node.
    Receive,
}

/// One of them.
#[derive(Clone, Debug)]
pub struct Transfer {
    /// Which way.
    pub direction: Direction,
    /// The local bucket.
    pub bucket: String,
    /// The object.
    pub key: ObjectKey,
    /// Its bytes.
    pub size: u64,
    /// Bytes that are done; for a transfer that was resumed, with what had been there.
    pub done: u64,
    /// Bytes per second since it began, of what was moved since then.
    pub rate: f64,
    /// The other node.
    pub peer: Option<PublicKey>,
    /// When it began here.
    pub begun: SystemTime,
}

#[derive(Debug)]
struct Running {
    direction: Direction,
    bucket: String,
    key: ObjectKey,
    size: u64,
    peer: Option<PublicKey>,
    begun: SystemTime,
    since: Instant,
    moved: AtomicU64,
    before: AtomicU64,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Transfers {
    running: Arc<Mutex<BTreeMap<u64, Arc<Running>>>>,
    next: AtomicU64,
    received: Arc<AtomicU64>,
}

impl Transfers {
    /// Notes that one begins. It ends when what is returned goes.
    pub fn begin(
        &self,
        direction: Direction,
        bucket: &str,
        key: &ObjectKey,
        size: u64,
        peer: Option<PublicKey>,
    ) -> Progress {
        let running = Arc::new(Running {
            direction,
            bucket: bucket.to_owned(),
            key: key.clone(),
            size,
            peer,
            begun: SystemTime::now(),
            since: Instant::now(),
            moved: AtomicU64::new(0),
            before: AtomicU64::new(0),
        });
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        lock(&self.running).insert(number, Arc::clone(&running));
        Progress { number, running, all: Arc::clone(&self.running), received: Arc::clone(&self.received) }
    }

    /// Bytes of content that came from other nodes since the start.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// What goes on now, oldest first.
    pub fn list(&self) -> Vec<Transfer> {
        let running: Vec<_> = lock(&self.running).values().cloned().collect();
        running.iter().map(|running| running.report()).collect()
    }
}

impl Running {
    fn report(&self) -> Transfer {
        let moved = self.moved.load(Ordering::Relaxed);
        let seconds = self.since.elapsed().as_secs_f64().max(0.001);
        Transfer {
            direction: self.direction,
            bucket: self.bucket.clone(),
            key: self.key.clone(),
            size: self.size,
            done: (moved + self.before.load(Ordering::Relaxed)).min(self.size),
            rate: moved as f64 / seconds,
            peer: self.peer,
            begun: self.begun,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A transfer that goes on.
#[derive(Debug)]
pub struct Progress {
    number: u64,
    running: Arc<Running>,
    all: Arc<Mutex<BTreeMap<u64, Arc<Running>>>>,
    received: Arc<AtomicU64>,
}

impl Progress {
    /// What counts for it where its owner can't go.
    pub fn counter(&self) -> Counter {
        Counter { running: Arc::clone(&self.running), received: Arc::clone(&self.received) }
    }

    /// So many bytes more are done.
    pub fn add(&self, bytes: u64) {
        self.counter().add(bytes);
    }

    /// So many bytes had been there before.
    pub fn resume(&self, bytes: u64) {
        self.running.before.store(bytes, Ordering::Relaxed);
    }

    /// How it stands.
    pub fn report(&self) -> Transfer {
        self.running.report()
    }
}

/// Counts for a transfer.
#[derive(Clone, Debug)]
pub struct Counter {
    running: Arc<Running>,
    received: Arc<AtomicU64>,
}

impl Counter {
    /// So many bytes more are done.
    pub fn add(&self, bytes: u64) {
        self.running.moved.fetch_add(bytes, Ordering::Relaxed);
        if self.running.direction == Direction::Receive {
            self.received.fetch_add(bytes, Ordering::Relaxed);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        lock(&self.all).remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transfer_is_listed_while_it_goes_on() {
        let transfers = Transfers::default();
        let key = ObjectKey::new("k").unwrap();
        let progress = transfers.begin(Direction::Receive, "b", &key, 100, None);
        progress.resume(30);
        progress.add(20);
        let [transfer] = &transfers.list()[..] else { panic!("one transfer") };
        assert_eq!((transfer.done, transfer.size, transfers.received()), (50, 100, 20));
        drop(progress);
        assert!(transfers.list().is_empty());
    }
}
