//! The sealer: turns what a consumer delivers into signed operations.
//!
//! The invariant it keeps: **an operation leaves the node only after the state stream has acknowledged it**, and the
//! next one is signed only then. So a crash between any two steps leaves either nothing of an operation, or the whole of
//! it in the state stream, from where every reader gets it; and no two operations with one number are ever signed.
//! The state stream takes an operation only behind the one that the sealer knows as last (compare-and-set), so of two
//! processes with one key one is refused.

use std::collections::VecDeque;

use p2panda_core::SigningKey;

use crate::id::LogId;
use crate::manifest::{Entry, MAX_RECORDS, Manifest, Total};
use crate::operation::{Head, LogDescriptor, Operation};
use crate::record::{Position, SourceRecord};
use crate::wire::TARGET_BATCH_LEN;

mod recover;

pub use recover::{Evidence, Plan, TailRecord, Unsettled, recover};

/// Canonical bytes that may wait to be sealed before the sealer takes no more.
pub const QUEUE_BYTES: usize = 4 * 1024 * 1024;
/// Records that may wait to be sealed before the sealer takes no more.
pub const QUEUE_RECORDS: usize = 8 * MAX_RECORDS;

/// Where a log ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tail {
    /// Its last operation, if it has any.
    pub head: Option<Head>,
    /// Position of the last record that it covers.
    pub through: Position,
    /// How much it holds.
    pub total: Total,
}

impl Tail {
    /// Where a log ends with this operation.
    pub fn after(operation: &Operation) -> Self {
        let manifest = operation.manifest();
        Self { head: Some(operation.head()), through: manifest.last(), total: manifest.after() }
    }
}

/// An operation and the records that it covers, in its order. Durable when [`Sealer::appended`] returns it.
#[derive(Clone, Debug)]
pub struct Sealed {
    /// The signed operation.
    pub operation: Operation,
    /// Its records.
    pub records: Vec<SourceRecord>,
}

/// Seals one log.
#[derive(Debug)]
pub struct Sealer {
    key: SigningKey,
    descriptor: LogDescriptor,
    log: LogId,
    durable: Tail,
    staged: Option<Sealed>,
    queue: VecDeque<SourceRecord>,
    queued_bytes: usize,
    /// Position of the last record taken into the queue or beyond.
    taken: Position,
}

impl Sealer {
    /// Continues a log at its durable end. `after` is the position that the consumer starts behind.
    pub fn new(key: SigningKey, descriptor: LogDescriptor, durable: Tail, after: Position) -> Self {
        let log = descriptor.id();
        let taken = after.max(durable.through);
        Self { key, descriptor, log, durable, staged: None, queue: VecDeque::new(), queued_bytes: 0, taken }
    }

    /// The log.
    pub fn log(&self) -> LogId {
        self.log
    }

    /// What the log is about.
    pub fn descriptor(&self) -> &LogDescriptor {
        &self.descriptor
    }

    /// The end that the state stream has acknowledged.
    pub fn durable(&self) -> Tail {
        self.durable
    }

    /// Whether there is room for another record.
    pub fn has_room(&self) -> bool {
        self.queued_bytes < QUEUE_BYTES && self.queue.len() < QUEUE_RECORDS
    }

    /// Whether records wait to be sealed, or an operation to be acknowledged.
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.staged.is_none()
    }

    /// Takes the next message of the stream. One that was taken before is ignored: consumers deliver again.
    pub fn deliver(&mut self, record: SourceRecord) {
        if record.position.seq <= self.taken.seq {
            return;
        }
        self.taken = record.position;
        self.queued_bytes += record.record.as_bytes().len();
        self.queue.push_back(record);
    }

    /// Signs the next operation when something waits and no operation is under way. It must go to the state stream,
    /// which answers with [`Sealer::appended`]; on any other answer this sealer is dropped and the log recovered.
    /// `now` is in microseconds since the Unix epoch.
    pub fn seal(&mut self, now: u64) -> Option<&Operation> {
        if self.staged.is_some() || self.queue.is_empty() {
            return None;
        }
        let mut records = Vec::new();
        let mut bytes = 0;
        while let Some(record) = self.queue.front() {
            let len = record.record.as_bytes().len();
            if !records.is_empty() && (records.len() == MAX_RECORDS || bytes + len > TARGET_BATCH_LEN) {
                break;
            }
            bytes += len;
            records.extend(self.queue.pop_front());
        }
        self.queued_bytes -= bytes;
        let entry = |r: &SourceRecord| Entry { position: r.position, digest: r.record.digest() };
        let entries = records.iter().map(entry).collect();
        // Records enter the queue in order and at most MAX_RECORDS leave it, so the manifest is always well-formed.
        let manifest = Manifest::new(self.durable.total, bytes as u64, entries).ok()?;
        let operation = Operation::sign(&self.key, self.log, self.durable.head, now, manifest);
        let staged = self.staged.insert(Sealed { operation, records });
        Some(&staged.operation)
    }

    /// The state stream has the operation: it may leave the node now.
    pub fn appended(&mut self) -> Option<Sealed> {
        let sealed = self.staged.take()?;
        self.durable = Tail::after(&sealed.operation);
        Some(sealed)
    }
}

#[cfg(test)]
mod tests;
