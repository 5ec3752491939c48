//! The subscriber's side: pulls an author's logs, one after another, and applies them.

use std::collections::{BTreeSet, VecDeque};

use rhio_core::apply::standing::{Copies, Standing, is_done, load, settle};
use rhio_core::apply::{Applier, Write};
use rhio_core::id::{LocalSeq, LogId};
use rhio_core::log::descriptor::LogDescriptor;
use rhio_core::log::operation::Head;
use rhio_core::log::start::startable;
use rhio_core::record::Position;
use rhio_core::subject::Filter;
use rhio_core::wire::{Frame, Interest, LogState};

use super::copies::{End, Of};
use super::store::{descriptor_subject, headers_of, source};
use super::take;
use crate::base::{MS, NodeId, SECOND};
use crate::config::Broken;
use crate::exec::Cx;
use crate::nats::{Nats, Request, Response, Ticket, Which};
use crate::network::{Connection, SILENCE, Wire};

pub async fn run(cx: Cx, author: NodeId, filter: Filter) {
    loop {
        let nats = Nats::connect(&cx).await;
        let end = session(&cx, &nats, author, &filter).await.err();
        nats.close();
        cx.note(|| format!("subscriber's session ends: {end:?}"));
        let rest = if matches!(end, Some(End::StandBack)) { 2 * SECOND } else { 0 };
        cx.sleep(rest + cx.between(20 * MS, 300 * MS)).await;
    }
}

async fn session(cx: &Cx, nats: &Nats, author: NodeId, filter: &Filter) -> Result<(), End> {
    let (key, broken) = cx.with(|w| (w.public_key(author), w.config.broken));
    // The users' stream knows no compare-and-set, so two must never write to it, nor one that is dead to the other.
    if broken != Some(Broken::SkipClaim) && !nats.claim(author) {
        return Err(End::StandBack);
    }
    // The connection comes last, so that nothing of an author is under way when its recall is answered.
    let created = nats.info(Which::Data).await?.created;
    let conn = Connection::dial(cx, author).await?;
    let of = Of { cx, nats, author: key, filter, created, broken };
    let result = follow(&of, &conn).await;
    conn.close();
    result
}

async fn follow(of: &Of<'_>, conn: &Connection) -> Result<(), End> {
    let Of { cx, nats, author, created, broken, .. } = *of;
    let watch = conn.open();
    watch.send(&Frame::Watch(Interest::Messages(of.filter.clone())));
    let mut listed: Vec<LogState> = Vec::new();
    let mut done: BTreeSet<LogId> = BTreeSet::new();
    let mut active: Option<Active> = None;
    let mut progress = cx.now();
    let mut tick = 0;
    loop {
        nats.check()?;
        conn.check()?;
        if cx.now() >= tick {
            tick = cx.now() + SECOND;
            cx.look_in(SECOND);
            // Nothing tells when the local stream is deleted and created again, and what it was given is gone then.
            let same = nats.info(Which::Data).await?.created == created;
            if !same && broken != Some(Broken::SkipCreated) {
                return Err(End::Recreated);
            }
        }
        while let Some(frame) = watch.receive()? {
            let Frame::Logs(logs) = frame else { return Err(End::Refused) };
            (listed, progress) = (logs, cx.now());
        }
        if let Some(wire) = conn.accepted() {
            // Everything that is under way is either stored or dropped before the author is told what is stored.
            if let Some(active) = active.take() {
                active.finish(cx, nats).await?;
            }
            take::answer(cx, nats, author, &wire).await?;
            progress = cx.now();
        }
        if let Some(running) = &mut active {
            if running.step(cx, nats).await? {
                progress = cx.now();
            }
            // Where its author lists it no more, its messages may come through another log, which begins where it ends.
            let state = listed.iter().find(|state| state.descriptor.id() == running.id).ok_or(End::Refused)?;
            if running.applier.is_idle() && is_done(state, &running.applier.durable()) {
                done.insert(running.id);
                running.wire.finish();
                active = None;
                continue;
            }
        } else if let Some(state) = pick(&listed, &done, broken) {
            active = Active::start(of, conn, state).await?;
            if active.is_none() {
                done.insert(state.descriptor.id());
            }
            progress = cx.now();
            continue;
        }
        // A link on which nothing moves although there is more to come, or where nobody speaks at all.
        let behind = active.as_ref().is_some_and(|running| {
            let held = running.applier.durable().head.map(|head| head.seq);
            listed.iter().any(|s| s.descriptor.id() == running.id && s.head.map(|head| head.seq) > held)
        });
        if (behind || listed.is_empty()) && cx.now() > progress + SILENCE {
            return Err(End::Stalled);
        }
        cx.changed().await;
    }
}

/// The log to pull: of those whose turn it is, the latest.
fn pick<'a>(listed: &'a [LogState], done: &BTreeSet<LogId>, broken: Option<Broken>) -> Option<&'a LogState> {
    let is_done = |state: &LogState| done.contains(&state.descriptor.id());
    let mut ready = startable(listed, is_done);
    if broken == Some(Broken::SkipTurn) {
        ready = listed.iter().filter(|state| !is_done(state)).collect();
    }
    ready.into_iter().max_by_key(|state| (source(&state.descriptor).created, state.descriptor.epoch))
}

/// An operation whose records are under way.
struct Writing {
    tickets: VecDeque<Ticket>,
    last: Option<LocalSeq>,
}

/// The log that is being applied.
struct Active {
    id: LogId,
    descriptor: LogDescriptor,
    applier: Applier,
    wire: Wire,
    subject: String,
    expected: u64,
    writing: VecDeque<Writing>,
    committing: Option<Ticket>,
    last_staged: Option<Head>,
    /// The last number that the local stream gave, as far as this is known.
    written: LocalSeq,
}

impl Active {
    /// Pulls a log. `None` when it has nothing more to give.
    async fn start(of: &Of<'_>, conn: &Connection, state: &LogState) -> Result<Option<Self>, End> {
        let Of { cx, nats, broken, .. } = *of;
        let descriptor = &state.descriptor;
        let id = descriptor.id();
        if state.closed && is_done(state, &settle(of, of, descriptor, Position::default()).await?.cursor) {
            return Ok(None);
        }
        let Standing { mut cursor, state_seq: expected, found, mut floors } = load(of, of, descriptor, false).await?;
        if broken == Some(Broken::OneLogOnly) {
            cursor.local = of.last(descriptor).await?.map_or(LocalSeq(0), |commit| commit.cursor.local);
        }
        if broken == Some(Broken::IgnoreFloors) {
            floors.clear();
        }
        // Refused when it is there: as good.
        nats.put(&descriptor_subject(descriptor.author, id), descriptor.encode(), Some(0)).await?;
        cx.note(|| format!("pulls {id:?} from {:?}, found {found:?}, floors {floors:?}", cursor.next()));
        let log = (descriptor.author, id, source(descriptor).filter.clone());
        let applier = Applier::new(log, of.filter.clone(), floors, cursor, found);
        let wire = conn.open();
        wire.send(&Frame::Pull(applier.pull()));
        let (subject, descriptor) = (of.subject(id), descriptor.clone());
        let (writing, committing, last_staged, written) = (VecDeque::new(), None, None, cursor.local);
        let active =
            Self { id, descriptor, applier, wire, subject, expected, writing, committing, last_staged, written };
        Ok(Some(active))
    }

    /// Does what can be done now. Returns whether a commit was stored.
    async fn step(&mut self, cx: &Cx, nats: &Nats) -> Result<bool, End> {
        let broken = cx.with(|w| w.config.broken);
        while self.applier.has_room()
            && let Some(frame) = self.wire.receive()?
        {
            let accepted = match frame {
                Frame::Batch(batch) => match self.applier.receive(batch) {
                    Ok(write) => {
                        self.write(nats, write).await?;
                        Ok(())
                    }
                    Err(violation) => Err(violation),
                },
                Frame::Pruned { first } => self.applier.pruned(first),
                _ => return Err(End::Refused),
            };
            if let Err(violation) = accepted {
                let node = cx.node;
                cx.with(|w| {
                    w.history.fail(format!("node {node} holds an honest author's frame against it: {violation}"))
                });
            }
        }
        self.read_answers(nats, broken)?;
        if self.committing.is_none()
            && let Some(commit) = self.applier.commit()
        {
            let (which, subject, headers) = (Which::State, self.subject.clone(), vec![]);
            let expected = (broken != Some(Broken::NoCompareAndSet)).then_some(self.expected);
            let request = Request::Append { which, subject, headers, payload: commit.encode(), expected };
            self.committing = Some(nats.send(request));
            if broken == Some(Broken::AcknowledgeBeforeCommit)
                && let Some(head) = self.last_staged
            {
                self.acknowledge(cx, head);
            }
        }
        if let Some(ticket) = self.committing
            && let Some(answer) = nats.poll(ticket)
        {
            self.committing = None;
            let Response::Stored(seq) = answer? else { return Err(End::StandBack) };
            self.expected = seq;
            if let Some(head) = self.applier.committed() {
                self.acknowledge(cx, head);
            }
            return Ok(true);
        }
        Ok(false)
    }

    fn acknowledge(&self, cx: &Cx, head: Head) {
        let (node, id) = (cx.node, self.id);
        let gone = self.applier.durable().gone;
        cx.note(|| format!("acknowledges {id:?} up to {}, {gone} gone", head.seq));
        cx.with(|w| w.history.acknowledged(node, id, head, w.now, &w.sites));
        self.wire.send(&Frame::Applied(head));
    }

    /// Deletes first, and waits for it; then publishes without waiting.
    async fn write(&mut self, nats: &Nats, write: Write) -> Result<(), End> {
        for local in write.delete {
            nats.call(Request::Delete(Which::Data, local.0)).await?;
        }
        let publish = |record: &rhio_core::apply::Outgoing| {
            nats.send(Request::Append {
                which: Which::Data,
                subject: String::from_utf8_lossy(&record.parts.subject).into_owned(),
                headers: headers_of(&self.descriptor, &write.operation, record),
                payload: record.parts.payload.clone(),
                expected: None,
            })
        };
        let tickets = write.records.iter().map(publish).collect();
        self.last_staged = Some(write.operation.head());
        self.writing.push_back(Writing { tickets, last: None });
        Ok(())
    }

    fn read_answers(&mut self, nats: &Nats, broken: Option<Broken>) -> Result<(), End> {
        while let Some(writing) = self.writing.front_mut() {
            while let Some(ticket) = writing.tickets.front() {
                if broken == Some(Broken::CommitBeforeWritten) {
                    break;
                }
                let Some(answer) = nats.poll(*ticket) else { return Ok(()) };
                let Response::Stored(seq) = answer? else { return Err(End::Nats) };
                // Numbers only grow, unless the stream is another one.
                let seq = LocalSeq(seq);
                if seq <= self.written && broken != Some(Broken::SkipCreated) {
                    return Err(End::Recreated);
                }
                self.written = seq;
                writing.last = Some(seq);
                writing.tickets.pop_front();
            }
            let last = writing.last;
            self.writing.pop_front();
            self.applier.written(last);
        }
        Ok(())
    }

    /// Takes nothing more, and waits until it is known what became of everything that is under way.
    async fn finish(mut self, cx: &Cx, nats: &Nats) -> Result<(), End> {
        self.wire.finish();
        while let Some(writing) = self.writing.pop_front() {
            for ticket in writing.tickets {
                cx.until(|| nats.poll(ticket)).await?;
            }
        }
        if let Some(ticket) = self.committing {
            cx.until(|| nats.poll(ticket)).await?;
        }
        Ok(())
    }
}
