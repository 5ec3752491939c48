//! A subscription to a bucket: what it is about, and what its tasks share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rhio_blobs::bucket::Bucket;
use rhio_core::id::PublicKey;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::settings::Deletes;
use crate::status::{Count, Entry as Status};
use crate::supervise::Supervised;

use super::listing::Desk;

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
    pub(super) holds: AtomicBool,
    /// Objects that are here, and their bytes.
    pub(super) here: (AtomicU64, AtomicU64),
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
    pub(super) fn id(&self) -> String {
        blake3::hash(format!("bucket {}", self.bucket.name()).as_bytes()).to_hex()[..16].to_owned()
    }
}

impl Supervised for BucketSubscription {
    fn status(&self) -> &Status {
        &self.status
    }

    fn stop(&self) -> &CancellationToken {
        &self.stop
    }
}
