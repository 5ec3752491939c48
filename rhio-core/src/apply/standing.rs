//! Where a subscriber stands in a log: the last commit, if the local stream still bears it out.
//!
//! JetStream may take back what it acknowledged when the power fails, in the local stream and in the state stream, each
//! for itself. If the local stream is shorter, the cursor goes back to the last commit that it still holds; if the state
//! stream is, the records behind the cursor are found in the local stream and are not written again.
//!
//! All logs about one life of the author's stream are looked at together: the author may have forgotten one and have
//! begun another about the same messages.

use crate::id::{LocalSeq, OpSeq, SourceSeq};
use crate::log::descriptor::LogDescriptor;
use crate::record::Position;
use crate::wire::pull::{Floor, MAX_FLOORS};
use crate::wire::state::LogState;

use super::{Cursor, Found};

/// How often the local stream is looked at again while it still changes.
const LOOKS: usize = 10;

/// One commit of this node's copy of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Its sequence number in the state stream.
    pub seq: u64,
    /// When the state stream stored it, in nanoseconds since the Unix epoch.
    pub time: u64,
    /// Where the log stands with it.
    pub cursor: Cursor,
}

/// This node's copies of one author's logs, in its state stream.
pub trait Copies {
    /// Why it does not answer.
    type Error;

    /// The author's logs that this node knows of, oldest epoch first.
    fn known(&self) -> impl Future<Output = Result<Vec<LogDescriptor>, Self::Error>>;

    /// The last commit of a log.
    fn last(&self, log: &LogDescriptor) -> impl Future<Output = Result<Option<Committed>, Self::Error>>;

    /// Every commit of a log, in order. It is asked for only when the local stream has lost what the last one says.
    fn all(&self, log: &LogDescriptor) -> impl Future<Output = Result<Vec<Committed>, Self::Error>>;

    /// Appends the commit with this number again, behind the last one, which has the number `end` (compare-and-set).
    /// Returns its new number; `None` when it is no longer there.
    fn repeat(
        &self,
        log: &LogDescriptor,
        commit: u64,
        end: u64,
    ) -> impl Future<Output = Result<Option<u64>, Self::Error>>;

    /// Drops every commit of a log up to the number `end`.
    fn forget(&self, log: &LogDescriptor, end: u64) -> impl Future<Output = Result<(), Self::Error>>;
}

/// The local stream, as far as one author's messages are concerned.
pub trait LocalStream {
    /// Why it does not answer.
    type Error;

    /// Whether it still has, at `local`, a record from this life of the author's stream that is not behind `through`, as
    /// a commit says that was stored at `committed`, in nanoseconds since the Unix epoch. What was taken out since by
    /// others than rhio counts as held.
    fn holds(
        &self,
        log: &LogDescriptor,
        local: LocalSeq,
        through: Position,
        committed: u64,
    ) -> impl Future<Output = Result<bool, Self::Error>>;

    /// The records from this life of the author's stream behind `after`, in the local stream's order; and where the
    /// author's stream had the first of them.
    fn find(
        &self,
        log: &LogDescriptor,
        after: LocalSeq,
    ) -> impl Future<Output = Result<(Found, Option<Position>), Self::Error>>;

    /// Waits as long as it may take until what the server has read is stored.
    fn rest(&self) -> impl Future<Output = ()>;

    /// Whether messages leave it once they are consumed.
    fn drops_consumed(&self) -> bool;
}

/// Where to go on.
#[derive(Clone, Debug)]
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

/// Where a log stands on its own: see [`load`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Line {
    /// The cursor.
    pub cursor: Cursor,
    /// Sequence number of its commit in the state stream; 0 for none.
    pub state_seq: u64,
    /// It had commits, none of which the local stream bears out.
    forgotten: bool,
}

/// What the other logs about the same messages say.
struct Others {
    floors: Vec<Floor>,
    /// How far they have come in the author's stream.
    through: Position,
    /// How far they have come in the local stream.
    local: LocalSeq,
    /// None of them has a cursor.
    none: bool,
}

fn furthest(one: Position, other: Position) -> Position {
    Position { seq: one.seq.max(other.seq), time: one.time.max(other.time) }
}

/// Whether a log has nothing more to give. A closed log may even end before what this node holds of it: its author
/// forgot the rest, so it is not asked for more.
pub fn is_done(state: &LogState, cursor: &Cursor) -> bool {
    state.closed && state.head.is_none_or(|head| cursor.next() > head.seq)
}

/// Reads a log's last commit and makes it agree with what the local stream holds. `limit` is how far other logs about
/// the same messages have come.
///
/// # Errors
/// When a stream does not answer, or another process writes to the copy.
pub async fn settle<C, L>(copies: &C, local: &L, log: &LogDescriptor, limit: Position) -> Result<Line, C::Error>
where
    C: Copies,
    L: LocalStream<Error = C::Error>,
{
    let Some(last) = copies.last(log).await? else { return Ok(Line::default()) };
    if holds(local, log, &last, limit).await? {
        return Ok(Line { cursor: last.cursor, state_seq: last.seq, forgotten: false });
    }
    go_back(copies, local, log, last.seq, limit).await
}

async fn holds<L: LocalStream>(
    local: &L,
    log: &LogDescriptor,
    commit: &Committed,
    limit: Position,
) -> Result<bool, L::Error> {
    let through = furthest(commit.cursor.through, limit);
    local.holds(log, commit.cursor.local, through, commit.time).await
}

/// Finds the last commit that the local stream still bears out, and makes it the cursor again.
async fn go_back<C, L>(copies: &C, local: &L, log: &LogDescriptor, end: u64, limit: Position) -> Result<Line, C::Error>
where
    C: Copies,
    L: LocalStream<Error = C::Error>,
{
    let commits = copies.all(log).await?;
    // A commit behind one that is refuted is refuted too, though its place may be taken by another record now: an
    // earlier cut has left such commits between those that hold.
    let mut refuted: Option<OpSeq> = None;
    let mut kept = None;
    for commit in commits.iter().rev() {
        let at = commit.cursor.head.map(|head| head.seq);
        if refuted.is_some() && at >= refuted {
            continue;
        }
        if holds(local, log, commit, limit).await? {
            kept = Some(commit);
            break;
        }
        refuted = at;
    }
    if let Some(commit) = kept
        && let Some(state_seq) = copies.repeat(log, commit.seq, end).await?
    {
        return Ok(Line { cursor: commit.cursor, state_seq, forgotten: false });
    }
    copies.forget(log, end).await?;
    Ok(Line { forgotten: true, ..Line::default() })
}

/// Where to go on with a log, when everything that any log says is made to agree with the local stream. `disturbed` says
/// that an earlier connection has only just ended.
///
/// # Errors
/// When a stream does not answer, or another process writes to a copy.
pub async fn load<C, L>(
    copies: &C,
    local: &L,
    descriptor: &LogDescriptor,
    disturbed: bool,
) -> Result<Standing, C::Error>
where
    C: Copies,
    L: LocalStream<Error = C::Error>,
{
    let all = copies.known().await?;
    let others = look_at_others(copies, local, descriptor, &all).await?;
    let line = settle(copies, local, descriptor, others.through).await?;
    let mut cursor = line.cursor;
    // What this log leaves out because another one brought it stands or falls with what that one wrote.
    cursor.local = cursor.local.max(others.local);
    let forgotten = ((!all.contains(descriptor) && others.none) || line.forgotten) && cursor.head.is_none();
    let (found, first) = find(local, descriptor, cursor.local, disturbed).await?;
    let mut floors = others.floors;
    floors = floors.split_off(floors.len().saturating_sub(MAX_FLOORS - 1));
    if (forgotten || local.drops_consumed())
        && let (Some(first), Some(filter)) = (first, descriptor.filter())
    {
        // Nothing tells what was committed, or what was consumed before it could be. But what comes first now was
        // preceded by everything before it, though that may have left the local stream since.
        let before = SourceSeq(first.seq.0.saturating_sub(1));
        floors.push(Floor { filter: filter.clone(), through: Position { seq: before, time: first.time } });
    }
    Ok(Standing { cursor, state_seq: line.state_seq, found, floors })
}

async fn look_at_others<C, L>(
    copies: &C,
    local: &L,
    descriptor: &LogDescriptor,
    all: &[LogDescriptor],
) -> Result<Others, C::Error>
where
    C: Copies,
    L: LocalStream<Error = C::Error>,
{
    let mut found = Others { floors: Vec::new(), through: Position::default(), local: LocalSeq(0), none: true };
    let related =
        |other: &&LogDescriptor| *other != descriptor && other.same_origin(descriptor) && other.overlaps(descriptor);
    for other in all.iter().filter(related) {
        let Line { cursor, .. } = settle(copies, local, other, found.through).await?;
        if cursor.head.is_some() {
            found.none = false;
            found.through = furthest(found.through, cursor.through);
            found.local = found.local.max(cursor.local);
            let floor = |filter: &crate::subject::Filter| Floor { filter: filter.clone(), through: cursor.through };
            found.floors.extend(other.filter().map(floor));
        }
    }
    Ok(found)
}

/// What the local stream holds behind every commit, once nothing more is on its way there.
async fn find<L: LocalStream>(
    local: &L,
    log: &LogDescriptor,
    after: LocalSeq,
    disturbed: bool,
) -> Result<(Found, Option<Position>), L::Error> {
    let mut found = local.find(log, after).await?;
    for _ in 0..LOOKS {
        if found.0.is_empty() && !disturbed {
            break;
        }
        local.rest().await;
        let again = local.find(log, after).await?;
        let settled = again.0 == found.0;
        found = again;
        if settled {
            break;
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
