//! A provider's session: serves one log to one subscriber, from the operation that it names.
//!
//! The subscriber pulls: it says what it holds, the session decides whether its copy and the log are one chain, what to
//! send next, from where, and which records to leave out. It keeps a position, never data, so a slow subscriber costs
//! nothing but its own stream.

use crate::id::{OpHash, OpSeq};
use crate::operation::{Head, Operation};
use crate::record::{CanonicalRecord, Position, SourceRecord};
use crate::subject::Filter;
use crate::wire::{Absent, CloseCode, Floor, Pull};

/// Why a pull is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The subscriber holds operations that this node signed and does not have: it forgot them, and must take them back.
    Behind,
    /// The subscriber holds another operation under the same number.
    Diverged,
}

impl Refusal {
    /// How the stream is closed.
    pub fn code(self) -> CloseCode {
        match self {
            Self::Behind => CloseCode::Unavailable,
            Self::Diverged => CloseCode::Diverged,
        }
    }
}

/// Where the next operation comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The ring of recent batches has it.
    Ring(OpSeq),
    /// Read the operation from the state stream, from this number on, and its records from the source's stream.
    Log(OpSeq),
    /// Everything has been sent.
    Wait,
}

/// One subscriber's session.
#[derive(Clone, Debug)]
pub struct Session {
    filter: Filter,
    floors: Vec<Floor>,
    /// The filter takes everything that the log has.
    whole: bool,
    next: OpSeq,
    applied: Option<Head>,
}

impl Session {
    /// Opens a session. `head` is the log's last durable operation, `before` the hash that the log has for the operation
    /// before the one asked for (`None` when it is the first, or pruned).
    ///
    /// # Errors
    /// When the subscriber's copy is not a beginning of this log.
    pub fn open(pull: Pull, log_filter: &Filter, head: Option<Head>, before: Option<OpHash>) -> Result<Self, Refusal> {
        let end = head.map_or(OpSeq(0), |head| head.seq.next());
        if pull.next > end {
            return Err(Refusal::Behind);
        }
        if let (Some(ours), Some(theirs)) = (before, pull.held)
            && ours != theirs
        {
            return Err(Refusal::Diverged);
        }
        let whole = pull.filter.covers(log_filter);
        Ok(Self { filter: pull.filter, floors: pull.floors, whole, next: pull.next, applied: None })
    }

    /// What to do next, when the log ends at `head` and the ring begins at `ring`.
    pub fn step(&self, head: Option<Head>, ring: Option<OpSeq>) -> Step {
        match head {
            Some(head) if self.next <= head.seq => match ring {
                Some(first) if first <= self.next => Step::Ring(self.next),
                _ => Step::Log(self.next),
            },
            _ => Step::Wait,
        }
    }

    /// The next operation that is to be sent.
    pub fn next(&self) -> OpSeq {
        self.next
    }

    /// The subjects that the subscriber wants.
    pub fn filter(&self) -> &Filter {
        &self.filter
    }

    /// The operations before `first` have been pruned; the subscriber must be told.
    pub fn skip_to(&mut self, first: OpSeq) {
        self.next = self.next.max(first);
    }

    /// Whether every record at or before this position is left out, whatever its subject, so that it need not be read.
    pub fn is_below_floors(&self, position: Position) -> bool {
        self.floors.iter().any(|floor| {
            position.seq <= floor.through.seq
                && position.time <= floor.through.time
                && floor.filter.covers(&self.filter)
        })
    }

    /// Picks what the subscriber gets of a batch. `records` are those of the manifest that the source still holds, in
    /// its order; for a filter narrower than the log's, those under the filter are enough.
    pub fn select(&mut self, operation: &Operation, records: &[SourceRecord]) -> Vec<Selected> {
        self.next = operation.seq().next();
        let mut records = records.iter().enumerate().peekable();
        let pick = |position: Position| {
            while records.next_if(|(_, r)| r.position.seq < position.seq).is_some() {}
            match records.next_if(|(_, r)| r.position.seq == position.seq) {
                // The number was given again to another message: what the operation covers is gone.
                Some((_, r)) if r.position.time != position.time => Selected::Gone,
                Some((index, r)) if self.wants(position, r.record.subject()) => Selected::Record(index),
                Some(_) => Selected::LeftOut,
                // Under a narrower filter the stream was not asked for the others.
                None if !self.whole || self.is_below_floors(position) => Selected::LeftOut,
                None => Selected::Gone,
            }
        };
        operation.manifest().entries().iter().map(|entry| entry.position).map(pick).collect()
    }

    fn wants(&self, position: Position, subject: &str) -> bool {
        (self.whole || self.filter.matches(subject)) && !self.floors.iter().any(|f| f.holds(position, subject))
    }

    /// The subscriber says that everything up to here is durable on its side.
    ///
    /// # Errors
    /// When it was never sent that far: a protocol violation.
    pub fn applied(&mut self, head: Head) -> Result<(), CloseCode> {
        if head.seq >= self.next {
            return Err(CloseCode::Protocol);
        }
        if self.applied.is_none_or(|before| before.seq < head.seq) {
            self.applied = Some(head);
        }
        Ok(())
    }

    /// How far the subscriber has it durably, as far as this session knows.
    pub fn durable(&self) -> Option<Head> {
        self.applied
    }
}

/// What goes into a slot of the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selected {
    /// Gone at the source.
    Gone,
    /// Not for this subscriber.
    LeftOut,
    /// The record with this index.
    Record(usize),
}

impl Selected {
    /// The slot to encode, with the record from among those that were selected from.
    pub fn slot<'a>(&self, records: &'a [SourceRecord]) -> Result<&'a CanonicalRecord, Absent> {
        match self {
            Self::Gone => Err(Absent::Gone),
            Self::LeftOut => Err(Absent::LeftOut),
            Self::Record(index) => records.get(*index).map(|r| &r.record).ok_or(Absent::Gone),
        }
    }
}

#[cfg(test)]
mod tests;
