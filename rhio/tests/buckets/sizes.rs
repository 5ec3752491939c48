//! Objects of every size around the boundaries, and many of them.

use std::collections::BTreeMap;

use common::buckets::{Kind, arrivals, bucket_pair, content, get, keep_arrivals, keys, put, wait_for_object};
use common::{SOON, finish, start};
use futures_util::StreamExt;
use testkit::{Cluster, eventually};

/// Bytes of a part of an upload.
const PART: usize = 8 << 20;
const SIZES: [usize; 18] = [
    0,
    1,
    1023,
    1024,
    1025,
    16_383,
    16_384,
    16_385,
    32_767,
    32_768,
    32_769,
    65_536,
    (1 << 20) + 1,
    PART - 1,
    PART,
    PART + 1,
    2 * PART,
    3 * PART + 12_345,
];

async fn every_size_arrives(kind: Kind) {
    let (mut a, mut b) = bucket_pair(kind).await;
    keep_arrivals(&b).await;
    for (number, size) in SIZES.into_iter().enumerate() {
        put(&a, "out", &format!("size/{size}"), content(number as u64, size)).await;
    }
    start(&mut a, &mut b).await;
    for (number, size) in SIZES.into_iter().enumerate() {
        wait_for_object(&b, "inbox", &format!("size/{size}"), &content(number as u64, size)).await;
    }
    let told = eventually!(SOON, "all arrivals", {
        let told = arrivals(&b).await;
        if told.len() == SIZES.len() { Ok(told) } else { Err(told.len()) }
    });
    for arrival in told {
        let size = arrival["size"].as_u64().expect("a size") as usize;
        let number = SIZES.iter().position(|known| *known == size).expect("one of them");
        assert_eq!(arrival["key"], format!("size/{size}"));
        assert_eq!(arrival["hash"], blake3::hash(&content(number as u64, size)).to_hex().as_str());
    }
    assert_no_uploads(&b).await;
    finish(a, b).await;
}

/// Nothing half done is left.
async fn assert_no_uploads(cluster: &Cluster) {
    if let Some(weed) = &cluster.weed {
        assert_eq!(weed.bucket("inbox").uploads().await, []);
        return;
    }
    for folder in ["uploads/inbox", "tmp"] {
        let left: Vec<_> =
            std::fs::read_dir(cluster.folder().join(".rhio").join(folder)).into_iter().flatten().collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[tokio::test]
async fn every_size_arrives_on_s3() {
    every_size_arrives(Kind::S3).await;
}

#[tokio::test]
async fn every_size_arrives_in_folders() {
    every_size_arrives(Kind::Folder).await;
}

/// Puts many small objects, a few at a time.
async fn put_many(cluster: &Cluster, count: u64) -> BTreeMap<String, Vec<u8>> {
    let objects: BTreeMap<_, _> = (0..count)
        .map(|number| (format!("many/{:02}/{number:05}", number % 50), content(number, (number % 3000) as usize)))
        .collect();
    let bucket = cluster.weed.as_ref().map(|weed| weed.bucket("out"));
    let put_one = async |(key, bytes): (&String, &Vec<u8>)| match &bucket {
        Some(bucket) => bucket.put(key, bytes.clone()).await,
        None => put(cluster, "out", key, bytes.clone()).await,
    };
    futures_util::stream::iter(&objects).for_each_concurrent(16, put_one).await;
    objects
}

async fn assert_all_there(cluster: &Cluster, objects: &BTreeMap<String, Vec<u8>>) {
    let bucket = cluster.weed.as_ref().map(|weed| weed.bucket("inbox"));
    let check = async |(key, bytes): (&String, &Vec<u8>)| {
        let found = match &bucket {
            Some(bucket) => bucket.get(key).await,
            None => get(cluster, "inbox", key).await,
        };
        assert!(found.as_ref() == Some(bytes), "{key} is something else");
    };
    futures_util::stream::iter(objects).for_each_concurrent(16, check).await;
}

async fn many_small_objects_arrive(kind: Kind, count: u64) {
    let (mut a, mut b) = bucket_pair(kind).await;
    let before = put_many(&a, count).await;
    start(&mut a, &mut b).await;
    eventually!(SOON * 3, "all objects", {
        let there = keys(&b, "inbox").await.len();
        if there == before.len() { Ok(()) } else { Err(format!("{there} of {}", before.len())) }
    });
    assert_all_there(&b, &before).await;
    finish(a, b).await;
}

#[tokio::test]
async fn two_thousand_small_objects_arrive_on_s3() {
    many_small_objects_arrive(Kind::S3, 2_000).await;
}

#[tokio::test]
async fn six_hundred_small_objects_arrive_in_folders() {
    many_small_objects_arrive(Kind::Folder, 600).await;
}

/// Part of `make soak`.
#[tokio::test]
#[ignore = "takes a minute"]
async fn soak_ten_thousand_small_objects_arrive_on_s3() {
    many_small_objects_arrive(Kind::S3, 10_000).await;
}
