//! What a subscriber's state stream says about an author's logs, made to agree with what its own stream still holds.

use rhio_core::apply::{Cursor, Found};
use rhio_core::id::{LocalSeq, LogId, PublicKey};
use rhio_core::log::descriptor::LogDescriptor;
use rhio_core::log::start::startable;
use rhio_core::wire::{Floor, LogState, MAX_FLOORS};

use super::store::{Stored, StoredLog, descriptor_subject, local_subject, logs_of, ops_subject, position_of, source};
use crate::config::Broken;
use crate::exec::Cx;
use crate::nats::{Lost, Nats, Request, Which};

/// Where this node stands in a log.
#[derive(Clone, Debug)]
struct Line {
    id: LogId,
    descriptor: LogDescriptor,
    cursor: Cursor,
    /// Sequence number of the last commit.
    expected: u64,
}

/// The logs of one author, as this node has applied them.
#[derive(Clone, Debug, Default)]
pub struct Book(Vec<Line>);

impl Book {
    /// Reads the book. `None` when another process wrote at the same time.
    ///
    /// The local stream may have forgotten what commits say that it holds. *Every* log is looked at, also those that are
    /// done: their records may be the ones that are missing.
    ///
    /// It may even be another stream: deleted and created again, it soon has messages under the old numbers again, some
    /// of them ours. Only the time of its creation tells, so that is written down before the first commit.
    pub async fn open(cx: &Cx, nats: &Nats, author: PublicKey, created: u64) -> Result<Option<Self>, Lost> {
        let mut book = Self::default();
        let broken = cx.with(|w| w.config.broken);
        let skip = broken == Some(Broken::SkipPresence);
        let messages = nats.state(None).await?;
        let known = messages.iter().rfind(|m| *m.subject == local_subject(author));
        let same = broken == Some(Broken::SkipCreated) || known.is_some_and(|m| m.payload == created.to_string());
        for mut log in logs_of(&messages, author) {
            if !skip && !same {
                forget(nats, &mut log).await?;
            }
            if !skip && !settle(cx, nats, &mut log).await? {
                return Ok(None);
            }
            let cursor = log.commits.last().map_or_else(Cursor::default, Stored::cursor);
            let (id, expected) = (log.descriptor.id(), log.expected());
            book.0.push(Line { id, descriptor: log.descriptor, cursor, expected });
        }
        if !same {
            nats.put(&local_subject(author), created.to_string().into(), None).await?;
        }
        Ok(Some(book))
    }

    /// Where this node stands in a log, and the sequence number of the last commit.
    pub fn cursor(&self, id: LogId) -> (Cursor, u64) {
        self.0.iter().find(|line| line.id == id).map(|line| (line.cursor, line.expected)).unwrap_or_default()
    }

    /// Notes that a commit was stored.
    pub fn enter(&mut self, id: LogId, cursor: Cursor, expected: u64) {
        if let Some(line) = self.0.iter_mut().find(|line| line.id == id) {
            (line.cursor, line.expected) = (cursor, expected);
        }
    }

    /// Whether a log has nothing more to give. A closed log may even end before what this node holds of it: its author
    /// forgot the rest.
    fn is_done(&self, state: &LogState) -> bool {
        let (cursor, _) = self.cursor(state.descriptor.id());
        state.closed && state.head.is_none_or(|end| cursor.head.is_some_and(|head| head.seq >= end.seq))
    }

    /// The log to pull: of those whose turn it is, the latest.
    pub fn pick<'a>(&self, listed: &'a [LogState], broken: Option<Broken>) -> Option<&'a LogState> {
        let mut ready = startable(listed, |state| self.is_done(state));
        if broken == Some(Broken::SkipTurn) {
            ready = listed.iter().filter(|state| !self.is_done(state)).collect();
        }
        ready.into_iter().max_by_key(|state| (source(&state.descriptor).created, state.descriptor.epoch))
    }

    /// What this node has from the other logs of the same life of the stream: earlier ones, and also later ones, as the
    /// author may have forgotten that it began them.
    pub fn floors(&self, descriptor: &LogDescriptor) -> Vec<Floor> {
        let others = self.0.iter().rev().filter(|line| {
            line.descriptor.same_origin(descriptor) && line.descriptor != *descriptor && line.cursor.head.is_some()
        });
        let floor =
            |line: &Line| Floor { filter: source(&line.descriptor).filter.clone(), through: line.cursor.through };
        others.map(floor).take(MAX_FLOORS).collect()
    }

    /// Stores the log's descriptor, when it is not.
    pub async fn note(&mut self, nats: &Nats, descriptor: &LogDescriptor) -> Result<(), Lost> {
        let id = descriptor.id();
        if self.0.iter().all(|line| line.id != id) {
            // Refused when it is there: as good.
            nats.put(&descriptor_subject(descriptor.author, id), descriptor.encode(), Some(0)).await?;
            self.0.push(Line { id, descriptor: descriptor.clone(), cursor: Cursor::default(), expected: 0 });
        }
        Ok(())
    }

    /// Where the records of this life of the author's stream end in the local stream, whatever log they were written
    /// under. A log's cursor begins there: what it leaves out because an earlier log brought it stands or falls with
    /// what that one wrote.
    pub fn local(&self, descriptor: &LogDescriptor) -> LocalSeq {
        let same = self.0.iter().filter(|line| line.descriptor.same_origin(descriptor));
        same.map(|line| line.cursor.local).max().unwrap_or_default()
    }

    /// What the local stream holds of this life of the author's stream and no commit covers.
    pub async fn find(&self, cx: &Cx, nats: &Nats, descriptor: &LogDescriptor) -> Result<Found, Lost> {
        let numbers_only = cx.with(|w| w.config.broken) == Some(Broken::NumbersOnly);
        let from = self.local(descriptor).0 + 1;
        let request = Request::Read { which: Which::Data, from, max: usize::MAX, subject: None };
        let mut found = Found::default();
        for message in nats.messages(request).await? {
            if let Some(position) = position_of(descriptor, &message) {
                if numbers_only {
                    found.push(position.seq, LocalSeq(message.seq));
                } else {
                    found.push_at(position, LocalSeq(message.seq));
                }
            }
        }
        Ok(found)
    }
}

/// Goes back to the last commit that the local stream still bears out, and makes it the last message again. Returns
/// whether the compare-and-set went well.
async fn settle(cx: &Cx, nats: &Nats, log: &mut StoredLog) -> Result<bool, Lost> {
    let mut refuted = None;
    let mut kept = None;
    for (index, stored) in log.commits.iter().enumerate().rev() {
        // A commit beyond one that was refuted is refuted too, though its place may be taken by another record now.
        if refuted.is_some_and(|seq| stored.last().seq() >= seq) {
            continue;
        }
        if holds(nats, &log.descriptor, stored).await? {
            kept = Some(index);
            break;
        }
        refuted = Some(stored.last().seq());
    }
    if kept.is_some_and(|index| index + 1 == log.commits.len()) || log.commits.is_empty() {
        return Ok(true);
    }
    let id = log.descriptor.id();
    cx.note(|| format!("local stream forgot records of {id:?}"));
    if let Some(index) = kept {
        let mut again = log.commits[index].clone();
        let expected = Some(log.expected());
        let subject = ops_subject(log.descriptor.author, id);
        let Some(seq) = nats.put(&subject, again.commit.encode(), expected).await? else { return Ok(false) };
        again.seq = seq;
        log.commits.push(again);
        return Ok(true);
    }
    forget(nats, log).await?;
    Ok(true)
}

/// Nothing is left to go back to: the log begins anew. The latest goes first, so that a crash leaves a beginning.
async fn forget(nats: &Nats, log: &mut StoredLog) -> Result<(), Lost> {
    while let Some(stored) = log.commits.pop() {
        nats.call(Request::Delete(Which::State, stored.seq)).await?;
    }
    Ok(())
}

/// Whether the local stream still holds what a commit says.
///
/// A message that is no longer there proves nothing: it may have been removed, or the stream may have forgotten it and
/// given its number to another one that was removed. But whatever was stored after the commit has a greater number than
/// the commit names; where that is not so, the stream forgot.
async fn holds(nats: &Nats, descriptor: &LogDescriptor, stored: &Stored) -> Result<bool, Lost> {
    let cursor = stored.cursor();
    if cursor.local.0 == 0 {
        return Ok(true);
    }
    let later = nats.messages(Request::After(stored.time)).await?;
    let again = later.first().is_some_and(|m| m.seq <= cursor.local.0);
    if nats.info(Which::Data).await?.last < cursor.local.0 || again {
        return Ok(false);
    }
    let there = nats.messages(Request::Get(Which::Data, cursor.local.0)).await?;
    Ok(there.first().is_none_or(|message| position_of(descriptor, message).is_some()))
}
