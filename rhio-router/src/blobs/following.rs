//! Follows an author's catalog: receives its operations, lets objects land, and notes what is settled.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::OptionFuture;
use rhio_core::catalog::landing::{Landing as Plan, Outcome, Task};
use rhio_core::id::LocalSeq;
use rhio_core::log::commit::{Commit, pack};
use rhio_core::log::descriptor::LogDescriptor;
use rhio_core::log::operation::Operation;
use rhio_core::object::ObjectKey;
use rhio_core::wire::{Batch, CloseCode, Frame, LogState};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::follower::{self, Watch};
use crate::node::{Node, now_millis};
use crate::status::{Count, Lag, Refusal};
use crate::trouble::{Cause, Trouble};
use rhio_nats::state::{Note, StateError};
use rhio_net::stream::{FrameReader, FrameWriter, StreamError};

use super::events;
use super::fetching::Landing;
use super::follow_error::{FollowError, STALL};
use super::holding::{Copy, Held, rule, show, signed};
use super::land_error::LandError;
use super::landing::Landed;
use super::listing::Question;
use super::store::MAX_LANDINGS;
use super::subscription::BucketSubscription;
use super::upload_note;

/// How often progress is looked at.
const TICK: Duration = Duration::from_millis(500);
/// Operations that wait to be stored; while there are more, no further ones are read.
const MAX_UNSTORED: usize = 1024;
/// How long the author may be without a log before that is a state worth a word.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often a lag is logged.
const LAG_LOG: Duration = Duration::from_secs(30);

pub(super) type Storing = Option<Pin<Box<dyn Future<Output = Result<u64, StateError>> + Send>>>;
pub(super) type Noting = Option<Pin<Box<dyn Future<Output = Result<Note, StateError>> + Send>>>;

pub(super) struct Finished {
    pub(super) task: Task,
    pub(super) outcome: Result<Outcome, LandError>,
}

pub(super) struct Driver<'a> {
    pub(super) node: &'a Node,
    pub(super) subscription: &'a Arc<BucketSubscription>,
    pub(super) landing: Arc<Landing>,
    pub(super) held: Held,
    /// The catalog as the author has it.
    pub(super) author: Option<LogState>,
    /// Tells the author what is stored here.
    pub(super) writer: Option<FrameWriter>,
    /// Operations that are not in the copy yet, each with the number of its first entry.
    pub(super) unstored: VecDeque<(u64, Operation)>,
    /// How many of them are being stored.
    pub(super) storing: usize,
    pub(super) in_flight: HashMap<ObjectKey, (u64, CancellationToken)>,
    pub(super) running: JoinSet<Finished>,
    /// Something was settled that is not noted yet.
    pub(super) changed: bool,
    pub(super) begun: Instant,
    pub(super) moved: Instant,
    pub(super) lagged: Instant,
}

impl Driver<'_> {
    pub(super) async fn run(
        &mut self,
        watch: &mut Watch,
        questions: &mut mpsc::Receiver<Question>,
        storing: &mut Storing,
        noting: &mut Noting,
    ) -> Result<Infallible, FollowError> {
        // The author's log, once it is known which one it is.
        let mut pulled: Option<FrameReader> = None;
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.fill();
            if storing.is_none() && !self.unstored.is_empty() {
                *storing = self.store();
            }
            // Nothing is noted as settled of operations that the copy does not have.
            if noting.is_none() && storing.is_none() && self.changed {
                *noting = self.note();
            }
            tokio::select! {
                biased;
                Some(stored) = OptionFuture::from(storing.as_mut()) => {
                    *storing = None;
                    let seq = stored?;
                    failpoint::hit("catalog-copied");
                    self.stored(seq).await?;
                }
                Some(noted) = OptionFuture::from(noting.as_mut()) => {
                    *noting = None;
                    self.held.note = Some(noted?);
                    failpoint::hit("landing-noted");
                    self.forget_older().await?;
                }
                Some(finished) = self.running.join_next() => {
                    if let Ok(finished) = finished {
                        self.finished(finished).await?;
                    }
                }
                () = self.subscription.confirmed.notified() => {
                    if let Some(held) = self.held.plan.deletes_held() {
                        info!("{}: {} deletes are confirmed", self.name(), held.count);
                        self.held.plan.confirm_deletes();
                        self.subscription.status.active();
                    }
                }
                Some(question) = questions.recv() => question.answer(&self.held.plan),
                _ = tick.tick() => self.check()?,
                logs = watch.next() => {
                    if self.hear(logs?).await? && pulled.is_none() {
                        pulled = Some(self.pull().await?);
                    }
                }
                Some(frame) = OptionFuture::from(pulled.as_mut().map(FrameReader::next)),
                    if self.unstored.len() < MAX_UNSTORED => match frame?
                {
                    Some(Frame::Batch(batch)) => self.receive(batch)?,
                    Some(_) => return Err(StreamError::Unexpected.into()),
                    None => return Err(StreamError::Closed(CloseCode::Done).into()),
                },
            }
        }
    }

    fn name(&self) -> &str {
        self.subscription.status.name()
    }

    /// The author says how far its log is; the first time also which one it is. Returns whether it has one now.
    async fn hear(&mut self, logs: Vec<LogState>) -> Result<bool, FollowError> {
        let violation = |what: &str| FollowError::Violation(Refusal::Protocol, what.to_owned());
        let state = match (logs.into_iter().next(), &self.author) {
            (Some(state), _) => state,
            // It will have one soon.
            (None, None) => return Ok(false),
            // It begins a new epoch.
            (None, Some(_)) => return Err(StreamError::Closed(CloseCode::Unavailable).into()),
        };
        let descriptor = &state.descriptor;
        if descriptor.author != self.subscription.author
            || descriptor.bucket_name() != Some(self.subscription.remote.as_str())
        {
            return Err(violation("a log that was not asked for"));
        }
        let log = descriptor.id();
        if self.author.as_ref().is_some_and(|before| before.descriptor.id() != log) {
            return Err(StreamError::Closed(CloseCode::Unavailable).into());
        }
        if self.author.is_none() {
            self.subscription.status.active();
        }
        match self.held.copy.as_ref().map(|copy| (copy.descriptor.id(), copy.descriptor.epoch)) {
            Some((held, _)) if held == log => {}
            Some((_, epoch)) if epoch >= descriptor.epoch => {
                return Err(violation("an older epoch of the catalog"));
            }
            _ => self.begin(descriptor.clone()).await?,
        }
        self.author = Some(state);
        self.show_lag();
        Ok(true)
    }

    /// Begins the copy of a new epoch.
    async fn begin(&mut self, descriptor: LogDescriptor) -> Result<(), FollowError> {
        let log = descriptor.id();
        debug!(log = %log.short(), "a new epoch of the catalog");
        self.node.state.put_descriptor(&descriptor).await?;
        failpoint::hit("catalog-known");
        let id = self.subscription.id();
        let subject = self.node.state.applied(self.subscription.author, log, &id);
        if let Some(before) = self.held.copy.replace(Copy::new(descriptor, subject)) {
            self.held.older.push(before.descriptor);
            let plan = std::mem::replace(&mut self.held.plan, Plan::new(rule(self.subscription.deletes)));
            self.held.plan = Plan::succeed(plan);
            self.held.told.clear();
        }
        self.held.note = Some(self.node.state.landed(log, &id).await?.0);
        Ok(())
    }

    /// Asks for what the copy lacks.
    async fn pull(&mut self) -> Result<FrameReader, FollowError> {
        let Some(copy) = &self.held.copy else { return Err(StreamError::Unexpected.into()) };
        let (pull, head) = (copy.pull(), copy.chain.head());
        let (writer, reader) = follower::pull::<FollowError>(&self.landing.connection, pull, head).await?;
        self.writer = Some(writer);
        Ok(reader)
    }

    fn receive(&mut self, batch: Batch) -> Result<(), FollowError> {
        let operation = Operation::verify(batch.operation)?;
        if !batch.slots.is_empty() {
            return Err(FollowError::Violation(Refusal::Protocol, "records of a bucket".to_owned()));
        }
        let Some(copy) = &mut self.held.copy else { return Err(StreamError::Unexpected.into()) };
        let first = copy.accept(&operation)?;
        let messages = operation.entries().len() as u64;
        self.subscription.status.verified(Count { messages, bytes: operation.raw().len() as u64 });
        self.unstored.push_back((first, operation));
        self.moved = Instant::now();
        Ok(())
    }

    /// The copy has what was being stored: only now it may be acted upon, so that after a crash it is known what was.
    async fn stored(&mut self, seq: u64) -> Result<(), FollowError> {
        if let Some(copy) = &mut self.held.copy {
            copy.state_seq = seq;
        }
        let mut head = None;
        for (first, operation) in self.unstored.drain(..std::mem::take(&mut self.storing)) {
            self.held.plan.receive(first, operation.entries(), now_millis());
            self.held.told.push_back(signed(first, &operation));
            head = Some(operation.head());
        }
        self.changed = true;
        for (key, (entry, stop)) in &self.in_flight {
            if !self.held.plan.is_current(key, *entry) {
                stop.cancel();
            }
        }
        self.show_lag();
        if let (Some(writer), Some(head)) = (&mut self.writer, head) {
            follower::tell::<FollowError>(writer, head).await?;
        }
        Ok(())
    }

    /// Appends what waits to the copy.
    fn store(&mut self) -> Storing {
        let copy = self.held.copy.as_ref()?;
        let count = pack(self.unstored.iter().map(|(_, operation)| operation.raw().len()));
        let waiting = self.unstored.iter().take(count);
        let operations: Vec<Bytes> = waiting.map(|(_, operation)| operation.raw().clone()).collect();
        self.storing = operations.len();
        let commit = Commit { local: LocalSeq(0), gone: 0, operations };
        let (state, subject, expected) = (Arc::clone(&self.node.state), copy.subject.clone(), copy.state_seq);
        Some(Box::pin(async move { state.append(&subject, &commit, expected).await }))
    }

    /// Notes which entries are settled.
    fn note(&mut self) -> Noting {
        let mut note = self.held.note.take()?;
        self.changed = false;
        let payload = self.held.plan.progress().encode();
        let state = Arc::clone(&self.node.state);
        Some(Box::pin(async move { state.write_note(&mut note, payload).await.map(|()| note) }))
    }

    /// Drops older epochs once the newest tells everything, and that is noted.
    async fn forget_older(&mut self) -> Result<(), FollowError> {
        if self.held.older.is_empty() || self.held.copy.is_none() || self.held.plan.needs_older() {
            return Ok(());
        }
        let id = self.subscription.id();
        for descriptor in std::mem::take(&mut self.held.older) {
            let log = descriptor.id();
            let subject = self.node.state.applied(self.subscription.author, log, &id);
            let (note, _) = self.node.state.landed(log, &id).await?;
            self.node.state.forget(&descriptor, &subject, Some(&note)).await?;
        }
        Ok(())
    }

    /// Lets as much be done at once as may be.
    fn fill(&mut self) {
        while self.in_flight.len() < MAX_LANDINGS {
            let Some(task) = self.held.plan.next(now_millis()) else { return };
            let stop = CancellationToken::new();
            let (landing, token) = (Arc::clone(&self.landing), stop.clone());
            let here = match &task {
                Task::Land { put, .. } => self.held.plan.find(&put.hash).cloned(),
                Task::Remove { .. } => None,
            };
            self.in_flight.insert(task.key().clone(), (task.entry(), stop));
            self.running.spawn(async move {
                let outcome = tokio::select! {
                    () = token.cancelled() => Err(LandError::Superseded),
                    outcome = work(&landing, &task, here) => outcome,
                };
                let outcome = match outcome {
                    // Nothing comes back to an upload that nobody wants any more.
                    Err(LandError::Superseded) => {
                        let bucket = &*landing.subscription.bucket;
                        upload_note::abort(&landing.node, bucket, task.key()).await.and(Err(LandError::Superseded))
                    }
                    outcome => outcome,
                };
                Finished { task, outcome }
            });
        }
    }

    async fn finished(&mut self, finished: Finished) -> Result<(), FollowError> {
        let Finished { task, outcome } = finished;
        let (key, entry) = (task.key(), task.entry());
        self.in_flight.remove(key);
        let status = &self.subscription.status;
        match outcome {
            Ok(outcome) => {
                if outcome == Outcome::Kept && matches!(task, Task::Land { .. }) {
                    let words = format!(
                        "'{key}' is left alone: somebody else's object has this key in the local bucket; delete or \
                         rename it to let the author's in"
                    );
                    status.trouble(&Trouble::new(Cause::KeyTaken, words));
                } else {
                    let bytes = match &task {
                        Task::Land { put, .. } if outcome == Outcome::Done => put.size,
                        _ => 0,
                    };
                    status.progress(Count { messages: 1, bytes });
                }
                self.held.plan.settle(key, entry, outcome, now_millis());
                self.moved = Instant::now();
                self.changed = true;
            }
            Err(LandError::State(error)) => return Err(error.into()),
            Err(error) if error.is_connection() => return Err(FollowError::Land(error)),
            // What a server says about one object may be about all of them: then there is no point in going on.
            Err(LandError::Bucket(error))
                if error.is_general() && self.subscription.bucket.list(None).await.is_err() =>
            {
                return Err(error.into());
            }
            Err(error) => {
                if error.is_violation() {
                    let trouble = Trouble::from(&error).told(format!("'{key}': {error}"));
                    if status.refused_part(Refusal::Digest, &trouble) {
                        warn!(peer = %self.subscription.author, %key, "{}: refused: {error}", status.name());
                    } else {
                        debug!(peer = %self.subscription.author, %key, "{}: refused: {error}", status.name());
                    }
                } else if matches!(error, LandError::Superseded | LandError::Again(_))
                    || (error.is_unavailable() && self.held.plan.failures(key) == 0)
                {
                    // An object that is overwritten while it is fetched: its next version is about to be told of.
                    debug!(%key, %error, "not landed");
                } else {
                    let words = format!("'{key}' is not here yet: {error}; it is tried again");
                    status.trouble(&Trouble::from(&error).told(words));
                }
                self.held.plan.fail(key, entry, now_millis());
            }
        }
        self.show_lag();
        Ok(())
    }

    fn check(&mut self) -> Result<(), FollowError> {
        let held = self.held.plan.deletes_held();
        self.subscription.holds.store(held.is_some(), Ordering::Relaxed);
        if let Some(held) = held {
            let words = format!(
                "the author deleted {} of {} objects at once; none is deleted here until that is confirmed: \
                 nats request rhio.deletes '{}'",
                held.count,
                held.of,
                self.subscription.bucket.name()
            );
            self.subscription.status.waiting(Trouble::new(Cause::DeletesHeld, words));
        } else if self.author.is_some() {
            self.subscription.status.active();
        } else if self.begun.elapsed() > PATIENCE {
            let words = format!("the author can't serve its catalog of bucket '{}' (yet)", self.subscription.remote);
            self.subscription.status.waiting(Trouble::new(Cause::PeerUnavailable, words));
        }
        self.show_lag();
        let behind = match (&self.author, &self.held.copy) {
            (Some(author), Some(copy)) => {
                author.descriptor.id() == copy.descriptor.id()
                    && author.head.map(|head| head.seq) > copy.chain.head().map(|head| head.seq)
            }
            _ => true,
        };
        if !behind {
            self.moved = self.moved.max(Instant::now() - STALL / 2);
        } else if self.author.is_some() && self.moved.elapsed() > STALL {
            return Err(FollowError::Stalled);
        }
        Ok(())
    }

    fn show_lag(&mut self) {
        show(self.subscription, &mut self.held);
        let (Some(author), Some(copy)) = (&self.author, &self.held.copy) else { return };
        // While the author has not looked at its whole bucket, nobody knows how much there is.
        let Some(pending) = author.pending else {
            self.subscription.status.set_lag(Lag::default());
            return;
        };
        let here = self.held.plan.lag();
        let said = here.objects + here.removals + author.total.items.saturating_sub(self.held.plan.received());
        let bytes = here.bytes + author.total.bytes.saturating_sub(copy.chain.total().bytes);
        self.subscription.status.set_lag(Lag::new(said, bytes, Some(pending)));
        let objects = said + pending;
        if objects > 0 && self.lagged.elapsed() >= LAG_LOG {
            self.lagged = Instant::now();
            info!(objects, bytes, "{}: catching up", self.name());
        }
        if objects == 0 {
            self.lagged = Instant::now();
        }
    }
}

pub(super) async fn work(landing: &Landing, task: &Task, here: Option<ObjectKey>) -> Result<Outcome, LandError> {
    let put = match task {
        Task::Remove { key, .. } => {
            landing.remove(key).await?;
            return Ok(Outcome::Done);
        }
        Task::Land { put, .. } => put,
    };
    match landing.land(put, here).await? {
        Landed::Conflict => Ok(Outcome::Kept),
        Landed::Here(etag) => {
            let local = landing.subscription.bucket.name();
            if let Some(publication) = landing.node.holdings.bucket(local) {
                publication.inventory_mut().exclude(&put.key, &etag.0);
            }
            events::landed(&landing.node, &landing.subscription, put).await?;
            failpoint::hit("arrival-told");
            Ok(Outcome::Done)
        }
    }
}
