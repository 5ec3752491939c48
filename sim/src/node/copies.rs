//! A subscriber's copies of an author's logs, and its local stream: [`rhio_core::apply::standing`] decides where to go
//! on, this looks and writes for it.

use rhio_core::apply::Found;
use rhio_core::apply::standing::{Committed, Copies, LocalStream};
use rhio_core::id::{LocalSeq, LogId, PublicKey};
use rhio_core::log::descriptor::LogDescriptor;
use rhio_core::record::Position;
use rhio_core::subject::Filter;

use super::store::{Stored, copy_subject, descriptors_of, position_of, source};
use crate::base::MS;
use crate::config::Broken;
use crate::exec::Cx;
use crate::nats::{Lost, Nats, Request, Which};
use crate::network::Closed;

/// How long what the server has read may take to be stored.
const SETTLE: u64 = 20 * MS;

/// Why a session ended. Whatever it was, the next one begins with what is stored.
#[derive(Debug)]
pub enum End {
    Nats,
    Network,
    Stalled,
    Refused,
    /// The local stream is another one.
    Recreated,
    /// Another process with this key commits too.
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

/// One subscription.
pub struct Of<'a> {
    pub cx: &'a Cx,
    pub nats: &'a Nats,
    pub author: PublicKey,
    pub filter: &'a Filter,
    /// When the local stream was created: another one is filled from the beginning.
    pub created: u64,
    pub broken: Option<Broken>,
}

impl Of<'_> {
    /// Where the copy of a log is.
    pub fn subject(&self, log: LogId) -> String {
        let created = if self.broken == Some(Broken::SkipCreated) { 0 } else { self.created };
        copy_subject(self.author, log, created)
    }
}

impl Copies for Of<'_> {
    type Error = End;

    async fn known(&self) -> Result<Vec<LogDescriptor>, End> {
        Ok(descriptors_of(&self.nats.state(None).await?, self.author))
    }

    async fn last(&self, log: &LogDescriptor) -> Result<Option<Committed>, End> {
        let commits = self.nats.state(Some(self.subject(log.id()))).await?;
        Ok(commits.last().map(|message| Stored::read(message).committed()))
    }

    async fn all(&self, log: &LogDescriptor) -> Result<Vec<Committed>, End> {
        self.cx.note(|| format!("local stream forgot records of {:?}", log.id()));
        let commits = self.nats.state(Some(self.subject(log.id()))).await?;
        Ok(commits.iter().map(|message| Stored::read(message).committed()).collect())
    }

    async fn repeat(&self, log: &LogDescriptor, commit: u64, end: u64) -> Result<Option<u64>, End> {
        let there = self.nats.messages(Request::Get(Which::State, commit)).await?;
        let Some(message) = there.into_iter().next() else { return Ok(None) };
        let again = self.nats.put(&self.subject(log.id()), message.payload, Some(end)).await?;
        again.map(Some).ok_or(End::StandBack)
    }

    async fn forget(&self, log: &LogDescriptor, end: u64) -> Result<(), End> {
        Ok(self.nats.purge(&self.subject(log.id()), end + 1).await?)
    }
}

impl LocalStream for Of<'_> {
    type Error = End;

    /// A message that is no longer there proves nothing: it may have been removed, or the stream may have forgotten it
    /// and given its number to another one that was removed. But whatever was stored after the commit has a greater
    /// number than the commit names; where that is not so, the stream forgot.
    async fn holds(
        &self,
        log: &LogDescriptor,
        local: LocalSeq,
        through: Position,
        committed: u64,
    ) -> Result<bool, End> {
        if local.0 == 0 || self.broken == Some(Broken::SkipPresence) {
            return Ok(true);
        }
        let there = self.nats.messages(Request::Get(Which::Data, local.0)).await?;
        if let Some(message) = there.first() {
            let within = |at: Position| at.seq <= through.seq && at.time <= through.time;
            return Ok(position_of(log, message).is_some_and(within));
        }
        if self.nats.info(Which::Data).await?.last < local.0 {
            return Ok(false);
        }
        let later = self.nats.messages(Request::After(committed)).await?;
        Ok(later.first().is_none_or(|message| message.seq > local.0))
    }

    async fn find(&self, log: &LogDescriptor, after: LocalSeq) -> Result<(Found, Option<Position>), End> {
        let (mut found, mut first) = (Found::default(), None);
        if self.broken == Some(Broken::SkipScan) {
            return Ok((found, first));
        }
        let (from, max) = (after.0 + 1, usize::MAX);
        let request = Request::Read { which: Which::Data, from, max, subject: None };
        for message in self.nats.messages(request).await? {
            let wanted = self.filter.matches(message.subject.as_bytes())
                && source(log).filter.matches(message.subject.as_bytes());
            let Some(position) = position_of(log, &message).filter(|_| wanted) else { continue };
            first = first.or(Some(position));
            if self.broken == Some(Broken::NumbersOnly) {
                found.push(position.seq, LocalSeq(message.seq));
            } else {
                found.push_at(position, LocalSeq(message.seq));
            }
        }
        Ok((found, first))
    }

    async fn rest(&self) {
        self.cx.sleep(SETTLE).await;
    }

    fn drops_consumed(&self) -> bool {
        false
    }
}
