//! Clusters with buckets.

use std::path::PathBuf;

use testkit::{Cluster, eventually};

use super::{SOON, expect_departures};

/// What a test's cluster keeps its buckets in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A real S3 server.
    S3,
    /// Plain folders.
    Folder,
}

/// A cluster whose buckets are of this kind.
pub async fn cluster(name: &str, kind: Kind) -> Cluster {
    match kind {
        Kind::S3 => Cluster::with_s3(name).await,
        Kind::Folder => Cluster::with_folder(name).await,
    }
}

/// Two clusters: what is put into bucket `out` of `a` goes into bucket `inbox` of `b`.
pub async fn bucket_pair(kind: Kind) -> (Cluster, Cluster) {
    let (mut a, mut b) = tokio::join!(cluster("a", kind), cluster("b", kind));
    tokio::join!(a.create_bucket("out"), b.create_bucket("inbox"));
    testkit::link(&mut a, &mut b);
    a.publish_bucket("out");
    b.subscribe_bucket("out", "inbox", &a);
    expect_departures(&mut b);
    (a, b)
}

fn path(cluster: &Cluster, bucket: &str, key: &str) -> PathBuf {
    cluster.folder().join(bucket).join(key)
}

/// Puts an object. In folders, keys must be ordinary file names.
pub async fn put(cluster: &Cluster, bucket: &str, key: &str, content: impl Into<Vec<u8>>) {
    let content = content.into();
    match &cluster.weed {
        Some(weed) => weed.bucket(bucket).put(key, content).await,
        None => {
            let path = path(cluster, bucket, key);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("the folder can be made");
            // Whole at once, as a careful program writes it.
            let beside = cluster.folder().join(".test-new");
            std::fs::write(&beside, content).expect("it can be written");
            std::fs::rename(&beside, &path).expect("it can be moved");
        }
    }
}

/// Gets an object's content.
pub async fn get(cluster: &Cluster, bucket: &str, key: &str) -> Option<Vec<u8>> {
    match &cluster.weed {
        Some(weed) => weed.bucket(bucket).get(key).await,
        None => std::fs::read(path(cluster, bucket, key)).ok(),
    }
}

/// Deletes an object.
pub async fn delete(cluster: &Cluster, bucket: &str, key: &str) {
    match &cluster.weed {
        Some(weed) => weed.bucket(bucket).delete(key).await,
        None => std::fs::remove_file(path(cluster, bucket, key)).expect("it can be deleted"),
    }
}

/// Waits until an object has this content.
pub async fn wait_for_object(cluster: &Cluster, bucket: &str, key: &str, content: &[u8]) {
    let what = format!("'{key}' in bucket {bucket} of {}", cluster.rhio.name());
    eventually!(SOON, what, {
        match get(cluster, bucket, key).await {
            Some(found) if found == content => Ok(()),
            Some(found) => Err(format!("it has {} bytes of something else", found.len())),
            None => Err("it is not there".to_owned()),
        }
    });
}

/// Content that no two numbers have in common.
pub fn content(number: u64, len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&number.to_be_bytes());
    hasher.finalize_xof().fill(&mut out);
    out
}
