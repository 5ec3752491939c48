//! Brings one object into a local bucket.
//!
//! An object is written whole or not at all: in one request, or as an upload in parts that is completed at the end. Its
//! bytes were verified before they were sent to the bucket, and that it has kept them is [checked](super::checking). With
//! it goes a note of its hash and author, which tells after a crash what should be there, and tells rhio's objects from
//! everybody else's: those are never touched.

use std::collections::BTreeMap;

use rhio_blobs::bucket::{BucketError, Condition, Etag, Labels, Object, Origin};
use rhio_core::catalog::Put;
use rhio_core::object::ObjectKey;
use tracing::{debug, info};

use crate::trouble::Trouble;

use super::fetching::Landing;
use super::land_error::LandError;
use super::transfers::Direction;
use super::{parts, upload_note};

/// Objects from this size on have their progress logged.
const LARGE: u64 = 256 * 1024 * 1024;

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Landed {
    /// It is there, written now or before.
    Here(Etag),
    /// Somebody else's object has the key; it is left alone.
    Conflict,
}

impl Landing {
    /// Brings an object here. `here` is the key of another object of ours that has the same content.
    pub(super) async fn land(&self, put: &Put, here: Option<ObjectKey>) -> Result<Landed, LandError> {
        let bucket = &*self.subscription.bucket;
        let labels = Labels {
            attributes: put.attributes.clone(),
            origin: Some(Origin { hash: put.hash.to_string(), author: self.subscription.author.to_string() }),
        };
        let there = bucket.head(&put.key).await?;
        let condition = match &there {
            None => Condition::Absent,
            Some(object) if object.origin.is_none() => return Ok(Landed::Conflict),
            Some(object) if is_same(object, put, &labels) => {
                let found = self.found(put, object.clone()).await;
                let wrong = match found {
                    Err(error) if error.is_not_kept() => error,
                    found => {
                        let etag = found?;
                        upload_note::abort(&self.node, bucket, &put.key).await?;
                        return Ok(Landed::Here(etag));
                    }
                };
                let words = format!("'{}': {wrong}; it is brought again", put.key);
                self.subscription.status.trouble(&Trouble::from(&wrong).told(words));
                upload_note::abort(&self.node, bucket, &put.key).await?;
                // It may be there still: not everybody may delete.
                match bucket.head(&put.key).await? {
                    None => Condition::Absent,
                    Some(object) if object.origin.is_none() => return Ok(Landed::Conflict),
                    Some(object) => Condition::Is(object.etag),
                }
            }
            Some(object) => Condition::Is(object.etag.clone()),
        };
        match self.write(put, here, &labels, &condition).await {
            Ok(etag) => {
                failpoint::hit("object-landed");
                Ok(Landed::Here(etag))
            }
            // Somebody put an object there meanwhile. Whose it is, the next attempt sees.
            Err(LandError::Bucket(BucketError::Conflict)) => match bucket.head(&put.key).await? {
                Some(object) if object.origin.is_none() => Ok(Landed::Conflict),
                Some(object) if is_same(&object, put, &labels) => self.found(put, object).await.map(Landed::Here),
                _ => Err(LandError::Again("the object under this key changed meanwhile")),
            },
            Err(error) => Err(error),
        }
    }

    async fn write(
        &self,
        put: &Put,
        here: Option<ObjectKey>,
        labels: &Labels,
        condition: &Condition,
    ) -> Result<Etag, LandError> {
        let bucket = &*self.subscription.bucket;
        let mut condition = condition.clone();
        if let Some(here) = here
            && put.size > 0
        {
            match self.copy(put, &here, labels, &condition).await {
                Ok(Some(etag)) => return Ok(etag),
                Ok(None) => {}
                // A copy that went wrong, and was deleted.
                Err(error) if error.is_not_kept() => condition = Condition::Absent,
                Err(error) => return Err(error),
            }
        }
        let author = Some(self.subscription.author);
        let progress = self.node.blobs.transfers.begin(Direction::Receive, bucket.name(), &put.key, put.size, author);
        if put.size >= LARGE {
            info!(bucket = bucket.name(), key = %put.key, size = put.size, "fetches a large object");
        }
        if put.size > upload_note::PART {
            return parts::land(self, put, labels, &condition, &progress).await.inspect(|_| progress.done());
        }
        let written = {
            let _room = self.room(put.size).await?;
            let (content, watch) = self.fetch(put, 0..put.size, &progress).await?;
            let stored = bucket.put(&put.key, content, labels, &condition).await;
            stored.map_err(|error| watch.explain(error))?
        };
        // What the server calls it is the checksum of what it was sent: then there is no need to look.
        let etag = match written.checked {
            true => written.what,
            false => self.settle(put, labels, &written.what, false).await?,
        };
        progress.done();
        Ok(etag)
    }

    /// Copies the content of another object that is here. `None` when that does not do.
    async fn copy(
        &self,
        put: &Put,
        here: &ObjectKey,
        labels: &Labels,
        condition: &Condition,
    ) -> Result<Option<Etag>, LandError> {
        let bucket = &*self.subscription.bucket;
        if here == &put.key || put.size > bucket.limits().max_put {
            return Ok(None);
        }
        let Some(source) = bucket.head(here).await? else { return Ok(None) };
        let same = source.origin.as_ref().is_some_and(|origin| origin.hash == put.hash.to_string());
        if !same || source.size != put.size {
            return Ok(None);
        }
        match bucket.copy((here, &source.etag), &put.key, labels, condition).await {
            Ok(written) => {
                let etag = match written.checked {
                    true => written.what,
                    false => self.settle(put, labels, &written.what, false).await?,
                };
                self.subscription.copied.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                debug!(bucket = bucket.name(), key = %put.key, from = %here, "copied: the content is here already");
                Ok(Some(etag))
            }
            Err(error @ BucketError::Conflict) => Err(error.into()),
            Err(_) => Ok(None),
        }
    }

    /// Deletes an object that the author has deleted, if it is still the one that was brought here.
    pub(super) async fn remove(&self, key: &ObjectKey) -> Result<(), LandError> {
        let bucket = &*self.subscription.bucket;
        let Some(object) = bucket.head(key).await? else { return Ok(()) };
        let ours = object.origin.is_some_and(|origin| origin.author == self.subscription.author.to_string());
        if ours {
            bucket.delete(key).await?;
            failpoint::hit("object-removed");
        }
        Ok(())
    }
}

/// Whether what is there is this very version.
fn is_same(object: &Object, put: &Put, labels: &Labels) -> bool {
    let attributes = |a: &rhio_core::object::Attributes| -> BTreeMap<String, String> {
        // A bucket gives an object without a content type one of its own.
        let typed = put.attributes.get("content-type").is_some();
        a.iter()
            .filter(|(name, _)| typed || *name != "content-type")
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    };
    object.origin == labels.origin
        && object.size == put.size
        && attributes(&object.attributes) == attributes(&put.attributes)
}
