//! One subscription to a bucket: follows the author's catalog, and has each object brought here.
//!
//! The invariant: an object is settled only when the local bucket has it whole, and which entries are settled is noted in
//! the state stream only then. After any crash what was settled and not noted is looked at again, and found there.
//! The catalog's operations are stored here too, so that a restart knows what there is without asking the author.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::future::OptionFuture;
use iroh::endpoint::Connection;
use rhio_blobs::bucket::{Bucket, BucketError};
use rhio_core::catalog::landing::{self, Landing as Plan, Outcome, Task};
use rhio_core::catalog::progress::Progress;
use rhio_core::catalog::{CatalogDescriptor, CatalogOperation, Said};
use rhio_core::commit::{Commit, MAX_OPERATIONS, TARGET_LEN};
use rhio_core::id::{LocalSeq, OpSeq, PublicKey};
use rhio_core::object::ObjectKey;
use rhio_core::operation::{Head, OperationError};
use rhio_core::wire::{BucketPull, CatalogState, CloseCode, Frame, HeldCatalog};
use thiserror::Error;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::config::Deletes;
use crate::failpoint;
use crate::nats::state::{LogSubject, Note, StateError};
use crate::node::{Node, now_micros};
use crate::peer::stream::{self, FrameReader, StreamError};
use crate::status::{Count, Entry as Status, Lag, LogEnd, Refusal};

use super::events;
use super::landing::{LandError, Landed, Landing};
use super::listing::{Desk, Question};
use super::parts;
use super::store::MAX_LANDINGS;

/// Waits between attempts after a failure.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// How long this process stands back after another one has moved its cursor.
const STAND_BACK: Duration = Duration::from_secs(10);
/// How often progress is looked at.
const TICK: Duration = Duration::from_millis(500);
/// Without an operation for this long, while the author has more, the connection is closed and made anew.
const STALL: Duration = Duration::from_secs(20);
/// Operations that wait to be stored; while there are more, no further ones are read.
const MAX_UNSTORED: usize = 1024;
/// How long the state stream may take to answer when a session ends.
const ANSWER: Duration = Duration::from_secs(10);
/// How often a lag is logged.
const LAG_LOG: Duration = Duration::from_secs(30);

/// One subscription.
#[derive(Debug)]
pub struct BucketSubscription {
    /// The author's bucket.
    pub remote: String,
    /// The local bucket.
    pub bucket: Arc<dyn Bucket>,
    /// Whose it is.
    pub author: PublicKey,
    /// What becomes of an object here that the author deletes.
    pub deletes: Deletes,
    /// Objects whose content was here already.
    pub copied: AtomicU64,
    /// The operator wants the deletes that are held to be followed.
    pub confirmed: Notify,
    holds: AtomicBool,
    /// Objects that are here, and their bytes.
    here: (AtomicU64, AtomicU64),
    /// Answers which objects there are.
    pub desk: Desk,
    /// What an operator sees of it.
    pub status: Status,
    /// Ends its task.
    pub stop: CancellationToken,
}

impl BucketSubscription {
    /// A subscription that has not begun.
    pub fn new(
        remote: String,
        bucket: Arc<dyn Bucket>,
        author: PublicKey,
        deletes: Deletes,
        stop: CancellationToken,
    ) -> Self {
        let name = format!("subscription to bucket '{remote}' of {} into '{}'", author.short(), bucket.name());
        Self {
            remote,
            bucket,
            author,
            deletes,
            copied: AtomicU64::new(0),
            confirmed: Notify::new(),
            holds: AtomicBool::new(false),
            here: Default::default(),
            desk: Desk::default(),
            status: Status::new(name),
            stop,
        }
    }

    /// Whether deletes wait for an operator's word.
    pub fn holds_deletes(&self) -> bool {
        self.holds.load(Ordering::Relaxed)
    }

    /// The author's objects that are here.
    pub fn here(&self) -> Count {
        Count { messages: self.here.0.load(Ordering::Relaxed), bytes: self.here.1.load(Ordering::Relaxed) }
    }

    /// Names this subscription's copies and notes: 16 hex digits.
    fn id(&self) -> String {
        blake3::hash(format!("bucket {}", self.bucket.name()).as_bytes()).to_hex()[..16].to_owned()
    }
}

/// Why following stopped.
#[derive(Debug, Error)]
pub enum FollowError {
    /// The local bucket.
    #[error("local {0}")]
    Bucket(#[from] BucketError),
    /// The state stream.
    #[error(transparent)]
    State(#[from] StateError),
    /// The author's stream.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// The author sent what can't be accepted.
    #[error("the author's node sent what can't be accepted: {1}")]
    Violation(Refusal, String),
    /// Something that concerns more than one object.
    #[error(transparent)]
    Land(LandError),
    /// Nothing moves.
    #[error("no progress for {} s although the author has more; the connection is made anew", STALL.as_secs())]
    Stalled,
}

impl From<OperationError> for FollowError {
    fn from(error: OperationError) -> Self {
        Self::Violation((&error).into(), error.to_string())
    }
}

/// Follows one subscription until stopped.
pub async fn run(node: Node, subscription: Arc<BucketSubscription>) {
    let stop = subscription.stop.clone();
    let mut wait = BACKOFF.0;
    while !stop.is_cancelled() {
        let begun = Instant::now();
        let outcome = tokio::select! {
            () = stop.cancelled() => break,
            outcome = follow(&node, &subscription) => outcome,
        };
        if begun.elapsed() > BACKOFF.1 {
            wait = BACKOFF.0;
        }
        let Err(error) = outcome else { continue };
        let pause = match &error {
            // The connection went; a new one is waited for.
            FollowError::Stream(StreamError::Lost(_) | StreamError::Closed(CloseCode::Done | CloseCode::Shutdown)) => {
                debug!("{}: {error}", subscription.status.name());
                BACKOFF.0
            }
            FollowError::Land(LandError::Fetch(_) | LandError::Stream(_)) => {
                debug!("{}: {error}", subscription.status.name());
                BACKOFF.0
            }
            // The author begins a new epoch.
            FollowError::Stream(StreamError::Closed(CloseCode::Unavailable)) if wait == BACKOFF.0 => {
                debug!("{}: {error}", subscription.status.name());
                wait *= 2;
                BACKOFF.0
            }
            FollowError::State(StateError::Refused { .. }) => {
                subscription.status.waiting(
                    "another process with the same private key writes for this subscription; this one stands back. \
                     Run one rhio per key, or give each its own key",
                );
                STAND_BACK
            }
            error => {
                subscription.status.waiting(&error.to_string());
                let pause = wait;
                wait = (wait * 2).min(BACKOFF.1);
                pause
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn follow(node: &Node, subscription: &Arc<BucketSubscription>) -> Result<(), FollowError> {
    node.state.ensure().await?;
    let mut held = Held::load(node, subscription).await?;
    // First of all the local bucket: without it there is no point in asking the author.
    if let Err(error) = subscription.bucket.list(None).await {
        if matches!(error, BucketError::Missing(_)) {
            held.forget(node, subscription).await?;
        }
        return Err(error.into());
    }
    let known = |record: &parts::Record| {
        record.bucket != subscription.bucket.name()
            || record.is_import()
            || ObjectKey::new(record.key.clone())
                .is_ok_and(|key| held.plan.wanted(&key).is_some_and(|put| record.is_of(&put)))
    };
    parts::sweep(node, known).await.map_err(FollowError::Land)?;
    show(subscription, &mut held);
    let mut questions = subscription.desk.questions.lock().await;
    let connection = {
        let mut reach = pin!(node.reach(&subscription.author, &subscription.status));
        loop {
            tokio::select! {
                connection = &mut reach => break connection,
                Some(question) = questions.recv() => question.answer(&held.plan),
            }
        }
    };
    let (mut writer, mut reader) = stream::open(&connection).await?;
    writer.send(&Frame::Bucket(BucketPull { bucket: subscription.remote.clone(), held: held.catalog() })).await?;
    let landing =
        Landing { node: node.clone(), subscription: Arc::clone(subscription), connection: connection.clone() };
    let mut driver = Driver {
        node,
        subscription,
        landing: Arc::new(landing),
        held,
        author: None,
        unstored: VecDeque::new(),
        storing: 0,
        in_flight: HashMap::new(),
        running: JoinSet::new(),
        changed: false,
        moved: Instant::now(),
        lagged: Instant::now(),
    };
    let (mut storing, mut noting): (Storing, Noting) = (None, None);
    let outcome = driver.run(&mut reader, &mut questions, &mut storing, &mut noting).await;
    driver.running.shutdown().await;
    // What becomes of these must be known before anybody reads what is stored.
    let both = async { (OptionFuture::from(storing).await, OptionFuture::from(noting).await) };
    let _ = tokio::time::timeout(ANSWER, both).await;
    match &outcome {
        Err(FollowError::Stalled) => {
            subscription.status.restarted();
            warn!(peer = %subscription.author, "{}: no progress", subscription.status.name());
            stream::close(&connection, CloseCode::Stalled);
        }
        Err(error @ FollowError::Violation(why, _)) => {
            subscription.status.refused(*why, &error.to_string());
            refuse(subscription, &connection, error, CloseCode::Unverified);
        }
        Err(error @ FollowError::Stream(violation)) if violation.is_violation() => {
            subscription.status.refused(Refusal::Protocol, &error.to_string());
            refuse(subscription, &connection, error, violation.code());
        }
        _ => {}
    }
    writer.reset(CloseCode::Done);
    outcome
}

fn refuse(subscription: &BucketSubscription, connection: &Connection, error: &FollowError, code: CloseCode) {
    warn!(peer = %subscription.author, "{}: refused: {error}", subscription.status.name());
    stream::close(connection, code);
}

/// What this node holds of the newest catalog.
struct Copy {
    descriptor: CatalogDescriptor,
    subject: LogSubject,
    head: Option<Head>,
    said: Said,
    /// Sequence number of the last message of the copy; 0 for none.
    state_seq: u64,
}

/// What this node holds, and what there is to do.
struct Held {
    plan: Plan,
    copy: Option<Copy>,
    note: Option<Note>,
    /// Where the newest catalog's operations end, in entries, and when they were signed; those that are settled are
    /// left out.
    told: VecDeque<(u64, SystemTime)>,
    /// Older epochs, until the newest is complete.
    older: Vec<CatalogDescriptor>,
}

impl Held {
    async fn load(node: &Node, subscription: &BucketSubscription) -> Result<Self, FollowError> {
        let id = subscription.id();
        let mut plan = Plan::new(rule(subscription.deletes));
        let mut older = Vec::new();
        let (mut last, mut note, mut told) = (None, None, VecDeque::new());
        for descriptor in node.state.catalogs(subscription.author, &subscription.remote).await? {
            let log = descriptor.id();
            let subject = node.state.applied(subscription.author, log, &id);
            let (its_note, noted) = node.state.landed(log, &id).await?;
            let mut copy = Copy { descriptor, subject, head: None, said: Said::default(), state_seq: 0 };
            if let Some(before) = last.replace(log) {
                debug!(log = %before.short(), "an older epoch of the catalog");
                plan = Plan::succeed(plan);
                told.clear();
            }
            // One that can't be read counts as nothing settled: every object is looked for, and found.
            plan.restore(noted.and_then(|bytes| Progress::decode(bytes).ok()).unwrap_or_default());
            let mut reader = node.state.read(&copy.subject, 1).await?;
            while let Some(stored) = reader.next().await? {
                for operation in stored.catalog(&node.state)? {
                    let first = accept(&mut copy, &operation)?;
                    plan.receive(first, operation.content().entries(), now_ms());
                    told.push_back(signed(first, &operation));
                }
                copy.state_seq = stored.seq;
            }
            older.push(copy);
            note = Some(its_note);
        }
        plan.start();
        let copy = older.pop();
        Ok(Self { plan, copy, note, told, older: older.into_iter().map(|copy| copy.descriptor).collect() })
    }

    /// What the author is told.
    fn catalog(&self) -> Option<HeldCatalog> {
        let copy = self.copy.as_ref()?;
        let next = copy.head.map_or(OpSeq(0), |head| head.seq.next());
        Some(HeldCatalog { log: copy.descriptor.id(), next, hash: copy.head.map(|head| head.hash) })
    }

    /// The local bucket is gone, with everything that was brought there.
    async fn forget(&mut self, node: &Node, subscription: &BucketSubscription) -> Result<(), FollowError> {
        for descriptor in node.state.catalogs(subscription.author, &subscription.remote).await? {
            let (mut note, noted) = node.state.landed(descriptor.id(), &subscription.id()).await?;
            if noted.is_some() {
                warn!(
                    "{}: the local bucket is gone; when it is there again, every object is brought again",
                    subscription.status.name()
                );
                node.state.drop_note(&mut note).await?;
            }
        }
        Ok(())
    }
}

fn rule(deletes: Deletes) -> landing::Deletes {
    match deletes {
        Deletes::Keep => landing::Deletes::Keep,
        Deletes::Follow => landing::Deletes::Follow,
    }
}

/// Takes an operation if it is the next one. Returns the number of its first entry.
fn accept(copy: &mut Copy, operation: &CatalogOperation) -> Result<u64, FollowError> {
    operation.belongs_to(copy.descriptor.author, copy.descriptor.id())?;
    operation.follows(copy.head)?;
    let catalog = operation.content();
    if catalog.before() != copy.said {
        return Err(FollowError::Violation(Refusal::Order, format!("operation {} does not count on", operation.seq())));
    }
    let first = copy.said.entries;
    copy.said = catalog.after();
    copy.head = Some(operation.head());
    Ok(first)
}

fn now_ms() -> u64 {
    now_micros() / 1000
}

type Storing = Option<Pin<Box<dyn Future<Output = Result<u64, StateError>> + Send>>>;
type Noting = Option<Pin<Box<dyn Future<Output = Result<Note, StateError>> + Send>>>;

struct Finished {
    task: Task,
    outcome: Result<Outcome, LandError>,
}

struct Driver<'a> {
    node: &'a Node,
    subscription: &'a Arc<BucketSubscription>,
    landing: Arc<Landing>,
    held: Held,
    /// The catalog as the author has it.
    author: Option<CatalogState>,
    /// Operations that are not in the copy yet, each with the number of its first entry.
    unstored: VecDeque<(u64, CatalogOperation)>,
    /// How many of them are being stored.
    storing: usize,
    in_flight: HashMap<ObjectKey, (u64, CancellationToken)>,
    running: JoinSet<Finished>,
    /// Something was settled that is not noted yet.
    changed: bool,
    moved: Instant,
    lagged: Instant,
}

impl Driver<'_> {
    async fn run(
        &mut self,
        reader: &mut FrameReader,
        questions: &mut mpsc::Receiver<Question>,
        storing: &mut Storing,
        noting: &mut Noting,
    ) -> Result<(), FollowError> {
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
                    self.stored(seq);
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
                frame = reader.next(), if self.unstored.len() < MAX_UNSTORED => match frame? {
                    Some(Frame::Catalog(state)) => self.hear(state).await?,
                    Some(Frame::Operation(raw)) => self.receive(raw)?,
                    Some(Frame::Refused { code, reason }) => {
                        return Err(StreamError::Refused { code, reason }.into());
                    }
                    Some(_) => return Err(StreamError::Unexpected.into()),
                    None => return Err(StreamError::Closed(CloseCode::Done).into()),
                },
            }
        }
    }

    fn name(&self) -> &str {
        self.subscription.status.name()
    }

    /// The author says how far its catalog is; the first time also which one it is.
    async fn hear(&mut self, state: CatalogState) -> Result<(), FollowError> {
        let descriptor = &state.descriptor;
        if descriptor.author != self.subscription.author || descriptor.bucket != self.subscription.remote {
            return Err(FollowError::Violation(Refusal::Protocol, "a catalog of something else".to_owned()));
        }
        let log = descriptor.id();
        let newest = self.held.copy.as_ref().map(|copy| (copy.descriptor.id(), copy.descriptor.epoch));
        if self.author.is_none() {
            self.subscription.status.active();
        }
        match newest {
            Some((held, _)) if held == log => {}
            _ if self.author.is_some() => {
                return Err(FollowError::Violation(Refusal::Protocol, "two catalogs at once".to_owned()));
            }
            Some((_, epoch)) if epoch >= descriptor.epoch => {
                return Err(FollowError::Violation(Refusal::Protocol, "an older epoch of the catalog".to_owned()));
            }
            _ => {
                if state.from != OpSeq(0) {
                    return Err(FollowError::Violation(
                        Refusal::Protocol,
                        "a catalog without its beginning".to_owned(),
                    ));
                }
                debug!(log = %log.short(), "a new epoch of the catalog");
                self.node.state.put_catalog(descriptor).await?;
                failpoint::hit("catalog-known");
                let id = self.subscription.id();
                let copy = Copy {
                    descriptor: descriptor.clone(),
                    subject: self.node.state.applied(self.subscription.author, log, &id),
                    head: None,
                    said: Said::default(),
                    state_seq: 0,
                };
                if let Some(before) = self.held.copy.replace(copy) {
                    self.held.older.push(before.descriptor);
                    let plan = std::mem::replace(&mut self.held.plan, Plan::new(rule(self.subscription.deletes)));
                    self.held.plan = Plan::succeed(plan);
                    self.held.told.clear();
                }
                self.held.note = Some(self.node.state.landed(log, &id).await?.0);
            }
        }
        self.author = Some(state);
        self.show_lag();
        Ok(())
    }

    fn receive(&mut self, raw: Bytes) -> Result<(), FollowError> {
        let operation = CatalogOperation::verify(raw)?;
        let Some(copy) = &mut self.held.copy else { return Err(StreamError::Unexpected.into()) };
        let first = accept(copy, &operation)?;
        self.unstored.push_back((first, operation));
        self.moved = Instant::now();
        Ok(())
    }

    /// The copy has what was being stored: only now it may be acted upon, so that after a crash it is known what was.
    fn stored(&mut self, seq: u64) {
        if let Some(copy) = &mut self.held.copy {
            copy.state_seq = seq;
        }
        for (first, operation) in self.unstored.drain(..std::mem::take(&mut self.storing)) {
            self.held.plan.receive(first, operation.content().entries(), now_ms());
            self.held.told.push_back(signed(first, &operation));
        }
        self.changed = true;
        for (key, (entry, stop)) in &self.in_flight {
            if !self.held.plan.is_current(key, *entry) {
                stop.cancel();
            }
        }
        self.show_lag();
    }

    /// Appends what waits to the copy.
    fn store(&mut self) -> Storing {
        let copy = self.held.copy.as_ref()?;
        let mut len = 0;
        let fits = |raw: &&Bytes| {
            len += raw.len();
            len <= TARGET_LEN || len == raw.len()
        };
        let waiting = self.unstored.iter().map(|(_, operation)| operation.raw());
        let operations: Vec<Bytes> = waiting.take(MAX_OPERATIONS).take_while(fits).cloned().collect();
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
            self.node.state.forget_catalog(&descriptor, &subject, Some(&note)).await?;
        }
        Ok(())
    }

    /// Lets as much be done at once as may be.
    fn fill(&mut self) {
        while self.in_flight.len() < MAX_LANDINGS {
            let Some(task) = self.held.plan.next(now_ms()) else { return };
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
                        parts::abort(&landing.node, bucket, task.key()).await.and(Err(LandError::Superseded))
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
                    status.trouble(&format!(
                        "'{key}' is left alone: somebody else's object has this key in the local bucket; delete or \
                         rename it to let the author's in"
                    ));
                } else {
                    let bytes = match &task {
                        Task::Land { put, .. } if outcome == Outcome::Done => put.size,
                        _ => 0,
                    };
                    status.progress(Count { messages: 1, bytes });
                }
                self.held.plan.settle(key, entry, outcome, now_ms());
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
                    if status.refused_part(Refusal::Digest, &format!("'{key}': {error}")) {
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
                    status.trouble(&format!("'{key}' is not here yet: {error}; it is tried again"));
                }
                self.held.plan.fail(key, entry, now_ms());
            }
        }
        self.show_lag();
        Ok(())
    }

    fn check(&mut self) -> Result<(), FollowError> {
        let held = self.held.plan.deletes_held();
        self.subscription.holds.store(held.is_some(), Ordering::Relaxed);
        if let Some(held) = held {
            self.subscription.status.waiting(&format!(
                "the author deleted {} of {} objects at once; none is deleted here until that is confirmed: \
                 nats request rhio.deletes '{}'",
                held.count,
                held.of,
                self.subscription.bucket.name()
            ));
        } else if self.author.is_some() {
            self.subscription.status.active();
        }
        self.show_lag();
        let behind = match (&self.author, &self.held.copy) {
            (Some(author), Some(copy)) => {
                author.descriptor.id() == copy.descriptor.id()
                    && author.head.map(|head| head.seq) > copy.head.map(|head| head.seq)
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
        let objects =
            here.objects + here.removals + author.said.entries.saturating_sub(self.held.plan.received()) + pending;
        let bytes = here.bytes + author.said.bytes.saturating_sub(copy.said.bytes);
        self.subscription.status.set_lag(Lag { messages: Some(objects), bytes: Some(bytes) });
        if objects > 0 && self.lagged.elapsed() >= LAG_LOG {
            self.lagged = Instant::now();
            info!(objects, bytes, "{}: catching up", self.name());
        }
        if objects == 0 {
            self.lagged = Instant::now();
        }
    }
}

/// Shows what is here, and where the catalog ends.
fn show(subscription: &BucketSubscription, held: &mut Held) {
    subscription.here.0.store(held.plan.landed() as u64, Ordering::Relaxed);
    subscription.here.1.store(held.plan.landed_bytes(), Ordering::Relaxed);
    let Some(copy) = &held.copy else { return };
    let total = Count { messages: copy.said.entries, bytes: copy.said.bytes };
    subscription.status.set_end(LogEnd { log: copy.descriptor.id(), head: copy.head, total, source: None }, None);
    let settled = held.plan.settled_below();
    while held.told.pop_front_if(|(end, _)| *end <= settled).is_some() {}
    subscription.status.set_missing_since(held.told.front().map(|(_, at)| *at));
}

/// Where an operation's entries end, and when it was signed.
fn signed(first: u64, operation: &CatalogOperation) -> (u64, SystemTime) {
    let end = first + operation.content().entries().len() as u64;
    (end, UNIX_EPOCH + Duration::from_micros(operation.signed_at()))
}

async fn work(landing: &Landing, task: &Task, here: Option<ObjectKey>) -> Result<Outcome, LandError> {
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
            if let Some(publication) = landing.node.blobs.published.find(local) {
                publication.inventory_mut().exclude(&put.key, &etag.0);
            }
            events::landed(&landing.node, &landing.subscription, put).await?;
            failpoint::hit("arrival-told");
            Ok(Outcome::Done)
        }
    }
}
