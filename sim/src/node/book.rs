//! What a subscriber's state stream says about an author's logs, made to agree with what its own stream still holds.

use rhio_core::apply::{Cursor, Found};
use rhio_core::id::{LocalSeq, LogId, PublicKey};
use rhio_core::operation::LogDescriptor;
use rhio_core::wire::{Floor, LogState, MAX_FLOORS};

use super::store::{StoredLog, descriptor_subject, logs_of, ops_subject, position_of};
use crate::config::Broken;
use crate::exec::Cx;
use crate::nats::{Lost, Nats, Request, Which};

/// The logs of one author, as this node has applied them.
#[derive(Clone, Debug)]
pub struct Book {
    author: PublicKey,
    logs: Vec<StoredLog>,
}

impl Book {
    /// Reads the book. `None` when another process wrote at the same time.
    ///
    /// The local stream may have forgotten what commits say that it holds. *Every* log is looked at, also those that are
    /// done: their records may be the ones that are missing.
    pub async fn open(cx: &Cx, nats: &Nats, author: PublicKey) -> Result<Option<Self>, Lost> {
        let mut book = Self { author, logs: logs_of(&nats.state(None).await?, author) };
        if cx.with(|w| w.config.broken) == Some(Broken::SkipPresence) {
            return Ok(Some(book));
        }
        for log in &mut book.logs {
            if !settle(cx, nats, log).await? {
                return Ok(None);
            }
        }
        Ok(Some(book))
    }

    fn log(&self, id: LogId) -> Option<&StoredLog> {
        self.logs.iter().find(|log| log.descriptor.id() == id)
    }

    /// Where this node stands in a log, and the sequence number of the last commit.
    pub fn cursor(&self, id: LogId) -> (Cursor, u64) {
        let log = self.log(id);
        let cursor = log.and_then(|log| log.commits.last()).map_or_else(Cursor::default, |stored| stored.cursor());
        (cursor, log.map_or(0, StoredLog::expected))
    }

    /// Whether a log has nothing more to give. A closed log may even end before what this node holds of it: its author
    /// forgot the rest.
    fn is_done(&self, state: &LogState) -> bool {
        let (cursor, _) = self.cursor(state.descriptor.id());
        state.closed && state.head.is_none_or(|end| cursor.head.is_some_and(|head| head.seq >= end.seq))
    }

    /// The log to pull: the first one, by life and epoch, that is not done.
    pub fn pick<'a>(&self, listed: &'a [LogState]) -> Option<&'a LogState> {
        let open = listed.iter().filter(|state| !self.is_done(state));
        open.min_by_key(|state| (state.descriptor.created, state.descriptor.epoch))
    }

    /// What this node has from the other logs of the same life of the stream: earlier ones, and also later ones, as the
    /// author may have forgotten that it began them.
    pub fn floors(&self, descriptor: &LogDescriptor) -> Vec<Floor> {
        let others = self.logs.iter().rev().filter(|log| {
            log.descriptor.same_stream(descriptor) && log.descriptor != *descriptor && !log.commits.is_empty()
        });
        let floor = |log: &StoredLog| Floor {
            filter: log.descriptor.filter.clone(),
            through: self.cursor(log.descriptor.id()).0.through,
        };
        others.map(floor).take(MAX_FLOORS).collect()
    }

    /// Stores the log's descriptor, when it is not.
    pub async fn note(&self, nats: &Nats, descriptor: &LogDescriptor) -> Result<(), Lost> {
        let id = descriptor.id();
        if self.log(id).is_none() {
            nats.put(&descriptor_subject(self.author, id), descriptor.encode(), Some(0)).await?;
        }
        Ok(())
    }

    /// What the local stream holds of this life of the author's stream and no commit covers, whatever log it was written
    /// under.
    pub async fn find(&self, nats: &Nats, descriptor: &LogDescriptor) -> Result<Found, Lost> {
        let same = self.logs.iter().filter(|log| log.descriptor.same_stream(descriptor));
        let local = same.map(|log| self.cursor(log.descriptor.id()).0.local.0).max().unwrap_or_default();
        let request = Request::Read { which: Which::Data, from: local + 1, max: usize::MAX, subject: None };
        let mut found = Found::default();
        for message in nats.messages(request).await? {
            if let Some(position) = position_of(descriptor, &message) {
                found.push(position, LocalSeq(message.seq));
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
    // None is left to go back to: the log begins anew. The latest goes first, so that a crash leaves a beginning.
    while let Some(stored) = log.commits.pop() {
        nats.call(Request::Delete(Which::State, stored.seq)).await?;
    }
    Ok(true)
}

async fn holds(nats: &Nats, descriptor: &LogDescriptor, stored: &super::store::Stored) -> Result<bool, Lost> {
    let cursor = stored.cursor();
    if cursor.local.0 == 0 {
        return Ok(true);
    }
    let info = nats.info(Which::Data).await?;
    let there = nats.messages(Request::Get(Which::Data, cursor.local.0)).await?;
    Ok(match there.first() {
        Some(message) => position_of(descriptor, message).is_some_and(|position| position <= cursor.through),
        None => info.last >= cursor.local.0,
    })
}
