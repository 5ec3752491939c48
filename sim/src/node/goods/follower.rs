//! Follows an author's catalog: receives its operations, lets objects land, and notes what is settled.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use rhio_core::catalog::landing::{Landing as Plan, Outcome, Task};
use rhio_core::id::{LocalSeq, PublicKey};
use rhio_core::log::commit::{Commit, pack};
use rhio_core::log::descriptor::LogDescriptor;
use rhio_core::log::operation::Operation;
use rhio_core::object::ObjectKey;
use rhio_core::wire::{Frame, Interest, LogState};

use super::BUCKET;
use super::held::{Copy, Held, load, rule, succeed};
use super::landing::Landing;
use crate::base::{MS, NodeId, SECOND};
use crate::bucket::client::Failed;
use crate::config::Broken;
use crate::exec::{Cx, Job, ended};
use crate::nats::{Lost, Nats, Request, Response, Ticket, Which};
use crate::network::{Closed, Connection, SILENCE, Wire};
use crate::node::store::{catalog_copy_subject, descriptor_subject, landed_subject};

/// How often progress is looked at.
const TICK: u64 = SECOND / 2;
/// How long the operator takes to confirm deletes that are held.
const CONFIRM: u64 = 3 * SECOND;

/// Why a session ended. Whatever it was, the next one begins with what is stored.
#[derive(Debug)]
enum End {
    Nats,
    Network,
    Stalled,
    /// The author begins a new epoch, or does not serve.
    Unavailable,
    /// Another process with this key is at work.
    StandBack,
}

impl From<Lost> for End {
    fn from(_: Lost) -> Self {
        Self::Nats
    }
}

impl From<Closed> for End {
    fn from(_: Closed) -> Self {
        Self::Network
    }
}

pub async fn run(cx: Cx, author: NodeId) {
    loop {
        let nats = Nats::connect(&cx).await;
        let end = session(&cx, &nats, author).await.err();
        nats.close();
        cx.note(|| format!("catalog's follower ends: {end:?}"));
        let rest = if matches!(end, Some(End::StandBack)) { 2 * SECOND } else { 0 };
        cx.sleep(rest + cx.between(20 * MS, 300 * MS)).await;
    }
}

async fn session(cx: &Cx, nats: &Nats, author: NodeId) -> Result<(), End> {
    let (key, broken) = cx.with(|w| (w.public_key(author), w.config.broken));
    let parallel = cx.with(|w| w.config.buckets.as_ref().map_or(1, |buckets| buckets.parallel));
    let held = load(cx, nats, key).await?;
    let conn = Connection::dial(cx, author).await?;
    let landing = Landing { cx: cx.clone(), conn: conn.clone(), author: key, broken };
    let mut driver = Driver {
        cx: cx.clone(),
        nats: nats.clone(),
        author: key,
        broken,
        parallel,
        landing,
        held,
        listed: None,
        pulled: None,
        unstored: VecDeque::new(),
        storing: None,
        noting: None,
        in_flight: BTreeMap::new(),
        changed: false,
        moved: cx.now(),
        holding: None,
        alarm: 0,
    };
    let result = driver.follow(&conn).await;
    conn.close();
    result
}

/// A task that is out.
struct Flight {
    task: Task,
    job: Option<Job<Result<Outcome, Failed>>>,
}

struct Driver {
    cx: Cx,
    nats: Nats,
    author: PublicKey,
    broken: Option<Broken>,
    parallel: usize,
    landing: Landing,
    held: Held,
    /// The catalog as the author has it.
    listed: Option<LogState>,
    pulled: Option<Wire>,
    /// Operations that are not in the copy yet, each with the number of its first entry.
    unstored: VecDeque<(u64, Operation)>,
    /// How many of them are being stored.
    storing: Option<(usize, Ticket)>,
    noting: Option<Ticket>,
    in_flight: BTreeMap<ObjectKey, Flight>,
    /// Something was settled that is not noted yet.
    changed: bool,
    moved: u64,
    /// Since when deletes are held.
    holding: Option<u64>,
    /// When it looks again whether anything is due.
    alarm: u64,
}

impl Driver {
    async fn follow(&mut self, conn: &Connection) -> Result<(), End> {
        let watch = conn.open();
        watch.send(&Frame::Watch(Interest::Bucket(BUCKET.to_owned())));
        let mut tick = 0;
        loop {
            self.nats.check()?;
            conn.check()?;
            if self.cx.now() >= tick {
                tick = self.cx.now() + TICK;
                self.cx.look_in(TICK);
                self.check()?;
            }
            self.fill();
            self.store();
            self.note();
            let mut moved = self.stored()?;
            moved |= self.noted().await?;
            moved |= self.finished();
            while let Some(frame) = watch.receive()? {
                let Frame::Logs(logs) = frame else { return Err(End::Unavailable) };
                self.hear(conn, logs).await?;
                moved = true;
            }
            while let Some(wire) = &self.pulled
                && let Some(frame) = wire.receive()?
            {
                let Frame::Batch(batch) = frame else { return Err(End::Unavailable) };
                self.receive(batch.operation);
                moved = true;
            }
            if !moved {
                self.cx.changed().await;
            }
        }
    }

    fn now_ms(&self) -> u64 {
        self.cx.now() / MS
    }

    /// The author says how far its log is; the first time also which one it is.
    async fn hear(&mut self, conn: &Connection, logs: Vec<LogState>) -> Result<(), End> {
        let Some(state) = logs.into_iter().next() else {
            // It will have one soon, or begins a new epoch.
            return if self.listed.is_none() { Ok(()) } else { Err(End::Unavailable) };
        };
        let log = state.descriptor.id();
        if self.listed.as_ref().is_some_and(|before| before.descriptor.id() != log) {
            return Err(End::Unavailable);
        }
        match self.held.copy.as_ref().map(|copy| (copy.log(), copy.descriptor.epoch)) {
            Some((held, _)) if held == log => {}
            Some((_, epoch)) if epoch >= state.descriptor.epoch => {
                // Of two processes with the author's key this may be the one that lags behind.
                return Err(End::Unavailable);
            }
            _ => self.begin(state.descriptor.clone()).await?,
        }
        if self.listed.replace(state).is_none()
            && let Some(copy) = &self.held.copy
        {
            let wire = conn.open();
            wire.send(&Frame::Pull(copy.pull()));
            if let Some(head) = copy.chain.head() {
                wire.send(&Frame::Applied(head));
            }
            self.pulled = Some(wire);
        }
        Ok(())
    }

    /// Begins the copy of a new epoch.
    async fn begin(&mut self, descriptor: LogDescriptor) -> Result<(), End> {
        self.cx.note(|| format!("a new epoch of the catalog: {:?}", descriptor.id()));
        let subject = descriptor_subject(self.author, descriptor.id());
        self.nats.put(&subject, descriptor.encode(), Some(0)).await?;
        if let Some(before) = self.held.copy.replace(Copy::new(descriptor)) {
            self.held.older.push(before.descriptor);
            let plan = std::mem::replace(&mut self.held.plan, Plan::new(rule(&self.cx)));
            self.held.plan = succeed(&self.cx, plan);
        }
        Ok(())
    }

    fn receive(&mut self, raw: Bytes) {
        let Some(copy) = &mut self.held.copy else { return };
        let accepted = Operation::verify(raw).and_then(|operation| Ok((copy.accept(&operation)?, operation)));
        match accepted {
            Ok((first, operation)) => {
                if self.broken == Some(Broken::ActBeforeStored) {
                    let now = self.cx.now() / MS;
                    self.held.plan.receive(first, operation.entries(), now);
                }
                self.unstored.push_back((first, operation));
                self.moved = self.cx.now();
            }
            Err(error) => {
                let node = self.cx.node;
                let text = format!("node {node} holds an honest author's catalog against it: {error}");
                self.cx.with(|w| w.history.fail(text));
            }
        }
    }

    /// Appends what waits to the copy.
    fn store(&mut self) {
        let Some(copy) = self.held.copy.as_ref().filter(|_| self.storing.is_none() && !self.unstored.is_empty()) else {
            return;
        };
        let count = pack(self.unstored.iter().map(|(_, operation)| operation.raw().len()));
        let operations = self.unstored.iter().take(count).map(|(_, operation)| operation.raw().clone()).collect();
        let commit = Commit { local: LocalSeq(0), gone: 0, operations };
        let subject = catalog_copy_subject(self.author, copy.log());
        self.storing = Some((count, self.append(subject, commit.encode(), copy.state_seq)));
    }

    fn append(&self, subject: String, payload: Bytes, expected: u64) -> Ticket {
        let expected = (self.broken != Some(Broken::NoCompareAndSet)).then_some(expected);
        self.nats.send(Request::Append { which: Which::State, subject, headers: vec![], payload, expected })
    }

    /// The copy has what was being stored: only now it may be acted upon, so that after a crash it is known what was.
    fn stored(&mut self) -> Result<bool, End> {
        let Some((count, ticket)) = self.storing else { return Ok(false) };
        let Some(answer) = self.nats.poll(ticket) else { return Ok(false) };
        self.storing = None;
        let Response::Stored(seq) = answer? else { return Err(End::StandBack) };
        if let Some(copy) = &mut self.held.copy {
            copy.state_seq = seq;
        }
        let now = self.now_ms();
        let mut head = None;
        for (first, operation) in self.unstored.drain(..count) {
            self.held.plan.receive(first, operation.entries(), now);
            head = Some(operation.head());
        }
        self.changed = true;
        if let (Some(wire), Some(head)) = (&self.pulled, head) {
            wire.send(&Frame::Applied(head));
        }
        let plan = &self.held.plan;
        let unwanted = self.in_flight.iter().filter(|(key, flight)| !plan.is_current(key, flight.task.entry()));
        for (key, entry) in unwanted.map(|(key, flight)| (key.clone(), flight.task.entry())).collect::<Vec<_>>() {
            self.in_flight.remove(&key);
            self.held.plan.fail(&key, entry, now);
        }
        Ok(true)
    }

    /// Notes which entries are settled: nothing of operations that the copy does not have.
    fn note(&mut self) {
        let Some(copy) = &self.held.copy else { return };
        if self.noting.is_some() || self.storing.is_some() || !self.changed {
            return;
        }
        let payload = self.held.plan.progress().encode();
        self.noting = Some(self.append(landed_subject(copy.log()), payload, copy.note_seq));
        self.changed = false;
    }

    async fn noted(&mut self) -> Result<bool, End> {
        let Some(ticket) = self.noting else { return Ok(false) };
        let Some(answer) = self.nats.poll(ticket) else { return Ok(false) };
        self.noting = None;
        let Response::Stored(seq) = answer? else { return Err(End::StandBack) };
        if let Some(copy) = &mut self.held.copy {
            copy.note_seq = seq;
        }
        // Older epochs go once the newest tells everything, and that is noted.
        if !self.held.older.is_empty() && !self.held.plan.needs_older() {
            for old in std::mem::take(&mut self.held.older) {
                let log = old.id();
                let subjects = [catalog_copy_subject(self.author, log), landed_subject(log)];
                for subject in subjects.into_iter().chain([descriptor_subject(self.author, log)]) {
                    self.nats.purge(&subject, u64::MAX).await?;
                }
            }
        }
        Ok(true)
    }

    /// Lets as much be done at once as may be.
    fn fill(&mut self) {
        while self.in_flight.len() < self.parallel {
            let Some(task) = self.held.plan.next(self.now_ms()) else { break };
            let here = match &task {
                Task::Land { put, .. } => self.held.plan.find(&put.hash).cloned(),
                Task::Remove { .. } => None,
            };
            if self.broken == Some(Broken::SettleEarly) {
                self.held.plan.settle(task.key(), task.entry(), Outcome::Done, self.now_ms());
                self.changed = true;
            }
            let (landing, todo) = (self.landing.clone(), task.clone());
            let job: Job<_> = Box::pin(async move { landing.work(&todo, here).await });
            self.in_flight.insert(task.key().clone(), Flight { task, job: Some(job) });
        }
        let now = self.cx.now();
        if let Some(due) = self.held.plan.next_due() {
            let due = (due * MS).clamp(now + MS, now + TICK);
            if self.alarm <= now || due < self.alarm {
                self.alarm = due;
                self.cx.look_in(due - now);
            }
        }
    }

    /// Takes note of what has ended. Returns whether anything has.
    fn finished(&mut self) -> bool {
        let mut all = Vec::new();
        for (key, flight) in &mut self.in_flight {
            all.extend(ended(&mut flight.job).map(|outcome| (key.clone(), flight.task.entry(), outcome)));
        }
        let now = self.now_ms();
        let any = !all.is_empty();
        for (key, entry, outcome) in all {
            self.in_flight.remove(&key);
            self.cx.note(|| format!("task {entry} for {key} ends: {outcome:?}"));
            match outcome {
                Ok(outcome) => self.held.plan.settle(&key, entry, outcome, now),
                Err(_) => self.held.plan.fail(&key, entry, now),
            }
            (self.changed, self.moved) = (true, self.cx.now());
        }
        any
    }

    fn check(&mut self) -> Result<(), End> {
        let now = self.cx.now();
        // An operator who is told of deletes that are held looks at the author's bucket, and confirms them.
        self.holding = self.held.plan.deletes_held().map(|_| self.holding.unwrap_or(now));
        if self.holding.is_some_and(|since| now > since + CONFIRM) {
            self.held.plan.confirm_deletes();
        }
        let head = self.listed.as_ref().map(|state| state.head.map(|head| head.seq));
        let held = self.held.copy.as_ref().and_then(|copy| copy.chain.head()).map(|head| head.seq);
        if head.is_some_and(|head| head <= held) {
            self.moved = now;
        } else if now > self.moved + SILENCE {
            return Err(End::Stalled);
        }
        Ok(())
    }
}
