//! Buckets: S3-compatible servers and plain folders behind one trait.

pub mod faulty;
pub mod folder;
pub mod s3;

use std::fmt;
use std::ops::Range;
use std::pin::Pin;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::Stream;
use rhio_core::object::{Attributes, ObjectKey};
use thiserror::Error;

/// Why a bucket did not do what it was asked.
#[derive(Debug, Error)]
pub enum BucketError {
    /// There is no such bucket (yet).
    #[error("bucket '{0}' does not exist")]
    Missing(String),
    /// Credentials are wrong, or may not do this.
    #[error("bucket '{bucket}' refuses access{}: {reason}", .why.words())]
    Forbidden {
        /// The bucket.
        bucket: String,
        /// What it is about.
        why: Denied,
        /// The server's words.
        reason: String,
    },
    /// The object is not there any more, or is another version than the one named.
    #[error("the object has changed")]
    Changed,
    /// A condition of the request does not hold: somebody else's object is there, or ours is not the one we thought.
    #[error("another object has this key")]
    Conflict,
    /// The upload is not there any more.
    #[error("the upload is not there any more")]
    NoUpload,
    /// This key can't be stored here, ever.
    #[error("can't be stored here: {0}")]
    Unsuitable(String),
    /// The bucket does not have what it has confirmed.
    #[error("the bucket does not have what it was sent: {0}")]
    NotKept(String),
    /// The data that was to be written ended or failed; nothing of it is stored.
    #[error("the data failed: {0}")]
    Body(String),
    /// The server can't be reached, is full, or failed; worth trying again.
    #[error("bucket '{bucket}': {reason}")]
    Unavailable {
        /// The bucket.
        bucket: String,
        /// What failed.
        reason: String,
    },
}

/// Why a bucket refuses access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// The credentials are not known, not right, or not valid any more.
    Credentials,
    /// They are right, and may not do this; or no credentials were given and some are needed.
    Permission,
    /// The clocks of the server and of this machine are too far apart.
    Clock,
    /// The server signs for another region or another kind of service.
    Region,
    /// The server does not say.
    Unknown,
}

impl Denied {
    /// The same in words, to be put behind "refuses access".
    pub fn words(self) -> &'static str {
        match self {
            Self::Credentials => ", the S3 credentials are wrong",
            Self::Permission => ", permission is missing",
            Self::Clock => ", the clocks differ",
            Self::Region => ", the region may be wrong",
            Self::Unknown => "",
        }
    }
}

impl BucketError {
    /// Whether it may be about the whole bucket, and not about the one object that was asked for.
    pub fn is_general(&self) -> bool {
        matches!(self, Self::Missing(_) | Self::Forbidden { .. } | Self::Unavailable { .. })
    }
}

/// A version of an object's content: S3's ETag without quotes; for folders made of size, time and inode.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Etag(pub String);

/// An object as a listing tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its key.
    pub key: ObjectKey,
    /// Bytes of content.
    pub size: u64,
    /// Its version.
    pub etag: Etag,
    /// When it was last written, in milliseconds since the Unix epoch.
    pub modified: u64,
}

/// One page of a listing.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// Objects, in whatever order the server has.
    pub objects: Vec<Listed>,
    /// Objects that can't be taken: their key is no valid one for us (not UTF-8, too long), or they have no version. For
    /// the status.
    pub skipped: Vec<String>,
    /// Asks for the next page; `None` at the end.
    pub next: Option<String>,
}

/// Everything about one object but its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Bytes of content.
    pub size: u64,
    /// Its version.
    pub etag: Etag,
    /// When it was last written, in milliseconds since the Unix epoch.
    pub modified: u64,
    /// What travels with it.
    pub attributes: Attributes,
    /// What rhio noted when it wrote it; `None` for an object of somebody else's.
    pub origin: Option<Origin>,
}

/// What rhio notes with every object that it writes at a destination. On S3 these are metadata (names in
/// [`rhio_core::object`]); for folders a file beside the buckets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// BLAKE3 hash of the content, 64 hex digits.
    pub hash: String,
    /// The author's public key, 64 hex digits.
    pub author: String,
}

/// What is written with an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels {
    /// What travels with it.
    pub attributes: Attributes,
    /// What rhio notes; `None` for a local import.
    pub origin: Option<Origin>,
}

/// What must hold for a write to happen. Servers that do not know such conditions ignore them, so a check with
/// [`Bucket::head`] comes before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Whatever is there is replaced.
    None,
    /// No object has the key.
    Absent,
    /// The object there has this version.
    Is(Etag),
}

/// An upload in parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    /// The object that it becomes.
    pub key: ObjectKey,
    /// The bucket's name for it.
    pub id: String,
}

/// A part that is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// 1 to 10000.
    pub number: u32,
    /// Its bytes.
    pub size: u64,
    /// What the server calls it.
    pub etag: Etag,
}

/// What was written, as the bucket confirms it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written<T> {
    /// What the bucket says of it.
    pub what: T,
    /// Whether that agrees with a checksum of what was sent. Otherwise only reading it can tell whether it is the same.
    pub checked: bool,
}

/// An upload as a listing tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedUpload {
    /// The upload.
    pub upload: Upload,
    /// When it was begun, in milliseconds since the Unix epoch.
    pub begun: u64,
}

/// Content on its way. An error ends it, and whoever writes it stores nothing.
pub type Body = Pin<Box<dyn Stream<Item = Result<Bytes, BodyError>> + Send>>;

/// Content could not be read or was not what it should be.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[error("{0}")]
pub struct BodyError(pub String);

/// Content with its length.
pub struct Content {
    /// Bytes that will come; fewer or more is an error.
    pub len: u64,
    /// They.
    pub body: Body,
}

impl Content {
    /// Content that is in memory.
    pub fn from_bytes(bytes: Bytes) -> Self {
        let len = bytes.len() as u64;
        Self { len, body: Box::pin(futures_util::stream::once(std::future::ready(Ok(bytes)))) }
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Content").field("len", &self.len).finish_non_exhaustive()
    }
}

/// What a bucket can take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Smallest part but the last.
    pub min_part: u64,
    /// Most parts of one upload.
    pub max_parts: u32,
    /// Largest object that one request writes or copies.
    pub max_put: u64,
    /// Content of at most so many bytes is held in memory while it is written; of longer content only what moves.
    pub held: u64,
}

/// How long a request may take in which no byte moves.
pub const STALL: Duration = Duration::from_secs(60);

/// A bucket. Every method may be called any number of times at once. A future that is dropped stops its request.
#[async_trait]
pub trait Bucket: Send + Sync + fmt::Debug {
    /// Its name.
    fn name(&self) -> &str;

    /// What it can take.
    fn limits(&self) -> Limits;

    /// One page of all objects, at most 1000. `from` is the last page's `next`.
    async fn list(&self, from: Option<&str>) -> Result<Page, BucketError>;

    /// Asks whether the bucket can be read, at the least cost.
    async fn check(&self) -> Result<(), BucketError>;

    /// What is there under a key. `None` only when the bucket answers for certain that nothing is.
    async fn head(&self, key: &ObjectKey) -> Result<Option<Object>, BucketError>;

    /// What is there under a key, with its whole content.
    async fn open(&self, key: &ObjectKey) -> Result<Option<(Object, Content)>, BucketError> {
        let Some(object) = self.head(key).await? else { return Ok(None) };
        let content = self.read(key, &object.etag, 0..object.size).await?;
        Ok(Some((object, content)))
    }

    /// Reads a range of exactly this version. [`BucketError::Changed`] when it is another now. The content may fail in
    /// the middle when the object is replaced while it is read; it never mixes two versions silently where the bucket
    /// can tell.
    async fn read(&self, key: &ObjectKey, version: &Etag, range: Range<u64>) -> Result<Content, BucketError>;

    /// Writes an object in one request, of at most [`Limits::max_put`] bytes. It is visible only when it is whole.
    async fn put(
        &self,
        key: &ObjectKey,
        content: Content,
        labels: &Labels,
        condition: &Condition,
    ) -> Result<Written<Etag>, BucketError>;

    /// Writes an object of the content that exactly this version of another one in this bucket has.
    async fn copy(
        &self,
        source: (&ObjectKey, &Etag),
        key: &ObjectKey,
        labels: &Labels,
        condition: &Condition,
    ) -> Result<Written<Etag>, BucketError>;

    /// Deletes an object. No error when it is not there.
    async fn delete(&self, key: &ObjectKey) -> Result<(), BucketError>;

    /// Begins an upload in parts.
    async fn begin(&self, key: &ObjectKey, labels: &Labels) -> Result<Upload, BucketError>;

    /// Writes a part, at this offset of the object. A part written twice counts once, the last one.
    async fn put_part(
        &self,
        upload: &Upload,
        number: u32,
        offset: u64,
        content: Content,
    ) -> Result<Written<Part>, BucketError>;

    /// The parts that are stored, sorted by number. [`BucketError::NoUpload`] when the upload is gone. A part that was
    /// never confirmed may be one whose content broke off.
    async fn parts(&self, upload: &Upload) -> Result<Vec<Part>, BucketError>;

    /// Makes the object of its parts: visible only now. [`BucketError::NotKept`] when the bucket does not have them as it
    /// confirmed them.
    async fn complete(
        &self,
        upload: &Upload,
        parts: &[Part],
        condition: &Condition,
    ) -> Result<Written<Etag>, BucketError>;

    /// Forgets an upload and its parts. No error when it is gone.
    async fn abort(&self, upload: &Upload) -> Result<(), BucketError>;

    /// Uploads of this key that are neither completed nor aborted.
    async fn uploads(&self, key: &ObjectKey) -> Result<Vec<ListedUpload>, BucketError>;
}
