//! Folders as buckets, for sites without S3.
//!
//! A bucket is a folder below the root, and must exist. Objects are its files; see [`names`] for how keys become
//! paths. Symbolic links in a bucket are neither listed, read nor written through. What rhio itself needs is in
//! `<root>/.rhio`, on the same file system, because a file is written there and then moved into place whole:
//!
//! - `tmp/`: files that are being written;
//! - `uploads/<bucket>/<id>/`: uploads in parts;
//! - `notes/<bucket>/`: what travels with an object besides its content, bound to its version.

mod files;
mod list;
mod names;
mod notes;
mod uploads;
mod write;

use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use rhio_core::object::ObjectKey;
use thiserror::Error;

use super::{
    Bucket, BucketError, Condition, Content, Denied, Etag, Labels, Limits, ListedUpload, Object, Page, Part, Upload,
    Written,
};
use list::Walks;

/// Our own folder in the root.
const OWN: &str = ".rhio";
/// Every part costs a sync of the disk.
const MIN_PART: u64 = 64 << 10;
const MAX_PARTS: u32 = 10_000;
/// Longest file.
const MAX_PUT: u64 = i64::MAX.unsigned_abs();

/// Why folders can't be used.
#[derive(Debug, Error)]
pub enum FolderError {
    /// The root or our folder in it.
    #[error("cannot use {path}: {reason}")]
    Root {
        /// The folder.
        path: PathBuf,
        /// What is wrong with it.
        reason: io::Error,
    },
    /// It is no name of a folder.
    #[error("'{0}' can't be a bucket's name here")]
    Name(String),
}

/// A folder whose folders are buckets. Clones are the same one; it should be opened once.
#[derive(Clone, Debug)]
pub struct FolderRoot(Arc<Root>);

#[derive(Debug)]
struct Root {
    path: PathBuf,
    /// Held from looking what is there until the file is in place.
    places: Mutex<()>,
    walks: Mutex<Walks>,
}

impl FolderRoot {
    /// Opens a folder, which must exist, and removes what earlier writers left half done. Blocks.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, FolderError> {
        let at = |path: &Path, reason| FolderError::Root { path: path.to_owned(), reason };
        let path = fs::canonicalize(path.as_ref()).map_err(|e| at(path.as_ref(), e))?;
        let own = path.join(OWN);
        for folder in ["tmp", "uploads", "notes"] {
            let folder = own.join(folder);
            fs::create_dir_all(&folder).map_err(|e| at(&folder, e))?;
        }
        write::sweep(&own.join("tmp")).map_err(|e| at(&own, e))?;
        Ok(Self(Arc::new(Root { path, places: Mutex::default(), walks: Mutex::default() })))
    }

    /// One of its folders as a bucket, which need not exist.
    ///
    /// # Errors
    /// When no bucket can have this name.
    pub fn bucket(&self, name: &str) -> Result<FolderBucket, FolderError> {
        if name.is_empty() || name.starts_with('.') || name.len() > 255 || name.contains(['/', '\0']) {
            return Err(FolderError::Name(name.to_owned()));
        }
        Ok(FolderBucket { place: Place { root: Arc::clone(&self.0), name: name.to_owned() } })
    }
}

/// A folder as a bucket. Made by [`FolderRoot::bucket`].
#[derive(Clone, Debug)]
pub struct FolderBucket {
    place: Place,
}

/// Where everything of one bucket is. All that it does blocks.
#[derive(Clone, Debug)]
struct Place {
    root: Arc<Root>,
    name: String,
}

impl Place {
    fn folder(&self) -> PathBuf {
        self.root.path.join(&self.name)
    }

    fn own(&self, what: &str) -> PathBuf {
        self.root.path.join(OWN).join(what)
    }

    fn object(&self, key: &ObjectKey) -> PathBuf {
        self.folder().join(names::path_of(key.as_str()))
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.root.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fails when the bucket is not there.
    fn check(&self) -> Result<(), BucketError> {
        match fs::metadata(self.folder()) {
            Ok(found) if found.is_dir() => Ok(()),
            Ok(_) => Err(BucketError::Missing(self.name.clone())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Err(BucketError::Missing(self.name.clone())),
            Err(e) => Err(self.error("look at the bucket", &e)),
        }
    }

    /// What an error of the file system means.
    fn error(&self, doing: &str, error: &io::Error) -> BucketError {
        let bucket = self.name.clone();
        let reason = format!("cannot {doing}: {error}");
        match error.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                BucketError::Forbidden { bucket, why: Denied::Permission, reason }
            }
            io::ErrorKind::InvalidFilename | io::ErrorKind::InvalidInput | io::ErrorKind::FileTooLarge => {
                BucketError::Unsuitable(reason)
            }
            io::ErrorKind::CrossesDevices => {
                let reason = format!("the bucket is on another file system than {OWN} beside it, so {reason}");
                BucketError::Unavailable { bucket, reason }
            }
            _ => BucketError::Unavailable { bucket, reason },
        }
    }
}

/// What is on the disk: the file system has taken it, and keeps it.
fn kept<T>(what: T) -> Written<T> {
    Written { what, checked: true }
}

impl FolderBucket {
    /// Does something that blocks where that is allowed.
    async fn block<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Place) -> Result<T, BucketError> + Send + 'static,
    ) -> Result<T, BucketError> {
        let place = self.place.clone();
        let done = tokio::task::spawn_blocking(move || work(&place)).await;
        done.unwrap_or_else(|e| {
            Err(BucketError::Unavailable { bucket: self.place.name.clone(), reason: format!("cut short: {e}") })
        })
    }
}

#[async_trait]
impl Bucket for FolderBucket {
    fn name(&self) -> &str {
        &self.place.name
    }

    fn limits(&self) -> Limits {
        Limits { min_part: MIN_PART, max_parts: MAX_PARTS, max_put: MAX_PUT, held: 0 }
    }

    async fn list(&self, from: Option<&str>) -> Result<Page, BucketError> {
        let from = from.map(str::to_owned);
        self.block(move |place| place.list(from.as_deref())).await
    }

    async fn check(&self) -> Result<(), BucketError> {
        self.block(|place| {
            place.check()?;
            std::fs::read_dir(place.folder()).map(|_| ()).map_err(|error| place.error("read the bucket", &error))
        })
        .await
    }

    async fn head(&self, key: &ObjectKey) -> Result<Option<Object>, BucketError> {
        let key = key.clone();
        self.block(move |place| place.head(&key)).await
    }

    async fn read(&self, key: &ObjectKey, version: &Etag, range: Range<u64>) -> Result<Content, BucketError> {
        let (key, version) = (key.clone(), version.clone());
        self.block(move |place| place.open(&key, &version, range)).await
    }

    async fn put(
        &self,
        key: &ObjectKey,
        content: Content,
        labels: &Labels,
        condition: &Condition,
    ) -> Result<Written<Etag>, BucketError> {
        let file = self.place.new_file(content).await?;
        let (key, labels, condition) = (key.clone(), labels.clone(), condition.clone());
        self.block(move |place| place.install(&file, &key, &labels, &condition).map(kept)).await
    }

    async fn copy(
        &self,
        source: (&ObjectKey, &Etag),
        key: &ObjectKey,
        labels: &Labels,
        condition: &Condition,
    ) -> Result<Written<Etag>, BucketError> {
        let (from, version) = (source.0.clone(), source.1.clone());
        let (key, labels, condition) = (key.clone(), labels.clone(), condition.clone());
        self.block(move |place| {
            let file = place.copied(&from, &version)?;
            place.install(&file, &key, &labels, &condition).map(kept)
        })
        .await
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), BucketError> {
        let key = key.clone();
        self.block(move |place| place.delete(&key)).await
    }

    async fn begin(&self, key: &ObjectKey, labels: &Labels) -> Result<Upload, BucketError> {
        let (key, labels) = (key.clone(), labels.clone());
        self.block(move |place| place.begin(&key, &labels)).await
    }

    async fn put_part(
        &self,
        upload: &Upload,
        number: u32,
        offset: u64,
        content: Content,
    ) -> Result<Written<Part>, BucketError> {
        self.place.put_part(upload, number, offset, content).await.map(kept)
    }

    async fn parts(&self, upload: &Upload) -> Result<Vec<Part>, BucketError> {
        let upload = upload.clone();
        self.block(move |place| place.parts(&upload)).await
    }

    async fn complete(
        &self,
        upload: &Upload,
        parts: &[Part],
        condition: &Condition,
    ) -> Result<Written<Etag>, BucketError> {
        let (upload, parts, condition) = (upload.clone(), parts.to_vec(), condition.clone());
        self.block(move |place| place.complete(&upload, &parts, &condition).map(kept)).await
    }

    async fn abort(&self, upload: &Upload) -> Result<(), BucketError> {
        let upload = upload.clone();
        self.block(move |place| place.abort(&upload)).await
    }

    async fn uploads(&self, key: &ObjectKey) -> Result<Vec<ListedUpload>, BucketError> {
        let key = key.clone();
        self.block(move |place| place.uploads(&key)).await
    }
}
