//! Brings a large object into a local bucket in parts, and goes on where an earlier attempt was broken off.
//!
//! Only verified bytes are sent, and only a part that the bucket has confirmed counts, now and after a crash: see
//! [`upload_note`](super::upload_note). What the bucket makes of the parts is checked before the note goes.

use std::collections::BTreeMap;
use std::ops::Range;

use futures_util::stream::{FuturesUnordered, StreamExt};
use rhio_blobs::bucket::{Bucket, BucketError, Condition, Etag, Labels, Part, Upload, Written};
use rhio_core::catalog::Put;
use tokio::sync::Mutex;
use tracing::info;

use super::fetching::Landing;
use super::land_error::LandError;
use super::transfers::Progress;
use super::upload_note::Noted;

/// Parts of one object that are under way at once: some arrive while others are sent.
const AT_ONCE: usize = 4;

/// Part numbers, from 1, with what each one covers.
fn layout(size: u64, part: u64) -> impl Iterator<Item = (u32, Range<u64>)> {
    (0..size.div_ceil(part)).map(move |index| (index as u32 + 1, index * part..((index + 1) * part).min(size)))
}

/// Brings an object here in parts.
pub(super) async fn land(
    landing: &Landing,
    put: &Put,
    labels: &Labels,
    condition: &Condition,
    progress: &Progress,
) -> Result<Etag, LandError> {
    let (node, bucket) = (&landing.node, &*landing.subscription.bucket);
    let mut noted = Noted::open(node, bucket, put, labels).await?;
    let there = there(bucket, put, &noted).await;
    if let Err(BucketError::NoUpload) = there {
        noted.forget(node).await?;
        return Err(LandError::Again("the bucket has forgotten the upload"));
    }
    let there = there?;
    let before: u64 = there.values().map(|part| part.size).sum();
    progress.resume(before);
    if before > 0 {
        info!(bucket = bucket.name(), key = %put.key, size = put.size, there = before, "goes on with an upload");
    }
    let resumed = noted.is_resumed();
    let noted = Mutex::new(noted);
    let (parts, checked) = bring(landing, put, &noted, there, progress).await?;
    let mut noted = noted.into_inner();
    let written = complete(landing, &mut noted, &parts, condition).await?;
    failpoint::hit("upload-completed");
    let sure = written.checked && checked && !resumed;
    let etag = match landing.settle(put, labels, &written.what, sure).await {
        // From the beginning: nobody knows what is wrong with it.
        Err(error) if error.is_not_kept() => {
            noted.abort(node, bucket).await?;
            return Err(error);
        }
        settled => settled?,
    };
    failpoint::hit("upload-checked");
    let (fetched, rate) = (put.size - before, progress.report().rate as u64);
    let (name, key) = (bucket.name(), &put.key);
    info!(bucket = name, %key, size = put.size, fetched, bytes_per_second = rate, "a large object has landed");
    noted.forget(node).await?;
    Ok(etag)
}

/// The parts that need not be sent again.
async fn there(bucket: &dyn Bucket, put: &Put, noted: &Noted) -> Result<BTreeMap<u32, Part>, BucketError> {
    if !noted.is_resumed() {
        return Ok(BTreeMap::new());
    }
    let sizes: BTreeMap<u32, u64> =
        layout(put.size, noted.record().part).map(|(number, range)| (number, range.end - range.start)).collect();
    let counts = |part: &Part| sizes.get(&part.number) == Some(&part.size) && noted.record().has_confirmed(part);
    let listed = bucket.parts(noted.upload()).await?;
    Ok(listed.into_iter().filter(counts).map(|part| (part.number, part)).collect())
}

/// Brings the parts that are not there. All of them in order, and whether each of these was checked.
async fn bring(
    landing: &Landing,
    put: &Put,
    noted: &Mutex<Noted>,
    mut there: BTreeMap<u32, Part>,
    progress: &Progress,
) -> Result<(Vec<Part>, bool), LandError> {
    let (upload, part) = {
        let noted = noted.lock().await;
        (noted.upload().clone(), noted.record().part)
    };
    let missing: Vec<_> = layout(put.size, part).filter(|(number, _)| !there.contains_key(number)).collect();
    let mut missing = missing.into_iter();
    let (mut running, mut checked) = (FuturesUnordered::new(), true);
    loop {
        while running.len() < AT_ONCE
            && let Some((number, range)) = missing.next()
        {
            running.push(bring_part(landing, put, (&upload, noted), number, range, progress));
        }
        let Some(part) = running.next().await else { break };
        let part = part?;
        checked &= part.checked;
        there.insert(part.what.number, part.what);
    }
    Ok((there.into_values().collect(), checked))
}

async fn bring_part(
    landing: &Landing,
    put: &Put,
    (upload, noted): (&Upload, &Mutex<Noted>),
    number: u32,
    range: Range<u64>,
    progress: &Progress,
) -> Result<Written<Part>, LandError> {
    let part = {
        let _room = landing.room(range.end - range.start).await?;
        let (content, watch) = landing.fetch(put, range.clone(), progress).await?;
        let stored = landing.subscription.bucket.put_part(upload, number, range.start, content).await;
        stored.map_err(|error| watch.explain(error))?
    };
    failpoint::hit("part-stored");
    // While one is noted the others go on.
    noted.lock().await.confirm(&landing.node, &part.what).await?;
    failpoint::hit("part-noted");
    Ok(part)
}

async fn complete(
    landing: &Landing,
    noted: &mut Noted,
    parts: &[Part],
    condition: &Condition,
) -> Result<Written<Etag>, LandError> {
    let (node, bucket) = (&landing.node, &*landing.subscription.bucket);
    match bucket.complete(noted.upload(), parts, condition).await {
        Ok(written) => Ok(written),
        Err(BucketError::NoUpload) => {
            // An answer that got lost: the next attempt looks what is there.
            noted.forget(node).await?;
            Err(LandError::Again("the upload was gone when it was to be completed"))
        }
        Err(error @ (BucketError::Conflict | BucketError::NotKept(_))) => {
            noted.abort(node, bucket).await?;
            Err(error.into())
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_an_object() {
        const PART: u64 = 8 << 20;
        for size in [1, PART - 1, PART, PART + 1, 3 * PART, 9_999 * PART + 1] {
            let parts: Vec<_> = layout(size, PART).collect();
            assert_eq!(parts.first().map(|(number, range)| (*number, range.start)), Some((1, 0)));
            assert_eq!(parts.last().map(|(_, range)| range.end), Some(size));
            assert!(parts.windows(2).all(|pair| pair[0].1.end == pair[1].1.start && pair[0].0 + 1 == pair[1].0));
        }
    }
}
