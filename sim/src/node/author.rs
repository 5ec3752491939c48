//! The author's side: seals what its stream holds, and lets others read.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use rhio_core::id::{LogId, OpHash};
use rhio_core::log::commit::Commit;
use rhio_core::log::descriptor::LogDescriptor;
use rhio_core::log::operation::Head;
use rhio_core::log::session::Refusal;
use rhio_core::record::SourceRecord;
use rhio_core::seal::{Sealed, Sealer, Tail};
use rhio_core::subject::Filter;

use super::recover::{Start, recover};
use super::serve;
use super::store::{StoredLog, logs_of, ops_subject, record_of, source};
use crate::config::Broken;
use crate::exec::Cx;
use crate::nats::{Lost, Nats, Request, Response, Ticket, Which};
use crate::network::Connection;
use crate::world::{MS, SECOND};

/// Batches that are kept for readers that follow closely.
const RING: usize = 4;
/// How long a process waits that has seen another one at work.
const STAND_BACK: u64 = 2 * SECOND;
const PRUNE_EVERY: u64 = 2 * SECOND;

/// Why the author stops sealing, and begins with recovery again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// NATS did not answer, or anything else is in doubt.
    Doubt,
    /// Another process with this key is at work.
    StandBack,
}

impl From<Lost> for End {
    fn from(_: Lost) -> Self {
        Self::Doubt
    }
}

/// What a reader may see of an own log.
#[derive(Clone, Debug)]
pub struct OwnLog {
    pub descriptor: LogDescriptor,
    pub tail: Tail,
    pub closed: bool,
}

/// What sealing and the sessions share.
#[derive(Default)]
pub struct Shared {
    /// Counts recoveries. A session ends with the one that it was begun under: what it would send may be forgotten.
    pub generation: u64,
    /// NATS, while the logs are in order and may be read.
    pub nats: Option<Nats>,
    pub logs: BTreeMap<LogId, OwnLog>,
    pub ring: VecDeque<Rc<Sealed>>,
    /// Readers' connections, the latest last.
    pub conns: Vec<Connection>,
    /// A reader holds what this node does not have, or something else than it has.
    pub refused: Option<Refusal>,
}

impl Shared {
    fn stop(&mut self) {
        self.generation += 1;
        self.nats = None;
        self.ring.clear();
        self.logs.clear();
    }

    fn release(&mut self, sealed: Sealed) {
        if let Some(log) = self.logs.get_mut(&sealed.operation.log()) {
            log.tail = Tail::after(&sealed.operation);
        }
        self.ring.push_back(Rc::new(sealed));
        if self.ring.len() > RING {
            self.ring.pop_front();
        }
    }
}

/// What this process knows of its own doing, to tell another process with its key from itself.
#[derive(Default)]
pub struct Mind {
    pub operations: BTreeSet<OpHash>,
    pub logs: BTreeSet<LogId>,
    /// The end of the log that another process wrote, as last seen.
    pub other: Option<(LogId, Option<Head>)>,
    /// What a reader said about the log.
    pub refused: Option<Refusal>,
}

pub async fn run(cx: Cx, filter: Filter) {
    let shared = Rc::new(RefCell::new(Shared::default()));
    cx.spawn(serve::accept(cx.clone(), Rc::clone(&shared)));
    let mut mind = Mind::default();
    loop {
        let nats = Nats::connect(&cx).await;
        let end = match recover(&cx, &nats, &filter, &shared, &mut mind).await {
            Ok(start) => {
                let opened = open(&nats, &shared, &start).await;
                cx.touch();
                match opened {
                    Ok(()) => seal(&cx, &nats, &shared, &mut mind, start).await,
                    Err(lost) => lost.into(),
                }
            }
            Err(end) => end,
        };
        nats.close();
        shared.borrow_mut().stop();
        mind.refused = shared.borrow_mut().refused.take();
        cx.note(|| format!("author stops: {end:?}, {:?}", mind.refused));
        cx.touch();
        if end == End::StandBack {
            // Readers must be free to find the process that is at work.
            shared.borrow_mut().conns.drain(..).for_each(|conn| conn.close());
            cx.sleep(STAND_BACK + cx.between(0, SECOND)).await;
        } else {
            cx.sleep(cx.between(5 * MS, 200 * MS)).await;
        }
    }
}

/// Shows the logs to readers, now that their ends are certain.
async fn open(nats: &Nats, shared: &Rc<RefCell<Shared>>, start: &Start) -> Result<(), Lost> {
    let current = start.descriptor.id();
    let logs = logs_of(&nats.state(None).await?, start.descriptor.author);
    let mut shared = shared.borrow_mut();
    for StoredLog { descriptor, commits } in logs {
        let id = descriptor.id();
        let tail = commits.last().map_or_else(Tail::default, |stored| Tail::after(stored.last()));
        shared.logs.insert(id, OwnLog { descriptor, tail, closed: id != current });
    }
    shared.nats = Some(nats.clone());
    Ok(())
}

async fn seal(cx: &Cx, nats: &Nats, shared: &Rc<RefCell<Shared>>, mind: &mut Mind, start: Start) -> End {
    match try_seal(cx, nats, shared, mind, start).await {
        Ok(end) | Err(end) => end,
    }
}

async fn try_seal(
    cx: &Cx,
    nats: &Nats,
    shared: &Rc<RefCell<Shared>>,
    mind: &mut Mind,
    start: Start,
) -> Result<End, End> {
    let Start { descriptor, tail, after, mut expected } = start;
    let (fetch, prune, broken) = cx.with(|w| (w.config.fetch, w.config.prune, w.config.broken));
    let subject = ops_subject(descriptor.author, descriptor.id());
    let mut sealer = Sealer::new(cx.with(|w| w.key(cx.node)), descriptor.clone(), tail, after);
    let mut next = after.max(tail.through).seq.0 + 1;
    let mut fetching: Option<Ticket> = None;
    let mut appending: Option<Ticket> = None;
    let mut more = true;
    let mut delivered: Vec<SourceRecord> = Vec::new();
    let mut pruned = cx.now();
    loop {
        nats.check()?;
        if shared.borrow().refused.is_some() {
            return Ok(End::Doubt);
        }
        if let Some(ticket) = appending
            && let Some(answer) = nats.poll(ticket)
        {
            appending = None;
            match answer? {
                Response::Stored(seq) => expected = seq,
                // Another process appended. Recovery finds out what is there.
                _ => return Ok(End::Doubt),
            }
            if let Some(sealed) = sealer.appended()
                && broken != Some(Broken::ReleaseEarly)
            {
                shared.borrow_mut().release(sealed);
                cx.touch();
            }
        }
        more |= nats.news();
        if fetching.is_none() && more && sealer.has_room() {
            let (which, max) = (Which::Data, cx.between(1, fetch as u64) as usize);
            fetching = Some(nats.send(Request::Read { which, from: next, max, subject: None }));
            more = false;
        }
        if let Some(ticket) = fetching
            && let Some(answer) = nats.poll(ticket)
        {
            fetching = None;
            let Response::Messages(messages, info) = answer? else { return Ok(End::Doubt) };
            // The stream was deleted and created again: that is another log.
            if info.created != source(&descriptor).created {
                return Ok(End::Doubt);
            }
            for message in messages {
                (next, more) = (message.seq + 1, true);
                if source(&descriptor).filter.matches(&message.subject)
                    && let Some(record) = record_of(&message, broken == Some(Broken::Echo))
                {
                    if broken == Some(Broken::ReleaseEarly) {
                        delivered.push(record.clone());
                    }
                    sealer.deliver(record);
                }
            }
            continue;
        }
        if appending.is_none()
            && let Some(operation) = sealer.seal(cx.now() / 1000)
        {
            mind.operations.insert(operation.hash());
            let commit = Commit::own(operation.raw().clone());
            appending = Some(nats.send(Request::Append {
                which: Which::State,
                subject: subject.clone(),
                headers: vec![],
                payload: commit.encode(),
                expected: (broken != Some(Broken::NoCompareAndSet)).then_some(expected),
            }));
            if broken == Some(Broken::ReleaseEarly) {
                let covered = |r: &&SourceRecord| operation.records().iter().any(|e| e.position == r.position);
                let records = delivered.iter().filter(covered).cloned().collect();
                shared.borrow_mut().release(Sealed { operation: operation.clone(), records });
                cx.touch();
            }
        }
        if prune && cx.now() > pruned + PRUNE_EVERY {
            pruned = cx.now();
            prune_logs(nats, &descriptor).await?;
        }
        cx.changed().await;
    }
}

/// Deletes the oldest commits of own logs whose records the source no longer has. The last one of a log stays: it says
/// where the log ends.
async fn prune_logs(nats: &Nats, current: &LogDescriptor) -> Result<(), Lost> {
    let info = nats.info(Which::Data).await?;
    for log in logs_of(&nats.state(None).await?, current.author) {
        let alive = source(&log.descriptor).created == info.created;
        let kept = log.commits.len().saturating_sub(1);
        for stored in &log.commits[..kept] {
            if alive && stored.last().through().seq.0 >= info.first {
                break;
            }
            nats.call(Request::Delete(Which::State, stored.seq)).await?;
        }
    }
    Ok(())
}
