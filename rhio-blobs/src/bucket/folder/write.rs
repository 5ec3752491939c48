//! Writing files: beside their place first, then whole into it.

use std::fs::{self, File, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use futures_util::StreamExt as _;
use rhio_core::object::ObjectKey;
use tokio::io::AsyncWriteExt as _;

use super::Place;
use super::files::{etag, is_absent, millis};
use crate::bucket::{BucketError, Condition, Content, Etag, Labels};

/// A file that nobody has written to for so long belongs to nobody any more.
const LEFT_BEHIND: Duration = Duration::from_secs(24 * 60 * 60);

/// A file beside its place, removed when it is not moved there.
#[derive(Debug)]
pub(super) struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // It is not there when all went well.
        let _ = fs::remove_file(&self.0);
    }
}

/// A name that no other writer has, in this process or another.
pub(super) fn unique() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let now = millis(SystemTime::now());
    format!("{now:012x}{:08x}{number:06x}", std::process::id())
}

/// Removes files that were left behind.
pub(super) fn sweep(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let written = entry.metadata().and_then(|file| file.modified());
        if written.is_ok_and(|time| time.elapsed().is_ok_and(|age| age > LEFT_BEHIND)) {
            // Somebody else may have been faster.
            let _ = fs::remove_file(entry.path());
        }
    }
    Ok(())
}

/// Makes sure that what a folder lists is on the disk.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Writes content to a file, from where it stands. Fails unless exactly as much comes as was announced. Each chunk is
/// also shown to `see`.
pub(super) async fn write_content(
    place: &Place,
    file: &mut tokio::fs::File,
    mut content: Content,
    mut see: impl FnMut(&[u8]),
) -> Result<(), BucketError> {
    let mut missing = content.len;
    while let Some(chunk) = content.body.next().await {
        let chunk = chunk.map_err(|e| BucketError::Body(e.0))?;
        let too_many = || BucketError::Body(format!("more came than the {} bytes announced", content.len));
        missing = missing.checked_sub(chunk.len() as u64).ok_or_else(too_many)?;
        see(&chunk);
        file.write_all(&chunk).await.map_err(|e| place.error("write", &e))?;
    }
    if missing > 0 {
        return Err(BucketError::Body(format!("{missing} of {} bytes never came", content.len)));
    }
    file.flush().await.map_err(|e| place.error("write", &e))?;
    file.sync_all().await.map_err(|e| place.error("write", &e))
}

impl Place {
    fn temporary(&self) -> Temporary {
        Temporary(self.own("tmp").join(unique()))
    }

    /// Content as a file beside its place, on the disk.
    pub(super) async fn new_file(&self, content: Content) -> Result<Temporary, BucketError> {
        let temporary = self.temporary();
        // Where this future is dropped meanwhile, the file is made all the same: it must go with its guard.
        let make = move || File::create_new(&temporary.0).map(|file| (temporary, file));
        let made = tokio::task::spawn_blocking(make).await.map_err(io::Error::other).flatten();
        let (temporary, file) = made.map_err(|e| self.error("create a file", &e))?;
        let mut file = tokio::fs::File::from_std(file);
        write_content(self, &mut file, content, |_| {}).await?;
        Ok(temporary)
    }

    /// The content of exactly this version as a new file beside its place, on the disk.
    pub(super) fn copied(&self, key: &ObjectKey, version: &Etag) -> Result<Temporary, BucketError> {
        let mut from = self.file(key, version)?;
        let temporary = self.temporary();
        let mut copy = || {
            let mut to = File::create_new(&temporary.0)?;
            io::copy(&mut from, &mut to)?;
            to.sync_all()?;
            from.metadata()
        };
        let after = copy().map_err(|e| self.error("copy the file", &e))?;
        if etag(&after) != *version {
            return Err(BucketError::Changed);
        }
        Ok(temporary)
    }

    /// Moves a file into its place, if the condition holds.
    pub(super) fn install(
        &self,
        file: &Temporary,
        key: &ObjectKey,
        labels: &Labels,
        condition: &Condition,
    ) -> Result<Etag, BucketError> {
        self.install_path(&file.0, key, labels, condition)
    }

    /// Moves a file into its place, if the condition holds.
    pub(super) fn install_path(
        &self,
        file: &Path,
        key: &ObjectKey,
        labels: &Labels,
        condition: &Condition,
    ) -> Result<Etag, BucketError> {
        self.check()?;
        let version = etag(&fs::symlink_metadata(file).map_err(|e| self.error("look at the file", &e))?);
        self.write_note(key, &version, labels)?;
        let path = self.object(key);
        let mut made = 0;
        let moved = {
            let _lock = self.lock();
            let moved = self.folders_for(&path, &mut made).and_then(|()| self.move_to(file, &path, condition));
            match &moved {
                Ok(()) => self.tidy_notes(key, Some(&version)),
                Err(_) => {
                    self.forget_note(key, &version);
                    self.remove_empty_folders(&path, made);
                }
            }
            moved
        };
        moved?;
        // Folders that are new are in the folder above the highest of them.
        path.ancestors()
            .skip(1)
            .take(made + 1)
            .try_for_each(sync_folder)
            .map_err(|e| self.error("write the folder", &e))?;
        Ok(version)
    }

    fn move_to(&self, file: &Path, path: &Path, condition: &Condition) -> Result<(), BucketError> {
        let there = match fs::symlink_metadata(path) {
            Ok(there) if there.is_dir() => return Err(BucketError::Unsuitable("a folder has this name".into())),
            Ok(there) if !there.is_file() => return Err(BucketError::Unsuitable("a link has this name".into())),
            Ok(there) => Some(there),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(self.error("look at the file", &e)),
        };
        let version = |there: &Metadata| Condition::Is(etag(there));
        let holds = match condition {
            Condition::None => true,
            Condition::Absent => there.is_none(),
            Condition::Is(_) => there.as_ref().map(version).as_ref() == Some(condition),
        };
        if !holds {
            return Err(BucketError::Conflict);
        }
        if *condition == Condition::Absent {
            // Unlike a rename, a second name never replaces a file that somebody else puts there at this moment.
            match fs::hard_link(file, path) {
                Ok(()) => return fs::remove_file(file).map_err(|e| self.error("remove the temporary file", &e)),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Err(BucketError::Conflict),
                // Not every file system knows second names.
                Err(_) => {}
            }
        }
        fs::rename(file, path).map_err(|e| self.error("move the file into place", &e))
    }

    /// Creates the folders above a file, and counts those that were missing.
    fn folders_for(&self, path: &Path, made: &mut usize) -> Result<(), BucketError> {
        let bucket = self.folder();
        let folders: Vec<_> = path.ancestors().skip(1).take_while(|folder| *folder != bucket).collect();
        for folder in folders.into_iter().rev() {
            match fs::symlink_metadata(folder) {
                Ok(found) if found.is_dir() => {}
                Ok(_) => {
                    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
                    return Err(BucketError::Unsuitable(format!("'{name}' is no folder, so nothing can be below it")));
                }
                Err(e) if is_absent(&e) => {
                    fs::create_dir(folder).map_err(|e| self.error("create a folder", &e))?;
                    *made += 1;
                }
                Err(e) => return Err(self.error("look at the folder", &e)),
            }
        }
        Ok(())
    }

    pub(super) fn delete(&self, key: &ObjectKey) -> Result<(), BucketError> {
        let _lock = self.lock();
        if self.look(key)?.is_none() {
            return Ok(());
        }
        let path = self.object(key);
        match fs::remove_file(&path) {
            Err(e) if !is_absent(&e) => return Err(self.error("remove the file", &e)),
            _ => {}
        }
        self.tidy_notes(key, None);
        let left = self.remove_empty_folders(&path, usize::MAX);
        sync_folder(&left).map_err(|e| self.error("write the folder", &e))
    }

    /// Removes at most so many folders above a file, as far as they are empty, and yields the first that stays.
    fn remove_empty_folders(&self, path: &Path, most: usize) -> PathBuf {
        let bucket = self.folder();
        for folder in path.ancestors().skip(1).take(most) {
            // The system refuses to remove a folder with something in it.
            if folder == bucket || (fs::remove_dir(folder).is_err() && folder.is_dir()) {
                return folder.to_owned();
            }
        }
        bucket
    }
}
