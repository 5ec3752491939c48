//! Reads an object once, and makes its hash and its outboard.

use futures_util::StreamExt;
use rhio_blobs::bucket::{Body, BucketError, Object};
use rhio_blobs::hashing::{Hashed, Hasher};
use rhio_blobs::outboard::{Outboard, OutboardDraft};
use rhio_core::catalog::Put;
use rhio_core::id::BlobHash;
use rhio_core::object::ObjectKey;
use thiserror::Error;
use tokio::sync::{mpsc, watch};
use tracing::{debug, info, warn};

use super::publication::Location;
use super::store::Blobs;
use super::transfers::{Direction, Progress};
use crate::trouble::Cause;

/// Pieces of content that wait to be hashed.
const AHEAD: usize = 32;
/// Content up to this size is hashed where it is read.
const INLINE: u64 = 256 * 1024;
/// Content from this size on is worth a line in the log.
const LARGE: u64 = 64 * 1024 * 1024;

/// Why an object could not be read.
#[derive(Debug, Error)]
pub enum ImportError {
    /// The bucket.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// The folder for outboards.
    #[error("outboard in 'blobs_dir': {0}")]
    Outboard(#[from] std::io::Error),
    /// The task ended.
    #[error("hashing ended early")]
    Ended,
}

impl From<&ImportError> for Cause {
    fn from(error: &ImportError) -> Self {
        match error {
            ImportError::Bucket(error) => error.into(),
            ImportError::Outboard(_) => Self::BlobsDir,
            ImportError::Ended => Self::Internal,
        }
    }
}

/// Reads the object under a key, and says what the catalog is to say. `None` when nothing is there.
///
/// # Errors
/// When it can't be read, or changes meanwhile.
pub async fn import(
    blobs: &Blobs,
    bucket: &dyn rhio_blobs::bucket::Bucket,
    key: &ObjectKey,
) -> Result<Option<Put>, ImportError> {
    let Some((object, content)) = bucket.open(key).await? else { return Ok(None) };
    let progress = blobs.transfers.begin(Direction::Import, bucket.name(), key, object.size, None);
    if object.size >= LARGE {
        info!(bucket = bucket.name(), %key, size = object.size, "reads and hashes a large object");
    }
    let hashed = hash(blobs, content.len, content.body, &progress).await?;
    if hashed.size != object.size {
        return Err(BucketError::Changed.into());
    }
    hashed.sink.keep(hashed.hash, hashed.size)?;
    progress.done();
    Ok(Some(put(key, &object, hashed.hash)))
}

/// What the catalog says about an object.
pub fn put(key: &ObjectKey, object: &Object, hash: BlobHash) -> Put {
    Put {
        key: key.clone(),
        hash,
        size: object.size,
        modified: object.modified,
        etag: object.etag.0.clone(),
        attributes: object.attributes.clone(),
    }
}

/// Hashes content as it comes.
async fn hash(
    blobs: &Blobs,
    len: u64,
    mut body: Body,
    progress: &Progress,
) -> Result<Hashed<OutboardDraft>, ImportError> {
    let mut hasher = Hasher::new(blobs.outboards.draft());
    let failed = |error: rhio_blobs::bucket::BodyError| ImportError::Bucket(BucketError::Body(error.0));
    if len <= INLINE {
        while let Some(bytes) = body.next().await {
            let bytes = bytes.map_err(failed)?;
            progress.add(bytes.len() as u64);
            hasher.update(&bytes)?;
        }
        return Ok(hasher.finish()?);
    }
    let (sender, mut receiver) = mpsc::channel::<bytes::Bytes>(AHEAD);
    let hashing = tokio::task::spawn_blocking(move || {
        while let Some(bytes) = receiver.blocking_recv() {
            hasher.update(&bytes)?;
        }
        hasher.finish()
    });
    while let Some(bytes) = body.next().await {
        let bytes = bytes.map_err(failed)?;
        progress.add(bytes.len() as u64);
        if sender.send(bytes).await.is_err() {
            break;
        }
    }
    drop(sender);
    Ok(hashing.await.map_err(|_| ImportError::Ended)??)
}

/// The outboard of an object that this node publishes. It is a cache: where it is missing the object is read again,
/// which goes on when whoever asked has left.
///
/// # Errors
/// When the object can't be read, or has other content by now.
pub async fn outboard(
    blobs: &std::sync::Arc<Blobs>,
    location: &Location,
    hash: BlobHash,
) -> Result<Outboard, ImportError> {
    loop {
        if let Some(outboard) = blobs.outboards.get(hash, location.size)? {
            return Ok(outboard);
        }
        let mut done = rebuild(blobs, location, hash);
        // The task never sends; it ends.
        while done.changed().await.is_ok() {}
        if blobs.outboards.get(hash, location.size)?.is_none() {
            return Err(BucketError::Changed.into());
        }
    }
}

fn rebuild(blobs: &std::sync::Arc<Blobs>, location: &Location, hash: BlobHash) -> watch::Receiver<()> {
    let mut rebuilding = blobs.lock_rebuilding();
    if let Some(done) = rebuilding.get(&hash) {
        return done.clone();
    }
    let (running, done) = watch::channel(());
    rebuilding.insert(hash, done.clone());
    let (blobs, location) = (std::sync::Arc::clone(blobs), location.clone());
    blobs.tasks.clone().spawn(async move {
        debug!(key = %location.key, "reads an object again: its outboard is missing");
        if let Ok(_permit) = blobs.imports.acquire().await {
            match import(&blobs, &*location.bucket, &location.key).await {
                Ok(Some(put)) if put.hash == hash => {}
                Ok(_) => debug!(key = %location.key, "the object has other content by now"),
                Err(error) => warn!(bucket = location.bucket.name(), key = %location.key, %error, "can't be read"),
            }
        }
        blobs.lock_rebuilding().remove(&hash);
        drop(running);
    });
    done
}
