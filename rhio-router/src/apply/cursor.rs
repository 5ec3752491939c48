//! Where a subscriber stands in a log: the last commit, if the local stream still bears it out.
//!
//! JetStream may take back what it acknowledged when the power fails, in the local stream and in the state stream, each
//! for itself. If the local stream is shorter, the cursor goes back to the last commit that it still holds; if the state
//! stream is, the records behind the cursor are found in the local stream and are not written again.
//!
//! All logs about one life of the author's stream are looked at together: the author may have forgotten one and have
//! begun another about the same messages.

use rhio_core::apply::{Cursor, Found};
use rhio_core::id::{LocalSeq, OpSeq};
use rhio_core::log::descriptor::LogDescriptor;
use rhio_core::log::operation::Operation;
use rhio_core::record::Position;
use rhio_core::subject::Filter;
use rhio_core::wire::{Floor, MAX_FLOORS};
use tracing::{info, warn};

use crate::node::Node;
use rhio_nats::sink::{Presence, Sink};
use rhio_nats::state::{LogSubject, StateStore, Stored};

use super::apply_error::ApplyError;
use super::subscription::Subscription;

/// How often the local stream is looked at again while it still changes.
const LOOKS: usize = 10;
/// How long what the server has read may take to be stored.
const SETTLE: std::time::Duration = std::time::Duration::from_millis(150);

/// Where to go on.
pub struct Standing {
    /// The cursor.
    pub cursor: Cursor,
    /// Sequence number of its commit in the state stream; 0 for none.
    pub state_seq: u64,
    /// What the local stream holds behind every commit.
    pub found: Found,
    /// What need not come, because it was there before.
    pub floors: Vec<Floor>,
}

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
    /// Its filter.
    pub filter: &'a Filter,
}

impl Of<'_> {
    fn subject(&self, log: &LogDescriptor) -> LogSubject {
        self.node.state.applied(self.subscription.author, log.id(), self.id)
    }
}

/// Where a log stands on its own: see [`load`].
pub struct Line {
    /// The cursor.
    pub cursor: Cursor,
    /// Sequence number of its commit in the state stream; 0 for none.
    pub state_seq: u64,
    /// It had commits, none of which the local stream bears out.
    forgotten: bool,
}

/// Reads a log's last commit and makes it agree with what the local stream holds. `limit` is how far other logs about
/// the same messages have come.
///
/// # Errors
/// When NATS does not answer.
pub async fn settle(of: &Of<'_>, sink: &Sink, log: &LogDescriptor, limit: Position) -> Result<Line, ApplyError> {
    let state = &of.node.state;
    let subject = of.subject(log);
    let Some(last) = state.last(&subject).await? else {
        return Ok(Line { cursor: Cursor::default(), state_seq: 0, forgotten: false });
    };
    let cursor = read(state, &last)?;
    if holds(sink, log, (&cursor, last.time), limit).await? {
        return Ok(Line { cursor, state_seq: last.seq, forgotten: false });
    }
    go_back(state, sink, &subject, log, (last.seq, limit)).await
}

async fn holds(
    sink: &Sink,
    log: &LogDescriptor,
    (cursor, committed): (&Cursor, u64),
    limit: Position,
) -> Result<bool, ApplyError> {
    let through = furthest(cursor.through, limit);
    Ok(sink.holds(cursor.local, &log.life(), through, committed).await? == Presence::Held)
}

fn furthest(one: Position, other: Position) -> Position {
    Position { seq: one.seq.max(other.seq), time: one.time.max(other.time) }
}

/// Where to go on with a log, when everything that any log says is made to agree with the local stream. `disturbed` says
/// that an earlier connection has only just ended.
///
/// # Errors
/// When NATS does not answer.
pub async fn load(of: &Of<'_>, sink: &Sink, disturbed: bool) -> Result<Standing, ApplyError> {
    let (state, descriptor) = (&of.node.state, of.descriptor);
    let all = state.descriptors(of.subscription.author).await?;
    let known = all.contains(descriptor);
    let others =
        all.iter().filter(|other| *other != descriptor && other.same_origin(descriptor) && other.overlaps(descriptor));
    let (mut floors, mut limit, mut local, mut forgotten) = (Vec::new(), Position::default(), LocalSeq(0), !known);
    for other in others {
        let line = settle(of, sink, other, limit).await?;
        forgotten &= line.cursor.head.is_none();
        if line.cursor.head.is_some() {
            limit = furthest(limit, line.cursor.through);
            local = local.max(line.cursor.local);
            floors.extend(other.filter().map(|filter| Floor { filter: filter.clone(), through: line.cursor.through }));
        }
    }
    let line = settle(of, sink, descriptor, limit).await?;
    let mut cursor = line.cursor;
    // What this log leaves out because another one brought it stands or falls with what that one wrote.
    cursor.local = cursor.local.max(local);
    forgotten = (forgotten || line.forgotten) && cursor.head.is_none();

    let filters = (&of.subscription.filter, of.filter);
    let life = descriptor.life();
    let (mut found, mut first) = sink.find(filters, &life, cursor.local).await?;
    for _ in 0..LOOKS {
        if found.is_empty() && !disturbed {
            break;
        }
        tokio::time::sleep(SETTLE).await;
        let again = sink.find(filters, &life, cursor.local).await?;
        let settled = again.0 == found;
        (found, first) = again;
        if settled {
            break;
        }
    }
    if !found.is_empty() {
        info!("{}: {} records were written and not committed", of.subscription.status.name(), found.len());
    }
    floors = floors.split_off(floors.len().saturating_sub(MAX_FLOORS - 1));
    if (forgotten || sink.drops_consumed())
        && let Some(first) = first
    {
        // Nothing tells what was committed, or what was consumed before it could be. But what comes first now was
        // preceded by everything before it, though that may have left the local stream since.
        let before = rhio_core::id::SourceSeq(first.seq.0.saturating_sub(1));
        floors.push(Floor { filter: of.filter.clone(), through: Position { seq: before, time: first.time } });
    }
    Ok(Standing { cursor, state_seq: line.state_seq, found, floors })
}

fn read(state: &StateStore, stored: &Stored) -> Result<Cursor, ApplyError> {
    let last = stored.operations(state)?.pop();
    let cursor = last.map(|operation: Operation| Cursor {
        head: Some(operation.head()),
        through: operation.through(),
        total: operation.after(),
        local: stored.commit.local,
        gone: stored.commit.gone,
    });
    Ok(cursor.unwrap_or_default())
}

/// Finds the last commit that the local stream still bears out, and makes it the cursor again.
async fn go_back(
    state: &StateStore,
    sink: &Sink,
    subject: &LogSubject,
    log: &LogDescriptor,
    (end, limit): (u64, Position),
) -> Result<Line, ApplyError> {
    warn!(log = %log.id().short(), "the local stream lost messages that it had acknowledged; refilling it");
    let mut commits = Vec::new();
    let mut reader = state.read(subject, 1).await?;
    while let Some(stored) = reader.next().await? {
        commits.push((stored.seq, stored.time, read(state, &stored)?));
    }
    // A commit behind one that is refuted is refuted too, though its place may be taken by another record now: an
    // earlier cut has left such commits between those that hold.
    let mut refuted: Option<OpSeq> = None;
    let mut kept = None;
    for (seq, committed, cursor) in commits.iter().rev() {
        let at = cursor.head.map(|head| head.seq);
        if refuted.is_some() && at >= refuted {
            continue;
        }
        if holds(sink, log, (cursor, *committed), limit).await? {
            kept = Some(*seq);
            break;
        }
        refuted = at;
    }
    let stored = match kept {
        Some(seq) => state.first(subject, seq).await?,
        None => None,
    };
    let Some(stored) = stored else {
        state.prune(subject, end + 1).await?;
        failpoint::hit("cursor-forgotten");
        return Ok(Line { cursor: Cursor::default(), state_seq: 0, forgotten: true });
    };
    let state_seq = state.append(subject, &stored.commit, end).await?;
    failpoint::hit("cursor-recommitted");
    Ok(Line { cursor: read(state, &stored)?, state_seq, forgotten: false })
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
