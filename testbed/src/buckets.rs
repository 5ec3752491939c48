//! Clusters with buckets.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::StreamExt;
use serde_json::Value;
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
    pair_of(kind, kind, None).await
}

/// The same with other kinds on both sides, and with what becomes of deletes.
pub async fn pair_of(source: Kind, destination: Kind, deletes: Option<&str>) -> (Cluster, Cluster) {
    let (mut a, mut b) = linked(source, destination).await;
    tokio::join!(a.create_bucket("out"), b.create_bucket("inbox"));
    a.publish_bucket("out");
    b.subscribe_bucket_with("out", "inbox", &a, deletes);
    (a, b)
}

/// Two clusters that know each other, without buckets.
pub async fn linked(source: Kind, destination: Kind) -> (Cluster, Cluster) {
    let (mut a, mut b) = tokio::join!(cluster("a", source), cluster("b", destination));
    testkit::link(&mut a, &mut b);
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
            static NEXT: AtomicU64 = AtomicU64::new(0);
            let path = path(cluster, bucket, key);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("the folder can be made");
            // Whole at once, as a careful program writes it.
            let beside = cluster.folder().join(format!(".test-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
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

/// All keys of a bucket, sorted. In folders, keys must be ordinary file names.
pub async fn keys(cluster: &Cluster, bucket: &str) -> Vec<String> {
    let Some(weed) = &cluster.weed else {
        let root = cluster.folder().join(bucket);
        let mut keys = Vec::new();
        walk(&root, &root, &mut keys);
        keys.sort();
        return keys;
    };
    weed.bucket(bucket).keys().await
}

fn walk(root: &Path, folder: &Path, keys: &mut Vec<String>) {
    // What goes while it is looked at is not there.
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        match path.is_dir() {
            true => walk(root, &path, keys),
            false => keys.push(path.strip_prefix(root).expect("below").to_str().expect("UTF-8").to_owned()),
        }
    }
}

/// Waits until a bucket has exactly these keys, in this order.
pub async fn wait_for_keys(cluster: &Cluster, bucket: &str, wanted: &[&str]) {
    eventually!(SOON, format!("the keys of bucket {bucket} of {}", cluster.rhio.name()), {
        let keys = keys(cluster, bucket).await;
        if keys == wanted { Ok(()) } else { Err(format!("{keys:?} instead of {wanted:?}")) }
    });
}

/// Waits until an object is not there any more.
pub async fn wait_until_gone(cluster: &Cluster, bucket: &str, key: &str) {
    let what = format!("'{key}' to go from bucket {bucket} of {}", cluster.rhio.name());
    eventually!(SOON, what, get(cluster, bucket, key).await.is_none());
}

/// Puts objects into `out` of `a` until everything that was done there before has been heard of in `b`: deletes are said
/// at the end of a listing, so after the first object the next listing's is waited for, too.
pub async fn sync(a: &Cluster, b: &Cluster, name: &str) {
    for round in ["1", "2"] {
        let key = format!("sync-{name}-{round}");
        put(a, "out", &key, key.clone()).await;
        wait_for_object(b, "inbox", &key, key.as_bytes()).await;
    }
}

/// Has a stream keep every arrival that this cluster's rhio tells of, each message id once.
pub async fn keep_arrivals(cluster: &Cluster) {
    cluster.create_stream("ARRIVALS", &["rhio.events.object"]).await;
}

/// What that stream holds.
pub async fn arrivals(cluster: &Cluster) -> Vec<Value> {
    let records = super::records(cluster, "ARRIVALS").await;
    records.iter().map(|record| serde_json::from_slice(&record.payload).expect("JSON")).collect()
}

/// Every arrival that was said since it began to listen, also what was said again.
pub struct Heard(Arc<Mutex<Vec<Value>>>);

impl Heard {
    /// Begins to listen.
    pub async fn at(cluster: &Cluster) -> Self {
        let client = cluster.client().await;
        let mut messages = client.subscribe("rhio.events.object").await.expect("a subscription");
        client.flush().await.expect("the server has it");
        let heard = Arc::new(Mutex::new(Vec::new()));
        let list = Arc::clone(&heard);
        tokio::spawn(async move {
            // The client must live as long as its subscription.
            let _client = client;
            while let Some(message) = messages.next().await {
                let arrival = serde_json::from_slice(&message.payload).expect("JSON");
                list.lock().expect("a lock").push(arrival);
            }
        });
        Self(heard)
    }

    /// The keys, in the order of their arrival.
    pub fn keys(&self) -> Vec<String> {
        let list = self.0.lock().expect("a lock");
        list.iter().map(|arrival| arrival["key"].as_str().expect("a key").to_owned()).collect()
    }

    /// Waits until a key has arrived.
    pub async fn wait_for(&self, key: &str) {
        eventually!(SOON, format!("the arrival of '{key}'"), self.keys().iter().any(|heard| heard == key));
    }
}

/// Asks the NATS service: its answer, or the code and the sentence of its refusal.
pub async fn ask(cluster: &Cluster, subject: &str, payload: &str) -> Result<String, (u16, String)> {
    let client = cluster.client().await;
    let answer = eventually!(SOON, format!("an answer on {subject}"), {
        // Until the service is registered nobody answers.
        let request = async_nats::Request::new().payload(payload.to_owned().into()).timeout(Some(SOON));
        client.send_request(subject.to_owned(), request).await
    });
    let text = String::from_utf8(answer.payload.to_vec()).expect("UTF-8");
    let header = |name: &str| answer.headers.as_ref()?.get(name).map(|value| value.as_str().to_owned());
    match (header("Nats-Service-Error-Code"), header("Nats-Service-Error")) {
        (None, None) => Ok(text),
        (Some(code), Some(reason)) => {
            assert_eq!(reason, text, "the header says what the payload says");
            Err((code.parse().expect("a number"), text))
        }
        other => panic!("half an error: {other:?} {text}"),
    }
}

/// How many lines of its log hold these words, over all starts.
pub fn lines_with(cluster: &Cluster, words: &str) -> usize {
    cluster.rhio.logs().iter().filter(|line| line.message.contains(words)).count()
}

/// Content that no two numbers have in common.
pub fn content(number: u64, len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&number.to_be_bytes());
    hasher.finalize_xof().fill(&mut out);
    out
}
