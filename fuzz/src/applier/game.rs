//! The applier beside a model of what it may do.

use std::collections::{BTreeMap, VecDeque};

use arbitrary::{Result, Unstructured};
use bytes::Bytes;
use rhio_core::apply::{Applier, Cursor, Found, Violation, Write};
use rhio_core::id::{LocalSeq, OpHash, OpSeq};
use rhio_core::log::commit::{Commit, MAX_OPERATIONS};
use rhio_core::log::operation::{Head, Operation};
use rhio_core::log::total::Total;
use rhio_core::record::Position;
use rhio_core::select::{Selected, Selection};
use rhio_core::subject::Filter;
use rhio_core::wire::{Batch, Floor, Slot};

use super::{FIRST, spoil};
use crate::session;
use crate::world::World;

/// An operation that the applier took.
struct Taken {
    operation: Operation,
    /// What the local stream gave its last record.
    last: Option<LocalSeq>,
    written: bool,
    /// Records that were gone, and those of operations that were pruned before this one.
    gone: u64,
}

/// Everything on the table.
pub struct Game {
    world: World,
    filter: Filter,
    floors: Vec<Floor>,
    applier: Applier,
    /// Where the applier must be: the last commit.
    durable: Cursor,
    /// What it took since then.
    taken: VecDeque<Taken>,
    /// How many of these are in the commit under way.
    committing: usize,
    pruned_to: Option<OpSeq>,
    /// This log's records in the local stream.
    local: BTreeMap<LocalSeq, Position>,
    next_local: LocalSeq,
    /// What the author signed beside its honest log.
    nonsense: Vec<Bytes>,
}

impl Game {
    pub fn new(world: World, filter: Filter, floors: Vec<Floor>, start: usize, held: Vec<Position>) -> Self {
        let tail = world.tail(start);
        let durable = Cursor { head: tail.head, through: tail.through, total: tail.total, local: LocalSeq(0), gone: 0 };
        let local: BTreeMap<_, _> = (FIRST.0..).map(LocalSeq).zip(held).collect();
        let next_local = local.last_key_value().map_or(FIRST, |(last, _)| last.next());
        let applier = applier(&world, &filter, &floors, durable, &local);
        Self {
            world,
            filter,
            floors,
            applier,
            durable,
            taken: VecDeque::new(),
            committing: 0,
            pruned_to: None,
            local,
            next_local,
            nonsense: Vec::new(),
        }
    }

    pub fn world(&self) -> &World {
        &self.world
    }

    /// The author signs something beside its log.
    pub fn sign(&mut self, operation: &Operation) {
        self.nonsense.push(operation.raw().clone());
    }

    fn head(&self) -> Option<Head> {
        self.taken.back().map(|taken| taken.operation.head()).or(self.durable.head)
    }

    /// How much the log held at the last operation that was taken.
    pub fn total(&self) -> Total {
        self.taken.back().map_or(self.durable.total, |taken| taken.operation.after())
    }

    /// The last position that was taken.
    pub fn through(&self) -> Position {
        self.taken.back().map_or(self.durable.through, |taken| taken.operation.through())
    }

    fn expected(&self) -> OpSeq {
        self.head().map_or(OpSeq(0), |head| head.seq.next())
    }

    /// What an operation must follow to be taken next; where the log is pruned it may follow anything, too.
    pub fn expects_after(&self, pruned: bool) -> Option<Head> {
        let before = self.pruned_to.filter(|_| pruned).and_then(|first| first.0.checked_sub(1));
        before.map_or(self.head(), |seq| Some(Head { seq: OpSeq(seq), hash: OpHash::from_bytes([9; 32]) }))
    }

    /// What an honest provider sends next, if the applier still follows the honest log.
    pub fn honest(&self, u: &mut Unstructured<'_>) -> Result<Option<Batch>> {
        let sealed = match self.pruned_to {
            // An author that signed nonsense has no honest log to go on with.
            Some(first) => self.world.at(first).filter(|_| self.head().is_none_or(|head| self.world.holds(head))),
            None => self.world.behind(self.head()),
        };
        sealed.map(|sealed| self.served(u, sealed)).transpose()
    }

    /// An operation of the honest log, whether it fits or not.
    pub fn any_batch(&self, u: &mut Unstructured<'_>) -> Result<Batch> {
        let sealed = &self.world.log[u.choose_index(self.world.log.len())?];
        self.served(u, sealed)
    }

    fn served(&self, u: &mut Unstructured<'_>, sealed: &rhio_core::seal::Sealed) -> Result<Batch> {
        let selection = Selection::new(self.filter.clone(), self.floors.clone(), &self.world.filter);
        let there = session::source(u, &sealed.records)?;
        let selected = selection.select(&sealed.operation, &there);
        let slot = |selected: Selected| match selected {
            Selected::Gone => Slot::Gone,
            Selected::LeftOut => Slot::LeftOut,
            Selected::Record(index) => spoil::present(&there[index].record),
        };
        let slots = selected.into_iter().map(slot).collect();
        Ok(spoil::travel(Batch { operation: sealed.operation.raw().clone(), slots }))
    }

    /// What an honest provider sends is taken.
    pub fn receive_honest(&mut self, batch: Batch) {
        let room = self.applier.has_room();
        match self.receive(batch) {
            Ok(()) => {}
            Err(Violation::Flood) if !room => {}
            Err(violation) => panic!("an honest batch was refused: {violation}"),
        }
    }

    /// What anybody sends is taken or refused.
    pub fn receive_any(&mut self, batch: Batch) {
        if let Err(violation) = self.receive(batch) {
            let _ = violation.code();
        }
    }

    /// Hands a batch to the applier and checks what comes of it.
    fn receive(&mut self, batch: Batch) -> std::result::Result<(), Violation> {
        let before = (self.applier.pull(), self.applier.durable(), self.applier.has_room(), self.applier.is_idle());
        match self.applier.receive(batch.clone()) {
            Ok(write) => {
                assert!(before.2, "more was taken than there is room for");
                self.check(&batch, write);
                Ok(())
            }
            Err(violation) => {
                let after =
                    (self.applier.pull(), self.applier.durable(), self.applier.has_room(), self.applier.is_idle());
                assert_eq!(before, after, "a refused batch changed something");
                Err(violation)
            }
        }
    }

    fn check(&mut self, batch: &Batch, write: Write) {
        let operation = Operation::read_stored(batch.operation.clone()).expect("what is written is an operation");
        assert_eq!(write.operation, operation);
        // This says more than that the signature is right.
        assert!(self.world.signed(&operation) || self.nonsense.contains(operation.raw()), "it was never signed");
        if self.pruned_to != Some(operation.seq()) {
            let chain = self.world.chain().at(self.head(), self.total());
            chain.check(&operation).expect("what is written is the next operation of the author's log");
        }
        let (entries, total) = (operation.records().to_vec(), self.total());
        assert!(operation.seq() >= self.expected() && operation.first().seq > self.through().seq, "it goes back");
        let pruned = operation.before().items.checked_sub(total.items).expect("the log does not become less");
        assert!(self.pruned_to.is_some() || operation.before() == total, "totals jump");

        assert_eq!(batch.slots.len(), entries.len());
        let whole = self.filter.covers(&self.world.filter);
        let (mut wanted, mut gone) = (Vec::new(), pruned);
        for (entry, slot) in entries.iter().zip(&batch.slots) {
            let position = entry.position;
            match slot {
                Slot::Gone => gone = gone.saturating_add(1),
                Slot::LeftOut => {
                    let below = |f: &Floor| position.seq <= f.through.seq && position.time <= f.through.time;
                    assert!(!whole || self.floors.iter().any(below), "a record was held back unnoticed");
                }
                Slot::Proven(subject, proof) => {
                    assert_eq!(proof.digest(subject), entry.digest, "a proof of something else was let through");
                    let held = self.floors.iter().any(|floor| floor.holds(position, subject));
                    assert!(held || !self.filter.matches(subject), "a record was held back unnoticed");
                }
                Slot::Present(record, _) => {
                    assert_eq!(record.digest(), entry.digest, "a record that was not signed was let through");
                    if !self.floors.iter().any(|floor| floor.holds(position, record.subject())) {
                        wanted.push(position);
                    }
                }
            }
        }

        let before = self.local.clone();
        for local in &write.delete {
            let deleted = self.local.remove(local).expect("what is to be deleted is there");
            let key = |position: Position| (position.time, position.seq);
            let missing = write.records.iter().any(|outgoing| key(outgoing.position) < key(deleted));
            let again = before.range(..local).any(|(_, held)| key(*held) >= key(deleted));
            assert!(missing || again, "{deleted:?} is deleted although it is in its place");
        }
        assert!(write.records.windows(2).all(|pair| pair[0].index < pair[1].index));
        let mut last = None;
        for outgoing in &write.records {
            let entry = entries[outgoing.index];
            assert_eq!(outgoing.position, entry.position);
            let record = spoil::recompose(&outgoing.parts);
            assert_eq!(record.digest(), entry.digest, "what is written was not signed");
            assert!(self.filter.matches(record.subject()), "what is written was not asked for");
            assert!(wanted.contains(&outgoing.position), "what is written was not sent, or is held already");
            self.local.insert(self.next_local, outgoing.position);
            last = Some(self.next_local);
            self.next_local = self.next_local.next();
        }
        let holds = |position: &Position| self.local.values().any(|held| held == position);
        assert!(wanted.iter().all(holds), "a record is missing in the local stream");
        // Whoever signs nonsense may sign any order.
        if last.is_some() && self.nonsense.is_empty() {
            let order: Vec<_> = self.local.values().map(|position| (position.time, position.seq)).collect();
            assert!(order.is_sorted_by(|a, b| a < b), "the local stream holds {order:?}");
        }
        self.taken.push_back(Taken { operation, last, written: false, gone });
        self.pruned_to = None;
    }

    /// The provider says that the log begins later.
    pub fn pruned(&mut self, first: OpSeq) {
        let expected = self.expected();
        match self.applier.pruned(first) {
            Ok(()) => {
                assert!(first >= expected);
                self.pruned_to = (first > expected).then_some(first);
            }
            Err(violation) => assert_eq!(violation, Violation::Pruned { expected, got: first }),
        }
    }

    /// The local stream acknowledged the oldest operation's records.
    pub fn written(&mut self) {
        let Some(taken) = self.taken.iter_mut().find(|taken| !taken.written) else { return };
        taken.written = true;
        self.applier.written(taken.last);
    }

    /// Asks for a commit, or says that the one under way is stored.
    pub fn commit(&mut self) {
        if self.committing == 0 {
            let Some(commit) = self.applier.commit() else {
                assert!(self.taken.front().is_none_or(|taken| !taken.written), "what is written is not committed");
                return;
            };
            assert_eq!(Commit::decode(commit.encode()).as_ref(), Ok(&commit));
            assert!(commit.operations.len() <= MAX_OPERATIONS && commit.local >= self.durable.local);
            self.committing = commit.operations.len();
            let mut gone = self.durable.gone;
            for (raw, taken) in commit.operations.iter().zip(&self.taken) {
                assert!(taken.written, "an operation is committed before it is written");
                assert!(commit.local >= taken.last.unwrap_or_default());
                assert_eq!(raw, taken.operation.raw());
                gone = gone.saturating_add(taken.gone);
            }
            assert_eq!(commit.gone, gone);
            return;
        }
        assert!(self.applier.commit().is_none(), "two commits at once");
        let acknowledged = self.applier.committed();
        let mut last = None;
        for taken in self.taken.drain(..self.committing) {
            self.durable.gone = self.durable.gone.saturating_add(taken.gone);
            last = Some(taken.operation);
        }
        self.committing = 0;
        let operation = last.expect("a commit is never empty");
        let cursor = self.applier.durable();
        assert_eq!(acknowledged, Some(operation.head()));
        assert_eq!((cursor.head, cursor.through), (Some(operation.head()), operation.through()));
        assert_eq!((cursor.total, cursor.gone), (operation.after(), self.durable.gone));
        assert!(cursor.local >= self.durable.local);
        self.durable = cursor;
    }

    /// The process ends, and of what the local stream did not acknowledge the last records are lost.
    pub fn restart(&mut self, lost: usize) {
        let acknowledged = self.taken.iter().filter(|taken| taken.written).filter_map(|taken| taken.last).max();
        for _ in 0..lost {
            match self.local.last_key_value() {
                Some((last, _)) if Some(*last) > acknowledged && *last > self.durable.local => self.local.pop_last(),
                _ => break,
            };
        }
        self.applier = applier(&self.world, &self.filter, &self.floors, self.durable, &self.local);
        self.taken.clear();
        self.committing = 0;
        self.pruned_to = None;
    }
}

/// An applier that has just been started.
fn applier(
    world: &World,
    filter: &Filter,
    floors: &[Floor],
    durable: Cursor,
    local: &BTreeMap<LocalSeq, Position>,
) -> Applier {
    let mut found = Found::default();
    local.range(durable.local.next()..).for_each(|(local, source)| found.push_at(*source, *local));
    let descriptor = &world.descriptor;
    let log = (descriptor.author, descriptor.id(), world.filter.clone());
    Applier::new(log, filter.clone(), floors.to_vec(), durable, found)
}
