//! Writes the catalog of one bucket: listings in, state stream out.
//!
//! The invariant: an operation of a catalog leaves the node only after the state stream has acknowledged it (see
//! [`rhio_core::log::writer`]). The state stream takes it only behind the one that this task knows as last. When it is not
//! certain where the log ends, because NATS was started anew or a reader knows more, a new epoch begins, which says
//! everything again. Hashes come from the old log where the bucket still has the same version, so nothing is read twice.

use std::collections::{HashMap, HashSet, VecDeque};
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::OptionFuture;
use rhio_blobs::bucket::{BucketError, Listed, Page};
use rhio_core::catalog::inventory::{Ended, Inventory, Observed};
use rhio_core::catalog::resume::{Catalogs, Commits, Resumed, Wanted, resume};
use rhio_core::catalog::{Catalog, Entry, Put};
use rhio_core::id::LogId;
use rhio_core::log::commit::Commit;
use rhio_core::log::descriptor::LogDescriptor;
use rhio_core::log::operation::Operation;
use rhio_core::log::writer::Writer;
use rhio_core::object::ObjectKey;
use rhio_core::record::Position;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::node::{Node, now_micros};
use crate::status::Count;
use crate::supervise::{self, Duty, Supervised, Verdict};
use crate::trouble::{Cause, Trouble};
use rhio_nats::state::{StateError, StateReader, StateStore};

use super::importing::{self, ImportError};
use super::publication::{BucketPublication, Request, View};

/// How often the server is looked at.
const CHECK: Duration = Duration::from_secs(1);
/// The shortest wait after a listing that failed.
const LISTING_FAILED: Duration = Duration::from_millis(200);
/// Objects that wait to be read; a listing waits while there are more.
const MAX_QUEUE: usize = 10_000;
/// Reads of objects under way for this bucket, beside the bound for all buckets.
const MAX_RUNNING: usize = 32;
/// Waits before an object that could not be read is read again.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));

/// Why writing the catalog stopped.
#[derive(Debug, Error)]
pub enum PublishError {
    /// The state stream.
    #[error(transparent)]
    State(#[from] StateError),
    /// The end of the log is in doubt.
    #[error("{0}; a new epoch of the catalog begins")]
    Doubt(&'static str),
}

impl From<&PublishError> for Cause {
    fn from(error: &PublishError) -> Self {
        match error {
            PublishError::State(error) => error.into(),
            PublishError::Doubt(_) => Self::StateFailed,
        }
    }
}

/// Publishes a bucket until stopped.
pub async fn run(node: Node, publication: Arc<BucketPublication>, requests: mpsc::Receiver<Request>) {
    supervise::run(Publishing { node, publication, requests, doubted: false }).await;
}

/// What a publication of a bucket does.
struct Publishing {
    node: Node,
    publication: Arc<BucketPublication>,
    requests: mpsc::Receiver<Request>,
    /// The last attempt left the end of the log in doubt.
    doubted: bool,
}

impl Duty for Publishing {
    type Failure = PublishError;

    fn entry(&self) -> &dyn Supervised {
        &*self.publication
    }

    async fn attempt(&mut self) -> Result<Infallible, PublishError> {
        publish(&self.node, &self.publication, &mut self.requests, self.doubted).await
    }

    fn suspend(&self) {
        self.publication.hide();
    }

    fn judge(&mut self, failure: &PublishError) -> Verdict {
        self.doubted = matches!(failure, PublishError::Doubt(_));
        match failure {
            PublishError::Doubt(_) => {
                info!("{}: {failure}", self.publication.status.name());
                Verdict::AtOnce
            }
            PublishError::State(StateError::Refused { .. }) => Verdict::StandBack(Trouble::new(
                Cause::SameKey,
                "another process with the same private key writes this catalog; this one stands back. Run one rhio per \
                 key, or give each its own key",
            )),
            PublishError::State(_) => Verdict::Trouble(failure.into()),
        }
    }
}

type Pending<T> = Option<Pin<Box<dyn Future<Output = T> + Send>>>;

/// What a task that looked at one object found.
enum Found {
    /// It is there and read.
    Put(Put),
    /// This node brought it here from elsewhere.
    Foreign(Listed),
    /// It changed while it was read.
    Changed,
    /// It is not there.
    Gone,
    /// It is there, although a listing did not tell.
    There,
    /// It could not be read.
    Failed(ImportError),
}

struct Driver<'a> {
    node: &'a Node,
    publication: &'a BucketPublication,
    view: View,
    state_seq: u64,
    /// Everything has been said since this epoch began.
    complete: bool,
    /// A listing that began in this epoch has come to its end.
    listed: bool,
    /// What older epochs knew, until this one is complete.
    remembered: Inventory,
    older: Vec<LogDescriptor>,
    /// To be said, in this order.
    waiting: VecDeque<Entry>,
    /// Says it.
    writer: Writer,
    /// Answered when so many entries have been said.
    promises: VecDeque<(u64, oneshot::Sender<()>)>,
    /// Objects to be looked at.
    queue: VecDeque<Listed>,
    running: JoinSet<(ObjectKey, Found)>,
    /// Keys that are in one of the above, so that a listing does not bring them in again.
    busy: HashSet<ObjectKey>,
    /// Objects that could not be read: how often, and when again.
    failing: HashMap<ObjectKey, (u32, Instant)>,
}

async fn publish(
    node: &Node,
    publication: &Arc<BucketPublication>,
    requests: &mut mpsc::Receiver<Request>,
    doubted: bool,
) -> Result<Infallible, PublishError> {
    node.state.ensure().await?;
    let server = node.server_id();
    let mut driver = recover(node, publication, &server, doubted).await?;
    if node.server_id() != server {
        return Err(PublishError::Doubt("NATS was started anew"));
    }
    driver.show();
    let poll = node.poll_interval;
    let mut page: Pending<Result<Page, BucketError>> = None;
    let mut token: Option<String> = None;
    let mut append: Pending<Result<u64, StateError>> = None;
    let mut in_listing = false;
    let mut next_listing = Instant::now();
    let mut check = tokio::time::interval(CHECK);
    check.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        driver.fill_running();
        if append.is_none() && driver.stage() {
            append = driver.append();
        }
        if page.is_none() && driver.queue.len() < MAX_QUEUE && (in_listing || Instant::now() >= next_listing) {
            if !in_listing {
                publication.inventory_mut().begin_listing();
                in_listing = true;
            }
            let (bucket, from) = (Arc::clone(&publication.bucket), token.take());
            page = Some(Box::pin(async move { bucket.list(from.as_deref()).await }));
        }
        tokio::select! {
            biased;
            Some(stored) = OptionFuture::from(append.as_mut()) => {
                append = None;
                driver.state_seq = match stored {
                    // A server that forgot the end of the log refuses as well.
                    Err(StateError::Refused { .. }) if node.server_id() != server => {
                        return Err(PublishError::Doubt("NATS was started anew"));
                    }
                    stored => stored?,
                };
                failpoint::hit("catalog-stored");
                driver.said().await?;
            }
            () = publication.doubted.notified() => {
                return Err(PublishError::Doubt("a subscriber knows more of the catalog than this node"));
            }
            Some(request) = requests.recv() => match request {
                Request::Announce(put, done) => driver.announce(put, done),
                Request::Look => next_listing = Instant::now(),
            },
            Some(found) = driver.running.join_next() => {
                if let Ok((key, found)) = found {
                    driver.found(key, found);
                }
            }
            Some(listed) = OptionFuture::from(page.as_mut()) => {
                page = None;
                match listed {
                    Ok(listed) => {
                        token = driver.page(listed);
                        if token.is_none() {
                            in_listing = false;
                            next_listing = Instant::now() + poll;
                            driver.end_listing();
                        }
                    }
                    Err(error) => {
                        publication.inventory_mut().end_listing(false);
                        publication.status.waiting((&error).into());
                        (in_listing, token) = (false, None);
                        next_listing = Instant::now() + poll.max(LISTING_FAILED);
                    }
                }
            }
            _ = check.tick() => {
                if node.server_id() != server {
                    return Err(PublishError::Doubt("NATS was started anew"));
                }
            }
            () = tokio::time::sleep_until(next_listing), if page.is_none() && !in_listing => {}
        }
        driver.show();
    }
}

/// Finds the log to go on with, or begins one.
async fn recover<'a>(
    node: &'a Node,
    publication: &'a BucketPublication,
    server: &str,
    doubted: bool,
) -> Result<Driver<'a>, PublishError> {
    let wanted = Wanted { author: node.me, bucket: publication.bucket.name(), doubted, now: now_micros() / 1000 };
    let found = resume(&Own { node, bucket: publication.bucket.name(), server }, wanted).await?;
    let Resumed { descriptor, end, inventory, remembered, older, begun } = found;
    let (name, log) = (publication.status.name(), descriptor.id());
    if begun {
        info!("{name}: begins catalog {}", log.short());
    } else {
        debug!("{name}: goes on with catalog {}", log.short());
    }
    *publication.inventory_mut() = inventory;
    if end.complete {
        publication.set_complete();
    }
    let writer = Writer::new(node.key.clone(), log, end.head, end.total);
    let view = View { subject: node.state.own(log), descriptor, log, head: end.head, total: end.total, pending: None };
    Ok(Driver {
        node,
        publication,
        view,
        state_seq: end.state_seq,
        complete: end.complete,
        listed: false,
        remembered,
        older,
        waiting: VecDeque::new(),
        writer,
        promises: VecDeque::new(),
        queue: VecDeque::new(),
        running: JoinSet::new(),
        busy: HashSet::new(),
        failing: HashMap::new(),
    })
}

/// This node's catalogs of a bucket.
struct Own<'a> {
    node: &'a Node,
    bucket: &'a str,
    /// The run of the server that was there when recovery began.
    server: &'a str,
}

impl<'a> Catalogs for Own<'a> {
    type Error = StateError;
    type Commits = Reader<'a>;

    async fn known(&self) -> Result<Vec<LogDescriptor>, StateError> {
        self.node.state.bucket_logs(self.node.me, self.bucket).await
    }

    async fn is_certain(&self, log: LogId) -> Result<bool, StateError> {
        Ok(self.node.state.noted_server(log).await?.is_some_and(|(noted, _)| noted == self.server))
    }

    async fn read(&self, log: &LogDescriptor) -> Result<Reader<'a>, StateError> {
        let state = &self.node.state;
        Ok(Reader { reader: state.read(&state.own(log.id()), 1).await?, state })
    }

    async fn begin(&self, log: &LogDescriptor) -> Result<(), StateError> {
        self.node.state.put_descriptor(log).await?;
        failpoint::hit("catalog-described");
        self.node.state.note_server(log.id(), self.server, Position::default()).await
    }
}

/// Reads one of them.
struct Reader<'a> {
    reader: StateReader,
    state: &'a StateStore,
}

impl Commits for Reader<'_> {
    type Error = StateError;

    async fn next(&mut self) -> Result<Option<(u64, Vec<Operation>)>, StateError> {
        let Some(stored) = self.reader.next().await? else { return Ok(None) };
        Ok(Some((stored.seq, stored.operations(self.state)?)))
    }
}

impl Driver<'_> {
    /// Takes a page of a listing. Returns where the next one begins.
    fn page(&mut self, page: Page) -> Option<String> {
        if let Some(key) = page.skipped.first() {
            let count = page.skipped.len();
            warn!(
                "{}: {count} objects have keys that can't be replicated, or no version, such as {key:?}",
                self.name()
            );
        }
        for listed in page.objects {
            let observed =
                self.publication.inventory_mut().observe(&listed.key, listed.size, listed.modified, &listed.etag.0);
            match observed {
                Observed::Same => {
                    self.failing.remove(&listed.key);
                }
                Observed::Foreign => {}
                Observed::New | Observed::Changed => self.notice(listed),
                Observed::BecameForeign => self.say_gone(listed.key),
            }
        }
        page.next
    }

    /// An object is there that the catalog does not tell of.
    fn notice(&mut self, listed: Listed) {
        let due = self.failing.get(&listed.key).is_none_or(|(_, at)| *at <= Instant::now());
        if !due || self.publication.is_held(&listed.key) || !self.busy.insert(listed.key.clone()) {
            return;
        }
        let old = self.remembered.get(&listed.key);
        let old = old.filter(|known| known.is_version(listed.size, listed.modified, &listed.etag.0));
        match old {
            Some(known) => self.waiting.push_back(Entry::Put(known.put(listed.key))),
            None => self.queue.push_back(listed),
        }
    }

    fn end_listing(&mut self) {
        let ended = self.publication.inventory_mut().end_listing(true);
        match ended {
            Ended::Gone(keys) => {
                // One that could not be read and was not listed since may be gone, which would never be known otherwise.
                let due = self.failing.iter().filter(|(_, (_, at))| *at <= Instant::now());
                let due: Vec<_> = due.map(|(key, _)| key.clone()).collect();
                for key in keys.into_iter().chain(due) {
                    if self.busy.insert(key.clone()) {
                        self.look_for(key);
                    }
                }
            }
            Ended::Empty { known } => {
                let reason = format!(
                    "the bucket lists as empty, although it held {known} objects: nothing is concluded from that. If \
                     they were deleted on purpose, put any object into the bucket"
                );
                self.publication.status.waiting(Trouble::new(Cause::BucketEmpty, reason));
                return;
            }
            Ended::Incomplete => return,
        }
        self.listed = true;
        self.publication.status.active();
    }

    /// Makes sure that an object is gone which a listing did not tell.
    fn look_for(&mut self, key: ObjectKey) {
        let (bucket, imports) = (Arc::clone(&self.publication.bucket), Arc::clone(&self.node.blobs.imports));
        self.running.spawn(async move {
            let _permit = imports.acquire_owned().await;
            let found = match bucket.head(&key).await {
                Ok(None) => Found::Gone,
                Ok(Some(_)) => Found::There,
                Err(error) => Found::Failed(error.into()),
            };
            (key, found)
        });
    }

    /// Lets as many objects be read as may be.
    fn fill_running(&mut self) {
        while self.running.len() < MAX_RUNNING {
            let Some(listed) = self.queue.pop_front() else { return };
            let (bucket, blobs) = (Arc::clone(&self.publication.bucket), Arc::clone(&self.node.blobs));
            let destination = self.node.blobs.is_destination(bucket.name());
            self.running.spawn(async move {
                let _permit = Arc::clone(&blobs.imports).acquire_owned().await;
                let key = listed.key.clone();
                // What came from another node is not published again.
                if destination {
                    match bucket.head(&key).await {
                        Ok(Some(object)) if object.origin.is_some() => {
                            let seen = Listed { etag: object.etag, ..listed };
                            return (key, Found::Foreign(seen));
                        }
                        Ok(Some(_)) => {}
                        Ok(None) => return (key, Found::Gone),
                        Err(error) => return (key, Found::Failed(error.into())),
                    }
                }
                let found = match importing::import(&blobs, &*bucket, &key).await {
                    Ok(Some(put)) => Found::Put(put),
                    Ok(None) => Found::Gone,
                    Err(ImportError::Bucket(BucketError::Changed)) => Found::Changed,
                    Err(error) => Found::Failed(error),
                };
                (key, found)
            });
        }
    }

    fn found(&mut self, key: ObjectKey, found: Found) {
        match found {
            Found::Put(put) => {
                self.failing.remove(&key);
                failpoint::hit("object-hashed");
                self.waiting.push_back(Entry::Put(put));
            }
            Found::Gone => {
                self.failing.remove(&key);
                self.busy.remove(&key);
                self.say_gone(key);
            }
            Found::Foreign(listed) => {
                self.failing.remove(&key);
                self.busy.remove(&key);
                self.publication.inventory_mut().exclude(&key, &listed.etag.0);
                self.say_gone(key);
            }
            Found::There | Found::Changed => {
                self.busy.remove(&key);
            }
            Found::Failed(error) => {
                self.busy.remove(&key);
                let times = self.failing.get(&key).map_or(0, |(times, _)| *times) + 1;
                let pause = RETRY.0.saturating_mul(1 << times.min(10)).min(RETRY.1);
                debug!(%key, %error, times, "can't be read");
                if times > 1 {
                    let count = self.failing.len();
                    let others = if count > 0 { format!(", and {count} others") } else { String::new() };
                    let reason = format!("'{key}' can't be read{others}: {error}; it is tried again");
                    self.publication.status.trouble(&Trouble::from(&error).told(reason));
                }
                self.failing.insert(key, (times, Instant::now() + pause));
            }
        }
    }

    /// Says that an object is gone, if the catalog has it.
    fn say_gone(&mut self, key: ObjectKey) {
        if self.publication.inventory().get(&key).is_some() && self.busy.insert(key.clone()) {
            self.waiting.push_back(Entry::Delete(key));
        }
    }

    fn announce(&mut self, put: Put, done: oneshot::Sender<()>) {
        self.busy.insert(put.key.clone());
        self.waiting.push_back(Entry::Put(put));
        let staged = self.writer.staged().map_or(0, |staged| staged.entries().len());
        let after = self.view.total.items + (staged + self.waiting.len()) as u64;
        self.promises.push_back((after, done));
    }

    /// Signs the next operation, when there is something to say and nothing is being said.
    fn stage(&mut self) -> bool {
        let idle = self.waiting.is_empty() && self.queue.is_empty() && self.running.is_empty();
        if !self.complete && self.listed && idle && self.failing.is_empty() && self.writer.staged().is_none() {
            self.complete = true;
            self.waiting.push_back(Entry::Complete);
        }
        if self.writer.staged().is_some() {
            return false;
        }
        let Some(catalog) = Catalog::take(&mut self.waiting) else { return false };
        self.writer.stage(catalog, now_micros()).is_some()
    }

    fn append(&self) -> Pending<Result<u64, StateError>> {
        let operation = self.writer.staged()?;
        let commit = Commit::own(operation.raw().clone());
        let (state, subject, expected) = (Arc::clone(&self.node.state), self.view.subject.clone(), self.state_seq);
        Some(Box::pin(async move { state.append(&subject, &commit, expected).await }))
    }

    /// What was staged is durable.
    async fn said(&mut self) -> Result<(), PublishError> {
        let Some(operation) = self.writer.appended() else { return Ok(()) };
        let entries = operation.entries();
        {
            let mut inventory = self.publication.inventory_mut();
            for entry in entries {
                inventory.apply(entry);
                if let Entry::Put(Put { key, .. }) | Entry::Delete(key) = entry {
                    self.busy.remove(key);
                }
            }
        }
        (self.view.total, self.view.head) = (self.writer.total(), self.writer.head());
        let bytes = operation.body().content.amount().bytes;
        self.publication.status.progress(Count { messages: entries.len() as u64, bytes });
        self.publication.status.sealed_operation();
        while self.promises.front().is_some_and(|(after, _)| *after <= self.view.total.items) {
            if let Some((_, done)) = self.promises.pop_front() {
                let _ = done.send(());
            }
        }
        if entries.contains(&Entry::Complete) {
            self.remembered = Inventory::default();
            for descriptor in std::mem::take(&mut self.older) {
                let subject = self.node.state.own(descriptor.id());
                self.node.state.forget(&descriptor, &subject, None).await?;
            }
            self.publication.set_complete();
            self.node.blobs.sweep_outboards(self.node.holdings.buckets());
            let inventory = self.publication.inventory();
            let (objects, bytes) = (inventory.len(), inventory.bytes());
            info!("{}: the catalog is complete: {objects} objects, {bytes} bytes", self.name());
        }
        Ok(())
    }

    fn name(&self) -> &str {
        self.publication.status.name()
    }

    /// Lets sessions see what is durable.
    fn show(&mut self) {
        let staged = self.writer.staged().map_or(0, |staged| staged.entries().len());
        let pending = staged + self.waiting.len() + self.queue.len() + self.running.len();
        self.view.pending = self.listed.then_some(pending as u64);
        self.publication.show(&self.view);
    }
}
