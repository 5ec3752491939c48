//! What an author does before it seals: [`rhio_core::seal::find_log`] decides, this looks and writes for it.

use std::cell::RefCell;
use std::rc::Rc;

use rhio_core::id::{LogId, PublicKey, SourceSeq};
use rhio_core::log::commit::Commit;
use rhio_core::log::descriptor::{LogDescriptor, Source};
use rhio_core::record::Position;
use rhio_core::seal::{self, Known, OwnLog, OwnLogs, SourceEnd, Tail, Wanted, Writable, find_log};
use rhio_core::subject::Filter;

use super::shared::{End, Mind, Shared};
use super::store::{Stored, StoredLog, descriptor_subject, logs_of, ops_subject, server_subject, source};
use super::take::Asked;
use crate::base::MS;
use crate::config::Broken;
use crate::exec::Cx;
use crate::nats::{Lost, Nats, Request, Which};

/// Finds the log to write to.
pub async fn recover(
    cx: &Cx,
    nats: &Nats,
    filter: &Filter,
    shared: &Rc<RefCell<Shared>>,
    mind: &mut Mind,
) -> Result<Writable, End> {
    let (author, broken, max_closed) = cx.with(|w| (w.public_key(cx.node), w.config.broken, w.config.max_closed));
    let created = nats.info(Which::Data).await?.created;
    // Logs are sorted: the last one of this life of the stream is the one to continue.
    let logs = logs_of(&nats.state(None).await?, author);
    let newest = logs.into_iter().rfind(|log| source(&log.descriptor).created == created);
    stand_back(newest.as_ref(), mind)?;
    if let Some(log) = &newest {
        mind.logs.insert(log.descriptor.id());
        mind.operations.extend(log.operations().values().map(|op| op.hash()));
    }
    let doubt = mind.refused.take();
    let about = Source { stream: "data".to_owned(), created, filter: filter.clone() };
    let wanted = Wanted { author, about, doubt, now: cx.now() / MS, max_closed };
    let own = Own { cx, nats, shared, author, broken, mind: RefCell::new(mind) };
    let found = find_log(&own, &Users { nats, broken }, &wanted).await?;
    cx.note(|| format!("author writes to {:?}: {:?}", found.descriptor.id(), found.origin));
    Ok(found)
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

/// This node's logs in its state stream, and their readers.
struct Own<'a> {
    cx: &'a Cx,
    nats: &'a Nats,
    shared: &'a Rc<RefCell<Shared>>,
    author: PublicKey,
    broken: Option<Broken>,
    mind: RefCell<&'a mut Mind>,
}

impl OwnLogs for Own<'_> {
    type Error = End;

    async fn descriptors(&self) -> Result<Vec<LogDescriptor>, End> {
        let logs = logs_of(&self.nats.state(None).await?, self.author);
        let mut descriptors: Vec<_> = logs.into_iter().map(|log| log.descriptor).collect();
        descriptors.sort_by_key(|descriptor| descriptor.epoch);
        Ok(descriptors)
    }

    async fn end(&self, log: &LogDescriptor) -> Result<Option<(Tail, u64)>, End> {
        let commits = self.nats.state(Some(ops_subject(self.author, log.id()))).await?;
        let last = commits.last().map(Stored::read);
        Ok(last.map(|stored| (Tail::after(stored.last()), stored.seq)))
    }

    async fn noted(&self, log: LogId) -> Result<Option<Position>, End> {
        let notes = self.nats.state(Some(server_subject(log))).await?;
        let Some(note) = notes.last() else { return Ok(None) };
        let text = String::from_utf8_lossy(&note.payload).into_owned();
        let mut numbers = text.split(' ').map(|part| part.parse::<u64>().expect("a note of ours"));
        let mut number = || numbers.next().expect("three numbers");
        let (server, seq, time) = (number(), SourceSeq(number()), number());
        Ok((server == self.nats.server).then_some(Position { seq, time }))
    }

    async fn note(&self, log: LogId, after: Position) -> Result<(), End> {
        let note = format!("{} {} {}", self.nats.server, after.seq, after.time);
        self.nats.put(&server_subject(log), note.into(), None).await?;
        Ok(())
    }

    async fn describe(&self, log: &LogDescriptor) -> Result<(), End> {
        let stored = self.nats.put(&descriptor_subject(self.author, log.id()), log.encode(), Some(0)).await?;
        self.mind.borrow_mut().logs.insert(log.id());
        stored.map(|_| ()).ok_or(End::Doubt)
    }

    async fn forget(&self, log: &LogDescriptor) -> Result<(), End> {
        let id = log.id();
        self.cx.note(|| format!("author forgets {id:?}"));
        for subject in [ops_subject(self.author, id), server_subject(id), descriptor_subject(self.author, id)] {
            self.nats.purge(&subject, u64::MAX).await?;
        }
        Ok(())
    }

    async fn take_back(&self, log: &mut Known) -> Result<bool, End> {
        if self.broken == Some(Broken::SkipRecall) {
            return Ok(true);
        }
        let mut all = true;
        for reader in self.cx.with(|w| w.config.readers(self.cx.node)) {
            self.nats.check()?;
            let mut asked = Asked::new(self.cx, self.shared, reader);
            let mut appending = Appending { own: self, log: log.descriptor.id(), last: &mut log.state_seq };
            let answer = seal::take_back(&log.descriptor, &mut log.tail, &mut asked, &mut appending).await?;
            self.cx.note(|| format!("reader {reader} answers: {answer:?}"));
            all &= answer.is_settled();
        }
        Ok(all)
    }
}

/// The end of the log that operations are taken back into.
struct Appending<'a, 'b> {
    own: &'a Own<'b>,
    log: LogId,
    last: &'a mut u64,
}

impl OwnLog for Appending<'_, '_> {
    type Error = End;

    async fn append(&mut self, commit: Commit) -> Result<(), End> {
        let Own { cx, nats, author, mind, .. } = self.own;
        let stored = nats.put(&ops_subject(*author, self.log), commit.encode(), Some(*self.last)).await?;
        *self.last = stored.ok_or(End::Doubt)?;
        let stored = Stored::of(*self.last, cx.now(), commit);
        cx.note(|| format!("author takes back operation {} of {:?}", stored.last().seq(), self.log));
        mind.borrow_mut().operations.insert(stored.last().hash());
        Ok(())
    }
}

/// The users' stream, to be asked about the end of a log.
struct Users<'a> {
    nats: &'a Nats,
    broken: Option<Broken>,
}

impl Users<'_> {
    /// The driver says that all is well, whatever the stream holds.
    fn lies(&self) -> bool {
        self.broken == Some(Broken::SkipTailRecord)
    }
}

impl SourceEnd for Users<'_> {
    type Error = Lost;

    async fn first_after(&self, time: u64) -> Result<Option<SourceSeq>, Lost> {
        if self.lies() {
            return Ok(None);
        }
        let later = self.nats.messages(Request::After(time)).await?;
        Ok(later.first().map(|message| SourceSeq(message.seq)))
    }

    async fn last(&self) -> Result<SourceSeq, Lost> {
        if self.lies() {
            return Ok(SourceSeq(u64::MAX));
        }
        Ok(SourceSeq(self.nats.info(Which::Data).await?.last))
    }

    async fn time_of(&self, seq: SourceSeq) -> Result<Option<u64>, Lost> {
        if self.lies() {
            return Ok(None);
        }
        let there = self.nats.messages(Request::Get(Which::Data, seq.0)).await?;
        Ok(there.first().map(|message| message.time))
    }
}
