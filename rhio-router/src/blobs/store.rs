//! What the tasks about buckets share: the way to the buckets, the outboards, and bounds on what goes on at once.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use anyhow::{Context, Result};
use rhio_blobs::bucket::Bucket;
use rhio_blobs::bucket::folder::FolderRoot;
use rhio_blobs::bucket::s3::{S3Config, S3Credentials, S3Server};
use rhio_blobs::outboard::OutboardStore;
use rhio_core::id::{BlobHash, PublicKey};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::task::TaskTracker;
use tracing::{debug, error};

use crate::metrics::Metrics;
use crate::settings;
use crate::trouble::{Cause, Trouble};

use super::publication::BucketPublication;
use super::transfers::Transfers;

/// Objects that are read and hashed at once.
const MAX_IMPORTS: usize = 8;
/// Requests for content that are answered at once; more wait. Each takes less than 1 MiB.
const MAX_SERVED: usize = 128;
/// The same for one peer, so that a slow one leaves room for others.
const MAX_SERVED_PER_PEER: usize = 32;
/// Objects that are brought here at once.
pub const MAX_LANDINGS: usize = 48;
/// KiB of content that may be under way into local buckets at once.
pub(super) const MAX_LANDING_KIB: u32 = 96 * 1024;

/// Where buckets are.
#[derive(Debug)]
enum Place {
    Server(S3Server),
    Folder(FolderRoot),
}

/// What the tasks share.
#[derive(Debug)]
pub struct Blobs {
    place: Option<Place>,
    /// Hash trees of published objects.
    pub outboards: OutboardStore,
    /// What goes on.
    pub transfers: Transfers,
    /// One permit for each object that is read and hashed.
    pub imports: Arc<Semaphore>,
    served: Arc<Semaphore>,
    served_by_peer: Mutex<HashMap<PublicKey, Arc<Semaphore>>>,
    /// One permit for each KiB that may be under way.
    pub landing: Arc<Semaphore>,
    /// Outboards that are made again just now.
    pub(super) rebuilding: Mutex<HashMap<BlobHash, watch::Receiver<()>>>,
    /// Buckets that something is brought into.
    destinations: RwLock<BTreeSet<String>>,
    /// Tasks that outlive what asked for them.
    pub tasks: TaskTracker,
}

impl Blobs {
    /// Prepares everything; nothing is asked of a server yet.
    ///
    /// # Errors
    /// When the folder for outboards can't be used, or a file that the configuration names can't be read.
    pub fn open(
        s3: Option<&settings::S3>,
        blobs_dir: &Path,
        metrics: Arc<Metrics>,
        tasks: TaskTracker,
    ) -> Result<Self> {
        let outboards = OutboardStore::open(blobs_dir)
            .with_context(|| format!("'blobs_dir' {} can't be used", blobs_dir.display()))?;
        let place = s3.map(place).transpose()?;
        Ok(Self {
            place,
            outboards,
            transfers: Transfers::new(metrics),
            imports: Arc::new(Semaphore::new(MAX_IMPORTS)),
            served: Arc::new(Semaphore::new(MAX_SERVED)),
            served_by_peer: Mutex::default(),
            landing: Arc::new(Semaphore::new(MAX_LANDING_KIB as usize)),
            rebuilding: Mutex::default(),
            destinations: RwLock::default(),
            tasks,
        })
    }

    /// A bucket. `None` when there can't be one, which is logged.
    pub fn bucket(&self, name: &str) -> Option<Arc<dyn Bucket>> {
        let found = self.find_bucket(name);
        found.map_err(|reason| error!(bucket = name, "this bucket can't be used: {reason}")).ok()
    }

    /// A bucket.
    ///
    /// # Errors
    /// When there can't be one: the configuration has no `s3`, or the name does not fit the server.
    pub fn find_bucket(&self, name: &str) -> Result<Arc<dyn Bucket>, Trouble> {
        let unfit = |words: String| Trouble::new(Cause::BucketName, words);
        match &self.place {
            None => Err(Trouble::new(Cause::NoS3, "the configuration has no 's3'")),
            Some(Place::Server(server)) => match server.bucket(name) {
                Ok(bucket) => Ok(Arc::new(bucket)),
                Err(error) => Err(unfit(error.to_string())),
            },
            Some(Place::Folder(root)) => match root.bucket(name) {
                Ok(bucket) => Ok(Arc::new(bucket)),
                Err(error) => Err(unfit(error.to_string())),
            },
        }
    }

    /// Names the buckets that something is brought into.
    pub fn set_destinations(&self, buckets: BTreeSet<String>) {
        *self.destinations.write().unwrap_or_else(PoisonError::into_inner) = buckets;
    }

    /// Whether something is brought into a bucket.
    pub fn is_destination(&self, bucket: &str) -> bool {
        self.destinations.read().unwrap_or_else(PoisonError::into_inner).contains(bucket)
    }

    /// Drops outboards of what is not published any more, once it is known what is.
    pub fn sweep_outboards(&self, published: Vec<Arc<BucketPublication>>) {
        if published.iter().all(|publication| publication.is_complete()) {
            let wanted = move |hash: BlobHash| published.iter().any(|publication| publication.locate(&hash).is_some());
            let outboards = self.outboards.clone();
            // It looks at every file.
            self.tasks.spawn_blocking(move || {
                if let Err(error) = outboards.retain(wanted) {
                    debug!(%error, "outboards can't be swept");
                }
            });
        }
    }

    /// Waits until one more request of a peer may be answered. `None` when the node stops.
    pub async fn may_serve(&self, peer: PublicKey) -> Option<(OwnedSemaphorePermit, OwnedSemaphorePermit)> {
        let own = {
            let mut peers = self.served_by_peer.lock().unwrap_or_else(PoisonError::into_inner);
            peers.retain(|_, own| Arc::strong_count(own) > 1);
            Arc::clone(peers.entry(peer).or_insert_with(|| Arc::new(Semaphore::new(MAX_SERVED_PER_PEER))))
        };
        let own = own.acquire_owned().await.ok()?;
        Some((own, Arc::clone(&self.served).acquire_owned().await.ok()?))
    }

    pub(super) fn lock_rebuilding(&self) -> std::sync::MutexGuard<'_, HashMap<BlobHash, watch::Receiver<()>>> {
        self.rebuilding.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn place(s3: &settings::S3) -> Result<Place> {
    match &s3.endpoint {
        settings::S3Endpoint::Folder(path) => {
            let root = FolderRoot::open(path);
            Ok(Place::Folder(root.with_context(|| format!("'s3.endpoint' {} can't be used", path.display()))?))
        }
        settings::S3Endpoint::Server(endpoint) => Ok(Place::Server(server(s3, endpoint)?)),
    }
}

/// The S3 server at an endpoint, with everything else as configured. Nothing is asked of it yet.
///
/// # Errors
/// When a file that the configuration names can't be read, or the endpoint makes no sense.
pub fn server(s3: &settings::S3, endpoint: &str) -> Result<S3Server> {
    let ca_pem = s3
        .ca
        .as_ref()
        .map(|path| std::fs::read(path).with_context(|| format!("'s3.ca' {} can't be read", path.display())));
    let credentials = s3.credentials.as_ref().map(|keys| S3Credentials {
        access_key: keys.access_key.clone(),
        secret_key: keys.secret_key.expose().to_owned(),
        session_token: keys.session_token.as_ref().map(|token| token.expose().to_owned()),
    });
    let config = S3Config {
        credentials,
        path_style: s3.path_style,
        ca_pem: ca_pem.transpose()?,
        ..S3Config::new(endpoint, s3.region.clone())
    };
    S3Server::connect(config).context("'s3' can't be used")
}
