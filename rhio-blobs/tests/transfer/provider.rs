//! The provider's responses, byte for byte, and what it does when its outboard or its bucket is damaged.

use std::fs;
use std::sync::atomic::Ordering;

use bao_tree::io::outboard::PostOrderMemOutboard;
use bao_tree::io::sync::encode_ranges_validated;
use bao_tree::{BlockSize, ChunkNum, ChunkRanges};
use iroh_blobs::protocol::ChunkRangesExt;
use proptest::prelude::*;
use rhio_blobs::bucket::{BucketError, Etag};
use rhio_blobs::hashing::GROUP;
use rhio_blobs::serve::{BlobRequest, RequestError, Sent, ServeError, read_request, respond};
use rhio_core::id::BlobHash;

use crate::support::{Blob, Kept, Memory, PIECE, content, pipe};

async fn response(blob: &Blob, ranges: &ChunkRanges) -> (Result<Sent, ServeError>, Vec<u8>) {
    let request = BlobRequest { hash: blob.hash, ranges: ranges.clone() };
    let mut kept = Kept::default();
    let result = respond(&request, &blob.source, &mut kept).await;
    (result, kept.take())
}

/// What bao-tree's own encoder makes of it.
fn expected(blob: &Blob, ranges: &ChunkRanges) -> Vec<u8> {
    let outboard = PostOrderMemOutboard::create(&blob.data, BlockSize::from_chunk_log(4));
    let mut bytes = blob.size().to_le_bytes().to_vec();
    encode_ranges_validated(&blob.data[..], outboard, ranges, &mut bytes).unwrap();
    bytes
}

async fn check(blob: &Blob, ranges: &ChunkRanges) {
    let (sent, bytes) = response(blob, ranges).await;
    assert!(bytes == expected(blob, ranges), "{ranges:?} of {} bytes", blob.size());
    assert_eq!(sent.unwrap().total, bytes.len() as u64);
    // One read for each stretch of groups, and no group twice.
    let reads = blob.bucket.reads.lock().unwrap().split_off(0);
    assert!(reads.windows(2).all(|pair| pair[0].end < pair[1].start), "{reads:?} for {ranges:?}");
    let whole = |offset: u64| offset.is_multiple_of(GROUP as u64) || offset == blob.size();
    assert!(reads.iter().all(|read| whole(read.start) && whole(read.end)), "{reads:?} for {ranges:?}");
}

const KIB: usize = 1024;
const SIZES: [usize; 20] = [
    0,
    1,
    KIB - 1,
    KIB,
    KIB + 1,
    GROUP - 1,
    GROUP,
    GROUP + 1,
    GROUP + KIB,
    GROUP + KIB + 1,
    2 * GROUP - 1,
    2 * GROUP,
    2 * GROUP + 1,
    3 * GROUP,
    4 * GROUP,
    5 * GROUP + 3 * KIB + 7,
    7 * GROUP + 1,
    8 * GROUP - 1,
    16 * GROUP + 5 * KIB,
    33 * GROUP + 1,
];

#[tokio::test]
async fn responses_are_bao_trees_at_every_boundary() {
    for size in SIZES {
        let blob = Blob::new(content(size));
        let chunks = size.div_ceil(KIB) as u64;
        let mut edges = vec![0, 1, 2, 15, 16, 17, 31, 32, 48, 64, chunks.saturating_sub(1), chunks, chunks + 1];
        edges.sort_unstable();
        edges.dedup();
        let mut ranges = vec![ChunkRanges::all(), ChunkRanges::last_chunk()];
        for (index, start) in edges.iter().enumerate() {
            ranges.push(ChunkRanges::from(ChunkNum(*start)..));
            for end in &edges[index + 1..] {
                ranges.push(ChunkRanges::from(ChunkNum(*start)..ChunkNum(*end)));
                ranges.push(ChunkRanges::from(ChunkNum(*start)..ChunkNum(*end)) | ChunkRanges::last_chunk());
            }
        }
        for ranges in ranges {
            check(&blob, &ranges).await;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn responses_are_bao_trees_for_any_size_and_ranges(
        size in prop_oneof![0..40_000usize, 0..1_500_000usize],
        edges in proptest::collection::btree_set(0..1_600u64, 1..12),
    ) {
        let edges: Vec<u64> = edges.into_iter().collect();
        let ranges = edges.chunks(2).fold(ChunkRanges::empty(), |ranges, edge| match *edge {
            [start, end] => ranges | ChunkRanges::from(ChunkNum(start)..ChunkNum(end)),
            _ => ranges | ChunkRanges::from(ChunkNum(edge[0])..),
        });
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(check(&Blob::new(content(size)), &ranges));
    }
}

#[tokio::test]
async fn any_damage_of_the_outboard_is_noticed_and_nothing_wrong_is_sent() {
    let blob = Blob::new(content(6 * GROUP + 9));
    let good = expected(&blob, &ChunkRanges::all());
    let hex = blob.hash.to_string();
    let path = blob.dir.path().join(&hex[..2]).join(format!("{hex}.obao4"));
    let outboard = fs::read(&path).unwrap();
    for index in 0..outboard.len() {
        let mut bad = outboard.clone();
        bad[index] ^= 0x10;
        fs::write(&path, &bad).unwrap();
        let (result, bytes) = response(&blob, &ChunkRanges::all()).await;
        assert!(matches!(result, Err(ServeError::Outboard(_))), "byte {index}: {result:?}");
        assert!(good.starts_with(&bytes), "byte {index}");
    }
    fs::write(&path, &outboard[..outboard.len() - 1]).unwrap();
    let (result, _) = response(&blob, &ChunkRanges::all()).await;
    assert!(matches!(result, Err(ServeError::Outboard(_))), "{result:?}");
}

#[tokio::test]
async fn wrong_content_is_noticed_before_it_is_sent() {
    let data = content(6 * GROUP + 9);
    let blob = Blob::new(data.clone());
    let good = expected(&blob, &ChunkRanges::all());
    let part = ChunkRanges::from(ChunkNum(3)..ChunkNum(92));
    let good_part = expected(&blob, &part);
    for index in (0..data.len()).step_by(997) {
        let mut bad = data.to_vec();
        bad[index] ^= 1;
        *blob.bucket.content.lock().unwrap() = bad.into();
        let offset = (index - index % GROUP) as u64;
        let (result, bytes) = response(&blob, &ChunkRanges::all()).await;
        assert!(matches!(result, Err(ServeError::Content { offset: at }) if at == offset), "byte {index}: {result:?}");
        assert!(good.starts_with(&bytes), "byte {index}");
        // Groups that are sent in part are verified whole where their parents are made, else as far as they are sent.
        let (result, bytes) = response(&blob, &part).await;
        assert!(good_part.starts_with(&bytes), "byte {index}");
        if (3 * KIB..92 * KIB).contains(&index) {
            assert!(matches!(result, Err(ServeError::Content { offset: at }) if at == offset), "{index}: {result:?}");
        }
    }
}

#[tokio::test]
async fn an_object_that_changes_ends_the_response() {
    let data = content(40 * GROUP);
    let mut memory = Memory::new(data.clone());
    memory.replaced_at = Some(20 * GROUP as u64);
    let blob = Blob::with(data, memory);
    let (result, bytes) = response(&blob, &ChunkRanges::all()).await;
    assert!(matches!(result, Err(ServeError::Body(_))), "{result:?}");
    assert!(expected(&blob, &ChunkRanges::all()).starts_with(&bytes));

    let mut other = Blob::new(content(5));
    other.source.etag = Etag("2".to_owned());
    let (result, _) = response(&other, &ChunkRanges::all()).await;
    assert!(matches!(result, Err(ServeError::Bucket(BucketError::Changed))), "{result:?}");
}

#[tokio::test]
async fn another_blob_than_the_sources_is_refused() {
    let blob = Blob::new(content(5));
    let request = BlobRequest { hash: BlobHash::from_bytes([1; 32]), ranges: ChunkRanges::all() };
    let result = respond(&request, &blob.source, &mut Kept::default()).await;
    assert!(matches!(result, Err(ServeError::OtherBlob)), "{result:?}");
}

#[tokio::test]
async fn a_peer_that_does_not_read_stops_the_reading() {
    let blob = Blob::new(content(64 * 1024 * 1024));
    let request = BlobRequest { hash: blob.hash, ranges: ChunkRanges::all() };
    let (mut send, recv) = pipe(64 * 1024);
    let source = blob.source.clone();
    let task = tokio::spawn(async move { respond(&request, &source, &mut send).await });
    // This runtime has one thread, so each turn lets every task run that can.
    for _ in 0..10_000 {
        tokio::task::yield_now().await;
    }
    let taken = blob.bucket.taken.load(Ordering::Relaxed);
    assert!(taken >= 64 * 1024 && taken < 20 * PIECE as u64, "{taken} bytes were read ahead");
    drop(recv);
    let result = task.await.unwrap();
    assert!(matches!(result, Err(ServeError::Send(_))), "{result:?}");
}

#[tokio::test]
async fn a_request_is_read_to_its_end_and_bounded() {
    let mut long = bytes::Bytes::from(vec![0; 10 * 1024 * 1024]);
    let result = read_request(&mut long).await;
    assert!(matches!(result, Err(ServeError::Request(RequestError::TooLong))), "{result:?}");
    assert!(long.len() > 9 * 1024 * 1024, "more was read than needed");
    let mut empty = bytes::Bytes::new();
    let result = read_request(&mut empty).await;
    assert!(matches!(result, Err(ServeError::Request(RequestError::Malformed))), "{result:?}");
}
