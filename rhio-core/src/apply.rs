//! The applier: verifies one author's log and decides what is written to the local stream.
//!
//! The invariant it keeps: **an operation is committed only after the local stream has acknowledged every record of it,
//! and acknowledged to the provider only after the commit is stored**. So a crash between any two steps leaves records
//! in the local stream that no commit covers, never the reverse. What is found there behind the last commit is compared
//! with what the log says must follow ([`Found`]): a record that is there is not written again, and one that is there
//! although an earlier one is missing is taken out and written in its turn.
//!
//! Any failure of the local NATS drops the applier; the next one starts from the last commit.

use std::collections::VecDeque;

use bytes::Bytes;
use thiserror::Error;

use crate::codec::DecodeError;
use crate::id::{LocalSeq, LogId, OpSeq, PublicKey, SourceSeq};
use crate::log::chain::Chain;
use crate::log::commit::{Commit, pack};
use crate::log::descriptor::Kind;
use crate::log::operation::{Head, Operation, OperationError};
use crate::log::total::Total;
use crate::record::{Position, RecordParts};
use crate::subject::Filter;
use crate::wire::batch::{Batch, Slot};
use crate::wire::close::CloseCode;
use crate::wire::pull::{Floor, Pull, Want};

pub mod standing;

/// Operations that may be under way to the local stream at once.
pub const MAX_STAGED: usize = 64;
/// Canonical bytes that may be under way to the local stream before the applier takes no more.
pub const MAX_STAGED_BYTES: usize = 4 * 1024 * 1024;

/// Where a subscriber stands in a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// The last operation that is applied.
    pub head: Option<Head>,
    /// The last record that it covers.
    pub through: Position,
    /// What the log held up to there.
    pub total: Total,
    /// Where the log's records end in the local stream; 0 for none.
    pub local: LocalSeq,
    /// Records skipped so far because the source no longer had them.
    pub gone: u64,
}

impl Cursor {
    /// The first operation that is lacking.
    pub fn next(&self) -> OpSeq {
        self.head.map_or(OpSeq(0), |head| head.seq.next())
    }
}

/// The records of one life of the author's stream that the local stream holds behind the last commit, in the local
/// stream's order, whatever log they were written under.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    records: VecDeque<FoundRecord>,
    /// The last of those that were too many to remember: every record up to here is there, in order.
    through: Option<FoundRecord>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FoundRecord {
    seq: SourceSeq,
    time: Option<u64>,
    local: LocalSeq,
}

impl FoundRecord {
    fn position(&self, wanted: Position) -> Position {
        Position { seq: self.seq, time: self.time.unwrap_or(wanted.time) }
    }
}

impl Found {
    /// Most records that are remembered. There are never more in flight; after a state stream was lost there may be, and
    /// then all but the last ones are certain to be in order.
    pub const MAX: usize = 1 << 20;

    /// Notes the next record that the local stream holds. The time is part of its name: after a power cut the author's
    /// stream gives the same sequence numbers to other messages, and taking one for the other would lose it.
    pub fn push_at(&mut self, source: Position, local: LocalSeq) {
        self.note(FoundRecord { seq: source.seq, time: Some(source.time), local });
    }

    /// Notes a record of which only the sequence number is known: see [`Found::push_at`] for what that may cost.
    pub fn push(&mut self, source: SourceSeq, local: LocalSeq) {
        self.note(FoundRecord { seq: source, time: None, local });
    }

    fn note(&mut self, record: FoundRecord) {
        if self.records.len() == Self::MAX
            && let Some(oldest) = self.records.pop_front()
        {
            self.through = Some(oldest);
        }
        self.records.push_back(record);
    }

    /// Whether nothing was found.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// How many were found.
    pub fn len(&self) -> usize {
        self.records.len()
    }
}

/// A peer sent what can't be accepted. Nothing of it is written.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum Violation {
    /// The operation is not valid, or not the next one.
    #[error(transparent)]
    Operation(#[from] OperationError),
    /// A batch without exactly one slot per record.
    #[error("batch of operation {seq} has {got} slots for {expected} records")]
    Slots {
        /// The operation.
        seq: OpSeq,
        /// Records in its manifest.
        expected: usize,
        /// Slots that came.
        got: usize,
    },
    /// A record that is not what the author signed.
    #[error("record {index} of operation {seq} does not match its digest")]
    Digest {
        /// The operation.
        seq: OpSeq,
        /// The record in it.
        index: usize,
    },
    /// A record outside of what was asked for.
    #[error("record {index} of operation {seq} was not asked for")]
    Unasked {
        /// The operation.
        seq: OpSeq,
        /// The record in it.
        index: usize,
    },
    /// A record that was asked for and left out.
    #[error("record {index} of operation {seq} was left out")]
    Withheld {
        /// The operation.
        seq: OpSeq,
        /// The record in it.
        index: usize,
    },
    /// The log is said to begin before where it was, or in a place that was applied.
    #[error("log is said to begin at operation {got}, but {expected} comes next")]
    Pruned {
        /// The next operation.
        expected: OpSeq,
        /// What was said.
        got: OpSeq,
    },
    /// A peer that does not wait.
    #[error("more was sent than was asked for")]
    Flood,
    /// A frame that does not belong here.
    #[error("unexpected frame: {0}")]
    Frame(&'static str),
    /// Bytes that are no frame.
    #[error("frame {0}")]
    Decode(#[from] DecodeError),
}

impl Violation {
    /// How the stream is closed.
    pub fn code(&self) -> CloseCode {
        match self {
            Self::Operation(OperationError::Backlink(_)) => CloseCode::Diverged,
            Self::Operation(_) | Self::Digest { .. } | Self::Withheld { .. } => CloseCode::Unverified,
            _ => CloseCode::Protocol,
        }
    }
}

/// A record on its way to the local stream.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// Its index in the operation.
    pub index: usize,
    /// Where the author's stream has it.
    pub position: Position,
    /// What it says.
    pub parts: RecordParts,
}

/// What a received batch asks for, in this order.
#[derive(Debug)]
pub struct Write {
    /// Messages of the local stream that are out of place and must be deleted before anything is written.
    pub delete: Vec<LocalSeq>,
    /// The operation that the records belong to.
    pub operation: Operation,
    /// What to publish, in this order. May be empty.
    pub records: Vec<Outgoing>,
}

/// A verified operation whose records are under way.
#[derive(Debug)]
struct Staged {
    head: Head,
    raw: Bytes,
    through: Position,
    total: Total,
    bytes: usize,
    gone: u64,
    /// The last of its records that the local stream holds already.
    found: LocalSeq,
    written: bool,
}

/// Whether the author's stream stored the one before the other. Time decides, because after a power cut smaller sequence
/// numbers are given again to later messages.
fn is_before(one: Position, other: Position) -> bool {
    (one.time, one.seq) < (other.time, other.seq)
}

/// Applies one log of one author under one subscription.
#[derive(Debug)]
pub struct Applier {
    chain: Chain,
    /// Position of the last record that the chain covers.
    through: Position,
    log_filter: Filter,
    filter: Filter,
    floors: Vec<Floor>,
    durable: Cursor,
    found: Found,
    last_found: Option<Position>,
    staged: VecDeque<Staged>,
    staged_bytes: usize,
    committing: usize,
}

impl Applier {
    /// Starts from the last commit and what the local stream holds behind it.
    pub fn new(
        (author, log, log_filter): (PublicKey, LogId, Filter),
        filter: Filter,
        floors: Vec<Floor>,
        durable: Cursor,
        found: Found,
    ) -> Self {
        Self {
            chain: Chain::new(author, log, Kind::Messages).at(durable.head, durable.total),
            through: durable.through,
            log_filter,
            filter,
            floors,
            durable,
            found,
            last_found: None,
            staged: VecDeque::new(),
            staged_bytes: 0,
            committing: 0,
        }
    }

    /// What to ask a provider for now.
    pub fn pull(&self) -> Pull {
        Pull {
            log: self.chain.log(),
            next: self.chain.next(),
            held: self.chain.head().map(|head| head.hash),
            want: Want::Messages { filter: self.filter.clone(), floors: self.floors.clone() },
        }
    }

    /// The cursor that the state stream has acknowledged.
    pub fn durable(&self) -> Cursor {
        self.durable
    }

    /// Whether another batch may be taken.
    pub fn has_room(&self) -> bool {
        self.staged.len() < MAX_STAGED && self.staged_bytes < MAX_STAGED_BYTES
    }

    /// Whether nothing is under way.
    pub fn is_idle(&self) -> bool {
        self.staged.is_empty()
    }

    /// The author no longer has the operations before `first`, because its stream no longer has their records.
    ///
    /// # Errors
    /// When that would go back.
    pub fn pruned(&mut self, first: OpSeq) -> Result<(), Violation> {
        let expected = self.chain.next();
        self.chain.skip_to(first).map_err(|_| Violation::Pruned { expected, got: first })
    }

    /// Verifies a batch and says what to write. When all of it is acknowledged, [`Applier::written`] is told.
    ///
    /// # Errors
    /// When the batch can't be accepted; nothing has changed then.
    pub fn receive(&mut self, batch: Batch) -> Result<Write, Violation> {
        if !self.has_room() {
            return Err(Violation::Flood);
        }
        let operation = Operation::verify(batch.operation)?;
        self.check_order(&operation)?;
        let (wanted, bytes, gone) = self.check_slots(&operation, batch.slots)?;

        let pruned = operation.before().since(self.chain.total()).items;
        self.chain.advance(&operation);
        self.through = operation.through();
        let (delete, records, found) = self.match_found(wanted);
        self.staged_bytes += bytes;
        self.staged.push_back(Staged {
            head: operation.head(),
            raw: operation.raw().clone(),
            through: operation.through(),
            total: operation.after(),
            bytes,
            // What the author says of pruned operations can't be checked.
            gone: pruned.saturating_add(gone),
            found,
            written: false,
        });
        Ok(Write { delete, operation, records })
    }

    fn check_order(&self, operation: &Operation) -> Result<(), Violation> {
        self.chain.check(operation)?;
        if operation.first().seq <= self.through.seq || operation.after().bytes < operation.before().bytes {
            return Err(OperationError::Backwards(operation.seq()).into());
        }
        Ok(())
    }

    /// Returns what is wanted of the batch, how many bytes that takes, and how many records are gone.
    fn check_slots(&self, operation: &Operation, slots: Vec<Slot>) -> Result<(Vec<Outgoing>, usize, u64), Violation> {
        let seq = operation.seq();
        let entries = operation.records();
        if slots.len() != entries.len() {
            return Err(Violation::Slots { seq, expected: entries.len(), got: slots.len() });
        }
        let whole = self.filter.covers(&self.log_filter);
        let mut wanted = Vec::with_capacity(slots.len());
        let (mut bytes, mut gone) = (0, 0);
        for (index, (entry, slot)) in entries.iter().zip(slots).enumerate() {
            let position = entry.position;
            match slot {
                Slot::Gone => gone += 1,
                Slot::LeftOut => {
                    let below = |f: &Floor| position.seq <= f.through.seq && position.time <= f.through.time;
                    if whole && !self.floors.iter().any(below) {
                        return Err(Violation::Withheld { seq, index });
                    }
                }
                Slot::Proven(subject, proof) => {
                    if proof.digest(&subject) != entry.digest {
                        return Err(Violation::Digest { seq, index });
                    }
                    if self.filter.matches(&subject) && !self.floors.iter().any(|f| f.holds(position, &subject)) {
                        return Err(Violation::Withheld { seq, index });
                    }
                }
                Slot::Present(record, parts) => {
                    if record.digest() != entry.digest {
                        return Err(Violation::Digest { seq, index });
                    }
                    if !self.filter.matches(record.subject()) {
                        return Err(Violation::Unasked { seq, index });
                    }
                    if !self.floors.iter().any(|f| f.holds(position, record.subject())) {
                        // Counted, not taken from the manifest, where the author may have written any number.
                        bytes += record.as_bytes().len();
                        wanted.push(Outgoing { index, position, parts });
                    }
                }
            }
        }
        Ok((wanted, bytes, gone))
    }

    /// Strikes from `wanted` what the local stream holds already. Returns what must be deleted, what must be written,
    /// and the last place where something was found.
    fn match_found(&mut self, wanted: Vec<Outgoing>) -> (Vec<LocalSeq>, Vec<Outgoing>, LocalSeq) {
        let mut delete = Vec::new();
        let mut records = Vec::new();
        let mut last = LocalSeq(0);
        for outgoing in wanted {
            let wanted = outgoing.position;
            if self.found.through.is_some_and(|through| !is_before(through.position(wanted), wanted)) {
                continue;
            }
            let front = |found: &Found| found.records.front().map(|found| (found.position(wanted), found.local));
            // Behind us, and not matched: written before, and gone at the source since; or a second copy.
            while let Some((source, local)) = front(&self.found).filter(|(source, _)| is_before(*source, wanted)) {
                self.found.records.pop_front();
                if self.last_found.is_some_and(|last| source.seq <= last.seq && source.time <= last.time) {
                    delete.push(local);
                } else {
                    (self.last_found, last) = (Some(source), last.max(local));
                }
            }
            match front(&self.found) {
                Some((source, local)) if source == wanted => {
                    self.found.records.pop_front();
                    (self.last_found, last) = (Some(source), last.max(local));
                }
                // A later record is there and this one is not. What is there must not stay before it.
                Some(_) => {
                    delete.extend(self.found.records.drain(..).map(|found| found.local));
                    records.push(outgoing);
                }
                None => records.push(outgoing),
            }
        }
        (delete, records, last)
    }

    /// Every record of the oldest operation that is not written yet is acknowledged; `last` is the sequence number that
    /// the local stream gave the last one (`None` when there was nothing to write).
    pub fn written(&mut self, last: Option<LocalSeq>) {
        if let Some(staged) = self.staged.iter_mut().find(|staged| !staged.written) {
            staged.written = true;
            staged.found = staged.found.max(last.unwrap_or_default());
        }
    }

    /// The next commit, when something is written and no commit is under way. The state stream must take it only behind
    /// the last one, and answers with [`Applier::committed`].
    pub fn commit(&mut self) -> Option<Commit> {
        if self.committing > 0 {
            return None;
        }
        let written = self.staged.iter().take_while(|staged| staged.written);
        let count = pack(written.map(|staged| staged.raw.len()));
        let mut commit = Commit { local: self.durable.local, gone: self.durable.gone, operations: Vec::new() };
        for staged in self.staged.iter().take(count) {
            commit.local = commit.local.max(staged.found);
            commit.gone = commit.gone.saturating_add(staged.gone);
            commit.operations.push(staged.raw.clone());
        }
        self.committing = commit.operations.len();
        (self.committing > 0).then_some(commit)
    }

    /// The commit is stored. Returns the head to acknowledge to the provider.
    pub fn committed(&mut self) -> Option<Head> {
        for staged in self.staged.drain(..self.committing) {
            self.staged_bytes -= staged.bytes;
            self.durable = Cursor {
                head: Some(staged.head),
                through: staged.through,
                total: staged.total,
                local: self.durable.local.max(staged.found),
                gone: self.durable.gone.saturating_add(staged.gone),
            };
        }
        self.committing = 0;
        self.durable.head
    }
}

#[cfg(test)]
mod tests;
