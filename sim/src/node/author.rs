//! The author's side: seals what its stream holds, and lets others read.

use std::cell::RefCell;
use std::rc::Rc;

use rhio_core::log::commit::Commit;
use rhio_core::log::descriptor::LogDescriptor;
use rhio_core::record::SourceRecord;
use rhio_core::seal::{Sealed, Sealer, Tail, Writable};
use rhio_core::subject::Filter;

use super::recover::recover;
use super::serve;
use super::shared::{End, Mind, OwnLog, Shared};
use super::store::{logs_of, ops_subject, record_of, source};
use crate::base::{MS, SECOND};
use crate::config::Broken;
use crate::exec::Cx;
use crate::nats::{Lost, Nats, Request, Response, Ticket, Which};

/// How long a process waits that has seen another one at work.
const STAND_BACK: u64 = 2 * SECOND;
const PRUNE_EVERY: u64 = 2 * SECOND;

pub async fn run(cx: Cx, filter: Filter) {
    let shared = Rc::new(RefCell::new(Shared::default()));
    cx.spawn(serve::accept(cx.clone(), Rc::clone(&shared)));
    let mut mind = Mind::default();
    loop {
        let nats = Nats::connect(&cx).await;
        let end = match recover(&cx, &nats, &filter, &shared, &mut mind).await {
            Ok(start) => {
                open(&nats, &shared, &start);
                cx.touch();
                seal(&cx, &nats, &shared, &mut mind, start).await
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
fn open(nats: &Nats, shared: &Rc<RefCell<Shared>>, start: &Writable) {
    let mut shared = shared.borrow_mut();
    for state in &start.closed {
        let tail = Tail { head: state.head, through: state.through, total: state.total };
        let log = OwnLog { descriptor: state.descriptor.clone(), tail, closed: true };
        shared.logs.insert(state.descriptor.id(), log);
    }
    let current = OwnLog { descriptor: start.descriptor.clone(), tail: start.tail, closed: false };
    shared.logs.insert(start.descriptor.id(), current);
    shared.nats = Some(nats.clone());
}

async fn seal(cx: &Cx, nats: &Nats, shared: &Rc<RefCell<Shared>>, mind: &mut Mind, start: Writable) -> End {
    match try_seal(cx, nats, shared, mind, start).await {
        Ok(end) | Err(end) => end,
    }
}

async fn try_seal(
    cx: &Cx,
    nats: &Nats,
    shared: &Rc<RefCell<Shared>>,
    mind: &mut Mind,
    start: Writable,
) -> Result<End, End> {
    let Writable { descriptor, tail, after, state_seq: mut expected, .. } = start;
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
                if source(&descriptor).filter.matches(message.subject.as_bytes())
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
