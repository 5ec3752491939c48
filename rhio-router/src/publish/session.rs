//! Serves one log to one subscriber.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rhio_core::id::{LogId, OpHash, OpSeq, PublicKey};
use rhio_core::log::operation::Operation;
use rhio_core::log::session::{Refusal, Session, Step, Unsent};
use rhio_core::record::SourceRecord;
use rhio_core::seal::Tail;
use rhio_core::select::{Selected, Selection};
use rhio_core::subject::Filter;
use rhio_core::wire::{CloseCode, Floor, Frame, encode_batch};
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::node::Node;
use crate::status::{Count, Entry};
use rhio_nats::source::{History, SourceError, SourceStream};
use rhio_nats::state::{LogSubject, StateError, StateReader};
use rhio_net::links::Incoming;
use rhio_net::stream::{FrameReader, FrameWriter, StreamError};

use super::live::{LiveLog, Progress, Recent};
use super::readership::Presence;
use super::registry::Publication;

/// Batches go after control frames.
const LIVE_PRIORITY: i32 = 1;
/// What is caught up goes after what is live.
const CATCH_UP_PRIORITY: i32 = 0;

/// Why a session ended.
#[derive(Debug, Error)]
pub enum SessionError {
    /// The stream broke.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// The state stream can't be read.
    #[error(transparent)]
    State(#[from] StateError),
    /// The source's stream can't be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The peer is not served, with the code that it is told.
    #[error("not served: {}", .0.reason())]
    Refused(CloseCode),
}

impl SessionError {
    /// A pull that is not served.
    pub fn refusal(refusal: Refusal) -> Self {
        Self::Refused(match refusal {
            Refusal::Behind => CloseCode::Unavailable,
            Refusal::Diverged => CloseCode::Diverged,
        })
    }

    /// How the stream is closed.
    pub fn code(&self) -> CloseCode {
        match self {
            Self::Stream(error) => error.code(),
            Self::State(_) | Self::Source(_) => CloseCode::Unavailable,
            Self::Refused(code) => *code,
        }
    }
}

/// What a session reads from.
struct View {
    log: LogId,
    filter: Filter,
    /// `None` for a log that is closed.
    live: Option<Arc<LiveLog>>,
    progress: watch::Receiver<Progress>,
    /// `None` when the stream is gone: every record is gone then.
    source: Option<SourceStream>,
    subject: LogSubject,
}

/// What a subscriber asks for: a log, and what it wants of it.
pub struct Asked {
    /// The log.
    pub log: LogId,
    /// The first operation that is lacking.
    pub next: OpSeq,
    /// The hash of the operation before that.
    pub held: Option<OpHash>,
    /// The subjects that are wanted.
    pub filter: Filter,
    /// What need not be sent.
    pub floors: Vec<Floor>,
}

/// One subscriber's session: where it is, and what it gets.
struct Serving {
    session: Mutex<Session>,
    selection: Selection,
}

impl Serving {
    fn session(&self) -> MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves a pull of messages until the subscriber leaves.
///
/// # Errors
/// When the stream breaks, or the pull is not served.
pub async fn serve(node: &Node, incoming: Incoming, asked: Asked) -> Result<(), SessionError> {
    let Incoming { peer, mut writer, mut reader, connection: _connection } = incoming;
    let result = open_and_serve(node, peer, &mut writer, &mut reader, asked).await;
    if let Err(error) = &result {
        reader.stop(error.code());
        writer.reset(error.code());
    }
    result
}

async fn open_and_serve(
    node: &Node,
    peer: PublicKey,
    writer: &mut FrameWriter,
    reader: &mut FrameReader,
    asked: Asked,
) -> Result<(), SessionError> {
    let publication = node.registry.find(asked.log).filter(|p| p.admits(&peer));
    let publication = publication.ok_or(SessionError::Refused(CloseCode::Unavailable))?;
    let view = view(node, &publication, asked.log).await?;
    let before = hash_before(node, &view, asked.next).await?;
    let head = view.progress.borrow().tail.head;
    let closed = view.live.is_none();
    let session = Session::open((asked.next, asked.held), head, before).map_err(|refusal| {
        match refusal {
            // A subscriber that holds more of a closed log has what it can get.
            _ if closed => {}
            Refusal::Behind => {
                warn!(peer = %peer, "{}: a subscriber holds more than this node", publication.status.name());
                publication.behind.notify_one();
            }
            Refusal::Diverged => {
                warn!(peer = %peer, "{}: a subscriber holds another log", publication.status.name());
                publication.diverged.notify_one();
            }
        }
        SessionError::refusal(refusal)
    })?;
    debug!(peer = %peer, from = session.next().0, "session begins");
    let selection = Selection::new(asked.filter, asked.floors, &view.filter);
    let serving = Serving { session: Mutex::new(session), selection };
    let presence = publication.readership.enter(peer);
    let sending = send(node, &publication, peer, &view, &serving, writer);
    let hearing = hear(node, &view, &serving, reader, &presence);
    tokio::select! {
        result = sending => result,
        result = hearing => result,
    }
}

async fn view(node: &Node, publication: &Publication, log: LogId) -> Result<View, SessionError> {
    let logs = publication.logs().borrow().clone();
    let subject = node.state.own(log);
    if let Some(live) = logs.live.filter(|live| live.log == log) {
        return Ok(View {
            log,
            filter: publication.filter.clone(),
            progress: live.progress(),
            source: Some(live.source.clone()),
            live: Some(live),
            subject,
        });
    }
    let closed = logs.closed.into_iter().find(|c| c.descriptor.id() == log);
    let closed = closed.ok_or(SessionError::Refused(CloseCode::Unavailable))?;
    let about = closed.descriptor.source().ok_or(SessionError::Refused(CloseCode::Unavailable))?;
    let source = SourceStream::open(&node.client, &publication.stream, &publication.filter).await;
    let source = match source {
        Ok(source) if source.created() == about.created => Some(source),
        Ok(_) | Err(SourceError::Missing(_)) => None,
        Err(error) => return Err(error.into()),
    };
    let tail = Tail { head: closed.head, through: closed.through, total: closed.total };
    // The sender may go: the value stays, and nothing is added to a closed log.
    let (_, progress) = watch::channel(Progress { tail, pending: Some(0) });
    Ok(View { log, filter: about.filter.clone(), live: None, progress, source, subject })
}

async fn hash_before(node: &Node, view: &View, next: OpSeq) -> Result<Option<OpHash>, SessionError> {
    let Some(wanted) = next.0.checked_sub(1).map(OpSeq) else { return Ok(None) };
    if let Some(recent) = view.live.as_ref().and_then(|live| live.recent(wanted)) {
        return Ok(Some(recent.operation.hash()));
    }
    let head = view.progress.borrow().tail.head;
    if let Some(head) = head.filter(|head| head.seq == wanted) {
        return Ok(Some(head.hash));
    }
    Ok(node.state.hash_of(&view.subject, wanted).await?)
}

/// Sends what the subscriber lacks, for ever.
async fn send(
    node: &Node,
    publication: &Publication,
    peer: PublicKey,
    view: &View,
    serving: &Serving,
    writer: &mut FrameWriter,
) -> Result<(), SessionError> {
    let mut progress = view.progress.clone();
    let mut logs = publication.logs();
    let mut catch_up: Option<CatchUp> = None;
    loop {
        if !publication.admits(&peer) {
            return Err(SessionError::Refused(CloseCode::Refused));
        }
        let head = progress.borrow_and_update().tail.head;
        if let Some(live) = &view.live {
            live.note_sent(serving.session().next());
        }
        let ring = view.live.as_ref().and_then(|live| live.ring_start());
        let step = serving.session().step(head, ring);
        match step {
            Step::Ring(seq) => {
                // It may have left the ring in this moment; then it comes from the log.
                let Some(recent) = view.live.as_ref().and_then(|live| live.recent(seq)) else { continue };
                catch_up = None;
                writer.set_priority(LIVE_PRIORITY);
                let begun = Instant::now();
                let sent = send_recent(serving, writer, &recent).await?;
                publication.status.sent(sent);
                node.telemetry.sent(&recent.operation, &peer, begun, sent);
            }
            Step::Log(seq) => {
                writer.set_priority(CATCH_UP_PRIORITY);
                let reader = match catch_up.take().filter(|reader| reader.next == seq) {
                    Some(reader) => reader,
                    None => CatchUp::open(node, view, serving, writer, seq).await?,
                };
                catch_up = reader.send(node, (peer, &publication.status), serving, writer).await?;
            }
            Step::Wait => tokio::select! {
                changed = progress.changed(), if view.live.is_some() => {
                    if changed.is_err() {
                        return Err(SessionError::Refused(CloseCode::Unavailable));
                    }
                }
                changed = logs.changed() => {
                    let over = changed.is_err() || !publication.has(view.log);
                    let live = logs.borrow_and_update().live.as_ref().map(|live| live.log);
                    if over || (view.live.is_some() && live != Some(view.log)) {
                        return Err(SessionError::Refused(CloseCode::Unavailable));
                    }
                }
            },
        }
    }
}

async fn send_recent(serving: &Serving, writer: &mut FrameWriter, recent: &Recent) -> Result<Count, SessionError> {
    let selected = serving.selection.select(&recent.operation, &recent.records);
    serving.session().sent(recent.operation.seq());
    let all = selected.iter().all(|slot| matches!(slot, Selected::Record(_)));
    let frame = if all {
        recent.whole_frame()
    } else {
        encode_batch(recent.operation.raw(), selected.iter().map(|slot| slot.slot(&recent.records)))
    };
    writer.send_bytes(frame).await?;
    failpoint::hit("operation-sent");
    Ok(count(&selected, &recent.records))
}

/// The records that go along.
fn count(selected: &[Selected], records: &[SourceRecord]) -> Count {
    let slots = selected.iter().filter_map(|slot| slot.slot(records).ok());
    slots.fold(Count::default(), |sum, record| Count {
        messages: sum.messages + 1,
        bytes: sum.bytes + record.as_bytes().len() as u64,
    })
}

/// Reads the log, and the stream again.
struct CatchUp {
    reader: StateReader,
    history: Option<History>,
    next: OpSeq,
}

impl CatchUp {
    async fn open(
        node: &Node,
        view: &View,
        serving: &Serving,
        writer: &mut FrameWriter,
        seq: OpSeq,
    ) -> Result<Self, SessionError> {
        let stored = node.state.find(&view.subject, seq).await?;
        let stored = stored.ok_or(SessionError::Refused(CloseCode::Unavailable))?;
        let first = stored.operations(&node.state)?.first().map_or(seq, Operation::seq);
        if first > seq {
            writer.send(&Frame::Pruned { first }).await?;
            serving.session().skip_to(first);
        }
        let reader = node.state.read(&view.subject, stored.seq).await?;
        // A narrower filter reads less; a wider one must not read what the log does not cover.
        let wanted = serving.selection.filter();
        let filter = if view.filter.covers(wanted) { wanted.clone() } else { view.filter.clone() };
        let history = view.source.as_ref().map(|source| source.history(&filter));
        Ok(Self { reader, history, next: first.max(seq) })
    }

    /// Sends the next commit's operations; `None` at what was the end when reading began.
    async fn send(
        mut self,
        node: &Node,
        (peer, status): (PublicKey, &Entry),
        serving: &Serving,
        writer: &mut FrameWriter,
    ) -> Result<Option<Self>, SessionError> {
        let Some(stored) = self.reader.next().await? else { return Ok(None) };
        for operation in stored.operations(&node.state)? {
            if operation.seq() != self.next {
                continue;
            }
            let begun = Instant::now();
            let records = match &mut self.history {
                Some(history) => history.records(operation.records(), |p| serving.selection.is_below_floors(p)).await?,
                None => Vec::new(),
            };
            // The stream was read under the subscriber's filter, so what it does not want looks as if it were gone.
            let selected = serving.selection.select(&operation, &records);
            serving.session().sent(operation.seq());
            let frame = encode_batch(operation.raw(), selected.iter().map(|slot| slot.slot(&records)));
            writer.send_bytes(frame).await?;
            let sent = count(&selected, &records);
            status.sent(sent);
            node.telemetry.sent(&operation, &peer, begun, sent);
            failpoint::hit("operation-sent");
            self.next = operation.seq().next();
        }
        Ok(Some(self))
    }
}

/// Hears what the subscriber has applied, until it leaves.
async fn hear(
    node: &Node,
    view: &View,
    serving: &Serving,
    reader: &mut FrameReader,
    presence: &Presence,
) -> Result<(), SessionError> {
    loop {
        let head = match reader.next().await? {
            Some(Frame::Applied(head)) => head,
            Some(_) => return Err(StreamError::Unexpected.into()),
            None => return Ok(()),
        };
        serving.session().applied(head).map_err(|Unsent| SessionError::Refused(CloseCode::Protocol))?;
        presence.applied(head.seq);
        failpoint::hit("applied-heard");
        let Some(live) = view.live.as_ref().filter(|live| live.source.is_queue()) else { continue };
        let through = match live.recent(head.seq) {
            Some(recent) => Some(recent.operation.through().seq),
            None => {
                let stored = node.state.find(&view.subject, head.seq).await?;
                let operations = stored.map(|stored| stored.operations(&node.state)).transpose()?;
                let found = operations.into_iter().flatten().find(|op| op.hash() == head.hash);
                found.map(|op| op.through().seq)
            }
        };
        if let Some(through) = through {
            live.note_applied(serving.selection.filter(), through);
        }
    }
}
