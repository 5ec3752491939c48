//! The provider: lets readers see the logs and pull them.

use std::cell::RefCell;
use std::rc::Rc;

use rhio_core::codec::Reader;
use rhio_core::log::descriptor::LogDescriptor;
use rhio_core::log::operation::Operation;
use rhio_core::log::session::{Refusal, Session, Step, Unsent};
use rhio_core::record::{CanonicalRecord, SourceRecord};
use rhio_core::select::{Selected, Selection};
use rhio_core::wire::{Batch, CloseCode, Frame, LogState, Pull, Slot, Want};

use super::shared::Shared;
use super::store::{Stored, ops_subject, record_of, source};
use crate::config::Broken;
use crate::exec::Cx;
use crate::nats::{Nats, Request, Response, Which};
use crate::network::{Closed, Connection, Wire};

/// Takes connections for as long as the process lives.
pub async fn accept(cx: Cx, shared: Rc<RefCell<Shared>>) {
    loop {
        let conn = Connection::accept(&cx).await;
        let mut open = shared.borrow_mut();
        open.conns.retain(|conn| conn.check().is_ok());
        open.conns.push(conn.clone());
        drop(open);
        cx.spawn(streams(cx.clone(), conn, Rc::clone(&shared)));
    }
}

async fn streams(cx: Cx, conn: Connection, shared: Rc<RefCell<Shared>>) {
    while conn.check().is_ok() {
        if let Some(wire) = conn.accepted() {
            cx.spawn(stream(cx.clone(), conn.clone(), wire, Rc::clone(&shared)));
        } else {
            cx.changed().await;
        }
    }
}

async fn stream(cx: Cx, conn: Connection, wire: Wire, shared: Rc<RefCell<Shared>>) {
    match wire.receive() {
        Ok(Some(Frame::Watch { .. })) => watch(&cx, &conn, &wire, &shared).await,
        Ok(Some(Frame::Pull(pull))) => {
            // Nothing is served before recovery: the end of the log might be no end.
            let ready = || match conn.check() {
                Err(Closed) => Some(None),
                Ok(()) => shared.borrow().nats.clone().map(Some),
            };
            let Some(nats) = cx.until(ready).await else { return };
            let code = serve(&cx, &nats, &wire, &shared, pull).await.err().unwrap_or(CloseCode::Unavailable);
            wire.send(&Frame::Refused { code, reason: String::new() });
            wire.finish();
        }
        _ => wire.finish(),
    }
}

/// Tells the reader what there is, now and whenever it changes.
async fn watch(cx: &Cx, conn: &Connection, wire: &Wire, shared: &Rc<RefCell<Shared>>) {
    let mut told = None;
    while conn.check().is_ok() {
        if shared.borrow().nats.is_some() && wire.has_room() {
            let state = |log: &super::shared::OwnLog| LogState {
                descriptor: log.descriptor.clone(),
                closed: log.closed,
                head: log.tail.head,
                through: log.tail.through,
                total: log.tail.total,
                pending: None,
            };
            let logs: Vec<_> = shared.borrow().logs.values().map(state).collect();
            if told.as_ref() != Some(&logs) {
                wire.send(&Frame::Logs(logs.clone()));
                told = Some(logs);
            }
        }
        cx.changed().await;
    }
}

async fn serve(cx: &Cx, nats: &Nats, wire: &Wire, shared: &Rc<RefCell<Shared>>, pull: Pull) -> Result<(), CloseCode> {
    let unavailable = |_| CloseCode::Unavailable;
    let generation = shared.borrow().generation;
    let id = pull.log;
    let own = shared.borrow().logs.get(&id).cloned().ok_or(CloseCode::Unavailable)?;
    let stored = stored(nats, &own.descriptor).await.map_err(unavailable)?;
    let before = stored.iter().find(|op| op.seq().next() == pull.next).map(Operation::hash);
    let Want::Messages { filter, floors } = pull.want else { return Err(CloseCode::Protocol) };
    let selection = Selection::new(filter, floors, &source(&own.descriptor).filter);
    let opened = Session::open((pull.next, pull.held), own.tail.head, before);
    let mut session = opened.map_err(|refusal| {
        cx.note(|| format!("refuses to serve {id:?}: {refusal:?}"));
        // Of a closed log the reader may hold more than its author: it has what it can get.
        if !own.closed {
            shared.borrow_mut().refused = Some(refusal);
            cx.touch();
        }
        match refusal {
            Refusal::Behind => CloseCode::Unavailable,
            Refusal::Diverged => CloseCode::Diverged,
        }
    })?;
    loop {
        if shared.borrow().generation != generation {
            return Err(CloseCode::Unavailable);
        }
        while let Some(frame) = wire.receive().map_err(|Closed| CloseCode::Done)? {
            let Frame::Applied(head) = frame else { return Err(CloseCode::Protocol) };
            session.applied(head).map_err(|Unsent| CloseCode::Protocol)?;
        }
        let head = shared.borrow().logs.get(&id).and_then(|log| log.tail.head);
        let ring = shared.borrow().ring.iter().find(|b| b.operation.log() == id).map(|b| b.operation.seq());
        match session.step(head, ring) {
            Step::Ring(seq) if wire.has_room() => {
                let batch =
                    shared.borrow().ring.iter().find(|b| b.operation.log() == id && b.operation.seq() == seq).cloned();
                let batch = batch.ok_or(CloseCode::Unavailable)?;
                send(wire, &selection, &batch.operation, &batch.records);
                session.sent(seq);
            }
            Step::Log(seq) if wire.has_room() => {
                let operations = self::stored(nats, &own.descriptor).await.map_err(unavailable)?;
                let next = operations.into_iter().find(|op| op.seq() >= seq).ok_or(CloseCode::Unavailable)?;
                if next.seq() > seq {
                    session.skip_to(next.seq());
                    wire.send(&Frame::Pruned { first: next.seq() });
                }
                let records = records(cx, nats, &own.descriptor, &next).await.map_err(unavailable)?;
                if shared.borrow().generation == generation {
                    send(wire, &selection, &next, &records);
                    session.sent(next.seq());
                }
            }
            _ => cx.changed().await,
        }
    }
}

async fn stored(nats: &Nats, descriptor: &LogDescriptor) -> Result<Vec<Operation>, crate::nats::Lost> {
    let messages = nats.state(Some(ops_subject(descriptor.author, descriptor.id()))).await?;
    Ok(messages.iter().flat_map(|message| Stored::read(message).operations).collect())
}

/// What the source still has of an operation's records.
async fn records(
    cx: &Cx,
    nats: &Nats,
    descriptor: &LogDescriptor,
    operation: &Operation,
) -> Result<Vec<SourceRecord>, crate::nats::Lost> {
    let (from, last) = (operation.first().seq.0, operation.through().seq.0);
    let max = (last - from + 1) as usize;
    let request = Request::Read { which: Which::Data, from, max, subject: None };
    let Response::Messages(messages, info) = nats.call(request).await? else { return Ok(Vec::new()) };
    let echo = cx.with(|w| w.config.broken) == Some(Broken::Echo);
    // Sequence numbers mean nothing in another life of the stream.
    let alive = messages.iter().filter(|m| info.created == source(descriptor).created && m.seq <= last);
    Ok(alive.filter_map(|message| record_of(message, echo)).collect())
}

fn send(wire: &Wire, selection: &Selection, operation: &Operation, records: &[SourceRecord]) {
    let selected = selection.select(operation, records);
    let slot = |selected: &Selected| match selected {
        Selected::Gone => Slot::Gone,
        Selected::LeftOut => Slot::LeftOut,
        Selected::Record(index) => {
            let bytes = records[*index].record.as_bytes().clone();
            let (record, parts) = CanonicalRecord::read(&mut Reader::new(bytes)).expect("a record of ours");
            Slot::Present(record, parts)
        }
    };
    let slots = selected.iter().map(slot).collect();
    wire.send(&Frame::Batch(Batch { operation: operation.raw().clone(), slots }));
}
