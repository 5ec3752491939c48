//! Whether a bucket has kept what it was sent: what nothing else proves is read once.

use futures_util::StreamExt;
use rhio_blobs::bucket::{Bucket, BucketError, Etag, Labels, Object};
use rhio_blobs::hashing::Hasher;
use rhio_core::catalog::Put;
use rhio_core::id::BlobHash;
use rhio_core::object::ObjectKey;
use tracing::{debug, info};

use super::fetching::Landing;
use super::land_error::LandError;

/// Objects from this size on have it logged that they are read.
const LARGE: u64 = 256 * 1024 * 1024;
/// How often an object is read that can't be read to its end, before it counts as broken.
const TRIES: usize = 2;

impl Landing {
    /// Looks at an object that the bucket has confirmed. `sure`: checksums agree, so that its size and version are enough.
    /// One that is wrong is deleted, where that is allowed.
    ///
    /// # Errors
    /// [`BucketError::NotKept`] when it is not there or is not what was signed.
    pub(super) async fn settle(
        &self,
        put: &Put,
        labels: &Labels,
        written: &Etag,
        sure: bool,
    ) -> Result<Etag, LandError> {
        let Some(object) = self.subscription.bucket.head(&put.key).await? else {
            return Err(BucketError::NotKept("it confirmed the object, and has none".to_owned()).into());
        };
        if object.origin != labels.origin {
            return Err(LandError::Again("the object under this key changed meanwhile"));
        }
        if sure && object.size == put.size && object.etag == *written {
            return Ok(object.etag);
        }
        self.found(put, object).await
    }

    /// An object of ours whose becoming nobody saw to its end, or that no checksum proves: read, and deleted when it is
    /// wrong.
    ///
    /// # Errors
    /// [`BucketError::NotKept`] when it is not what was signed.
    pub(super) async fn found(&self, put: &Put, object: Object) -> Result<Etag, LandError> {
        let bucket = &*self.subscription.bucket;
        if is_kept(bucket, &put.key, &object, (&put.hash, put.size)).await? {
            return Ok(object.etag);
        }
        // Somebody may have put another one there while it was read.
        if bucket.head(&put.key).await?.is_some_and(|now| now.etag == object.etag && now.origin == object.origin) {
            match bucket.delete(&put.key).await {
                // Then it is written over.
                Err(error @ BucketError::Forbidden { .. }) => debug!(%error, "a wrong object can't be deleted"),
                deleted => deleted?,
            }
            failpoint::hit("wrong-object-deleted");
        }
        let reason = format!("its object of {} bytes has another content", object.size);
        Err(BucketError::NotKept(reason).into())
    }
}

/// Whether an object has this content: hash and size.
pub(super) async fn is_kept(
    bucket: &dyn Bucket,
    key: &ObjectKey,
    object: &Object,
    (hash, size): (&BlobHash, u64),
) -> Result<bool, LandError> {
    if object.size != size {
        return Ok(false);
    }
    if size >= LARGE {
        info!(bucket = bucket.name(), %key, size, "reads once what the bucket has stored");
    } else {
        debug!(bucket = bucket.name(), %key, size, "reads once what the bucket has stored");
    }
    for _ in 0..TRIES {
        match hash_of(bucket, key, object).await {
            Ok(found) => return Ok(found == Some(*hash)),
            Err(BucketError::Changed) => return Err(LandError::Again("the object changed while it was read")),
            // It ended early. A server that is gone says so when it is asked again.
            Err(BucketError::Body(reason)) => debug!(bucket = bucket.name(), %key, reason, "can't be read to its end"),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(false)
}

/// The hash of an object's content; `None` for one that no object can have.
async fn hash_of(bucket: &dyn Bucket, key: &ObjectKey, object: &Object) -> Result<Option<BlobHash>, BucketError> {
    let mut content = bucket.read(key, &object.etag, 0..object.size).await?;
    let mut hasher = Hasher::new(std::io::sink());
    while let Some(chunk) = content.body.next().await {
        let chunk = chunk.map_err(|error| BucketError::Body(error.0))?;
        if hasher.update(&chunk).is_err() {
            return Ok(None);
        }
    }
    Ok(hasher.finish().ok().map(|hashed| hashed.hash))
}
