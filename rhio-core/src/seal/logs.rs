//! Which of its logs an author writes to: the newest, if it may be continued, else one that it begins.

use crate::id::{LogId, PublicKey};
use crate::log::descriptor::{LogDescriptor, Source};
use crate::log::session::Refusal;
use crate::log::start::next_epoch;
use crate::record::Position;
use crate::wire::state::LogState;

use super::Tail;
use super::recover::{Evidence, Plan, TailRecord, Unsettled, recover};
use super::source::{SourceEnd, tail_record};

/// Closed logs that are kept for readers that come late.
pub const MAX_CLOSED: usize = 32;

/// An own log that holds anything.
#[derive(Clone, Debug)]
pub struct Known {
    /// What it is about.
    pub descriptor: LogDescriptor,
    /// Where it ends.
    pub tail: Tail,
    /// Sequence number of its last commit in the state stream.
    pub state_seq: u64,
}

/// An author's own logs in its state stream, and those who read them.
pub trait OwnLogs {
    /// Why it does not answer.
    type Error;

    /// The descriptors of all of this node's logs, oldest epoch first.
    fn descriptors(&self) -> impl Future<Output = Result<Vec<LogDescriptor>, Self::Error>>;

    /// Where a log ends, and the sequence number of its last commit; `None` when it is empty.
    fn end(&self, log: &LogDescriptor) -> impl Future<Output = Result<Option<(Tail, u64)>, Self::Error>>;

    /// The position behind which a log was begun or continued, if that was with the very run of the NATS server that
    /// answers now.
    fn noted(&self, log: LogId) -> impl Future<Output = Result<Option<Position>, Self::Error>>;

    /// Notes that a log was begun or continued behind a position, with the server that answers now.
    fn note(&self, log: LogId, after: Position) -> impl Future<Output = Result<(), Self::Error>>;

    /// Stores what a new log is about.
    fn describe(&self, log: &LogDescriptor) -> impl Future<Output = Result<(), Self::Error>>;

    /// Drops a log and everything that is noted about it.
    fn forget(&self, log: &LogDescriptor) -> impl Future<Output = Result<(), Self::Error>>;

    /// Has every reader give back what the state stream forgot of a log, and appends that: see
    /// [`take_back`](super::take_back). Returns whether all of them have answered.
    fn take_back(&self, log: &mut Known) -> impl Future<Output = Result<bool, Self::Error>>;
}

/// What is to be written.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The author.
    pub author: PublicKey,
    /// What the log is to be about.
    pub about: Source,
    /// What a reader has said that makes the end of the newest log doubtful.
    pub doubt: Option<Refusal>,
    /// Milliseconds since the Unix epoch.
    pub now: u64,
    /// Closed logs that are kept: [`MAX_CLOSED`].
    pub max_closed: usize,
}

/// How a log came to be the one that is written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It is continued.
    Continued,
    /// It was begun before, and never used.
    Spare,
    /// It is new.
    Begun(Unsettled),
}

/// A log to write to.
#[derive(Clone, Debug)]
pub struct Writable {
    /// What it is about.
    pub descriptor: LogDescriptor,
    /// Where it ends.
    pub tail: Tail,
    /// Where the consumer starts.
    pub after: Position,
    /// Sequence number of its last commit in the state stream; 0 for none.
    pub state_seq: u64,
    /// The logs before it.
    pub closed: Vec<LogState>,
    /// How it came to be this one.
    pub origin: Origin,
}

/// An author's logs about one thing.
struct Logs {
    /// Those that hold anything, oldest first.
    known: Vec<Known>,
    /// One that was begun with the server that still runs, and never used; and where.
    spare: Option<(LogDescriptor, Position)>,
    /// The latest epoch of any.
    epoch: Option<u64>,
}

impl Known {
    fn closed(&self) -> LogState {
        LogState {
            descriptor: self.descriptor.clone(),
            closed: true,
            head: self.tail.head,
            through: self.tail.through,
            total: self.tail.total,
            pending: Some(0),
        }
    }
}

/// Whether a log is about this life of its stream.
fn is_of(descriptor: &LogDescriptor, about: &Source) -> bool {
    descriptor.source().is_some_and(|source| source.created == about.created)
}

/// Finds the log to continue, or begins one.
///
/// # Errors
/// When a stream does not answer, or another process writes to the log.
pub async fn find_log<L, S>(own: &L, source: &S, wanted: &Wanted) -> Result<Writable, L::Error>
where
    L: OwnLogs,
    S: SourceEnd,
    L::Error: From<S::Error>,
{
    let mut logs = known_logs(own, wanted).await?;
    let plan = recover(gather(own, source, wanted, &mut logs).await?);
    match (plan, logs.known.pop()) {
        (Plan::Continue(tail), Some(last)) => {
            own.note(last.descriptor.id(), tail.through).await?;
            let closed = logs.known.iter().map(Known::closed).collect();
            let Known { descriptor, state_seq, .. } = last;
            Ok(Writable { descriptor, tail, after: tail.through, state_seq, closed, origin: Origin::Continued })
        }
        (plan, last) => {
            logs.known.extend(last);
            begin(own, wanted, logs, plan).await
        }
    }
}

/// This author's logs about what is wanted. Those that were begun and never used are dropped, but for the newest if it
/// is good for use: begun with the server that still runs, about this life of the stream, and followed by none in use.
async fn known_logs<L: OwnLogs>(own: &L, wanted: &Wanted) -> Result<Logs, L::Error> {
    let mut logs = Logs { known: Vec::new(), spare: None, epoch: None };
    let ours = |about: &Source| about.stream == wanted.about.stream && about.filter == wanted.about.filter;
    for descriptor in own.descriptors().await? {
        if !descriptor.source().is_some_and(ours) {
            continue;
        }
        logs.epoch = logs.epoch.max(Some(descriptor.epoch));
        if let Some((tail, state_seq)) = own.end(&descriptor).await? {
            logs.known.push(Known { descriptor, tail, state_seq });
            continue;
        }
        let usable = own.noted(descriptor.id()).await?.filter(|_| is_of(&descriptor, &wanted.about));
        let unused = match usable {
            Some(after) => logs.spare.replace((descriptor, after)).map(|(before, _)| before),
            None => Some(descriptor),
        };
        if let Some(unused) = unused {
            own.forget(&unused).await?;
        }
    }
    let followed = |spare: &mut (LogDescriptor, Position)| {
        logs.known.last().is_some_and(|last| spare.0.epoch < last.descriptor.epoch)
    };
    if let Some((unused, _)) = logs.spare.take_if(followed) {
        own.forget(&unused).await?;
    }
    Ok(logs)
}

/// What is known of the newest log. Its end is moved to where readers say that it is.
async fn gather<L, S>(own: &L, source: &S, wanted: &Wanted, logs: &mut Logs) -> Result<Evidence, L::Error>
where
    L: OwnLogs,
    S: SourceEnd,
    L::Error: From<S::Error>,
{
    let mut evidence = Evidence { tail: None, same_server: true, all_answered: true, record: TailRecord::Held };
    let Some(last) = logs.known.last_mut().filter(|log| is_of(&log.descriptor, &wanted.about)) else {
        return Ok(evidence);
    };
    if logs.spare.is_some() {
        // It was found already that this one can't be continued.
        (evidence.same_server, evidence.all_answered) = (false, false);
    } else {
        evidence.same_server = wanted.doubt.is_none() && own.noted(last.descriptor.id()).await?.is_some();
        if !evidence.same_server {
            evidence.all_answered = own.take_back(last).await? && wanted.doubt != Some(Refusal::Diverged);
        }
    }
    evidence.tail = Some(last.tail);
    evidence.record = tail_record(source, last.tail).await?;
    Ok(evidence)
}

/// Begins a log, or takes the one that was begun and never used.
async fn begin<L: OwnLogs>(own: &L, wanted: &Wanted, logs: Logs, plan: Plan) -> Result<Writable, L::Error> {
    let Logs { known, spare, epoch } = logs;
    let (mut after, reason) = match plan {
        Plan::Begin { after, reason } => (after, reason),
        Plan::Continue(tail) => (tail.through, Unsettled::First),
    };
    let full = known.len() >= wanted.max_closed;
    // Where the other log parts from this one is not known; and what only a log covers that is forgotten for good would
    // never reach a reader that comes late. Readers leave out what they have.
    if wanted.doubt == Some(Refusal::Diverged) || full {
        after = Position::default();
    }
    let mut closed: Vec<_> = known.iter().map(Known::closed).collect();
    let (tail, state_seq) = (Tail::default(), 0);
    if let Some((descriptor, after)) = spare.filter(|_| !full && wanted.doubt.is_none()) {
        return Ok(Writable { descriptor, tail, after, state_seq, closed, origin: Origin::Spare });
    }
    let descriptor = LogDescriptor::messages(wanted.author, next_epoch(wanted.now, epoch), wanted.about.clone());
    own.describe(&descriptor).await?;
    own.note(descriptor.id(), after).await?;
    if full {
        closed.clear();
        for log in &known {
            own.forget(&log.descriptor).await?;
        }
    }
    Ok(Writable { descriptor, tail, after, state_seq, closed, origin: Origin::Begun(reason) })
}

#[cfg(test)]
mod tests;
