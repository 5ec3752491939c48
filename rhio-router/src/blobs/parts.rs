//! Brings a large object into a local bucket in parts, and goes on where an earlier attempt was broken off.
//!
//! The invariant: an upload is noted in the state stream before a part of it is written, and the note goes only when the
//! upload is completed or aborted. So after any crash the note leads to the upload, the bucket tells which parts are
//! stored, and only the others are fetched; nothing is left behind. Only verified bytes go into a part, so a part that is
//! stored is right. In the moment between the bucket's giving an upload its name and the noting of that name a crash
//! leaves an upload without one: the intention, noted before, says under which key and since when to look for it.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt};
use rhio_blobs::bucket::{Bucket, BucketError, Condition, Etag, Labels, Limits, Part, Upload};
use rhio_core::catalog::Put;
use rhio_core::id::BlobHash;
use rhio_core::object::ObjectKey;
use serde::{Deserialize, Serialize};
use tracing::{debug, info, warn};

use crate::node::{Node, now_micros};
use rhio_nats::state::Note;

use super::fetching::Landing;
use super::land_error::LandError;
use super::transfers::Progress;

/// Usual bytes of a part.
pub const PART: u64 = 8 * 1024 * 1024;
/// Parts of one object that are under way at once.
const AT_ONCE: usize = 2;
/// Permits of the shared bound that a part takes.
const PERMITS: u32 = 4;
/// Parts begin at a multiple of this, so that each is a run of whole chunk groups.
const ALIGN: u64 = 1024 * 1024;
/// How exact a bucket's clock is expected to be, in milliseconds, when an upload without a name is looked for.
const CLOCK: u64 = 60_000;

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
}

const VERSION: u8 = 1;

impl Record {
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
}

/// Bytes of each part of an object.
pub fn part_size(size: u64, limits: &Limits) -> u64 {
    let least = size.div_ceil(u64::from(limits.max_parts).max(1));
    PART.max(limits.min_part).max(least).next_multiple_of(ALIGN)
}

/// Part numbers, from 1, with what each one covers.
fn layout(size: u64, part: u64) -> impl Iterator<Item = (u32, Range<u64>)> {
    (0..size.div_ceil(part)).map(move |index| (index as u32 + 1, index * part..((index + 1) * part).min(size)))
}

/// The name of an upload's note: one for each object of a bucket.
fn name(bucket: &str, key: &ObjectKey) -> String {
    blake3::hash(format!("{bucket}\n{key}").as_bytes()).to_hex()[..32].to_owned()
}

/// Brings an object here in parts.
pub(super) async fn land(
    landing: &Landing,
    put: &Put,
    labels: &Labels,
    condition: &Condition,
    progress: &Progress,
) -> Result<Etag, LandError> {
    let bucket = &*landing.subscription.bucket;
    let (mut note, record, upload) = open(landing, put, labels).await?;
    let mut there: BTreeMap<u32, Part> = BTreeMap::new();
    match bucket.parts(&upload).await {
        Ok(parts) => there.extend(parts.into_iter().map(|part| (part.number, part))),
        Err(BucketError::NoUpload) => {
            forget(&landing.node, &mut note).await?;
            return Err(LandError::Again("the bucket has forgotten the upload"));
        }
        Err(error) => return Err(error.into()),
    }
    let all: Vec<(u32, Range<u64>)> = layout(put.size, record.part).collect();
    there.retain(|number, part| all.iter().any(|(n, range)| n == number && range.end - range.start == part.size));
    let before: u64 = there.values().map(|part| part.size).sum();
    progress.resume(before);
    if before > 0 {
        info!(bucket = bucket.name(), key = %put.key, size = put.size, there = before, "goes on with an upload");
    }
    let mut missing =
        all.iter().filter(|(number, _)| !there.contains_key(number)).cloned().collect::<Vec<_>>().into_iter();
    let mut running = FuturesUnordered::new();
    loop {
        while running.len() < AT_ONCE
            && let Some((number, range)) = missing.next()
        {
            running.push(fetch_part(landing, put, &upload, number, range, progress));
        }
        let Some(part) = running.next().await else { break };
        let part = part?;
        failpoint::hit("part-stored");
        there.insert(part.number, part);
    }
    drop(running);
    let parts: Vec<Part> = there.into_values().collect();
    let etag = match bucket.complete(&upload, &parts, condition).await {
        Ok(etag) => etag,
        Err(BucketError::NoUpload) => {
            // An answer that got lost: the object tells whether it was completed.
            forget(&landing.node, &mut note).await?;
            return Err(LandError::Again("the upload was gone when it was to be completed"));
        }
        Err(error @ BucketError::Conflict) => {
            bucket.abort(&upload).await?;
            forget(&landing.node, &mut note).await?;
            return Err(error.into());
        }
        Err(error) => return Err(error.into()),
    };
    failpoint::hit("upload-completed");
    let (fetched, rate) = (put.size - before, progress.report().rate as u64);
    let (name, key) = (bucket.name(), &put.key);
    info!(bucket = name, %key, size = put.size, fetched, bytes_per_second = rate, "a large object has landed");
    forget(&landing.node, &mut note).await?;
    Ok(etag)
}

async fn fetch_part(
    landing: &Landing,
    put: &Put,
    upload: &Upload,
    number: u32,
    range: Range<u64>,
    progress: &Progress,
) -> Result<Part, LandError> {
    let _permits = landing.permits(PERMITS).await?;
    let (content, watch) = landing.fetch(put, range.clone(), progress).await?;
    let stored = landing.subscription.bucket.put_part(upload, number, range.start, content).await;
    stored.map_err(|error| watch.explain(error))
}

/// The upload of an object: the one that an earlier attempt began, or a new one.
async fn open(landing: &Landing, put: &Put, labels: &Labels) -> Result<(Note, Record, Upload), LandError> {
    let (node, bucket) = (&landing.node, &*landing.subscription.bucket);
    let (mut note, noted) = node.state.upload(&name(bucket.name(), &put.key)).await?;
    if let Some(record) = noted.and_then(|bytes| read(&bytes)) {
        let part = part_size(put.size, &bucket.limits());
        match &record.id {
            Some(id) if record.is_of(put) && record.part == part => {
                let upload = Upload { key: put.key.clone(), id: id.clone() };
                return Ok((note, record, upload));
            }
            _ => abandon(bucket, &record).await?,
        }
    }
    let mut record = Record {
        version: VERSION,
        bucket: bucket.name().to_owned(),
        key: put.key.as_str().to_owned(),
        hash: put.hash,
        size: put.size,
        modified: put.modified,
        part: part_size(put.size, &bucket.limits()),
        id: None,
        begun: now_micros() / 1000,
    };
    write(node, &mut note, &record).await?;
    failpoint::hit("upload-intended");
    let upload = bucket.begin(&put.key, labels).await?;
    failpoint::hit("upload-begun");
    record.id = Some(upload.id.clone());
    write(node, &mut note, &record).await?;
    failpoint::hit("upload-noted");
    Ok((note, record, upload))
}

/// An upload of a file that is read just now: noted, so that it can be aborted after a crash, but never gone on with.
pub(super) struct Noted {
    note: Note,
    upload: Upload,
}

impl Noted {
    /// Begins an upload.
    pub(super) async fn begin(
        node: &Node,
        bucket: &dyn Bucket,
        key: &ObjectKey,
        size: u64,
        labels: &Labels,
    ) -> Result<Self, LandError> {
        abort(node, bucket, key).await?;
        let (mut note, _) = node.state.upload(&name(bucket.name(), key)).await?;
        let mut record = Record {
            version: VERSION,
            bucket: bucket.name().to_owned(),
            key: key.as_str().to_owned(),
            hash: BlobHash::from_bytes([0; 32]),
            size,
            modified: 0,
            part: part_size(size, &bucket.limits()),
            id: None,
            begun: now_micros() / 1000,
        };
        write(node, &mut note, &record).await?;
        let upload = bucket.begin(key, labels).await?;
        record.id = Some(upload.id.clone());
        write(node, &mut note, &record).await?;
        failpoint::hit("import-begun");
        Ok(Self { note, upload })
    }

    pub(super) fn upload(&self) -> &Upload {
        &self.upload
    }

    /// The upload is completed.
    pub(super) async fn done(&mut self, node: &Node) -> Result<(), LandError> {
        forget(node, &mut self.note).await
    }

    /// The upload is not to be completed.
    pub(super) async fn abort(&mut self, node: &Node, bucket: &dyn Bucket) -> Result<(), LandError> {
        bucket.abort(&self.upload).await?;
        forget(node, &mut self.note).await
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

    const LIMITS: Limits = Limits { min_part: 5 << 20, max_parts: 10_000, max_put: 5 << 30 };

    #[test]
    fn parts_cover_an_object_and_are_never_too_many() {
        for size in [1, PART - 1, PART, PART + 1, 3 * PART, 80_000 * PART, 5 << 40] {
            let part = part_size(size, &LIMITS);
            let parts: Vec<_> = layout(size, part).collect();
            assert!(parts.len() <= 10_000);
            assert_eq!(parts.first().map(|(number, range)| (*number, range.start)), Some((1, 0)));
            assert_eq!(parts.last().map(|(_, range)| range.end), Some(size));
            assert!(parts.windows(2).all(|pair| pair[0].1.end == pair[1].1.start && pair[1].1.start % ALIGN == 0));
        }
    }
}
