//! Drives the applier of one log: the provider's stream in, the local stream and the state stream out.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use futures_util::future::OptionFuture;
use rhio_core::apply::standing::Standing;
use rhio_core::apply::{Applier, Cursor, Violation, Write};
use rhio_core::id::{LocalSeq, LogId, OpSeq};
use rhio_core::log::commit::Commit;
use rhio_core::log::descriptor::LogDescriptor;
use rhio_core::record::Position;
use rhio_core::wire::{Batch, CloseCode, Floor, Frame, LogState, Slot};
use rhio_net::connection::Connection;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::deadlines::{ANSWER, Silent};
use crate::follower;
use crate::node::Node;
use crate::status::{Count, Lag, LogEnd};
use crate::telemetry::Received;
use rhio_nats::sink::{Sink, SinkError};
use rhio_nats::state::{LogSubject, StateError};
use rhio_net::stream::{FrameReader, FrameWriter, StreamError};

use super::apply_error::{ACK, ApplyError, STALL};
use super::cursor::{self, Of};
use super::subscription::Subscription;

/// How often progress is looked at.
const TICK: Duration = Duration::from_millis(500);
/// How often the copy of the log is pruned.
const PRUNE: Duration = Duration::from_secs(30);
/// How often a lag is logged.
const LAG_LOG: Duration = Duration::from_secs(30);
/// A lag below this is not worth a line.
const LAG_WORTH: u64 = 10_000;

/// The records of one operation, on their way.
struct InFlight {
    /// Marks of its records: `first..first + count`.
    first: u64,
    count: u64,
    /// Answers that are still to come.
    left: u64,
    /// Only the last record is answered, and its sequence number must be this much above the one before.
    for_all: bool,
    last: Option<LocalSeq>,
    since: Instant,
}

/// When a batch arrived, and when the oldest of its records came into the author's stream (nanoseconds since the Unix
/// epoch, by the author's clock).
struct Timed {
    seq: OpSeq,
    arrived: Instant,
    oldest: u64,
    /// What its trace will tell, when there is one.
    traced: Option<Box<Received>>,
}

struct Driver<'a> {
    subscription: &'a Subscription,
    node: &'a Node,
    sink: Sink,
    subject: LogSubject,
    log: LogId,
    life: String,
    applier: Applier,
    state_seq: u64,
    in_flight: VecDeque<InFlight>,
    next_mark: u64,
    /// One answer per operation is enough, as long as nobody else writes to the stream.
    sparse: bool,
    /// The sequence number of the last answer, when it was about the last record sent before those now in flight.
    previous: Option<LocalSeq>,
    /// Sequence numbers only grow, unless the stream is another one.
    last_local: LocalSeq,
    /// On a stream that may refuse: marks and positions of records without an answer.
    unanswered: VecDeque<(u64, Position)>,
    /// Batches that are not committed yet.
    timed: VecDeque<Timed>,
    /// When the commit was begun that is under way, or the last one.
    committing: Instant,
    /// On a stream that may refuse: the last record that it has acknowledged.
    written: Option<Position>,
    writer: FrameWriter,
}

/// What is known of the log at the author.
pub type Known = watch::Receiver<Vec<LogState>>;

type Pruning = Option<Pin<Box<dyn Future<Output = Result<(), ApplyError>> + Send>>>;

type Committing = Option<Pin<Box<dyn Future<Output = Result<u64, StateError>> + Send>>>;

/// Applies a log until it is complete, which a log that is still written never is.
///
/// # Errors
/// Whatever happens; the next call goes on from the last commit.
pub async fn apply(
    node: &Node,
    subscription: &Subscription,
    local_created: u64,
    id: &str,
    descriptor: LogDescriptor,
    known: Known,
    connection: Connection,
) -> Result<LogId, ApplyError> {
    let log = descriptor.id();
    let mut sink = Sink::open(&node.client, &subscription.stream, &subscription.filter, subscription.author).await?;
    if sink.created() != local_created {
        return Err(ApplyError::Recreated);
    }
    // While the author takes back what it lost, nothing is begun.
    let entering = tokio::time::timeout(ANSWER, node.quiet.enter(subscription.author)).await;
    let (halt, _permit) = entering.map_err(|_| ApplyError::Silent(Silent))?;
    let subject = node.state.applied(subscription.author, log, id);
    let disturbed = sink.claim(subject.as_str()).await?;
    let log_filter = descriptor.filter().cloned().ok_or(Violation::Frame("a log that is not about messages"))?;
    let of = Of { node, subscription, id, descriptor: &descriptor, sink: &sink };
    let state = known.borrow().iter().find(|state| state.descriptor.id() == log).cloned();
    if let Some(state) = state
        && cursor::is_done(&of, &state).await?
    {
        return Ok(log);
    }
    let server = sink.server_id();
    let remembered = subscription.written(log, &server);
    let Standing { cursor, state_seq, found, mut floors } = cursor::load(&of, disturbed).await?;
    floors.extend(remembered.map(|through| Floor { filter: log_filter.clone(), through }));
    node.state.put_descriptor(&descriptor).await?;
    failpoint::hit("descriptor-stored");
    let whose = (subscription.author, log, log_filter);
    let applier = Applier::new(whose, subscription.filter.clone(), floors, cursor, found);

    let (writer, reader) = follower::pull::<ApplyError>(&connection, applier.pull(), cursor.head).await?;
    debug!(log = %log.short(), from = cursor.next().0, "pulls");
    let in_flight = VecDeque::new();
    let sparse = sink.answers_for_all() && !subscription.is_shared();
    let (next_mark, previous) = (0, None);
    let mut driver = Driver {
        subscription,
        node,
        sink,
        subject,
        life: descriptor.life(),
        log,
        applier,
        state_seq,
        in_flight,
        next_mark,
        sparse,
        previous,
        last_local: cursor.local,
        unanswered: VecDeque::new(),
        timed: VecDeque::new(),
        committing: Instant::now(),
        written: None,
        writer,
    };
    driver.show_end();
    let mut committing: Committing = None;
    let outcome = driver.run(reader, known, &halt, &mut committing).await;
    if let Some(committing) = committing {
        // What becomes of it must be known before anybody reads where the log ends.
        let _ = tokio::time::timeout(ACK, committing).await;
    }
    // A refusal leaves what was acknowledged before it where it is; a lost connection may mean that the server forgot.
    if let (Err(ApplyError::Sink(SinkError::Refused { .. })), Some(through)) = (&outcome, driver.written) {
        subscription.note_written(log, server, through);
    }
    if outcome.is_err() {
        driver.writer.reset(CloseCode::Unavailable);
    }
    subscription.forget_lag(log);
    outcome.map(|()| log)
}

/// The records that came with a batch.
fn count(batch: &Batch) -> Count {
    let present = batch.slots.iter().filter_map(|slot| match slot {
        Slot::Present(record, _) => Some(record.as_bytes().len() as u64),
        Slot::Gone | Slot::LeftOut | Slot::Proven(..) => None,
    });
    present.fold(Count::default(), |sum, bytes| Count { messages: sum.messages + 1, bytes: sum.bytes + bytes })
}

impl Driver<'_> {
    async fn run(
        &mut self,
        mut reader: FrameReader,
        mut known: Known,
        halt: &CancellationToken,
        committing: &mut Committing,
    ) -> Result<(), ApplyError> {
        let mut pruning: Pruning = None;
        let prune = failpoint::setting("RHIO_TEST_PRUNE_SECONDS").map_or(PRUNE, Duration::from_secs);
        let mut pruned = Instant::now();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut watchdog = Watchdog::new();
        loop {
            if committing.is_none()
                && let Some(commit) = self.applier.commit()
            {
                *committing = Some(self.append(commit));
                self.committing = Instant::now();
            }
            tokio::select! {
                biased;
                Some(stored) = OptionFuture::from(committing.as_mut()) => {
                    *committing = None;
                    self.state_seq = stored?;
                    failpoint::hit("commit-stored");
                    self.committed().await?;
                    self.note_lag(known.borrow().iter().find(|state| state.descriptor.id() == self.log));
                    failpoint::hit("applied-sent");
                }
                answer = self.sink.answer() => {
                    let (mark, local) = answer?;
                    self.acknowledged(mark, local)?;
                }
                () = halt.cancelled() => return Err(ApplyError::Recalled),
                Some(result) = OptionFuture::from(pruning.as_mut()) => {
                    pruning = None;
                    result?;
                }
                _ = tick.tick() => {
                    if pruning.is_none() && pruned.elapsed() >= prune && self.state_seq > 0 {
                        pruned = Instant::now();
                        pruning = Some(self.prune());
                    }
                    let state = known.borrow().iter().find(|state| state.descriptor.id() == self.log).cloned();
                    if self.is_complete(state.as_ref()) {
                        return Ok(());
                    }
                    self.check(&mut watchdog, &reader, state.as_ref())?;
                }
                changed = known.changed() => {
                    if changed.is_err() {
                        return Err(StreamError::Lost("the author's list of logs ended".to_owned()).into());
                    }
                    let state = known.borrow_and_update().iter().find(|s| s.descriptor.id() == self.log).cloned();
                    if self.is_complete(state.as_ref()) {
                        return Ok(());
                    }
                    self.note_lag(state.as_ref());
                }
                frame = reader.next(), if self.applier.has_room() => match frame? {
                    Some(Frame::Batch(batch)) => self.write(batch).await?,
                    Some(Frame::Pruned { first }) => self.applier.pruned(first)?,
                    Some(_) => return Err(StreamError::Unexpected.into()),
                    None => return Err(StreamError::Closed(CloseCode::Done).into()),
                },
            }
        }
    }

    fn append(&self, commit: Commit) -> Pin<Box<dyn Future<Output = Result<u64, StateError>> + Send>> {
        let (state, subject, expected) = (Arc::clone(&self.node.state), self.subject.clone(), self.state_seq);
        Box::pin(async move { state.append(&subject, &commit, expected).await })
    }

    fn prune(&self) -> Pin<Box<dyn Future<Output = Result<(), ApplyError>> + Send>> {
        let (state, subject, last) = (Arc::clone(&self.node.state), self.subject.clone(), self.state_seq);
        let asked = self.sink.first_held();
        Box::pin(async move {
            let first = asked.await.map_err(|source| StateError::Nats { stream: String::new(), source })?;
            cursor::prune(&state, first, &subject, last).await
        })
    }

    /// Verifies a batch, and sends its records to the local stream.
    async fn write(&mut self, batch: Batch) -> Result<(), ApplyError> {
        let arrived = Instant::now();
        let present = count(&batch);
        let write = self.applier.receive(batch)?;
        self.subscription.status.verified(present);
        let (seq, oldest) = (write.operation.seq(), write.operation.first().time);
        let traced = self.node.telemetry.received(&write.operation, &self.subscription.stream, arrived, present);
        self.timed.push_back(Timed { seq, arrived, oldest, traced });
        for local in write.delete.iter().copied() {
            warn!(sequence = local.0, "{}: takes out a record that is out of place", self.subscription.status.name());
            self.sink.delete(local).await?;
            failpoint::hit("misplaced-deleted");
        }
        let count = write.records.len() as u64;
        let for_all = self.sparse && count > 1 && self.next_mark > 0;
        self.in_flight.push_back(InFlight {
            first: self.next_mark,
            count,
            left: if for_all { 1 } else { count },
            for_all,
            last: None,
            since: Instant::now(),
        });
        let sending = self.send(&write, for_all);
        // A server that takes nothing would hold this loop, which is what notices that it does not answer.
        tokio::time::timeout(ACK, sending).await.map_err(|_| ApplyError::Unacknowledged)??;
        self.settle_written();
        Ok(())
    }

    /// Sends the records of an operation to the local stream.
    async fn send(&mut self, write: &Write, for_all: bool) -> Result<(), ApplyError> {
        let stamp = self.sink.stamp(&self.life, write.operation.hash());
        for (index, record) in write.records.iter().enumerate() {
            let answered = !for_all || index + 1 == write.records.len();
            self.sink.publish(&stamp, record, answered.then_some(self.next_mark)).await?;
            if !self.sink.answers_for_all() {
                self.unanswered.push_back((self.next_mark, record.position));
            }
            self.next_mark += 1;
            failpoint::hit("record-published");
        }
        Ok(())
    }

    /// The local stream has stored a record.
    fn acknowledged(&mut self, mark: u64, local: LocalSeq) -> Result<(), ApplyError> {
        let index = self.in_flight.partition_point(|flight| flight.first + flight.count <= mark);
        if let Some(flight) = self.in_flight.get_mut(index) {
            if local <= self.last_local {
                return Err(ApplyError::Recreated);
            }
            self.last_local = local;
            let together = self.previous.is_some_and(|previous| local.0 == previous.0 + flight.count);
            if flight.for_all && !together {
                self.subscription.set_shared();
                return Err(ApplyError::Shared);
            }
            flight.left = flight.left.saturating_sub(1);
            flight.last = flight.last.max(Some(local));
            self.previous = Some(local);
            // Answers come in the order of sending, and a refusal ends it.
            while let Some((_, position)) = self.unanswered.pop_front_if(|(sent, _)| *sent <= mark) {
                self.written = Some(position);
            }
        }
        self.settle_written();
        Ok(())
    }

    fn settle_written(&mut self) {
        while self.in_flight.front().is_some_and(|flight| flight.left == 0) {
            if let Some(flight) = self.in_flight.pop_front() {
                self.applier.written(flight.last);
                self.note_stored();
                failpoint::hit("records-acknowledged");
            }
        }
    }

    /// The operation is stored that was the first one in flight until now; those in flight are the last of the timed.
    fn note_stored(&mut self) {
        let stored = self.timed.len().checked_sub(self.in_flight.len() + 1);
        if let Some(traced) = stored.and_then(|index| self.timed.get_mut(index)?.traced.as_mut()) {
            traced.stored();
        }
    }

    async fn committed(&mut self) -> Result<(), ApplyError> {
        let before = self.applier.durable();
        if let Some(head) = self.applier.committed() {
            let after = self.applier.durable();
            let gone = after.gone - before.gone;
            let messages = (after.total.items - before.total.items).saturating_sub(gone);
            let bytes = after.total.bytes - before.total.bytes;
            self.subscription.status.progress(Count { messages, bytes });
            self.subscription.status.gone(gone);
            self.show_end();
            self.subscription.status.active();
            self.note_latency(head.seq);
            if gone > 0 {
                let name = self.subscription.status.name();
                info!(messages = gone, "{name}: skipped what the source no longer had (deleted or expired there)");
            }
            follower::tell::<ApplyError>(&mut self.writer, head).await?;
        }
        Ok(())
    }

    /// Shows how far the log is durably applied.
    fn show_end(&self) {
        let Cursor { head, through, total, .. } = self.applier.durable();
        let end = LogEnd {
            log: self.log,
            head,
            total: Count { messages: total.items, bytes: total.bytes },
            source: head.map(|_| through.seq.0),
        };
        let newest = head.map(|_| UNIX_EPOCH + Duration::from_nanos(through.time));
        self.subscription.status.set_end(end, newest);
    }

    /// Everything up to this operation is committed.
    fn note_latency(&mut self, through: OpSeq) {
        let now = u64::try_from(UNIX_EPOCH.elapsed().unwrap_or_default().as_nanos()).unwrap_or(u64::MAX);
        while let Some(timed) = self.timed.pop_front_if(|timed| timed.seq <= through) {
            let metrics = &self.node.metrics;
            metrics.apply_seconds.observe(timed.arrived.elapsed().as_secs_f64());
            // Another cluster's clock may be ahead of ours.
            let age = Duration::from_nanos(now.saturating_sub(timed.oldest));
            metrics.replication_seconds.observe(age.as_secs_f64());
            if let Some(traced) = timed.traced {
                self.node.telemetry.applied(*traced, self.committing);
            }
        }
    }

    /// A closed log whose end is applied.
    fn is_complete(&self, state: Option<&LogState>) -> bool {
        let Some(state) = state.filter(|state| state.closed && self.applier.is_idle()) else { return false };
        state.head.is_none_or(|head| self.applier.durable().next() > head.seq)
    }

    fn note_lag(&self, state: Option<&LogState>) {
        let applied = self.applier.durable().total;
        let lag = state.map_or_else(Lag::default, |state| {
            Lag::new(
                state.total.items.saturating_sub(applied.items),
                state.total.bytes.saturating_sub(applied.bytes),
                state.pending,
            )
        });
        self.subscription.set_lag(self.log, lag);
    }

    fn check(&self, watchdog: &mut Watchdog, reader: &FrameReader, state: Option<&LogState>) -> Result<(), ApplyError> {
        self.note_lag(state);
        if self.in_flight.front().is_some_and(|flight| flight.since.elapsed() > ACK) {
            return Err(ApplyError::Unacknowledged);
        }
        let durable = self.applier.durable();
        let behind = state.and_then(|state| state.head).is_some_and(|head| head.seq >= durable.next());
        let moved = (durable.next().0, reader.received(), self.next_mark);
        if state.is_some() && !behind {
            self.subscription.status.active();
        }
        if moved != watchdog.moved || !behind {
            (watchdog.moved, watchdog.since) = (moved, Instant::now());
        }
        if watchdog.since.elapsed() > STALL {
            return Err(ApplyError::Stalled);
        }
        let lag = state.map_or(0, |s| s.total.items.saturating_sub(durable.total.items));
        if watchdog.logged.elapsed() > LAG_LOG {
            watchdog.logged = Instant::now();
            if lag > LAG_WORTH {
                let trend = if lag > watchdog.lag { "growing" } else { "shrinking" };
                info!(messages = lag, "{}: lags behind, {trend}", self.subscription.status.name());
            }
            watchdog.lag = lag;
        }
        Ok(())
    }
}

/// Notices when nothing moves.
struct Watchdog {
    moved: (u64, u64, u64),
    since: Instant,
    logged: Instant,
    lag: u64,
}

impl Watchdog {
    fn new() -> Self {
        Self { moved: (0, 0, 0), since: Instant::now(), logged: Instant::now(), lag: 0 }
    }
}
