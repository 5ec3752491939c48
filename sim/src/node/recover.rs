//! What an author does before it seals: see [`rhio_core::seal::recover`] for the decision, this for the evidence.

use std::cell::RefCell;
use std::rc::Rc;

use rhio_core::id::{LocalSeq, SourceSeq};
use rhio_core::log::chain::Chain;
use rhio_core::log::commit::Commit;
use rhio_core::log::descriptor::{Kind, LogDescriptor, Source};
use rhio_core::log::operation::Operation;
use rhio_core::log::session::Refusal;
use rhio_core::record::Position;
use rhio_core::seal::{Evidence, Plan, Tail, TailRecord, recover as decide};
use rhio_core::subject::Filter;

use super::author::{End, Mind, Shared};
use super::store::{StoredLog, descriptor_subject, logs_of, ops_subject, server_subject, source};
use super::take;
use crate::config::Broken;
use crate::exec::Cx;
use crate::nats::{Info, Lost, Nats, Request, Which};
use crate::world::MS;

/// Operations that are taken back in one commit.
const TAKEN_AT_ONCE: usize = 16;

/// Where sealing begins.
pub struct Start {
    pub descriptor: LogDescriptor,
    pub tail: Tail,
    pub after: Position,
    pub expected: u64,
}

pub async fn recover(
    cx: &Cx,
    nats: &Nats,
    filter: &Filter,
    shared: &Rc<RefCell<Shared>>,
    mind: &mut Mind,
) -> Result<Start, End> {
    let me = cx.with(|w| w.public_key(cx.node));
    let info = nats.info(Which::Data).await?;
    let messages = nats.state(None).await?;
    let logs = logs_of(&messages, me);
    let last_epoch = logs.iter().map(|log| log.descriptor.epoch).max().unwrap_or_default();
    // Logs are sorted: the last one of this life of the stream is the one to continue.
    let newest = logs.into_iter().rfind(|log| source(&log.descriptor).created == info.created);
    stand_back(newest.as_ref(), mind)?;

    let refused = mind.refused.take();
    let mut plan = None;
    if let Some(mut log) = newest {
        let id = log.descriptor.id();
        mind.logs.insert(id);
        let server = messages.iter().rfind(|m| *m.subject == server_subject(id));
        let same_server = server.is_some_and(|m| m.payload == nats.server.to_string()) && refused.is_none();
        let mut all_answered = true;
        if !same_server && cx.with(|w| w.config.broken) != Some(Broken::SkipRecall) {
            all_answered = take_back(cx, nats, shared, &mut log).await? && refused != Some(Refusal::Diverged);
        }
        mind.operations.extend(log.operations().values().map(|op| op.hash()));
        let tail = log.commits.last().map_or_else(Tail::default, |stored| Tail::after(stored.last()));
        let record = tail_record(cx, nats, info, tail).await?;
        let decided = decide(Evidence { tail: Some(tail), same_server, all_answered, record });
        cx.note(|| {
            format!("author recovers {id:?}: same server {same_server}, all answered {all_answered}, {record:?}")
        });
        if let Plan::Continue(tail) = decided {
            if !same_server {
                nats.put(&server_subject(id), nats.server.to_string().into(), None).await?;
            }
            let expected = log.expected();
            return Ok(Start { descriptor: log.descriptor, tail, after: tail.through, expected });
        }
        plan = Some(decided);
    }

    let first = Evidence { tail: None, same_server: true, all_answered: true, record: TailRecord::Held };
    let plan = plan.unwrap_or_else(|| decide(first));
    // Greater than that of every log that this node knows of, and than those that it has forgotten.
    let epoch = (cx.now() / MS).max(last_epoch + 1);
    let about = Source { stream: "data".to_owned(), created: info.created, filter: filter.clone() };
    let descriptor = LogDescriptor::messages(me, epoch, about);
    let id = descriptor.id();
    cx.note(|| format!("author begins {id:?}: {plan:?}"));
    let stored = nats.put(&descriptor_subject(me, id), descriptor.encode(), Some(0)).await?;
    stored.ok_or(End::Doubt)?;
    mind.logs.insert(id);
    nats.put(&server_subject(id), nats.server.to_string().into(), None).await?;
    let after = Position { seq: SourceSeq(plan.start().0 - 1), time: 0 };
    Ok(Start { descriptor, tail: Tail::default(), after, expected: 0 })
}

/// A process that was at work before and finds at the end of the log what it did not write has company. It waits; when
/// the end has not moved since it last looked, the other one is gone, and it takes over.
fn stand_back(newest: Option<&StoredLog>, mind: &mut Mind) -> Result<(), End> {
    let Some(log) = newest.filter(|_| !mind.logs.is_empty()) else { return Ok(()) };
    let id = log.descriptor.id();
    let head = log.commits.last().map(|stored| stored.last().head());
    let ours = mind.logs.contains(&id) && head.is_none_or(|head| mind.operations.contains(&head.hash));
    if ours || mind.other == Some((id, head)) {
        mind.other = None;
        return Ok(());
    }
    mind.other = Some((id, head));
    Err(End::StandBack)
}

/// Asks every reader for what it holds beyond the end of the log, and appends it. Returns whether all answered.
async fn take_back(cx: &Cx, nats: &Nats, shared: &Rc<RefCell<Shared>>, log: &mut StoredLog) -> Result<bool, End> {
    let id = log.descriptor.id();
    let author = log.descriptor.author;
    let end = log.commits.last().map_or_else(Tail::default, |stored| Tail::after(stored.last()));
    let known = Chain::new(author, id, Kind::Messages).at(end.head, end.total);
    let mut taken: Vec<Operation> = Vec::new();
    let mut all = true;
    for reader in cx.with(|w| w.config.readers(cx.node)) {
        nats.check()?;
        let Some(answer) = take::ask(cx, shared, reader, &known).await else {
            cx.note(|| format!("reader {reader} is silent"));
            all = false;
            continue;
        };
        let (mut chain, mut operations) = (known, Vec::new());
        for raw in answer {
            let Ok(operation) = Operation::verify(raw) else { break };
            if chain.accept(&operation).is_err() {
                // Part of what the reader holds can't be had from it, so the end of the log is not known.
                all = false;
                break;
            }
            operations.push(operation);
        }
        let same = taken.iter().zip(&operations).all(|(a, b)| a.hash() == b.hash());
        all &= same;
        if same && operations.len() > taken.len() {
            taken = operations;
        }
    }
    for operations in taken.chunks(TAKEN_AT_ONCE) {
        let raw = operations.iter().map(|op| op.raw().clone()).collect();
        let commit = Commit { local: LocalSeq(0), gone: 0, operations: raw };
        let expected = Some(log.expected());
        let stored = nats.put(&ops_subject(author, id), commit.encode(), expected).await?;
        let seq = stored.ok_or(End::Doubt)?;
        cx.note(|| format!("author takes back {} operations of {id:?}", operations.len()));
        log.commits.push(super::store::Stored { seq, time: cx.now(), commit, operations: operations.to_vec() });
    }
    Ok(all)
}

/// Whether the source's stream still holds what the log covers last.
///
/// Looking at the last record alone would not do: the stream may have forgotten it and have given its number to another
/// message that was deleted since, which looks as if the record had expired. Whatever was stored later than the record
/// must have a greater sequence number; the first such message decides.
async fn tail_record(cx: &Cx, nats: &Nats, info: Info, tail: Tail) -> Result<TailRecord, Lost> {
    if tail.head.is_none() || cx.with(|w| w.config.broken) == Some(Broken::SkipTailRecord) {
        return Ok(TailRecord::Held);
    }
    let through = tail.through;
    let later = nats.messages(Request::After(through.time)).await?;
    let held = match later.first() {
        Some(first) if first.seq <= through.seq.0 => first.seq - 1,
        _ if info.last < through.seq.0 => info.last,
        _ => {
            let there = nats.messages(Request::Get(Which::Data, through.seq.0)).await?;
            return Ok(if there.is_empty() { TailRecord::Expired } else { TailRecord::Held });
        }
    };
    Ok(TailRecord::Forgotten(Position { seq: SourceSeq(held), time: through.time }))
}
