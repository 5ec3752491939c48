//! Which records of a log about messages one subscriber gets.

use crate::log::operation::Operation;
use crate::record::{Position, SourceRecord};
use crate::subject::Filter;
use crate::wire::batch::{Absent, SlotRef};
use crate::wire::pull::Floor;

/// What one subscriber wants of a log about messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    filter: Filter,
    floors: Vec<Floor>,
    /// The filter takes everything that the log has.
    whole: bool,
}

impl Selection {
    /// What a subscriber with this filter and these floors wants of a log with that filter.
    pub fn new(filter: Filter, floors: Vec<Floor>, log_filter: &Filter) -> Self {
        let whole = filter.covers(log_filter);
        Self { filter, floors, whole }
    }

    /// The subjects that the subscriber wants.
    pub fn filter(&self) -> &Filter {
        &self.filter
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
    pub fn select(&self, operation: &Operation, records: &[SourceRecord]) -> Vec<Selected> {
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
        operation.records().iter().map(|entry| entry.position).map(pick).collect()
    }

    fn wants(&self, position: Position, subject: &[u8]) -> bool {
        (self.whole || self.filter.matches(subject)) && !self.floors.iter().any(|f| f.holds(position, subject))
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
    pub fn slot<'a>(&self, records: &'a [SourceRecord]) -> SlotRef<'a> {
        match self {
            Self::Gone => Err(Absent::Gone),
            Self::LeftOut => Err(Absent::LeftOut),
            Self::Record(index) => records.get(*index).map(|r| &r.record).ok_or(Absent::Gone),
        }
    }
}

#[cfg(test)]
mod tests;
