//! Where a subscriber stands in a log: the last commit, if the local stream still holds what it says.
//!
//! JetStream may take back what it acknowledged when the power fails, in the local stream and in the state stream, each
//! for itself. If the local stream is shorter, the cursor goes back to the last commit that it still holds; if the state
//! stream is, the records behind the cursor are found in the local stream and are not written again.

use rhio_core::apply::{Cursor, Found};
use rhio_core::id::LogId;
use rhio_core::operation::{LogDescriptor, Operation};
use rhio_core::subject::Filter;
use rhio_core::wire::{Floor, MAX_FLOORS};
use tracing::warn;

use crate::nats::sink::{Presence, Sink};
use crate::nats::state::{LogSubject, StateStore, Stored};
use crate::node::Node;

use super::applying::ApplyError;
use super::subscription::Subscription;

/// How often the local stream is looked at again while it still changes.
const LOOKS: usize = 10;
/// How long what an earlier process has sent may still be on its way.
const SETTLE: std::time::Duration = std::time::Duration::from_millis(150);

/// Where to go on.
pub struct Standing {
    /// The cursor.
    pub cursor: Cursor,
    /// Sequence number of its commit in the state stream; 0 for none.
    pub state_seq: u64,
    /// This log's records that the local stream holds behind it.
    pub found: Found,
}

/// Loads the cursor and compares it with the local stream.
///
/// # Errors
/// When NATS does not answer.
pub async fn load(
    state: &StateStore,
    sink: &Sink,
    subject: &LogSubject,
    log: LogId,
    filter: &Filter,
) -> Result<Standing, ApplyError> {
    let (cursor, state_seq) = match state.last(subject).await? {
        None => (Cursor::default(), 0),
        Some(last) => match held(state, sink, log, &last).await? {
            Presence::Held => (read(state, &last)?, last.seq),
            Presence::Lost => go_back(state, sink, subject, log, last).await?,
        },
    };
    let mut found = sink.find(filter, log, cursor.local).await?;
    // What a process sent before it was killed may still be on its way through the server.
    for _ in 0..LOOKS {
        if found.is_empty() {
            break;
        }
        tokio::time::sleep(SETTLE).await;
        let again = sink.find(filter, log, cursor.local).await?;
        let settled = again == found;
        found = again;
        if settled {
            break;
        }
    }
    Ok(Standing { cursor, state_seq, found })
}

fn read(state: &StateStore, stored: &Stored) -> Result<Cursor, ApplyError> {
    let last = stored.operations(state)?.pop();
    let cursor = last.map(|operation: Operation| Cursor {
        head: Some(operation.head()),
        through: operation.manifest().last(),
        total: operation.manifest().after(),
        local: stored.commit.local,
        gone: stored.commit.gone,
    });
    Ok(cursor.unwrap_or_default())
}

async fn held(state: &StateStore, sink: &Sink, log: LogId, stored: &Stored) -> Result<Presence, ApplyError> {
    let through = read(state, stored)?.through.seq;
    Ok(sink.holds(stored.commit.local, log, through).await?)
}

/// Finds the last commit that the local stream still holds, and makes it the cursor again. What was forgotten is the
/// end, so halving finds it.
async fn go_back(
    state: &StateStore,
    sink: &Sink,
    subject: &LogSubject,
    log: LogId,
    last: Stored,
) -> Result<(Cursor, u64), ApplyError> {
    warn!(log = %log.short(), "the local stream lost messages that it had acknowledged; refilling it");
    let (mut low, mut high, mut best) = (0, last.seq, None);
    while low + 1 < high {
        let middle = low + (high - low) / 2;
        match state.first(subject, middle).await? {
            Some(stored) if stored.seq < high && held(state, sink, log, &stored).await? == Presence::Held => {
                low = stored.seq;
                best = Some(stored);
            }
            _ => high = middle,
        }
    }
    match best {
        Some(stored) => {
            let seq = state.append(subject, &stored.commit, last.seq).await?;
            Ok((read(state, &stored)?, seq))
        }
        None => {
            state.prune(subject, last.seq + 1).await?;
            Ok((Cursor::default(), 0))
        }
    }
}

/// What came through earlier logs of the same stream.
///
/// # Errors
/// When NATS does not answer.
pub async fn floors(
    node: &Node,
    subscription: &Subscription,
    id: &str,
    log: &LogDescriptor,
) -> Result<Vec<Floor>, ApplyError> {
    let mut floors = Vec::new();
    for earlier in node.state.descriptors(subscription.author).await? {
        if !earlier.same_stream(log) || earlier.epoch >= log.epoch || !earlier.filter.overlaps(&log.filter) {
            continue;
        }
        let subject = node.state.applied(subscription.author, earlier.id(), id);
        let Some(last) = node.state.last(&subject).await? else { continue };
        floors.push(Floor { filter: earlier.filter, through: read(&node.state, &last)?.through });
    }
    Ok(floors.split_off(floors.len().saturating_sub(MAX_FLOORS)))
}
