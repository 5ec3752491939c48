//! A publication of a bucket: what it is about, and what its tasks share.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use rhio_blobs::bucket::{Bucket, Etag};
use rhio_core::catalog::{Put, inventory::Inventory};
use rhio_core::id::{BlobHash, LogId};
use rhio_core::log::descriptor::LogDescriptor;
use rhio_core::log::operation::Head;
use rhio_core::log::total::Total;
use rhio_core::object::ObjectKey;
use rhio_core::policy::Readers;
use rhio_core::record::Position;
use rhio_core::wire::LogState;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::publish::readership::Readership;
use crate::status::Entry as Status;
use crate::supervise::Supervised;
use rhio_nats::state::LogSubject;

/// Requests that wait for the task that writes a catalog.
const BACKLOG: usize = 64;
/// How long an object that this node put itself may wait to be in the catalog, before whoever put it is told.
pub const ANNOUNCE: Duration = Duration::from_secs(30);

/// A catalog as far as it is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// What it is about.
    pub descriptor: LogDescriptor,
    /// Its name.
    pub log: LogId,
    /// Where its operations are.
    pub subject: LogSubject,
    /// Its last operation.
    pub head: Option<Head>,
    /// How much it says.
    pub total: Total,
    /// Changes that are known and not said yet; `None` while the bucket has not been listed.
    pub pending: Option<u64>,
}

impl View {
    /// What subscribers are told.
    pub fn state(&self) -> LogState {
        LogState {
            descriptor: self.descriptor.clone(),
            closed: false,
            head: self.head,
            through: Position::default(),
            total: self.total,
            pending: self.pending,
        }
    }
}

/// What the writing task is asked.
#[derive(Debug)]
pub enum Request {
    /// Say that an object was put by this node itself; answered when that is durable.
    Announce(Put, oneshot::Sender<()>),
    /// Look at the bucket now.
    Look,
}

/// Where an object with a certain content is.
#[derive(Clone, Debug)]
pub struct Location {
    /// The bucket.
    pub bucket: Arc<dyn Bucket>,
    /// The object.
    pub key: ObjectKey,
    /// Its version.
    pub etag: Etag,
    /// Its size.
    pub size: u64,
}

/// A bucket that this node publishes.
#[derive(Debug)]
pub struct BucketPublication {
    /// The bucket.
    pub bucket: Arc<dyn Bucket>,
    inventory: RwLock<Inventory>,
    view: watch::Sender<Option<View>>,
    complete: AtomicBool,
    requests: mpsc::Sender<Request>,
    held: Mutex<HashSet<ObjectKey>>,
    /// A subscriber holds operations that this node does not know: a new epoch must begin.
    pub doubted: Notify,
    /// Who may read it, and who does now.
    pub readership: Readership,
    /// What an operator sees of it.
    pub status: Status,
    /// Ends its task.
    pub stop: CancellationToken,
}

impl BucketPublication {
    /// A publication whose task has not begun, and what that task is asked.
    pub fn new(bucket: Arc<dyn Bucket>, readers: Readers, stop: CancellationToken) -> (Self, mpsc::Receiver<Request>) {
        let (requests, receiver) = mpsc::channel(BACKLOG);
        let status = Status::new(format!("publication of bucket '{}'", bucket.name()));
        let publication = Self {
            bucket,
            inventory: RwLock::default(),
            view: watch::Sender::default(),
            complete: AtomicBool::new(false),
            requests,
            held: Mutex::default(),
            doubted: Notify::new(),
            readership: Readership::new(readers),
            status,
            stop,
        };
        (publication, receiver)
    }

    /// Changes who may read it.
    pub fn set_readers(&self, readers: Readers) {
        self.readership.allow(readers);
        // Sessions look again.
        self.view.send_modify(|_| ());
    }

    /// What the catalog knows of the bucket.
    pub fn inventory(&self) -> RwLockReadGuard<'_, Inventory> {
        self.inventory.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same, to change it.
    pub fn inventory_mut(&self) -> RwLockWriteGuard<'_, Inventory> {
        self.inventory.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The catalog, now and whenever it changes; `None` while it can't be written.
    pub fn view(&self) -> watch::Receiver<Option<View>> {
        self.view.subscribe()
    }

    /// Whether this is its log now.
    pub fn is_of(&self, log: LogId) -> bool {
        self.view.borrow().as_ref().is_some_and(|view| view.log == log)
    }

    /// The catalog can't be written for now.
    pub fn hide(&self) {
        self.complete.store(false, Ordering::Relaxed);
        self.view.send_if_modified(|view| view.take().is_some());
    }

    /// Shows how far the catalog is.
    pub fn show(&self, now: &View) {
        self.view.send_if_modified(|view| {
            let same = view.as_ref() == Some(now);
            if !same {
                *view = Some(now.clone());
            }
            !same
        });
    }

    /// Everything that the bucket holds is in the inventory.
    pub fn set_complete(&self) {
        self.complete.store(true, Ordering::Relaxed);
    }

    /// Whether everything that the bucket holds is in the inventory.
    pub fn is_complete(&self) -> bool {
        self.complete.load(Ordering::Relaxed)
    }

    /// Says that an object was put by this node itself. Returns when that is durable, `false` when it can't be said now,
    /// or not within [`ANNOUNCE`].
    pub async fn announce(&self, put: Put) -> bool {
        let (done, said) = oneshot::channel();
        let announced = async { self.requests.send(Request::Announce(put, done)).await.is_ok() && said.await.is_ok() };
        tokio::time::timeout(ANNOUNCE, announced).await.unwrap_or(false)
    }

    /// Has the bucket looked at soon.
    pub fn look(&self) {
        // A full queue means that something is about to happen anyway.
        let _ = self.requests.try_send(Request::Look);
    }

    /// Keeps listings from having an object read that this node is writing itself. `None` when it is held already.
    pub fn hold(self: &Arc<Self>, key: &ObjectKey) -> Option<Hold> {
        let new = self.held.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone());
        new.then(|| Hold { publication: Arc::clone(self), key: key.clone() })
    }

    /// Whether this node is writing an object itself.
    pub fn is_held(&self, key: &ObjectKey) -> bool {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).contains(key)
    }

    /// An object that has this content, if one is known.
    pub fn locate(&self, hash: &BlobHash) -> Option<Location> {
        let inventory = self.inventory();
        let (key, known) = inventory.find(hash).next()?;
        Some(Location {
            bucket: Arc::clone(&self.bucket),
            key: key.clone(),
            etag: Etag(known.etag().into_owned()),
            size: known.size(),
        })
    }
}

/// An object that this node is writing itself.
#[derive(Debug)]
pub struct Hold {
    publication: Arc<BucketPublication>,
    key: ObjectKey,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.publication.held.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

impl Supervised for BucketPublication {
    fn status(&self) -> &Status {
        &self.status
    }

    fn stop(&self) -> &CancellationToken {
        &self.stop
    }
}
