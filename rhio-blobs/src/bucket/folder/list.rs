//! Listing a bucket, page by page, without ever holding more than a page and the folders on the way to it.

use std::collections::VecDeque;
use std::fs::{self, ReadDir};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::PoisonError;

use rhio_core::object::{MAX_KEY_LEN, ObjectKey};

use super::Place;
use super::files::{etag, modified};
use super::names::{Name, Prefix};
use super::write::unique;
use crate::bucket::{BucketError, Listed, Page};

/// Most objects of a page.
const PAGE: usize = 1000;
/// Most names of a page that are no keys; they are only told.
const MAX_SKIPPED: usize = 1000;
/// Most listings that wait for their next page. The oldest is given up first.
const MAX_WALKS: usize = 32;

/// Listings that wait for their next page to be asked for.
#[derive(Debug, Default)]
pub(super) struct Walks(VecDeque<(String, Walk)>);

/// A listing between two pages.
#[derive(Debug)]
struct Walk {
    bucket: String,
    /// The bucket's folder when the listing began.
    inode: (u64, u64),
    /// The folders on the way down, each as far as it was read.
    folders: Vec<(ReadDir, Prefix)>,
}

impl Place {
    pub(super) fn list(&self, from: Option<&str>) -> Result<Page, BucketError> {
        let mut walk = match from {
            None => self.begin_walk()?,
            Some(token) => self.resume_walk(token)?,
        };
        let mut page = Page::default();
        while page.objects.len() < PAGE {
            if !self.step(&mut walk, &mut page)? {
                // An empty folder that took the bucket's place is not what was listed.
                if self.inode()? != walk.inode {
                    return Err(self.over("the bucket was replaced while it was listed"));
                }
                return Ok(page);
            }
        }
        page.next = Some(self.keep_walk(walk));
        Ok(page)
    }

    fn inode(&self) -> Result<(u64, u64), BucketError> {
        self.check()?;
        let found = fs::metadata(self.folder()).map_err(|e| self.error("look at the bucket", &e))?;
        Ok((found.dev(), found.ino()))
    }

    fn begin_walk(&self) -> Result<Walk, BucketError> {
        let inode = self.inode()?;
        let folder = fs::read_dir(self.folder()).map_err(|e| self.error("list the bucket", &e))?;
        Ok(Walk { bucket: self.name.clone(), inode, folders: vec![(folder, Prefix::default())] })
    }

    fn resume_walk(&self, token: &str) -> Result<Walk, BucketError> {
        let mut walks = self.root.walks.lock().unwrap_or_else(PoisonError::into_inner);
        let found = walks.0.iter().position(|(of, walk)| of == token && walk.bucket == self.name);
        let (_, walk) =
            found.and_then(|index| walks.0.remove(index)).ok_or_else(|| self.over("the listing was given up"))?;
        Ok(walk)
    }

    fn keep_walk(&self, walk: Walk) -> String {
        let mut walks = self.root.walks.lock().unwrap_or_else(PoisonError::into_inner);
        if walks.0.len() >= MAX_WALKS {
            walks.0.pop_front();
        }
        let token = unique();
        walks.0.push_back((token.clone(), walk));
        token
    }

    fn over(&self, reason: &str) -> BucketError {
        BucketError::Unavailable { bucket: self.name.clone(), reason: reason.into() }
    }

    /// Looks at one more name. `false` at the end.
    fn step(&self, walk: &mut Walk, page: &mut Page) -> Result<bool, BucketError> {
        let Some((folder, prefix)) = walk.folders.last_mut() else { return Ok(false) };
        let Some(entry) = folder.next() else {
            walk.folders.pop();
            return Ok(true);
        };
        // Whatever can't be looked at fails the listing: what is missing in it would count as deleted.
        let failed = |e: &io::Error| self.error("list a folder", e);
        let entry = entry.map_err(|e| failed(&e))?;
        let kind = match entry.file_type() {
            Ok(kind) => kind,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(true),
            Err(e) => return Err(failed(&e)),
        };
        if !kind.is_file() && !kind.is_dir() {
            return Ok(true);
        }
        let name = prefix.name(&entry.file_name());
        let below = match &name {
            Some(Name::Whole(key)) => Some(Prefix::below(key)),
            Some(Name::Cut(cut)) => Some(cut.clone()),
            None => None,
        };
        match (name, below) {
            // Names below one that is too long for a key are longer still.
            (Some(Name::Whole(key)), _) if key.len() > MAX_KEY_LEN => skip(page, entry.path()),
            (Some(_), Some(below)) if kind.is_dir() => match fs::read_dir(entry.path()) {
                Ok(folder) => walk.folders.push((folder, below)),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(failed(&e)),
            },
            (Some(Name::Whole(key)), _) => match (ObjectKey::new(key), entry.metadata()) {
                (Ok(key), Ok(file)) if self.object(&key) == entry.path() => {
                    let (size, etag, modified) = (file.size(), etag(&file), modified(&file));
                    page.objects.push(Listed { key, size, etag, modified });
                }
                (_, Err(e)) if e.kind() == io::ErrorKind::NotFound => {}
                (_, Err(e)) => return Err(failed(&e)),
                // A name of our kind that we would not have given.
                _ => skip(page, entry.path()),
            },
            _ => skip(page, entry.path()),
        }
        Ok(true)
    }
}

fn skip(page: &mut Page, path: PathBuf) {
    if page.skipped.len() < MAX_SKIPPED {
        page.skipped.push(path.to_string_lossy().chars().take(200).collect());
    }
}
