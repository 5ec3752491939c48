//! What travels with an object besides its content, and what rhio notes about it: a file of its own for each version.
//!
//! A note is written before its object is in place and removed after the next one is, so that every version has its
//! note whenever rhio is stopped.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;

use rhio_core::object::{Attributes, ObjectKey};
use serde::{Deserialize, Serialize};

use super::Place;
use super::files::is_absent;
use super::write::sync_folder;
use crate::bucket::{BucketError, Etag, Labels, Origin};

/// Longest note that is read.
const MAX_NOTE: u64 = 64 << 10;

/// Labels as a file has them.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Note {
    attributes: Vec<(String, String)>,
    #[serde(default)]
    hash: Option<String>,
    #[serde(default)]
    author: Option<String>,
}

impl From<&Labels> for Note {
    fn from(labels: &Labels) -> Self {
        let attributes = labels.attributes.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let origin = labels.origin.clone();
        let (hash, author) = origin.map(|origin| (origin.hash, origin.author)).unzip();
        Self { attributes, hash, author }
    }
}

impl From<Note> for Labels {
    fn from(note: Note) -> Self {
        let origin = note.hash.zip(note.author).map(|(hash, author)| Origin { hash, author });
        Self { attributes: Attributes::keep(note.attributes), origin }
    }
}

impl Place {
    /// All notes of one key.
    fn notes(&self, key: &ObjectKey) -> PathBuf {
        let name = blake3::hash(key.as_str().as_bytes()).to_hex();
        self.own("notes").join(&self.name).join(&name[..2]).join(&name[2..])
    }

    /// What is noted for a version. Nothing, for one that somebody else wrote.
    pub(super) fn note(&self, key: &ObjectKey, version: &Etag) -> Result<Labels, BucketError> {
        let path = self.notes(key).join(&version.0);
        let text = match fs::metadata(&path) {
            Ok(found) if found.len() > MAX_NOTE => return Ok(Labels::default()),
            Ok(_) => fs::read(&path),
            Err(e) => Err(e),
        };
        match text {
            // One that can't be read any more tells nothing.
            Ok(text) => Ok(serde_json::from_slice::<Note>(&text).unwrap_or_default().into()),
            Err(e) if is_absent(&e) => Ok(Labels::default()),
            Err(e) => Err(self.error("read a note", &e)),
        }
    }

    /// Notes labels for a version that is not in place yet.
    pub(super) fn write_note(&self, key: &ObjectKey, version: &Etag, labels: &Labels) -> Result<(), BucketError> {
        if *labels == Labels::default() {
            return Ok(());
        }
        let folder = self.notes(key);
        let write = || {
            fs::create_dir_all(&folder)?;
            let mut file = fs::File::create(folder.join(&version.0))?;
            file.write_all(&serde_json::to_vec(&Note::from(labels))?)?;
            file.sync_all()?;
            // The folder itself may be new, and the one above it.
            folder.ancestors().take(3).try_for_each(sync_folder)
        };
        write().map_err(|e| self.error("write a note", &e))
    }

    /// Removes a note whose object did not come into place.
    pub(super) fn forget_note(&self, key: &ObjectKey, version: &Etag) {
        let folder = self.notes(key);
        // What stays is never read.
        let _ = fs::remove_file(folder.join(&version.0));
        let _ = fs::remove_dir(folder);
    }

    /// Removes all notes of a key but the one for this version.
    pub(super) fn tidy_notes(&self, key: &ObjectKey, version: Option<&Etag>) {
        let folder = self.notes(key);
        let Ok(entries) = fs::read_dir(&folder) else { return };
        for entry in entries.flatten() {
            if version.is_none_or(|version| entry.file_name() != version.0.as_str()) {
                // What stays is never read.
                let _ = fs::remove_file(entry.path());
            }
        }
        let _ = fs::remove_dir(folder);
    }
}
