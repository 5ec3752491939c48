//! Gathers the evidence that [`rhio_core::seal::recover`] decides by, before a log is written to.

use std::time::Duration;

use rhio_core::id::{PublicKey, SourceSeq};
use rhio_core::log::commit::Commit;
use rhio_core::log::descriptor::{LogDescriptor, Source};
use rhio_core::record::Position;
use rhio_core::seal::{self, Answer, Evidence, Given, Holder, OwnLog, Plan, SourceEnd, Tail, TailRecord, Unsettled};
use rhio_core::seal::{recover, tail_record};
use rhio_core::wire::{Frame, LogState, Pull};
use tracing::{debug, info, warn};

use crate::node::{Node, now_micros};
use rhio_nats::source::{SourceError, SourceStream};
use rhio_nats::state::{LogSubject, StateError};
use rhio_net::connection::Connection;
use rhio_net::stream::{self, FrameReader, FrameWriter, StreamError};

use super::publication::Publication;
use super::seal_error::{Doubt, SealError};

/// How long readers have to answer before the log is closed rather than continued.
const GRACE: Duration = Duration::from_secs(5);
/// How long a reader that answers may take to send its next operation.
const NEXT: Duration = Duration::from_secs(20);
/// Closed logs that are kept for readers that come late.
const MAX_CLOSED: usize = 32;

/// A log to write to.
pub struct Recovered {
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
}

struct Known {
    descriptor: LogDescriptor,
    subject: LogSubject,
    tail: Tail,
    state_seq: u64,
}

/// Finds the log to continue, or begins one.
///
/// # Errors
/// When NATS does not answer.
pub async fn find_log(
    node: &Node,
    publication: &Publication,
    source: &SourceStream,
    doubt: Doubt,
) -> Result<Recovered, SealError> {
    let server = node.server_id();
    let (mut known, spare) = known_logs(node, publication, source.created(), &server).await?;
    let current = known.last().filter(|log| is_of(&log.descriptor, source.created())).map(|log| log.descriptor.id());
    let mut evidence = Evidence { tail: None, same_server: true, all_answered: true, record: TailRecord::Held };
    if let (Some(log), Some(last)) = (current, known.last_mut()) {
        evidence.same_server = spare.is_none()
            && doubt == Doubt::None
            && node.state.noted_server(log).await?.is_some_and(|(noted, _)| noted == server);
        if spare.is_some() {
            evidence.all_answered = false;
        } else if !evidence.same_server {
            evidence.all_answered = take_back(node, publication, last).await? && doubt != Doubt::Diverged;
        }
        evidence.tail = Some(last.tail);
        evidence.record = tail_record(&End(source), last.tail).await?;
    }
    let plan = recover(evidence);
    let mut closed: Vec<LogState> = known.iter().map(closed_state).collect();
    let mut forget = Vec::new();
    let recovered = match (plan, known.last()) {
        (Plan::Continue(tail), Some(last)) => {
            closed.pop();
            let (descriptor, state_seq) = (last.descriptor.clone(), last.state_seq);
            Recovered { descriptor, tail, after: tail.through, state_seq, closed }
        }
        (plan, last) => {
            let (mut after, reason) = match plan {
                Plan::Begin { after, reason } => (after, reason),
                Plan::Continue(tail) => (tail.through, Unsettled::First),
            };
            // Where the other log parts from this one is not known; and what only a log covers that is forgotten for
            // good would never reach a reader that comes late. Readers leave out what they have.
            if doubt == Doubt::Diverged || known.len() >= MAX_CLOSED {
                after = Position::default();
            }
            if known.len() >= MAX_CLOSED {
                forget = known.iter().map(|log| (log.descriptor.clone(), log.subject.clone())).collect();
                closed.clear();
            }
            if let Some((descriptor, after)) = spare.filter(|_| forget.is_empty() && doubt == Doubt::None) {
                debug!("{}: goes on with log {}", publication.status.name(), descriptor.id().short());
                return Ok(Recovered { descriptor, tail: Tail::default(), after, state_seq: 0, closed });
            }
            let epoch = (now_micros() / 1000).max(last.map_or(0, |log| log.descriptor.epoch + 1));
            let about = Source {
                stream: publication.stream.clone(),
                created: source.created(),
                filter: publication.filter.clone(),
            };
            let descriptor = LogDescriptor::messages(node.me, epoch, about);
            node.state.put_descriptor(&descriptor).await?;
            failpoint::hit("log-described");
            match reason {
                Unsettled::First => info!("{}: begins log {}", publication.status.name(), descriptor.id().short()),
                Unsettled::SourceForgot => warn!(
                    "{}: the stream lost messages that were sealed (behind {}); begins a new log",
                    publication.status.name(),
                    after.seq
                ),
                Unsettled::ReaderSilent => warn!(
                    "{}: NATS was started anew and not every reader could be asked what it holds; begins a new log",
                    publication.status.name()
                ),
            }
            Recovered { descriptor, tail: Tail::default(), after, state_seq: 0, closed }
        }
    };
    node.state.note_server(recovered.descriptor.id(), &server, recovered.after).await?;
    failpoint::hit("server-noted");
    for (descriptor, subject) in forget {
        node.state.forget(&descriptor, &subject, None).await?;
    }
    Ok(recovered)
}

/// This publication's logs that hold anything, oldest first. Empty ones were begun and never used; the newest of them is
/// good for use when it was begun with the server that still runs.
async fn known_logs(
    node: &Node,
    publication: &Publication,
    created: u64,
    server: &str,
) -> Result<(Vec<Known>, Option<(LogDescriptor, Position)>), SealError> {
    let mut known: Vec<Known> = Vec::new();
    let mut spare: Option<(LogDescriptor, Position)> = None;
    for descriptor in node.state.descriptors(node.me).await? {
        let ours = |about: &Source| about.stream == publication.stream && about.filter == publication.filter;
        if !descriptor.source().is_some_and(ours) {
            continue;
        }
        let subject = node.state.own(descriptor.id());
        let Some(last) = node.state.last(&subject).await? else {
            let noted = node.state.noted_server(descriptor.id()).await?;
            let usable = noted.filter(|(noted, _)| noted == server && is_of(&descriptor, created));
            let unused = match usable {
                Some((_, after)) => spare.replace((descriptor, after)).map(|(before, _)| before),
                None => Some(descriptor),
            };
            if let Some(unused) = unused {
                node.state.forget(&unused, &node.state.own(unused.id()), None).await?;
            }
            continue;
        };
        let operation = last.operations(&node.state)?.pop();
        let Some(operation) = operation else { continue };
        known.push(Known { descriptor, subject, tail: Tail::after(&operation), state_seq: last.seq });
    }
    // Descriptors come oldest first: a spare one that is followed by a log in use is of no use.
    if let (Some((unused, _)), Some(last)) = (&spare, known.last())
        && unused.epoch < last.descriptor.epoch
    {
        node.state.forget(unused, &node.state.own(unused.id()), None).await?;
        spare = None;
    }
    Ok((known, spare))
}

/// Whether a log is about this life of its stream.
fn is_of(descriptor: &LogDescriptor, created: u64) -> bool {
    descriptor.source().is_some_and(|about| about.created == created)
}

fn closed_state(log: &Known) -> LogState {
    LogState {
        descriptor: log.descriptor.clone(),
        closed: true,
        head: log.tail.head,
        through: log.tail.through,
        total: log.tail.total,
        pending: Some(0),
    }
}

/// Asks every reader for operations that this node signed and forgot, and appends them again. Returns whether every
/// reader has answered.
async fn take_back(node: &Node, publication: &Publication, log: &mut Known) -> Result<bool, SealError> {
    let readers: Vec<PublicKey> =
        node.links.known().into_iter().filter(|peer| *peer != node.me && publication.readership.admits(peer)).collect();
    // Readers that are not listed can't be asked.
    let mut all = !publication.readership.is_open();
    let links: Vec<_> = futures_util::future::join_all(
        readers
            .iter()
            .map(|peer| async move { (*peer, tokio::time::timeout(GRACE, node.links.reach(peer)).await.ok()) }),
    )
    .await;
    for (peer, connection) in links {
        let answered = match connection {
            Some(connection) => ask(node, log, peer, &connection).await?,
            None => false,
        };
        if !answered {
            info!(peer = %peer, "{}: a reader could not be asked what it holds", publication.status.name());
        }
        all &= answered;
    }
    Ok(all)
}

/// Asks one reader. `false` when it did not answer to the end.
async fn ask(node: &Node, log: &mut Known, peer: PublicKey, connection: &Connection) -> Result<bool, SealError> {
    let mut reader = Asked { connection, stream: None };
    let mut own = Own { node, subject: &log.subject, last: &mut log.state_seq, taken: 0 };
    let answer = seal::take_back(&log.descriptor, &mut log.tail, &mut reader, &mut own).await?;
    let taken = own.taken;
    match answer {
        Answer::Foreign => warn!(peer = %peer, "a reader returned what this node did not sign"),
        Answer::Astray => warn!(peer = %peer, "a reader holds operations that do not continue this node's log"),
        Answer::Whole | Answer::Silent => {}
    }
    if taken > 0 {
        warn!(peer = %peer, operations = taken, "took back operations that the state stream had lost");
    }
    Ok(answer.is_settled())
}

/// A reader that is asked what it holds.
struct Asked<'a> {
    connection: &'a Connection,
    stream: Option<(FrameWriter, FrameReader)>,
}

impl Holder for Asked<'_> {
    async fn ask(&mut self, pull: Pull) -> bool {
        let asking = async {
            let (mut writer, reader) = stream::open(self.connection).await?;
            writer.send(&Frame::Pull(pull)).await?;
            Ok::<_, StreamError>((writer, reader))
        };
        self.stream = tokio::time::timeout(NEXT, asking).await.ok().and_then(Result::ok);
        self.stream.is_some()
    }

    async fn next(&mut self) -> Option<Given> {
        let (_, reader) = self.stream.as_mut()?;
        match tokio::time::timeout(NEXT, reader.next()).await {
            Ok(Ok(Some(Frame::Batch(batch)))) => Some(Given::Operation(batch.operation)),
            Ok(Ok(Some(Frame::End))) => Some(Given::End),
            _ => None,
        }
    }
}

/// This node's log in its state stream.
struct Own<'a> {
    node: &'a Node,
    subject: &'a LogSubject,
    last: &'a mut u64,
    taken: u64,
}

impl OwnLog for Own<'_> {
    type Error = StateError;

    async fn append(&mut self, commit: Commit) -> Result<(), StateError> {
        *self.last = self.node.state.append(self.subject, &commit, *self.last).await?;
        failpoint::hit("operation-taken-back");
        self.taken += 1;
        Ok(())
    }
}

/// The source's stream, to be asked about the end of a log.
struct End<'a>(&'a SourceStream);

impl SourceEnd for End<'_> {
    type Error = SourceError;

    async fn first_after(&self, time: u64) -> Result<Option<SourceSeq>, SourceError> {
        self.0.first_after(time).await
    }

    async fn last(&self) -> Result<SourceSeq, SourceError> {
        self.0.bounds().await.map(|(_, _, last)| last)
    }

    async fn time_of(&self, seq: SourceSeq) -> Result<Option<u64>, SourceError> {
        self.0.time_of(seq).await
    }
}
