//! What goes on between buckets, for whoever looks: kept in memory only.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use prometheus::IntCounter;
use rhio_core::id::PublicKey;
use rhio_core::object::ObjectKey;

use crate::metrics::Metrics;
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

impl Direction {
    /// Its name, as metrics have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Import => "import",
            Self::Send => "send",
            Self::Receive => "receive",
        }
    }
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
#[derive(Debug)]
pub struct Transfers {
    running: Arc<Mutex<BTreeMap<u64, Arc<Running>>>>,
    next: AtomicU64,
    metrics: Arc<Metrics>,
}

impl Transfers {
    /// None yet. What becomes of them is counted in `metrics`.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { running: Arc::default(), next: AtomicU64::new(0), metrics }
    }

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
        let bytes = self.metrics.transfer_bytes.with_label_values(&[direction.name()]);
        let (all, metrics) = (Arc::clone(&self.running), Arc::clone(&self.metrics));
        Progress { number, running, all, bytes, metrics, done: AtomicBool::new(false) }
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
    bytes: IntCounter,
    metrics: Arc<Metrics>,
    done: AtomicBool,
}

impl Progress {
    /// What counts for it where its owner can't go.
    pub fn counter(&self) -> Counter {
        Counter { running: Arc::clone(&self.running), bytes: self.bytes.clone() }
    }

    /// So many bytes more are done.
    pub fn add(&self, bytes: u64) {
        self.counter().add(bytes);
    }

    /// So many bytes had been there before.
    pub fn resume(&self, bytes: u64) {
        self.running.before.store(bytes, Ordering::Relaxed);
    }

    /// It came to its end; one that goes without this has failed.
    pub fn done(&self) {
        self.done.store(true, Ordering::Relaxed);
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
    bytes: IntCounter,
}

impl Counter {
    /// So many bytes more are done.
    pub fn add(&self, bytes: u64) {
        self.running.moved.fetch_add(bytes, Ordering::Relaxed);
        self.bytes.inc_by(bytes);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        lock(&self.all).remove(&self.number);
        let (direction, done) = (self.running.direction.name(), self.done.load(Ordering::Relaxed));
        self.metrics.transfers.with_label_values(&[direction, if done { "done" } else { "failed" }]).inc();
        if done {
            let seconds = self.running.since.elapsed().as_secs_f64();
            self.metrics.transfer_seconds.with_label_values(&[direction]).observe(seconds);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transfer_is_listed_while_it_goes_on() {
        let metrics = Arc::new(Metrics::new().unwrap());
        let ended = |outcome| metrics.transfers.with_label_values(&["receive", outcome]).get();
        let transfers = Transfers::new(Arc::clone(&metrics));
        let key = ObjectKey::new("k").unwrap();
        let progress = transfers.begin(Direction::Receive, "b", &key, 100, None);
        progress.resume(30);
        progress.add(20);
        let [transfer] = &transfers.list()[..] else { panic!("one transfer") };
        let moved = metrics.transfer_bytes.with_label_values(&["receive"]).get();
        assert_eq!((transfer.done, transfer.size, moved), (50, 100, 20));
        drop(progress);
        assert!(transfers.list().is_empty());
        transfers.begin(Direction::Receive, "b", &key, 100, None).done();
        assert_eq!((ended("failed"), ended("done")), (1, 1));
    }
}
