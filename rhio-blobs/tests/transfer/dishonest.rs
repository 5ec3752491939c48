//! Providers that send something else than they should: nothing wrong ever comes out of the getter.

use std::ops::Range;

use bao_tree::ChunkRanges;
use bytes::Bytes;
use futures_util::StreamExt;
use proptest::prelude::*;
use rhio_blobs::fetch::{FetchError, fetch};
use rhio_blobs::hashing::GROUP;
use rhio_blobs::serve::{BlobRequest, decode_request, respond};

use crate::support::{Blob, Kept, content};

/// What the getter makes of a response: verified bytes, and how it ended.
async fn get(blob: &Blob, size: u64, range: Range<u64>, response: Bytes) -> (Vec<u8>, Option<FetchError>) {
    let mut stream = fetch(response, Kept::default(), blob.hash, size, range);
    let mut bytes = Vec::new();
    while let Some(piece) = stream.next().await {
        match piece {
            Ok(piece) => bytes.extend_from_slice(&piece),
            Err(error) => {
                assert!(stream.next().await.is_none(), "something comes after an error");
                return (bytes, Some(error));
            }
        }
    }
    (bytes, None)
}

/// The right response to what the getter asks for.
async fn response(blob: &Blob, range: Range<u64>) -> Vec<u8> {
    let (request, sent) = (Kept::default(), Kept::default());
    let mut stream = fetch(Bytes::new(), request.clone(), blob.hash, blob.size(), range);
    assert!(stream.next().await.unwrap().is_err());
    let request = decode_request(&request.take()).unwrap();
    respond(&request, &blob.source, &mut sent.clone()).await.unwrap();
    sent.take()
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// A blob's size, and a range of its groups.
fn part() -> impl Strategy<Value = (usize, Range<u64>)> {
    (1..600_000usize, any::<prop::sample::Index>(), any::<prop::sample::Index>()).prop_map(|(size, from, to)| {
        let groups = size.div_ceil(GROUP);
        let start = from.index(groups);
        let end = start + 1 + to.index(groups - start);
        (size, (start * GROUP) as u64..(end * GROUP).min(size) as u64)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn a_flipped_bit_anywhere_is_noticed((size, range) in part(), at in any::<prop::sample::Index>(), bit in 0..8u8) {
        let blob = Blob::new(content(size));
        let mut bytes = run(response(&blob, range.clone()));
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let (got, error) = run(get(&blob, blob.size(), range.clone(), bytes.into()));
        let wanted = &blob.data[range.start as usize..range.end as usize];
        prop_assert!(wanted.starts_with(&got) && got.len() < wanted.len());
        let error = error.unwrap();
        prop_assert!(error.is_violation(), "{:?}", error);
        match error {
            FetchError::Size { expected, .. } => prop_assert!(at < 8 && expected == blob.size()),
            FetchError::Violation { offset } => prop_assert_eq!(offset, range.start + got.len() as u64),
            other => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn a_response_that_is_cut_anywhere_is_no_violation((size, range) in part(), at in any::<prop::sample::Index>()) {
        let blob = Blob::new(content(size));
        let mut bytes = run(response(&blob, range.clone()));
        bytes.truncate(at.index(bytes.len()));
        let (got, error) = run(get(&blob, blob.size(), range.clone(), bytes.into()));
        let wanted = &blob.data[range.start as usize..range.end as usize];
        prop_assert!(wanted.starts_with(&got) && got.len() < wanted.len());
        prop_assert_eq!(error, Some(FetchError::Ended { offset: range.start + got.len() as u64 }));
    }

    #[test]
    fn any_bytes_are_no_response((size, range) in part(), bytes in proptest::collection::vec(any::<u8>(), 0..40_000)) {
        let blob = Blob::new(content(size));
        let mut response = blob.size().to_le_bytes().to_vec();
        response.extend_from_slice(&bytes);
        let (got, error) = run(get(&blob, blob.size(), range, response.into()));
        prop_assert!(got.is_empty() && error.is_some());
    }
}

/// Above a few MiB the tree is deeper, the response takes many pieces, and what was right before is long gone.
#[tokio::test]
async fn a_flipped_bit_far_inside_a_large_blob_is_noticed() {
    let blob = Blob::new(content((4 << 20) + 1234));
    let right = response(&blob, 0..blob.size()).await;
    // Where leaves are in the response: content is its own best mark.
    let place = |offset: usize| {
        let leaf = &blob.data[offset..offset + 64];
        right.windows(64).position(|window| window == leaf).unwrap()
    };
    let len = blob.data.len();
    for offset in [3_000_000, 3 * 1024 * 1024, (3 << 20) + GROUP - 64, 4_000_000, len - 64] {
        for bit in [0, 7] {
            let mut bytes = right.clone();
            bytes[place(offset)] ^= 1 << bit;
            let (got, error) = get(&blob, blob.size(), 0..blob.size(), bytes.into()).await;
            // Everything before the group is right and comes out; nothing of the group does.
            assert_eq!(got.len(), offset / GROUP * GROUP);
            assert!(blob.data.starts_with(&got));
            assert_eq!(error, Some(FetchError::Violation { offset: got.len() as u64 }));
        }
    }
    // A parent that is met in the middle: it stands before the first leaf below it, here those of the third MiB.
    let parent = place(2 << 20) - 64;
    let mut bytes = right.clone();
    bytes[parent] ^= 1;
    let (got, error) = get(&blob, blob.size(), 0..blob.size(), bytes.into()).await;
    assert_eq!(got.len(), 2 << 20);
    assert_eq!(error, Some(FetchError::Violation { offset: 2 << 20 }));
    // Two leaves that change places are as wrong.
    let (one, two) = (place(3 << 20), place((3 << 20) + 4 * GROUP));
    let mut bytes = right.clone();
    let (before, after) = bytes.split_at_mut(two);
    before[one..one + GROUP].swap_with_slice(&mut after[..GROUP]);
    let (got, error) = get(&blob, blob.size(), 0..blob.size(), bytes.into()).await;
    assert_eq!(got.len(), 3 << 20);
    assert_eq!(error, Some(FetchError::Violation { offset: 3 << 20 }));
    assert_eq!(get(&blob, blob.size(), 0..blob.size(), right.into()).await, (blob.data.to_vec(), None));
}

/// The same for a part of it, as parts are fetched: the neighbours do not count.
#[tokio::test]
async fn a_flipped_bit_in_a_part_of_a_large_blob_is_noticed() {
    let blob = Blob::new(content((4 << 20) + 1234));
    let (start, end) = (3u64 << 20, 4u64 << 20);
    let right = response(&blob, start..end).await;
    for at in [0, 7, 8, 100, right.len() / 2, right.len() - 1] {
        let mut bytes = right.clone();
        bytes[at] ^= 1;
        let (got, error) = get(&blob, blob.size(), start..end, bytes.into()).await;
        assert!(blob.data[start as usize..].starts_with(&got) && got.len() < 1 << 20);
        assert!(error.is_some_and(|error| error.is_violation()));
    }
    // The right bytes of another part are the wrong ones here.
    let other = response(&blob, (1 << 20)..(2 << 20)).await;
    let (got, error) = get(&blob, blob.size(), start..end, other.into()).await;
    assert!(got.is_empty());
    assert_eq!(error, Some(FetchError::Violation { offset: start }));
}

#[tokio::test]
async fn more_than_was_asked_for_is_noticed_after_all_that_was() {
    let blob = Blob::new(content(5 * GROUP));
    let mut bytes = response(&blob, 0..blob.size()).await;
    bytes.push(0);
    let (got, error) = get(&blob, blob.size(), 0..blob.size(), bytes.into()).await;
    assert_eq!(got, blob.data);
    assert_eq!(error, Some(FetchError::Excess));
    assert!(FetchError::Excess.is_violation());
}

#[tokio::test]
async fn another_size_than_the_signed_one_is_noticed() {
    let blob = Blob::new(content(5 * GROUP + 3));
    let bytes = Bytes::from(response(&blob, 0..blob.size()).await);
    for size in [1, 5 * GROUP as u64, blob.size() - 1, blob.size() + 1, 100 * GROUP as u64] {
        let (got, error) = get(&blob, size, 0..size.min(GROUP as u64), bytes.clone()).await;
        assert!(got.is_empty());
        assert_eq!(error, Some(FetchError::Size { claimed: blob.size(), expected: size }));
    }
    // A peer that agrees to a wrong size can't prove its end.
    for size in [5 * GROUP as u64 + 2, 5 * GROUP as u64 + 4, 6 * GROUP as u64 + 3] {
        let mut bytes = bytes.to_vec();
        bytes[..8].copy_from_slice(&size.to_le_bytes());
        bytes.resize(bytes.len() + 2 * GROUP, 0);
        let (got, error) = get(&blob, size, 0..size, bytes.into()).await;
        assert!(blob.data.starts_with(&got));
        assert!(matches!(error, Some(FetchError::Violation { .. })), "{error:?}");
    }
}

#[tokio::test]
async fn the_empty_blob_is_verified_too() {
    let empty = Blob::new(Bytes::new());
    let bytes = Bytes::from(response(&empty, 0..0).await);
    assert_eq!(bytes.len(), 8);
    assert_eq!(get(&empty, 0, 0..0, bytes.clone()).await, (Vec::new(), None));
    // The hash of something, said to be of nothing.
    let other = Blob::new(content(1));
    let (_, error) = get(&other, 0, 0..0, bytes).await;
    assert_eq!(error, Some(FetchError::Violation { offset: 0 }));
}

#[tokio::test]
async fn the_response_to_another_range_is_a_violation() {
    let blob = Blob::new(content(9 * GROUP));
    let (sent, group) = (Kept::default(), GROUP as u64);
    let request = BlobRequest { hash: blob.hash, ranges: ChunkRanges::all() };
    respond(&request, &blob.source, &mut sent.clone()).await.unwrap();
    let (got, error) = get(&blob, blob.size(), 2 * group..3 * group, sent.take().into()).await;
    assert!(got.is_empty());
    assert_eq!(error, Some(FetchError::Violation { offset: 2 * group }));
}
