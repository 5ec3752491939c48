//! Lets [`rhio_core::apply::standing`] look at the state stream and at the local stream, and drops commits of copies that
//! nobody goes back to.

use rhio_core::apply::standing::{self, Committed, Copies, Line, LocalStream, Standing};
use rhio_core::apply::{Cursor, Found};
use rhio_core::id::LocalSeq;
use rhio_core::log::descriptor::LogDescriptor;
use rhio_core::log::operation::Operation;
use rhio_core::record::Position;
use rhio_core::wire::LogState;
use tracing::{info, warn};

use crate::node::Node;
use rhio_nats::sink::{Presence, Sink};
use rhio_nats::state::{LogSubject, StateStore, Stored};

use super::apply_error::ApplyError;
use super::subscription::Subscription;

/// How long what the server has read may take to be stored.
const SETTLE: std::time::Duration = std::time::Duration::from_millis(150);

/// What is applied.
pub struct Of<'a> {
    /// The node.
    pub node: &'a Node,
    /// The subscription.
    pub subscription: &'a Subscription,
    /// The subscription's name in the state stream.
    pub id: &'a str,
    /// The log.
    pub descriptor: &'a LogDescriptor,
    /// The local stream.
    pub sink: &'a Sink,
}

impl Of<'_> {
    fn subject(&self, log: &LogDescriptor) -> LogSubject {
        self.node.state.applied(self.subscription.author, log.id(), self.id)
    }
}

impl Copies for Of<'_> {
    type Error = ApplyError;

    async fn known(&self) -> Result<Vec<LogDescriptor>, ApplyError> {
        Ok(self.node.state.descriptors(self.subscription.author).await?)
    }

    async fn last(&self, log: &LogDescriptor) -> Result<Option<Committed>, ApplyError> {
        let last = self.node.state.last(&self.subject(log)).await?;
        last.map(|stored| read(&self.node.state, &stored)).transpose()
    }

    async fn all(&self, log: &LogDescriptor) -> Result<Vec<Committed>, ApplyError> {
        warn!(log = %log.id().short(), "the local stream lost messages that it had acknowledged; refilling it");
        let state = &self.node.state;
        let mut commits = Vec::new();
        let mut reader = state.read(&self.subject(log), 1).await?;
        while let Some(stored) = reader.next().await? {
            commits.push(read(state, &stored)?);
        }
        Ok(commits)
    }

    async fn repeat(&self, log: &LogDescriptor, commit: u64, end: u64) -> Result<Option<u64>, ApplyError> {
        let (state, subject) = (&self.node.state, self.subject(log));
        let stored = state.first(&subject, commit).await?;
        let Some(stored) = stored.filter(|stored| stored.seq == commit) else { return Ok(None) };
        let seq = state.append(&subject, &stored.commit, end).await?;
        failpoint::hit("cursor-recommitted");
        Ok(Some(seq))
    }

    async fn forget(&self, log: &LogDescriptor, end: u64) -> Result<(), ApplyError> {
        self.node.state.prune(&self.subject(log), end + 1).await?;
        failpoint::hit("cursor-forgotten");
        Ok(())
    }
}

impl LocalStream for Of<'_> {
    type Error = ApplyError;

    async fn holds(
        &self,
        log: &LogDescriptor,
        local: LocalSeq,
        through: Position,
        committed: u64,
    ) -> Result<bool, ApplyError> {
        Ok(self.sink.holds(local, &log.life(), through, committed).await? == Presence::Held)
    }

    async fn find(&self, log: &LogDescriptor, after: LocalSeq) -> Result<(Found, Option<Position>), ApplyError> {
        let Some(filter) = log.filter() else { return Ok((Found::default(), None)) };
        Ok(self.sink.find((&self.subscription.filter, filter), &log.life(), after).await?)
    }

    async fn rest(&self) {
        tokio::time::sleep(SETTLE).await;
    }

    fn drops_consumed(&self) -> bool {
        self.sink.drops_consumed()
    }
}

/// Whether the log has nothing more to give, by what its author says of it.
///
/// # Errors
/// When NATS does not answer.
pub async fn is_done(of: &Of<'_>, state: &LogState) -> Result<bool, ApplyError> {
    if !state.closed {
        return Ok(false);
    }
    let Line { cursor, .. } = standing::settle(of, of, of.descriptor, Position::default()).await?;
    Ok(standing::is_done(state, &cursor))
}

/// Where to go on with a log: see [`standing::load`].
///
/// # Errors
/// When NATS does not answer.
pub async fn load(of: &Of<'_>, disturbed: bool) -> Result<Standing, ApplyError> {
    let standing = standing::load(of, of, of.descriptor, disturbed).await?;
    if !standing.found.is_empty() {
        let (name, count) = (of.subscription.status.name(), standing.found.len());
        info!("{name}: {count} records were written and not committed");
    }
    Ok(standing)
}

fn read(state: &StateStore, stored: &Stored) -> Result<Committed, ApplyError> {
    let last = stored.operations(state)?.pop();
    let cursor = last.map(|operation: Operation| Cursor {
        head: Some(operation.head()),
        through: operation.through(),
        total: operation.after(),
        local: stored.commit.local,
        gone: stored.commit.gone,
    });
    Ok(Committed { seq: stored.seq, time: stored.time, cursor: cursor.unwrap_or_default() })
}

/// Drops commits whose records the local stream no longer holds: nothing can be found wanting there any more. The last
/// of them stays, to go back to, and so does the last commit of all: it is the cursor.
///
/// # Errors
/// When NATS does not answer.
pub async fn prune(
    state: &StateStore,
    sink_first: LocalSeq,
    subject: &LogSubject,
    last: u64,
) -> Result<(), ApplyError> {
    let Some(oldest) = state.first(subject, 1).await? else { return Ok(()) };
    if oldest.seq >= last || oldest.commit.local >= sink_first {
        return Ok(());
    }
    // Invariant: the commit `keep` can be dropped, and everything before it; what is at or behind `high` is kept.
    let (mut low, mut high, mut keep) = (oldest.seq, last, oldest.seq);
    while low + 1 < high {
        let middle = low + (high - low) / 2;
        match state.first(subject, middle).await? {
            Some(stored) if stored.seq < high && stored.commit.local < sink_first => {
                (low, keep) = (stored.seq, stored.seq);
            }
            _ => high = middle,
        }
    }
    if keep > oldest.seq {
        state.prune(subject, keep).await?;
        failpoint::hit("copy-pruned");
    }
    Ok(())
}
