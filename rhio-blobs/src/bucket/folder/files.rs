//! Looking at files and reading them.

use std::fs::{self, File, Metadata};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::SystemTime;

use bytes::Bytes;
use rhio_core::object::ObjectKey;

use super::Place;
use crate::bucket::{BodyError, BucketError, Content, Etag, Object};

/// Bytes that are read at once.
const CHUNK: u64 = 256 << 10;

/// The version of a file: its size, when it was written, and which file it is.
pub(super) fn etag(file: &Metadata) -> Etag {
    let written = i128::from(file.mtime()) * 1_000_000_000 + i128::from(file.mtime_nsec());
    Etag(format!("{:x}-{written:x}-{:x}", file.size(), file.ino()))
}

/// When a file was written, in milliseconds since the Unix epoch.
pub(super) fn modified(file: &Metadata) -> u64 {
    file.modified().map_or(0, millis)
}

/// Milliseconds since the Unix epoch.
pub(super) fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Whether nothing is at a path, which is also so when a file is where a folder would be.
pub(super) fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::InvalidFilename)
}

impl Place {
    /// The file that an object is; `None` for none, also when a link or a folder has the name.
    pub(super) fn look(&self, key: &ObjectKey) -> Result<Option<Metadata>, BucketError> {
        let path = self.object(key);
        if self.is_behind_link(&path)? {
            return Ok(None);
        }
        match fs::symlink_metadata(&path) {
            Ok(found) if found.is_file() => Ok(Some(found)),
            Ok(_) => Ok(None),
            // Nothing is there for certain only in a bucket that is there.
            Err(e) if is_absent(&e) => self.check().map(|()| None),
            Err(e) => Err(self.error("look at the file", &e)),
        }
    }

    /// Whether a folder on the way to a file is a symbolic link, which may lead anywhere.
    fn is_behind_link(&self, path: &Path) -> Result<bool, BucketError> {
        let bucket = self.folder();
        for folder in path.ancestors().skip(1).take_while(|folder| *folder != bucket) {
            match fs::symlink_metadata(folder) {
                Ok(found) if found.is_symlink() => return Ok(true),
                Ok(_) => {}
                Err(e) if is_absent(&e) => {}
                Err(e) => return Err(self.error("look at the folder", &e)),
            }
        }
        Ok(false)
    }

    pub(super) fn head(&self, key: &ObjectKey) -> Result<Option<Object>, BucketError> {
        let Some(file) = self.look(key)? else { return Ok(None) };
        let etag = etag(&file);
        let labels = self.note(key, &etag)?;
        let (attributes, origin) = (labels.attributes, labels.origin);
        Ok(Some(Object { size: file.size(), modified: modified(&file), etag, attributes, origin }))
    }

    /// The file of exactly this version.
    pub(super) fn file(&self, key: &ObjectKey, version: &Etag) -> Result<File, BucketError> {
        let found = self.look(key)?.filter(|found| etag(found) == *version).ok_or(BucketError::Changed)?;
        let file = match File::open(self.object(key)) {
            Ok(file) => file,
            Err(e) if is_absent(&e) => return Err(BucketError::Changed),
            Err(e) => return Err(self.error("open the file", &e)),
        };
        let opened = file.metadata().map_err(|e| self.error("look at the file", &e))?;
        // A link that took its place meanwhile leads to another file.
        let same = opened.ino() == found.ino() && opened.dev() == found.dev();
        if same && etag(&opened) == *version { Ok(file) } else { Err(BucketError::Changed) }
    }

    pub(super) fn open(&self, key: &ObjectKey, version: &Etag, range: Range<u64>) -> Result<Content, BucketError> {
        let mut file = self.file(key, version)?;
        let len = range.end.saturating_sub(range.start);
        let size = file.metadata().map_err(|e| self.error("look at the file", &e))?.size();
        if range.end > size && len > 0 {
            return Err(BucketError::Changed);
        }
        file.seek(SeekFrom::Start(range.start)).map_err(|e| self.error("read the file", &e))?;
        let reading = Some((file, version.clone(), len));
        let body = futures_util::stream::unfold(reading, |reading| async move {
            let (file, version, left) = reading.filter(|(.., left)| *left > 0)?;
            let read = tokio::task::spawn_blocking(move || chunk(file, &version, left).map(|done| (done, version)));
            let failed = match read.await {
                Ok(Ok(((bytes, file), version))) => {
                    let left = left - bytes.len() as u64;
                    return Some((Ok(bytes), Some((file, version, left))));
                }
                Ok(Err(e)) => e.to_string(),
                Err(e) => e.to_string(),
            };
            Some((Err(BodyError(failed)), None))
        });
        Ok(Content { len, body: Box::pin(body) })
    }
}

/// The next bytes, which belong to this version for sure.
fn chunk(mut file: File, version: &Etag, left: u64) -> io::Result<(Bytes, File)> {
    let wanted = left.min(CHUNK);
    let mut bytes = Vec::with_capacity(usize::try_from(wanted).unwrap_or(0));
    (&mut file).take(wanted).read_to_end(&mut bytes)?;
    if bytes.is_empty() || etag(&file.metadata()?) != *version {
        return Err(io::Error::other("the file was changed while it was read"));
    }
    Ok((bytes.into(), file))
}
