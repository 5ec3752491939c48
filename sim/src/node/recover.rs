//! What an author does before it seals: see [`rhio_core::seal::recover`] for the decision, this for the evidence.

use std::cell::RefCell;
use std::rc::Rc;

use rhio_core::id::SourceSeq;
use rhio_core::log::commit::Commit;
use rhio_core::log::descriptor::{LogDescriptor, Source};
use rhio_core::log::session::Refusal;
use rhio_core::record::Position;
use rhio_core::seal::{self, Evidence, OwnLog, Plan, SourceEnd, Tail, TailRecord, recover as decide, tail_record};
use rhio_core::subject::Filter;

use super::author::{End, Mind, Shared};
use super::store::{Stored, StoredLog, descriptor_subject, logs_of, ops_subject, server_subject, source};
use super::take::Asked;
use crate::config::Broken;
use crate::exec::Cx;
use crate::nats::{Lost, Nats, Request, Which};
use crate::world::MS;

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
    let (me, broken) = cx.with(|w| (w.public_key(cx.node), w.config.broken));
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
        if !same_server && broken != Some(Broken::SkipRecall) {
            all_answered = take_back(cx, nats, shared, &mut log).await? && refused != Some(Refusal::Diverged);
        }
        mind.operations.extend(log.operations().values().map(|op| op.hash()));
        let tail = log.tail();
        let record = match broken {
            Some(Broken::SkipTailRecord) => TailRecord::Held,
            _ => tail_record(&Users(nats), tail).await?,
        };
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
    let descriptor = log.descriptor.clone();
    let mut tail = log.tail();
    let mut all = true;
    for reader in cx.with(|w| w.config.readers(cx.node)) {
        nats.check()?;
        let mut asked = Asked::new(cx, shared, reader);
        let mut own = Own { cx, nats, log };
        let answer = seal::take_back(&descriptor, &mut tail, &mut asked, &mut own).await?;
        cx.note(|| format!("reader {reader} answers: {answer:?}"));
        all &= answer.is_settled();
    }
    Ok(all)
}

/// The author's log in the state stream.
struct Own<'a> {
    cx: &'a Cx,
    nats: &'a Nats,
    log: &'a mut StoredLog,
}

impl OwnLog for Own<'_> {
    type Error = End;

    async fn append(&mut self, commit: Commit) -> Result<(), End> {
        let (author, id) = (self.log.descriptor.author, self.log.descriptor.id());
        let expected = Some(self.log.expected());
        let stored = self.nats.put(&ops_subject(author, id), commit.encode(), expected).await?;
        let seq = stored.ok_or(End::Doubt)?;
        let stored = Stored::of(seq, self.cx.now(), commit);
        self.cx.note(|| format!("author takes back operation {} of {id:?}", stored.last().seq()));
        self.log.commits.push(stored);
        Ok(())
    }
}

/// The users' stream, to be asked about the end of a log.
struct Users<'a>(&'a Nats);

impl SourceEnd for Users<'_> {
    type Error = Lost;

    async fn first_after(&self, time: u64) -> Result<Option<SourceSeq>, Lost> {
        let later = self.0.messages(Request::After(time)).await?;
        Ok(later.first().map(|message| SourceSeq(message.seq)))
    }

    async fn last(&self) -> Result<SourceSeq, Lost> {
        Ok(SourceSeq(self.0.info(Which::Data).await?.last))
    }

    async fn time_of(&self, seq: SourceSeq) -> Result<Option<u64>, Lost> {
        let there = self.0.messages(Request::Get(Which::Data, seq.0)).await?;
        Ok(there.first().map(|message| message.time))
    }
}
