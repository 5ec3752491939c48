//! A provider and a getter together, and each of them with iroh-blobs' own other side.

use std::ops::Range;

use bao_tree::io::BaoContentItem;
use bytes::Bytes;
use futures_util::StreamExt;
use iroh_blobs::get::StreamPair;
use iroh_blobs::get::fsm::{AtConnected, BlobContentNext, ConnectedNext, EndBlobNext, RequestCounters};
use iroh_blobs::protocol::{ChunkRanges, ChunkRangesExt, GetRequest};
use rhio_blobs::fetch::{FetchError, fetch};
use rhio_blobs::hashing::{GROUP, MAX_SIZE};
use rhio_blobs::serve::{read_request, respond};
use rhio_core::id::BlobHash;

use crate::support::{Blob, Kept, content, pipe};

/// Fetches a range while a provider answers; all the pieces.
async fn transfer(blob: &Blob, range: Range<u64>) -> Vec<Bytes> {
    let (send_request, mut recv_request) = pipe(1024);
    let (mut send, recv) = pipe(48 * 1024);
    let provider = async {
        let request = read_request(&mut recv_request).await.unwrap();
        assert_eq!(request.hash, blob.hash);
        let sent = respond(&request, &blob.source, &mut send).await.unwrap();
        assert_eq!(sent.content, range.end - range.start);
        drop(send);
    };
    let getter = async {
        let pieces = fetch(recv, send_request, blob.hash, blob.size(), range.clone());
        pieces.map(|piece| piece.unwrap()).collect::<Vec<_>>().await
    };
    tokio::join!(provider, getter).1
}

#[tokio::test]
async fn every_part_of_every_size_arrives() {
    let mut sizes = vec![0, 1, 1023, 1024, 1025];
    sizes.extend([1, 2, 3, 4, 5, 7, 8, 9, 16, 21].into_iter().flat_map(|n| [n * GROUP - 1, n * GROUP, n * GROUP + 1]));
    for size in sizes {
        let blob = Blob::new(content(size));
        let size = blob.size();
        let mut ranges = Vec::new();
        ranges.push(0..size);
        for start in (0..size).step_by(GROUP) {
            ranges.push(start..size);
            ranges.push(start..size.min(start + 64 * 1024));
            ranges.push(start..size.min(start + GROUP as u64));
        }
        for range in ranges {
            let pieces = transfer(&blob, range.clone()).await;
            assert_eq!(pieces.concat(), blob.data[range.start as usize..range.end as usize], "{range:?} of {size}");
            let most = 64 * 1024 + GROUP;
            assert!(pieces.iter().all(|piece| piece.len() <= most), "too long a piece for {range:?} of {size}");
            if let Some((_, full)) = pieces.split_last() {
                assert!(full.iter().all(|piece| piece.len() >= 64 * 1024), "too short a piece for {range:?} of {size}");
            }
        }
    }
}

#[tokio::test]
async fn iroh_blobs_getter_understands_our_provider() {
    for size in [0, 1, GROUP, GROUP + 1, 9 * GROUP + 5000] {
        for ranges in [ChunkRanges::all(), ChunkRanges::last_chunk(), ChunkRanges::chunks(3..21u64)] {
            let blob = Blob::new(content(size));
            let (send_request, mut recv_request) = pipe(1024);
            let (mut send, recv) = pipe(4096);
            let provider = async {
                let request = read_request(&mut recv_request).await.unwrap();
                respond(&request, &blob.source, &mut send).await.unwrap();
                drop(send);
            };
            let getter = async {
                let request = GetRequest::blob_ranges((*blob.hash.as_bytes()).into(), ranges.clone());
                let pair = StreamPair::new(0, recv, send_request);
                let connected = AtConnected::new(pair.t0, pair.recv, pair.send, request, RequestCounters::default());
                let ConnectedNext::StartRoot(root) = connected.next().await.unwrap() else { panic!("no root") };
                let (mut content, claimed) = root.next().next().await.unwrap();
                assert_eq!(claimed, blob.size());
                let mut bytes = 0;
                let end = loop {
                    match content.next().await {
                        BlobContentNext::Done(end) => break end,
                        BlobContentNext::More((next, item)) => {
                            if let BaoContentItem::Leaf(leaf) = item.unwrap() {
                                let start = leaf.offset as usize;
                                assert_eq!(leaf.data, blob.data[start..start + leaf.data.len()]);
                                bytes += leaf.data.len();
                            }
                            content = next;
                        }
                    }
                };
                let EndBlobNext::Closing(closing) = end.next() else { panic!("more blobs") };
                closing.next().await.unwrap();
                bytes
            };
            let ((), bytes) = tokio::join!(provider, getter);
            assert_eq!(bytes > 0, size > 0, "{ranges:?} of {size} bytes");
        }
    }
}

#[tokio::test]
async fn ranges_that_make_no_sense_are_refused_before_anything_is_sent() {
    let group = GROUP as u64;
    let cases = [
        (5 * group, 0..0),
        (5 * group, 5 * group..5 * group),
        (5 * group, Range { start: 2 * group, end: group }),
        (5 * group, 1..group),
        (5 * group, 0..group + 1),
        (5 * group, 0..6 * group),
        (5 * group + 1, 0..5 * group + 2),
        (0, 0..1),
        (MAX_SIZE + 1, 0..group),
        (u64::MAX, 0..u64::MAX),
    ];
    for (size, range) in cases {
        let kept = Kept::default();
        let mut stream = fetch(Bytes::new(), kept.clone(), BlobHash::from_bytes([1; 32]), size, range.clone());
        let expected = FetchError::Range { start: range.start, end: range.end, size };
        assert_eq!(stream.next().await, Some(Err(expected)));
        assert_eq!(stream.next().await, None);
        assert!(kept.take().is_empty());
    }
}
