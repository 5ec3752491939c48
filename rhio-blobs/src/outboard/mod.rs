//! The cache of outboards: one file per blob of more than one group.
//!
//! A file is `<dir>/<first two hex digits>/<hash>.obao4` and holds nothing but the pairs: for every parent above the
//! groups of 16 KiB its left and right chaining value, 32 bytes each, in post-order. So its length is 64 bytes for each
//! group but the first, and says at once whether a file is whole. Its content needs no checksum: every pair is verified
//! against the blob's hash when it is used.
//!
//! Files are written under another name and renamed, never changed, and not synced: what a power cut takes is rebuilt
//! from the object.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bao_tree::{BaoTree, TreeNode};
use rhio_core::id::BlobHash;

use crate::hashing::tree::{self, Cv};
use crate::hashing::{GROUP, MAX_SIZE};

/// What a file's name ends with.
const SUFFIX: &str = ".obao4";
/// What the name of a file that is not whole yet begins with.
const DRAFT: &str = "draft-";
/// Bytes that a draft keeps in memory before it writes: the outboard of 16 MiB of content.
const BUFFER: usize = 64 * 1024;

/// What the cache holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Outboards.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// A folder of outboards. Clones share it. All its work is short reads and writes of local files, done by the caller's
/// thread.
#[derive(Clone, Debug)]
pub struct OutboardStore(Arc<Folder>);

#[derive(Debug)]
struct Folder {
    dir: PathBuf,
    drafts: AtomicU64,
}

impl OutboardStore {
    /// Opens a folder, makes it when it is not there, and removes what an earlier process left half written. Only one
    /// process at a time may use a folder.
    ///
    /// # Errors
    /// When the folder can't be made, read or cleaned.
    pub fn open(dir: impl Into<PathBuf>) -> io::Result<Self> {
        let dir = dir.into();
        fs::create_dir_all(&dir)?;
        for entry in fs::read_dir(&dir)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(DRAFT) {
                remove_file(&entry.path())?;
            }
        }
        Ok(Self(Arc::new(Folder { dir, drafts: AtomicU64::new(0) })))
    }

    /// Begins an outboard. Nothing is on disk before its content is longer than 16 MiB or it is kept.
    pub fn draft(&self) -> OutboardDraft {
        OutboardDraft { folder: self.0.clone(), buffer: Vec::new(), file: None, written: 0 }
    }

    /// The outboard of a blob; `None` when it is not here, so that it must be made anew. A file of a wrong length is
    /// removed. A blob of at most one group needs none, so the disk is not even touched.
    ///
    /// # Errors
    /// When the file can't be read or removed, or no blob can have this size.
    pub fn get(&self, hash: BlobHash, size: u64) -> io::Result<Option<Outboard>> {
        let len = outboard_len(size)?;
        if len == 0 {
            return Ok(Some(Outboard { hash, size, file: None }));
        }
        let path = self.path(hash);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        if file.metadata()?.len() != len {
            remove_file(&path)?;
            return Ok(None);
        }
        Ok(Some(Outboard { hash, size, file: Some(Arc::new(file)) }))
    }

    /// Forgets an outboard: its blob is gone, or it turned out to be damaged. No error when it is not there.
    ///
    /// # Errors
    /// When the file can't be removed.
    pub fn remove(&self, hash: BlobHash) -> io::Result<()> {
        remove_file(&self.path(hash))
    }

    /// Removes all outboards that `wanted` does not want, and tells what is left. Files that are no outboards are not
    /// touched. It looks at every file, so it is work for a thread that may block.
    ///
    /// # Errors
    /// When the folder can't be read or a file not removed.
    pub fn retain(&self, mut wanted: impl FnMut(BlobHash) -> bool) -> io::Result<Usage> {
        let mut left = Usage::default();
        for shard in fs::read_dir(&self.0.dir)? {
            let shard = shard?;
            if shard.file_name().len() != 2 || !shard.file_type()?.is_dir() {
                continue;
            }
            for entry in fs::read_dir(shard.path())? {
                let entry = entry?;
                let name = entry.file_name();
                let hash = name.to_str().and_then(|name| name.strip_suffix(SUFFIX)).and_then(|hex| hex.parse().ok());
                let Some(hash) = hash else { continue };
                if !wanted(hash) {
                    remove_file(&entry.path())?;
                    continue;
                }
                match entry.metadata() {
                    Ok(metadata) => left = Usage { files: left.files + 1, bytes: left.bytes + metadata.len() },
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(left)
    }

    /// What the cache holds. It looks at every file.
    ///
    /// # Errors
    /// When the folder can't be read.
    pub fn usage(&self) -> io::Result<Usage> {
        self.retain(|_| true)
    }

    fn path(&self, hash: BlobHash) -> PathBuf {
        self.0.path(hash)
    }
}

impl Folder {
    fn path(&self, hash: BlobHash) -> PathBuf {
        let hex = hash.to_string();
        self.dir.join(&hex[..2]).join(hex + SUFFIX)
    }
}

/// Bytes of the outboard of content of this length.
fn outboard_len(size: u64) -> io::Result<u64> {
    if size > MAX_SIZE {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "no object has this size"));
    }
    Ok(tree::tree(size).outboard_size())
}

/// Removes a file that may be gone.
fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// An outboard that is being made: the sink of a [`crate::hashing::Hasher`]. Dropped, it leaves nothing.
#[derive(Debug)]
pub struct OutboardDraft {
    folder: Arc<Folder>,
    buffer: Vec<u8>,
    file: Option<(File, PathBuf)>,
    written: u64,
}

impl OutboardDraft {
    /// Puts the outboard where [`OutboardStore::get`] finds it, in place of one that is there, and returns it.
    /// That of content of at most one group takes no disk access.
    ///
    /// # Errors
    /// When it can't be written, or has not the length that an outboard of this size must have.
    pub fn keep(mut self, hash: BlobHash, size: u64) -> io::Result<Outboard> {
        if outboard_len(size)? != self.written + self.buffer.len() as u64 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the outboard of another size"));
        }
        if size <= GROUP as u64 {
            return Ok(Outboard { hash, size, file: None });
        }
        self.flush()?;
        let Some((file, draft)) = self.file.take() else {
            return Err(io::Error::other("an outboard without a file"));
        };
        let path = self.folder.path(hash);
        let moved = fs::rename(&draft, &path).or_else(|error| match path.parent() {
            Some(shard) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(shard)?;
                fs::rename(&draft, &path)
            }
            _ => Err(error),
        });
        if let Err(error) = moved {
            self.file = Some((file, draft));
            return Err(error);
        }
        Ok(Outboard { hash, size, file: Some(Arc::new(file)) })
    }

    fn create(&self) -> io::Result<(File, PathBuf)> {
        let number = self.folder.drafts.fetch_add(1, Ordering::Relaxed);
        let path = self.folder.dir.join(format!("{DRAFT}{}-{number}", std::process::id()));
        let open = || OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path);
        let file = open().or_else(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                return Err(error);
            }
            // Somebody has emptied the cache by removing the folder.
            fs::create_dir_all(&self.folder.dir)?;
            open()
        })?;
        Ok((file, path))
    }
}

impl Write for OutboardDraft {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= BUFFER {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        if self.file.is_none() {
            self.file = Some(self.create()?);
        }
        if let Some((file, _)) = &mut self.file {
            file.write_all(&self.buffer)?;
            self.written += self.buffer.len() as u64;
            self.buffer.clear();
        }
        Ok(())
    }
}

impl Drop for OutboardDraft {
    fn drop(&mut self) {
        if let Some((_, path)) = &self.file {
            // What can't be removed now is removed at the next start.
            let _ = fs::remove_file(path);
        }
    }
}

/// A blob's outboard, open for reading. Clones share the file, which stays readable when it is removed meanwhile.
#[derive(Clone, Debug)]
pub struct Outboard {
    hash: BlobHash,
    size: u64,
    /// `None` for at most one group.
    file: Option<Arc<File>>,
}

impl Outboard {
    /// The blob.
    pub fn hash(&self) -> BlobHash {
        self.hash
    }

    /// Bytes of its content.
    pub fn size(&self) -> u64 {
        self.size
    }

    pub(crate) fn tree(&self) -> BaoTree {
        tree::tree(self.size)
    }

    /// The left and right chaining values of a parent, as they are on disk: not verified. One read of 64 bytes, mostly
    /// from the page cache, whatever the blob's size.
    ///
    /// # Errors
    /// When the file can't be read, or the tree has no such parent.
    pub(crate) fn pair(&self, node: TreeNode) -> io::Result<(Cv, Cv)> {
        let place = self.file.as_ref().zip(self.tree().post_order_offset(node));
        let (file, offset) =
            place.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the tree has no such parent"))?;
        let (mut left, mut right) = ([0; 32], [0; 32]);
        let mut pair = [0; 64];
        file.read_exact_at(&mut pair, offset.value() * 64)?;
        left.copy_from_slice(&pair[..32]);
        right.copy_from_slice(&pair[32..]);
        Ok((left, right))
    }
}

#[cfg(test)]
mod tests;
