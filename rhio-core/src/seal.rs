//! The sealer: turns what a consumer delivers into signed operations.
//!
//! What leaves the node and when is decided by the log's [`Writer`]. Here it is decided what goes into which operation.

use std::collections::VecDeque;

use p2panda_core::SigningKey;

use crate::id::LogId;
use crate::log::descriptor::LogDescriptor;
use crate::log::operation::{Head, Operation};
use crate::log::total::Total;
use crate::log::writer::Writer;
use crate::manifest::{Entry, MAX_RECORDS, Manifest};
use crate::record::{Position, SourceRecord};
use crate::wire::batch::TARGET_BATCH_LEN;

mod logs;
mod recover;
mod settle;
mod source;

pub use logs::{Known, MAX_CLOSED, Origin, OwnLogs, Wanted, Writable, find_log};
pub use recover::{Evidence, Plan, TailRecord, Unsettled, recover};
pub use settle::{Answer, Given, Holder, OwnLog, take_back};
pub use source::{SourceEnd, tail_record};

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
        Self { head: Some(operation.head()), through: operation.through(), total: operation.after() }
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
    descriptor: LogDescriptor,
    writer: Writer,
    through: Position,
    /// The records of the operation that is staged.
    staged: Vec<SourceRecord>,
    queue: VecDeque<SourceRecord>,
    queued_bytes: usize,
    /// Position of the last record taken into the queue or beyond.
    taken: Position,
}

impl Sealer {
    /// Continues a log at its durable end. `after` is the position that the consumer starts behind.
    pub fn new(key: SigningKey, descriptor: LogDescriptor, durable: Tail, after: Position) -> Self {
        let writer = Writer::new(key, descriptor.id(), durable.head, durable.total);
        let through = durable.through;
        let (queue, taken) = (VecDeque::new(), after.max(through));
        Self { descriptor, writer, through, staged: Vec::new(), queue, queued_bytes: 0, taken }
    }

    /// The log.
    pub fn log(&self) -> LogId {
        self.writer.log()
    }

    /// What the log is about.
    pub fn descriptor(&self) -> &LogDescriptor {
        &self.descriptor
    }

    /// The end that the state stream has acknowledged.
    pub fn durable(&self) -> Tail {
        Tail { head: self.writer.head(), through: self.through, total: self.writer.total() }
    }

    /// Whether there is room for another record.
    pub fn has_room(&self) -> bool {
        self.queued_bytes < QUEUE_BYTES && self.queue.len() < QUEUE_RECORDS
    }

    /// Whether records wait to be sealed, or an operation to be acknowledged.
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.writer.staged().is_none()
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
        if self.writer.staged().is_some() || self.queue.is_empty() {
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
        let manifest = Manifest::new(bytes as u64, entries).ok()?;
        self.staged = records;
        self.writer.stage(manifest, now)
    }

    /// The state stream has the operation: it may leave the node now.
    pub fn appended(&mut self) -> Option<Sealed> {
        let operation = self.writer.appended()?;
        self.through = operation.through();
        Some(Sealed { operation, records: std::mem::take(&mut self.staged) })
    }
}

#[cfg(test)]
mod tests;
