//! What is noted of an upload in parts while it is under way.
//!
//! The invariant: an upload is noted in the state stream before a part of it is written, and the note goes only when what
//! it became is known to be right, or when the upload is aborted. So after any crash the note leads to the upload, and
//! nothing is left behind. In the moment between the bucket's giving an upload its name and the noting of that name a
//! crash leaves an upload without one: the intention, noted before, says under which key and since when to look for it.
//!
//! The note also says which parts the bucket has confirmed. What else a bucket lists may be what is left of a request
//! that broke off.

use std::collections::BTreeMap;

use bytes::Bytes;
use rhio_blobs::bucket::{Bucket, BucketError, Etag, Labels, Limits, Part, Upload};
use rhio_core::catalog::Put;
use rhio_core::id::BlobHash;
use rhio_core::object::ObjectKey;
use serde::{Deserialize, Serialize};
use tracing::{debug, warn};

use crate::node::{Node, now_micros};
use rhio_nats::state::Note;

use super::land_error::LandError;

/// Usual bytes of a part.
pub const PART: u64 = 8 * 1024 * 1024;
/// Parts begin at a multiple of this, so that each is a run of whole chunk groups.
const ALIGN: u64 = 1024 * 1024;
/// How exact a bucket's clock is expected to be, in milliseconds, when an upload without a name is looked for.
const CLOCK: u64 = 60_000;
/// How often the parts of one upload are noted at most: a note has about 30 bytes for each, and all of them each time.
const NOTED: u64 = 64;

/// What is noted of an upload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Format version.
    version: u8,
    /// The local bucket.
    pub bucket: String,
    /// The object.
    pub key: String,
    /// The content.
    pub hash: BlobHash,
    /// Its bytes.
    pub size: u64,
    /// When the author's bucket had it written: another version may have other attributes.
    pub modified: u64,
    /// Bytes of every part but the last.
    pub part: u64,
    /// What the bucket calls the upload; `None` while it is about to be begun.
    pub id: Option<String>,
    /// When it was begun, in milliseconds since the Unix epoch.
    pub begun: u64,
    /// The parts that the bucket has confirmed, by number, each with a fingerprint of what it calls the part.
    #[serde(default)]
    confirmed: BTreeMap<u32, String>,
}

const VERSION: u8 = 1;

impl Record {
    /// What is intended, before it has begun.
    fn new(bucket: &dyn Bucket, key: &ObjectKey, (hash, size, modified): (BlobHash, u64, u64)) -> Self {
        Self {
            version: VERSION,
            bucket: bucket.name().to_owned(),
            key: key.as_str().to_owned(),
            hash,
            size,
            modified,
            part: part_size(size, &bucket.limits()),
            id: None,
            begun: now_micros() / 1000,
            confirmed: BTreeMap::new(),
        }
    }

    /// Whether it is about a file that this very process imports.
    pub fn is_running_import(&self, node: &Node) -> bool {
        self.is_import() && self.begun >= node.started
    }

    /// Whether it is about a file that is imported: nothing goes on with that after a crash.
    pub fn is_import(&self) -> bool {
        self.hash == BlobHash::from_bytes([0; 32])
    }

    /// Whether it is about this version of an object.
    pub fn is_of(&self, put: &Put) -> bool {
        self.hash == put.hash && self.size == put.size && self.modified == put.modified
    }

    /// Whether the bucket has confirmed a part to us, and it is still the one.
    pub(super) fn has_confirmed(&self, part: &Part) -> bool {
        self.confirmed.get(&part.number).is_some_and(|noted| *noted == fingerprint(&part.etag))
    }
}

fn fingerprint(etag: &Etag) -> String {
    blake3::hash(etag.0.as_bytes()).to_hex()[..16].to_owned()
}

/// Bytes of each part of an object.
pub fn part_size(size: u64, limits: &Limits) -> u64 {
    let least = size.div_ceil(u64::from(limits.max_parts).max(1));
    PART.max(limits.min_part).max(least).next_multiple_of(ALIGN)
}

/// The name of an upload's note: one for each object of a bucket.
fn name(bucket: &str, key: &ObjectKey) -> String {
    blake3::hash(format!("{bucket}\n{key}").as_bytes()).to_hex()[..32].to_owned()
}

/// An upload that is noted.
pub(super) struct Noted {
    note: Note,
    record: Record,
    upload: Upload,
    /// It was begun by an earlier attempt.
    resumed: bool,
    /// Parts that were confirmed since it was written.
    unwritten: u64,
}

impl Noted {
    /// The upload of an object: the one that an earlier attempt began, or a new one.
    pub(super) async fn open(node: &Node, bucket: &dyn Bucket, put: &Put, labels: &Labels) -> Result<Self, LandError> {
        let (note, noted) = node.state.upload(&name(bucket.name(), &put.key)).await?;
        if let Some(record) = noted.and_then(|bytes| read(&bytes)) {
            let part = part_size(put.size, &bucket.limits());
            match &record.id {
                Some(id) if record.is_of(put) && record.part == part => {
                    let upload = Upload { key: put.key.clone(), id: id.clone() };
                    return Ok(Self { note, record, upload, resumed: true, unwritten: 0 });
                }
                _ => abandon(bucket, &record).await?,
            }
        }
        let record = Record::new(bucket, &put.key, (put.hash, put.size, put.modified));
        let begun = Self::begin(node, bucket, note, record, labels).await?;
        failpoint::hit("upload-noted");
        Ok(begun)
    }

    /// The upload of a file that is read just now: it can be aborted after a crash, and is never gone on with.
    pub(super) async fn import(
        node: &Node,
        bucket: &dyn Bucket,
        key: &ObjectKey,
        size: u64,
        labels: &Labels,
    ) -> Result<Self, LandError> {
        abort(node, bucket, key).await?;
        let (note, _) = node.state.upload(&name(bucket.name(), key)).await?;
        let record = Record::new(bucket, key, (BlobHash::from_bytes([0; 32]), size, 0));
        let begun = Self::begin(node, bucket, note, record, labels).await?;
        failpoint::hit("import-begun");
        Ok(begun)
    }

    async fn begin(
        node: &Node,
        bucket: &dyn Bucket,
        mut note: Note,
        mut record: Record,
        labels: &Labels,
    ) -> Result<Self, LandError> {
        let key = ObjectKey::new(record.key.clone()).map_err(|error| BucketError::Unsuitable(error.to_string()))?;
        write(node, &mut note, &record).await?;
        failpoint::hit("upload-intended");
        let upload = bucket.begin(&key, labels).await?;
        failpoint::hit("upload-begun");
        record.id = Some(upload.id.clone());
        write(node, &mut note, &record).await?;
        Ok(Self { note, record, upload, resumed: false, unwritten: 0 })
    }

    /// The upload.
    pub(super) fn upload(&self) -> &Upload {
        &self.upload
    }

    /// What is noted of it.
    pub(super) fn record(&self) -> &Record {
        &self.record
    }

    /// Whether it was begun by an earlier attempt.
    pub(super) fn is_resumed(&self) -> bool {
        self.resumed
    }

    /// Notes that the bucket has confirmed a part; of many parts, not each at once.
    pub(super) async fn confirm(&mut self, node: &Node, part: &Part) -> Result<(), LandError> {
        self.record.confirmed.insert(part.number, fingerprint(&part.etag));
        self.unwritten += 1;
        let parts = self.record.size.div_ceil(self.record.part.max(1));
        if self.unwritten >= parts.div_ceil(2 * NOTED).max(1) {
            write(node, &mut self.note, &self.record).await?;
            self.unwritten = 0;
        }
        Ok(())
    }

    /// The upload is over, and what it became is known.
    pub(super) async fn forget(&mut self, node: &Node) -> Result<(), LandError> {
        forget(node, &mut self.note).await
    }

    /// The upload is not to be completed.
    pub(super) async fn abort(&mut self, node: &Node, bucket: &dyn Bucket) -> Result<(), LandError> {
        bucket.abort(&self.upload).await?;
        self.forget(node).await
    }
}

fn read(bytes: &[u8]) -> Option<Record> {
    let record: Option<Record> = serde_json::from_slice(bytes).ok();
    let known = record.filter(|record| record.version == VERSION);
    if known.is_none() {
        warn!("the note of an upload can't be read; if it was begun, abort it by hand");
    }
    known
}

async fn write(node: &Node, note: &mut Note, record: &Record) -> Result<(), LandError> {
    let bytes = serde_json::to_vec(record).unwrap_or_default();
    Ok(node.state.write_note(note, Bytes::from(bytes)).await?)
}

async fn forget(node: &Node, note: &mut Note) -> Result<(), LandError> {
    Ok(node.state.drop_note(note).await?)
}

/// Aborts what a note tells of.
async fn abandon(bucket: &dyn Bucket, record: &Record) -> Result<(), BucketError> {
    let Ok(key) = ObjectKey::new(record.key.clone()) else { return Ok(()) };
    if let Some(id) = &record.id {
        debug!(bucket = bucket.name(), %key, "aborts an upload that is not wanted any more");
        return bucket.abort(&Upload { key, id: id.clone() }).await;
    }
    for listed in bucket.uploads(&key).await? {
        if listed.upload.key == key && listed.begun.saturating_add(CLOCK) >= record.begun {
            bucket.abort(&listed.upload).await?;
        }
    }
    Ok(())
}

/// Aborts the upload of one object, if there is one.
pub(super) async fn abort(node: &Node, bucket: &dyn Bucket, key: &ObjectKey) -> Result<(), LandError> {
    let (mut note, noted) = node.state.upload(&name(bucket.name(), key)).await?;
    let Some(noted) = noted else { return Ok(()) };
    if let Some(record) = read(&noted) {
        abandon(bucket, &record).await?;
    }
    forget(node, &mut note).await
}

/// Aborts every noted upload that is not `wanted`.
///
/// # Errors
/// When the state stream or a bucket does not answer; what is left is noted still.
pub async fn sweep(node: &Node, wanted: impl Fn(&Record) -> bool) -> Result<(), LandError> {
    for noted in node.state.uploads().await? {
        let Some(record) = read(&noted).filter(|record| !wanted(record)) else { continue };
        let (Some(bucket), Ok(key)) = (node.blobs.bucket(&record.bucket), ObjectKey::new(record.key.clone())) else {
            continue;
        };
        abort(node, &*bucket, &key).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { min_part: 5 << 20, max_parts: 10_000, max_put: 5 << 30, held: 0 };

    #[test]
    fn parts_are_never_too_many_and_begin_where_groups_do() {
        for size in [1, PART - 1, PART, PART + 1, 3 * PART, 80_000 * PART, 5 << 40] {
            let part = part_size(size, &LIMITS);
            assert!(size.div_ceil(part) <= 10_000 && part.is_multiple_of(ALIGN));
        }
    }

    #[test]
    fn only_a_part_that_was_confirmed_and_is_the_same_counts() {
        let part = |number, etag: &str| Part { number, size: 1, etag: Etag(etag.into()) };
        let text =
            r#"{"version":1,"bucket":"b","key":"k","hash":"HASH","size":9,"modified":0,"part":4,"id":"i","begun":0}"#;
        let mut record = read(text.replace("HASH", &"00".repeat(32)).as_bytes()).expect("a note from before");
        assert!(!record.has_confirmed(&part(1, "a")));
        record.confirmed.insert(1, fingerprint(&Etag("a".into())));
        let again = read(&serde_json::to_vec(&record).unwrap()).unwrap();
        assert!(again.has_confirmed(&part(1, "a")));
        assert!(!again.has_confirmed(&part(1, "b")) && !again.has_confirmed(&part(2, "a")));
    }

    #[test]
    fn the_note_of_the_largest_upload_fits_into_a_message() {
        let mut record = read(
            format!(
                r#"{{"version":1,"bucket":"b","key":"k","hash":"{}","size":9,"modified":0,"part":4,"id":"i","begun":0}}"#,
                "00".repeat(32)
            )
            .as_bytes(),
        )
        .unwrap();
        record.confirmed = (1..=10_000).map(|number| (number, fingerprint(&Etag(number.to_string())))).collect();
        assert!(serde_json::to_vec(&record).unwrap().len() < 300_000);
    }
}
