//! Serves a log to a subscriber, whatever the log is about. Where the payloads come from, its [`Source`] knows.

use std::future::{Future, ready};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use rhio_core::id::{LogId, OpHash, OpSeq, PublicKey};
use rhio_core::log::operation::{Head, Operation};
use rhio_core::log::session::{Refusal, Session, Step, Unsent};
use rhio_core::wire::{Batch, CloseCode, Frame};
use rhio_nats::state::{LogSubject, StateReader};
use rhio_net::links::Incoming;
use rhio_net::stream::{FrameReader, FrameWriter, StreamError};
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::debug;

use crate::deadlines::{ANSWER, FRAME, within};
use crate::node::Node;
use crate::publish::live::{LiveLog, Recent};
use crate::publish::readership::{Presence, Readership};
use crate::session_error::SessionError;
use crate::status::{Count, Entry};

/// What is live goes after control frames.
pub const LIVE_PRIORITY: i32 = 1;
/// How long a subscriber has to apply what it was sent before a session ends that can't go on.
const LINGER: Duration = Duration::from_secs(5);
/// What is caught up goes after what is live.
pub const CATCH_UP_PRIORITY: i32 = 0;

/// What a subscriber asks for.
pub struct Asked {
    /// The log.
    pub log: LogId,
    /// The first operation that is lacking.
    pub next: OpSeq,
    /// The hash of the operation before that.
    pub held: Option<OpHash>,
}

/// An operation with what goes along, ready to be sent.
pub struct Parcel {
    /// The frame.
    pub frame: Bytes,
    /// What is counted as sent.
    pub count: Count,
}

/// Where what one subscriber gets of a log comes from. This is what a kind of log implements to be served.
///
/// A session has a [`Watch`](Self::Watch) on the log's end all the time, and an [`Again`](Self::Again) while it reads
/// what the log and its payloads' place still hold.
pub trait Source: Send + Sync {
    /// Notices when the log moves.
    type Watch: Send;
    /// Reads payloads again, of one operation after the other.
    type Again: Send;
    /// The streams' priority while operations are read again.
    const PRIORITY: i32;

    /// The publication's state and counters.
    fn status(&self) -> &Entry;
    /// Who may read it.
    fn readership(&self) -> &Readership;
    /// Where the log's operations are.
    fn subject(&self) -> &LogSubject;

    /// The subscriber's copy is not a beginning of this log. Returns what the subscriber is told.
    fn refuse(&self, peer: &PublicKey, refusal: Refusal) -> CloseCode;

    /// Begins to watch the log.
    fn watch(&self) -> Self::Watch;
    /// The log's last durable operation.
    ///
    /// # Errors
    /// When the log is not served any more, with what the subscriber is told.
    fn head(&self, watch: &mut Self::Watch) -> Result<Option<Head>, CloseCode>;
    /// Waits until the log has moved since it was last looked at, or who may read it has changed.
    ///
    /// # Errors
    /// When the log is not served any more, with what the subscriber is told.
    fn moved(&self, watch: &mut Self::Watch) -> impl Future<Output = Result<(), CloseCode>> + Send;

    /// Begins to read payloads again.
    fn again(&self) -> Self::Again;
    /// Takes the payloads of an operation that was read from the log, and makes sure that they are what was signed.
    ///
    /// # Errors
    /// When they can't be read, or are something else.
    fn load(
        &self,
        again: &mut Self::Again,
        operation: &Operation,
    ) -> impl Future<Output = Result<Parcel, SessionError>> + Send;

    /// The state stream has lost an operation that was durable.
    fn forgotten(&self) {}

    /// The log's ring of recent batches, when it has one.
    fn live(&self) -> Option<&LiveLog> {
        None
    }
    /// Takes what the subscriber gets of a batch that the ring has.
    fn pack(&self, recent: &Recent) -> Parcel {
        bare(&recent.operation, Count::default())
    }

    /// An operation has been handed to the connection, which began at this instant.
    fn sent(&self, node: &Node, operation: &Operation, peer: &PublicKey, begun: Instant, count: Count);
    /// The subscriber has everything durably up to here.
    ///
    /// # Errors
    /// When NATS does not answer.
    fn applied(&self, _node: &Node, _head: Head) -> impl Future<Output = Result<(), SessionError>> + Send {
        ready(Ok(()))
    }
}

/// An operation that nothing goes along with.
pub fn bare(operation: &Operation, count: Count) -> Parcel {
    Parcel { frame: Frame::Batch(Batch::bare(operation.raw().clone())).encode(), count }
}

/// Serves a log until the subscriber leaves.
///
/// # Errors
/// When the stream breaks, the log can't be read, or the pull is not served.
pub async fn serve(
    node: &Node,
    incoming: &mut Incoming,
    asked: &Asked,
    source: &impl Source,
) -> Result<(), SessionError> {
    let Incoming { peer, writer, reader, .. } = incoming;
    let peer = *peer;
    let head = source.head(&mut source.watch()).map_err(SessionError::Refused)?;
    let before = hash_before(node, source, head, asked.next).await?;
    let session = Session::open((asked.next, asked.held), head, before)
        .map_err(|refusal| SessionError::Refused(source.refuse(&peer, refusal)))?;
    debug!(peer = %peer, log = %asked.log.short(), from = session.next().0, "session begins");
    let from = session.next();
    let serving = Serving { node, peer, source, session: Mutex::new(session), from, heard: Notify::new() };
    let presence = source.readership().enter(peer);
    tokio::select! {
        outcome = serving.send_or_linger(writer) => outcome,
        outcome = serving.hear(reader, &presence) => outcome,
    }
}

/// The hash that the log has for the operation before `next`.
async fn hash_before(
    node: &Node,
    source: &impl Source,
    head: Option<Head>,
    next: OpSeq,
) -> Result<Option<OpHash>, SessionError> {
    let Some(wanted) = next.0.checked_sub(1).map(OpSeq) else { return Ok(None) };
    if let Some(recent) = source.live().and_then(|live| live.recent(wanted)) {
        return Ok(Some(recent.operation.hash()));
    }
    if let Some(head) = head.filter(|head| head.seq == wanted) {
        return Ok(Some(head.hash));
    }
    Ok(node.state.hash_of(source.subject(), wanted).await?)
}

/// One subscriber's session.
struct Serving<'a, S> {
    node: &'a Node,
    peer: PublicKey,
    source: &'a S,
    session: Mutex<Session>,
    /// The first operation that was to be sent.
    from: OpSeq,
    /// The subscriber has said how far it is.
    heard: Notify,
}

/// Reads the log and its payloads again.
struct CatchUp<A> {
    reader: StateReader,
    again: A,
    next: OpSeq,
}

impl<S: Source> Serving<'_, S> {
    fn session(&self) -> MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends what the subscriber lacks, for ever. When one operation can't be sent, the stream is broken off, and what is
    /// on its way there is lost with it. It would be lost each time, so the subscriber is given time to apply it.
    async fn send_or_linger(&self, writer: &mut FrameWriter) -> Result<(), SessionError> {
        let outcome = self.send(writer).await;
        if matches!(outcome, Err(SessionError::Altered { .. })) {
            let applied = async {
                while !self.is_applied() {
                    self.heard.notified().await;
                }
            };
            let _ = tokio::time::timeout(LINGER, applied).await;
        }
        outcome
    }

    /// Whether the subscriber has everything durably that it was sent.
    fn is_applied(&self) -> bool {
        let session = self.session();
        session.next() == self.from || session.durable().is_some_and(|head| head.seq.next() >= session.next())
    }

    /// Sends what the subscriber lacks, for ever.
    async fn send(&self, writer: &mut FrameWriter) -> Result<(), SessionError> {
        let mut watch = self.source.watch();
        let mut catch_up: Option<CatchUp<S::Again>> = None;
        loop {
            let head = self.source.head(&mut watch).map_err(SessionError::Refused)?;
            if !self.source.readership().admits(&self.peer) {
                return Err(SessionError::Refused(CloseCode::Refused));
            }
            let live = self.source.live();
            if let Some(live) = live {
                live.note_sent(self.session().next());
            }
            let step = self.session().step(head, live.and_then(LiveLog::ring_start));
            match step {
                Step::Ring(seq) => {
                    // It may have left the ring in this moment; then it comes from the log.
                    let Some(recent) = live.and_then(|live| live.recent(seq)) else { continue };
                    catch_up = None;
                    writer.set_priority(LIVE_PRIORITY);
                    let begun = Instant::now();
                    let parcel = self.source.pack(&recent);
                    self.deliver(writer, &recent.operation, parcel, begun).await?;
                }
                Step::Log(seq) => {
                    writer.set_priority(S::PRIORITY);
                    let open = match catch_up.take().filter(|open| open.next == seq) {
                        Some(open) => open,
                        None => self.open(writer, seq).await?,
                    };
                    catch_up = self.send_commit(writer, open).await?;
                }
                Step::Wait => {
                    catch_up = None;
                    self.source.moved(&mut watch).await.map_err(SessionError::Refused)?;
                }
            }
        }
    }

    /// Begins to read the log at an operation, or behind it when it was pruned.
    async fn open(&self, writer: &mut FrameWriter, seq: OpSeq) -> Result<CatchUp<S::Again>, SessionError> {
        let (state, subject) = (&self.node.state, self.source.subject());
        let Some(stored) = state.find(subject, seq).await? else {
            self.source.forgotten();
            return Err(SessionError::Refused(CloseCode::Unavailable));
        };
        let first = stored.operations(state)?.first().map_or(seq, Operation::seq);
        if first > seq {
            within::<_, SessionError>(ANSWER, writer.send(&Frame::Pruned { first })).await?;
            self.session().skip_to(first);
        }
        let reader = state.read(subject, stored.seq).await?;
        Ok(CatchUp { reader, again: self.source.again(), next: first.max(seq) })
    }

    /// Sends the next commit's operations; `None` at what was the end when reading began.
    async fn send_commit(
        &self,
        writer: &mut FrameWriter,
        mut open: CatchUp<S::Again>,
    ) -> Result<Option<CatchUp<S::Again>>, SessionError> {
        let Some(stored) = open.reader.next().await? else { return Ok(None) };
        for operation in stored.operations(&self.node.state)? {
            if operation.seq() != open.next {
                continue;
            }
            let begun = Instant::now();
            let parcel = self.source.load(&mut open.again, &operation).await?;
            self.deliver(writer, &operation, parcel, begun).await?;
            open.next = operation.seq().next();
        }
        Ok(Some(open))
    }

    async fn deliver(
        &self,
        writer: &mut FrameWriter,
        operation: &Operation,
        parcel: Parcel,
        begun: Instant,
    ) -> Result<(), SessionError> {
        // Before it is under way: the answer may be here first.
        self.session().sent(operation.seq());
        within::<_, SessionError>(FRAME, writer.send_bytes(parcel.frame)).await?;
        self.source.status().sent(parcel.count);
        self.source.sent(self.node, operation, &self.peer, begun, parcel.count);
        Ok(())
    }

    /// Hears what the subscriber has applied, until it leaves.
    async fn hear(&self, reader: &mut FrameReader, presence: &Presence) -> Result<(), SessionError> {
        loop {
            let head = match reader.next().await? {
                Some(Frame::Applied(head)) => head,
                Some(_) => return Err(StreamError::Unexpected.into()),
                None => return Ok(()),
            };
            self.session().applied(head).map_err(|Unsent| SessionError::Refused(CloseCode::Protocol))?;
            presence.applied(head.seq);
            self.heard.notify_one();
            self.source.applied(self.node, head).await?;
        }
    }
}
