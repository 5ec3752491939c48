//! Brings one object into a local bucket.
//!
//! An object is written whole or not at all: in one request, or as an upload in parts that is completed at the end. Its
//! bytes were verified before they were sent to the bucket. With it goes a note of its hash and author, which tells after
//! a crash that it is there, and tells rhio's objects from everybody else's: those are never touched.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use rhio_blobs::bucket::{BodyError, BucketError, Condition, Content, Etag, Labels, Object, Origin};
use rhio_blobs::fetch::{FetchError, fetch};
use rhio_core::catalog::Put;
use rhio_core::object::ObjectKey;
use rhio_core::wire::{CloseCode, Frame};
use rhio_net::connection::Connection;
use thiserror::Error;
use tokio::sync::SemaphorePermit;
use tracing::{debug, info};

use crate::node::Node;
use crate::trouble::Cause;
use rhio_nats::state::StateError;
use rhio_net::stream::{self, StreamError};

use super::parts;
use super::subscribing::BucketSubscription;
use super::transfers::{Direction, Progress};

/// Content goes after everything else.
const PRIORITY: i32 = -1;
/// A fetch in which nothing arrives for this long is given up. Longer than a provider may take to read a large object
/// again whose outboard it has lost, within reason: the reading goes on, and the next attempt finds it.
const STALL: Duration = Duration::from_secs(60);
/// Objects from this size on have their progress logged.
const LARGE: u64 = 256 * 1024 * 1024;

fn stall() -> Duration {
    failpoint::setting("RHIO_TEST_STALL_SECONDS").map_or(STALL, Duration::from_secs)
}

/// Why an object did not land.
#[derive(Debug, Error)]
pub enum LandError {
    /// The local bucket.
    #[error("{0}")]
    Bucket(#[from] BucketError),
    /// The state stream.
    #[error(transparent)]
    State(#[from] StateError),
    /// The connection.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// The content did not come, or was not what was signed.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// Nothing came.
    #[error("no content came for {} s", stall().as_secs())]
    Stalled,
    /// It must be tried again from the beginning.
    #[error("{0}")]
    Again(&'static str),
    /// The node stops.
    #[error("the node stops")]
    Stopped,
    /// The author said something newer of it.
    #[error("superseded")]
    Superseded,
}

impl From<&LandError> for Cause {
    fn from(error: &LandError) -> Self {
        match error {
            LandError::Bucket(error) => error.into(),
            LandError::State(error) => error.into(),
            LandError::Stream(error) => error.into(),
            LandError::Fetch(error) => match error {
                FetchError::Reset { code } => CloseCode::from_code(*code).into(),
                FetchError::Lost { .. } => Self::ConnectionLost,
                FetchError::Ended { .. } => Self::PeerUnavailable,
                FetchError::Violation { .. } | FetchError::Size { .. } | FetchError::Excess => Self::Violation,
                FetchError::Range { .. } => Self::Internal,
            },
            LandError::Stalled => Self::NoProgress,
            LandError::Again(_) | LandError::Superseded => Self::ObjectChanging,
            LandError::Stopped => Self::Internal,
        }
    }
}

impl LandError {
    /// Whether the connection to the author is gone, or the node stops.
    pub fn is_connection(&self) -> bool {
        matches!(self, Self::Stream(_) | Self::Stopped | Self::Fetch(FetchError::Lost { .. }))
    }

    /// Whether the peer can't send it now.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Fetch(FetchError::Reset { code })
            if matches!(CloseCode::from_code(*code), CloseCode::Unavailable | CloseCode::Refused))
    }

    /// Whether the peer sent what can't be accepted.
    pub fn is_violation(&self) -> bool {
        matches!(self, Self::Fetch(error) if error.is_violation())
    }
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Landed {
    /// It is there, written now or before.
    Here(Etag),
    /// Somebody else's object has the key; it is left alone.
    Conflict,
}

/// What is needed to bring an object here.
pub(super) struct Landing {
    pub(super) node: Node,
    pub(super) subscription: Arc<BucketSubscription>,
    pub(super) connection: Connection,
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
                parts::abort(&self.node, bucket, &put.key).await?;
                return Ok(Landed::Here(object.etag.clone()));
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
                Some(object) if is_same(&object, put, &labels) => Ok(Landed::Here(object.etag)),
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
        if let Some(here) = here
            && put.size > 0
            && let Some(etag) = self.copy(put, &here, labels, condition).await?
        {
            return Ok(etag);
        }
        let author = Some(self.subscription.author);
        let progress = self.node.blobs.transfers.begin(Direction::Receive, bucket.name(), &put.key, put.size, author);
        if put.size >= LARGE {
            info!(bucket = bucket.name(), key = %put.key, size = put.size, "fetches a large object");
        }
        if put.size > parts::PART {
            return parts::land(self, put, labels, condition, &progress).await.inspect(|_| progress.done());
        }
        let _permit = self.permits(1).await?;
        let (content, watch) = self.fetch(put, 0..put.size, &progress).await?;
        let stored = bucket.put(&put.key, content, labels, condition).await;
        stored.map_err(|error| watch.explain(error)).inspect(|_| progress.done())
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
            Ok(etag) => {
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

    /// Waits for a share of what may be under way at once.
    pub(super) async fn permits(&self, count: u32) -> Result<SemaphorePermit<'_>, LandError> {
        self.node.blobs.landing.acquire_many(count).await.map_err(|_| LandError::Stopped)
    }

    /// Asks the author for a range of an object's content.
    pub(super) async fn fetch(
        &self,
        put: &Put,
        range: Range<u64>,
        progress: &Progress,
    ) -> Result<(Content, Watch), LandError> {
        let (mut writer, reader) = stream::open(&self.connection).await?;
        writer.set_priority(PRIORITY);
        writer.send(&Frame::Blob).await?;
        let (send, recv) = (writer.into_stream()?, reader.into_stream()?);
        let len = range.end - range.start;
        let watch = Watch::default();
        let (seen, count) = (watch.clone(), progress.counter());
        let body = fetch(recv, send, put.hash, put.size, range);
        let body = futures_util::stream::unfold(Some(body), move |body| {
            let (seen, count) = (seen.clone(), count.clone());
            async move {
                let mut body = body?;
                let error = match tokio::time::timeout(stall(), body.next()).await {
                    Ok(Some(Ok(bytes))) => {
                        count.add(bytes.len() as u64);
                        failpoint::hit("bytes-verified");
                        return Some((Ok(bytes), Some(body)));
                    }
                    Ok(None) => return None,
                    Ok(Some(Err(error))) => LandError::Fetch(error),
                    Err(_) => LandError::Stalled,
                };
                let words = error.to_string();
                seen.note(error);
                Some((Err(BodyError(words)), None))
            }
        });
        Ok((Content { len, body: Box::pin(body) }, watch))
    }
}

/// Why content failed, which a bucket only tells as words.
#[derive(Clone, Default)]
pub(super) struct Watch(Arc<Mutex<Option<LandError>>>);

impl Watch {
    fn note(&self, error: LandError) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    /// What really happened when a bucket reports an error.
    pub(super) fn explain(&self, error: BucketError) -> LandError {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or(LandError::Bucket(error))
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
