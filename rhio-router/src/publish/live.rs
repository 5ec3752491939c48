//! A log that is being written: its durable end, and the ring of its most recent batches.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use rhio_core::id::{LogId, OpSeq, SourceSeq};
use rhio_core::log::descriptor::LogDescriptor;
use rhio_core::log::operation::Operation;
use rhio_core::record::SourceRecord;
use rhio_core::seal::{Sealed, Tail};
use rhio_core::subject::Filter;
use rhio_core::wire::encode_batch;
use tokio::sync::{Notify, watch};
use tokio::time::{Duration, Instant};

use rhio_nats::source::SourceStream;

/// Canonical bytes that a ring holds, at most; a single larger batch is held too.
const RING_BYTES: usize = 6 * 1024 * 1024;

/// A batch that was sealed.
#[derive(Debug)]
pub struct Recent {
    /// The operation.
    pub operation: Operation,
    /// Its records.
    pub records: Vec<SourceRecord>,
    bytes: usize,
    whole: OnceLock<Bytes>,
}

impl Recent {
    fn new(sealed: Sealed) -> Self {
        let bytes = sealed.records.iter().map(|r| r.record.as_bytes().len()).sum();
        Self { operation: sealed.operation, records: sealed.records, bytes, whole: OnceLock::new() }
    }

    /// The frame with every record, encoded once for all subscribers that want it all.
    pub fn whole_frame(&self) -> Bytes {
        let slots = || self.records.iter().map(|r| Ok(&r.record));
        self.whole.get_or_init(|| encode_batch(self.operation.raw(), slots())).clone()
    }
}

/// How long a session that stands still holds the sealer up.
const STANDSTILL: Duration = Duration::from_millis(250);
/// How long after it began a session may hold the sealer up.
const HEAD_START: Duration = Duration::from_secs(60);

/// The session that is furthest.
///
/// While a subscriber catches up, a sealer that runs ahead of it would drop batches from the ring that are then read
/// from the stream a second time. So for a while it waits for the fastest session, as long as that one moves.
#[derive(Debug)]
struct Pace {
    next: OpSeq,
    moved: Instant,
    begun: Instant,
}

/// How far a log is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Its durable end.
    pub tail: Tail,
    /// Messages that wait in the stream to be sealed; `None` while unknown.
    pub pending: Option<u64>,
}

/// A log that is being written.
#[derive(Debug)]
pub struct LiveLog {
    /// What it is about.
    pub descriptor: LogDescriptor,
    /// Its name.
    pub log: LogId,
    /// The stream that it describes.
    pub source: SourceStream,
    progress: watch::Sender<Progress>,
    ring: Mutex<VecDeque<Arc<Recent>>>,
    pace: Mutex<Option<Pace>>,
    paced: Notify,
    applied: watch::Sender<Applied>,
}

/// How far subscribers have it durably, by the filter that each one asked with.
pub type Applied = Vec<(Filter, SourceSeq)>;

/// Filters that are remembered; a queue has few subscribers.
const MAX_APPLIED: usize = 64;

impl LiveLog {
    /// A log that ends at `tail`, with nothing in its ring.
    pub fn new(descriptor: LogDescriptor, source: SourceStream, tail: Tail) -> Self {
        Self {
            log: descriptor.id(),
            descriptor,
            source,
            progress: watch::Sender::new(Progress { tail, pending: None }),
            ring: Mutex::default(),
            pace: Mutex::default(),
            paced: Notify::new(),
            applied: watch::Sender::default(),
        }
    }

    /// Its durable end, now and whenever it moves.
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Adds a batch that the state stream has acknowledged, and wakes the sessions.
    pub fn release(&self, sealed: Sealed) {
        let recent = Arc::new(Recent::new(sealed));
        let tail = Tail::after(&recent.operation);
        {
            let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
            let mut bytes: usize = recent.bytes + ring.iter().map(|r| r.bytes).sum::<usize>();
            while bytes > RING_BYTES
                && let Some(oldest) = ring.pop_front()
            {
                bytes -= oldest.bytes;
            }
            ring.push_back(recent);
        }
        self.progress.send_modify(|progress| progress.tail = tail);
    }

    /// A session has sent everything before `next`, or begins there.
    pub fn note_sent(&self, next: OpSeq) {
        let now = Instant::now();
        {
            let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
            match pace.as_mut().filter(|pace| pace.moved.elapsed() < STANDSTILL) {
                Some(pace) if next > pace.next => (pace.next, pace.moved) = (next, now),
                Some(_) => return,
                None => {
                    let begun = pace.as_ref().map_or(now, |pace| pace.begun);
                    *pace = Some(Pace { next, moved: now, begun });
                }
            }
        }
        self.paced.notify_one();
    }

    /// Whether sealing more would drop a batch from the ring that the fastest session is about to take.
    pub fn is_ahead(&self) -> bool {
        let oldest = {
            let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
            let full = ring.iter().map(|recent| recent.bytes).sum::<usize>() >= RING_BYTES * 3 / 4;
            ring.front().filter(|_| full).map(|recent| recent.operation.seq())
        };
        let pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
        let moving = |pace: &&Pace| pace.moved.elapsed() < STANDSTILL && pace.begun.elapsed() < HEAD_START;
        match (oldest, pace.as_ref().filter(moving)) {
            (Some(oldest), Some(pace)) => pace.next <= oldest,
            _ => false,
        }
    }

    /// Waits until the fastest session has moved, or has stood still for too long.
    pub async fn wait_for_pace(&self) {
        let _ = tokio::time::timeout(STANDSTILL, self.paced.notified()).await;
    }

    /// Notes how many messages wait to be sealed.
    pub fn set_pending(&self, pending: Option<u64>) {
        self.progress.send_if_modified(|progress| {
            let changed = progress.pending != pending;
            progress.pending = pending;
            // Nobody needs to wake up for this; it is read when something else happens.
            let _ = changed;
            false
        });
    }

    /// The oldest operation in the ring.
    pub fn ring_start(&self) -> Option<OpSeq> {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        ring.front().map(|recent| recent.operation.seq())
    }

    /// A batch from the ring.
    pub fn recent(&self, seq: OpSeq) -> Option<Arc<Recent>> {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let start = ring.front()?.operation.seq();
        let index = usize::try_from(seq.0.checked_sub(start.0)?).ok()?;
        ring.get(index).cloned()
    }

    /// Some subscriber has everything under `filter` up to this record durably.
    pub fn note_applied(&self, filter: &Filter, through: SourceSeq) {
        self.applied.send_if_modified(|applied| {
            let known = applied.iter().position(|(known, _)| known == filter);
            let room = applied.len() < MAX_APPLIED;
            match known.and_then(|index| applied.get_mut(index)) {
                Some((_, before)) if *before >= through => false,
                Some((_, before)) => {
                    *before = through;
                    true
                }
                None => {
                    if room {
                        applied.push((filter.clone(), through));
                    }
                    room
                }
            }
        });
    }

    /// How far subscribers have it durably.
    pub fn applied(&self) -> watch::Receiver<Applied> {
        self.applied.subscribe()
    }
}
