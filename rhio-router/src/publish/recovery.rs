//! Lets [`rhio_core::seal::find_log`] look at the state stream, the source's stream and the readers.

use std::time::Duration;

use rhio_core::id::{LogId, PublicKey, SourceSeq};
use rhio_core::log::commit::Commit;
use rhio_core::log::descriptor::{LogDescriptor, Source};
use rhio_core::log::session::Refusal;
use rhio_core::record::Position;
use rhio_core::seal::{self, Answer, Given, Holder, Known, Origin, OwnLog, OwnLogs, SourceEnd, Tail, Unsettled};
use rhio_core::wire::{Frame, Pull};
use tracing::{debug, info, warn};

use crate::node::{Node, now_micros};
use rhio_nats::source::{SourceError, SourceStream};
use rhio_nats::state::{LogSubject, StateError};
use rhio_net::connection::Connection;
use rhio_net::stream::{self, FrameReader, FrameWriter, StreamError};

use super::publication::Publication;
use super::seal_error::{Doubt, SealError};

pub use rhio_core::seal::Writable as Recovered;

/// How long readers have to answer before the log is closed rather than continued.
const GRACE: Duration = Duration::from_secs(5);
/// How long a reader that answers may take to send its next operation.
const NEXT: Duration = Duration::from_secs(20);

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
    let about =
        Source { stream: publication.stream.clone(), created: source.created(), filter: publication.filter.clone() };
    let doubt = match doubt {
        Doubt::None => None,
        Doubt::Behind => Some(Refusal::Behind),
        Doubt::Diverged => Some(Refusal::Diverged),
    };
    let (now, max_closed) = (now_micros() / 1000, seal::MAX_CLOSED);
    let wanted = seal::Wanted { author: node.me, about, doubt, now, max_closed };
    let logs = Logs { node, publication, server: node.server_id() };
    let found = seal::find_log(&logs, &End(source), &wanted).await?;
    let (name, log) = (publication.status.name(), found.descriptor.id());
    match found.origin {
        Origin::Continued => {}
        Origin::Spare => debug!("{name}: goes on with log {}", log.short()),
        Origin::Begun(Unsettled::First) => info!("{name}: begins log {}", log.short()),
        Origin::Begun(Unsettled::SourceForgot) => {
            warn!("{name}: the stream lost messages that were sealed (behind {}); begins a new log", found.after.seq)
        }
        Origin::Begun(Unsettled::ReaderSilent) => {
            warn!("{name}: NATS was started anew and not every reader could be asked what it holds; begins a new log")
        }
    }
    Ok(found)
}

/// This node's logs in its state stream, and the readers of one publication.
struct Logs<'a> {
    node: &'a Node,
    publication: &'a Publication,
    /// The run of the server that was there when recovery began.
    server: String,
}

impl OwnLogs for Logs<'_> {
    type Error = SealError;

    async fn descriptors(&self) -> Result<Vec<LogDescriptor>, SealError> {
        Ok(self.node.state.descriptors(self.node.me).await?)
    }

    async fn end(&self, log: &LogDescriptor) -> Result<Option<(Tail, u64)>, SealError> {
        let state = &self.node.state;
        let Some(last) = state.last(&state.own(log.id())).await? else { return Ok(None) };
        Ok(last.operations(state)?.last().map(|operation| (Tail::after(operation), last.seq)))
    }

    async fn noted(&self, log: LogId) -> Result<Option<Position>, SealError> {
        let noted = self.node.state.noted_server(log).await?;
        Ok(noted.filter(|(server, _)| *server == self.server).map(|(_, after)| after))
    }

    async fn note(&self, log: LogId, after: Position) -> Result<(), SealError> {
        self.node.state.note_server(log, &self.server, after).await?;
        failpoint::hit("server-noted");
        Ok(())
    }

    async fn describe(&self, log: &LogDescriptor) -> Result<(), SealError> {
        self.node.state.put_descriptor(log).await?;
        failpoint::hit("log-described");
        Ok(())
    }

    async fn forget(&self, log: &LogDescriptor) -> Result<(), SealError> {
        Ok(self.node.state.forget(log, &self.node.state.own(log.id()), None).await?)
    }

    async fn take_back(&self, log: &mut Known) -> Result<bool, SealError> {
        take_back(self.node, self.publication, log).await
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
    let subject = node.state.own(log.descriptor.id());
    let mut own = Own { node, subject: &subject, last: &mut log.state_seq, taken: 0 };
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
