//! Uploads in parts: one file that parts are written into, and a marker for each that is on the disk.

use std::fs;
use std::io::{self, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rhio_core::object::ObjectKey;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncSeekExt as _;

use super::files::{is_absent, millis};
use super::notes::Note;
use super::write::{sync_folder, unique, write_content};
use super::{MAX_PARTS, MAX_PUT, Place};
use crate::bucket::{BucketError, Condition, Content, Etag, Labels, ListedUpload, Part, Upload};

/// Holds the content.
const DATA: &str = "data";
/// Says what the upload is.
const ABOUT: &str = "upload.json";

/// What an upload is.
#[derive(Serialize, Deserialize)]
struct About {
    key: String,
    begun: u64,
    note: Note,
}

/// A part that is on the disk.
#[derive(Serialize, Deserialize)]
struct Marker {
    offset: u64,
    size: u64,
    etag: String,
}

impl Place {
    fn all_uploads(&self) -> PathBuf {
        self.own("uploads").join(&self.name)
    }

    /// An upload's folder, which need not exist.
    fn upload(&self, upload: &Upload) -> Result<PathBuf, BucketError> {
        let good = !upload.id.is_empty() && upload.id.bytes().all(|b| b.is_ascii_hexdigit()) && upload.id.len() <= 64;
        if good { Ok(self.all_uploads().join(&upload.id)) } else { Err(BucketError::NoUpload) }
    }

    pub(super) fn begin(&self, key: &ObjectKey, labels: &Labels) -> Result<Upload, BucketError> {
        self.check()?;
        let id = unique();
        let folder = self.all_uploads().join(&id);
        let about = About { key: key.as_str().to_owned(), begun: millis(SystemTime::now()), note: Note::from(labels) };
        let write = || {
            fs::create_dir_all(&folder)?;
            fs::File::create_new(folder.join(DATA))?.sync_all()?;
            write_json(&folder, ABOUT, &about)?;
            folder.ancestors().skip(1).take(2).try_for_each(sync_folder)
        };
        write().map_err(|e| self.error("begin an upload", &e))?;
        Ok(Upload { key: key.clone(), id })
    }

    pub(super) async fn put_part(
        &self,
        upload: &Upload,
        number: u32,
        offset: u64,
        content: Content,
    ) -> Result<Part, BucketError> {
        let size = content.len;
        if !(1..=MAX_PARTS).contains(&number) || offset.checked_add(size).is_none_or(|end| end > MAX_PUT) {
            return Err(BucketError::Unsuitable(format!("no part {number} of {size} bytes at {offset}")));
        }
        let folder = self.upload(upload)?;
        let failed = |e: &io::Error| match is_absent(e) {
            true => BucketError::NoUpload,
            false => self.error("write a part", e),
        };
        // What was there counts no more from the first byte on.
        match tokio::fs::remove_file(folder.join(number.to_string())).await {
            Err(e) if !is_absent(&e) => return Err(failed(&e)),
            _ => {}
        }
        let file = tokio::fs::OpenOptions::new().write(true).open(folder.join(DATA)).await;
        let mut file = file.map_err(|e| failed(&e))?;
        file.seek(SeekFrom::Start(offset)).await.map_err(|e| failed(&e))?;
        let mut hasher = blake3::Hasher::new();
        write_content(self, &mut file, content, |chunk| {
            hasher.update(chunk);
        })
        .await?;
        let etag = Etag(hasher.finalize().to_hex()[..32].to_owned());
        let marker = Marker { offset, size, etag: etag.0.clone() };
        let written = tokio::task::spawn_blocking(move || write_json(&folder, &number.to_string(), &marker)).await;
        written.map_err(io::Error::other).flatten().map_err(|e| failed(&e))?;
        Ok(Part { number, size, etag })
    }

    pub(super) fn parts(&self, upload: &Upload) -> Result<Vec<Part>, BucketError> {
        let parts = self.markers(upload)?.into_iter();
        Ok(parts.map(|(number, marker)| Part { number, size: marker.size, etag: Etag(marker.etag) }).collect())
    }

    /// All parts by number.
    fn markers(&self, upload: &Upload) -> Result<Vec<(u32, Marker)>, BucketError> {
        let folder = self.upload(upload)?;
        let read = || {
            // Without its content an upload is over: it became an object, and then we were stopped.
            fs::symlink_metadata(folder.join(DATA))?;
            let mut markers = Vec::new();
            for entry in fs::read_dir(&folder)? {
                let entry = entry?;
                let number = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
                if let Some(number) = number.filter(|number| (1..=MAX_PARTS).contains(number)) {
                    // One that vanishes is being written again.
                    markers.extend(read_json::<Marker>(&entry.path())?.map(|marker| (number, marker)));
                }
            }
            markers.sort_by_key(|(number, _)| *number);
            Ok(markers)
        };
        read().map_err(|e: io::Error| if is_absent(&e) { BucketError::NoUpload } else { self.error("list parts", &e) })
    }

    pub(super) fn complete(&self, upload: &Upload, parts: &[Part], condition: &Condition) -> Result<Etag, BucketError> {
        let folder = self.upload(upload)?;
        let stored = self.markers(upload)?;
        let mut wanted: Vec<_> = parts.iter().collect();
        wanted.sort_by_key(|part| part.number);
        let mut end = 0;
        for part in wanted {
            let found = stored.iter().find(|(number, _)| *number == part.number);
            let same = found.filter(|(_, m)| m.etag == part.etag.0 && m.size == part.size && m.offset == end);
            if same.is_none() {
                let reason = format!("part {} is not there as it should be", part.number);
                return Err(BucketError::NotKept(reason));
            }
            end += part.size;
        }
        let failed = |e: &io::Error| self.error("finish an upload", e);
        let about: About = match read_json(&folder.join(ABOUT)) {
            Ok(Some(about)) => about,
            Ok(None) => return Err(BucketError::NoUpload),
            Err(e) => return Err(failed(&e)),
        };
        if about.key != upload.key.as_str() {
            return Err(BucketError::NoUpload);
        }
        let data = folder.join(DATA);
        // A part that was written again may have been longer before.
        let cut = || {
            let file = fs::OpenOptions::new().write(true).open(&data)?;
            if file.metadata()?.len() != end {
                file.set_len(end)?;
            }
            file.sync_all()
        };
        cut().map_err(|e| failed(&e))?;
        let etag = self.install_path(&data, &upload.key, &about.note.into(), condition)?;
        // What stays has no content and counts as gone.
        let _ = fs::remove_dir_all(&folder);
        Ok(etag)
    }

    pub(super) fn abort(&self, upload: &Upload) -> Result<(), BucketError> {
        let Ok(folder) = self.upload(upload) else { return Ok(()) };
        match fs::remove_dir_all(folder) {
            Err(e) if !is_absent(&e) => Err(self.error("remove an upload", &e)),
            _ => Ok(()),
        }
    }

    pub(super) fn uploads(&self, key: &ObjectKey) -> Result<Vec<ListedUpload>, BucketError> {
        self.check()?;
        let list = || {
            let mut uploads = Vec::new();
            for entry in fs::read_dir(self.all_uploads())? {
                let entry = entry?;
                let Ok(id) = entry.file_name().into_string() else { continue };
                let Some(about) = read_json::<About>(&entry.path().join(ABOUT))? else { continue };
                if about.key == key.as_str() && entry.path().join(DATA).exists() {
                    uploads.push(ListedUpload { upload: Upload { key: key.clone(), id }, begun: about.begun });
                }
            }
            Ok(uploads)
        };
        match list() {
            Err(e) if is_absent(&e) => Ok(Vec::new()),
            listed => listed.map_err(|e: io::Error| self.error("list uploads", &e)),
        }
    }
}

/// Writes a file of ours as a whole, on the disk.
fn write_json(folder: &Path, name: &str, value: &impl Serialize) -> io::Result<()> {
    let beside = folder.join(format!("{name}.new"));
    let mut file = fs::File::create(&beside)?;
    file.write_all(&serde_json::to_vec(value)?)?;
    file.sync_all()?;
    fs::rename(&beside, folder.join(name))?;
    sync_folder(folder)
}

/// Reads a file of ours. `None` when it is not there.
fn read_json<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match fs::read(path) {
        Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
        Err(e) if is_absent(&e) => Ok(None),
        Err(e) => Err(e),
    }
}
