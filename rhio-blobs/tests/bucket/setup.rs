//! Buckets to test, and what is done with them all the time.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use futures_util::StreamExt as _;
use rhio_blobs::bucket::folder::FolderRoot;
use rhio_blobs::bucket::s3::{S3Config, S3Credentials, S3Server};
use rhio_blobs::bucket::{Body, BodyError, Bucket, BucketError, Condition, Content, Etag, Labels, Origin};
use rhio_core::object::{Attributes, ObjectKey};
use tempfile::TempDir;
use testkit::WeedServer;
use tokio::sync::Mutex;

/// A new bucket with what it is in, which lives as long as this.
pub struct Place {
    pub bucket: Arc<dyn Bucket>,
    pub weed: Option<Arc<WeedServer>>,
    pub folder: Option<TempDir>,
}

/// The S3 server that the tests running at this moment share: it ends with the last of them.
async fn shared_server() -> Arc<WeedServer> {
    static SERVER: Mutex<Weak<WeedServer>> = Mutex::const_new(Weak::new());
    let mut server = SERVER.lock().await;
    match server.upgrade() {
        Some(running) => running,
        None => {
            let started = Arc::new(WeedServer::start().await);
            *server = Arc::downgrade(&started);
            started
        }
    }
}

pub fn config(server: &WeedServer) -> S3Config {
    let (access_key, secret_key) = (server.access_key().into(), server.secret_key().into());
    let credentials = Some(S3Credentials { access_key, secret_key, session_token: None });
    S3Config { credentials, ..S3Config::new(server.endpoint(), "us-east-1") }
}

/// A name that no other bucket of this process has.
pub fn new_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("bucket-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

pub fn s3_bucket(server: &WeedServer, name: &str) -> Arc<dyn Bucket> {
    Arc::new(S3Server::connect(config(server)).expect("the configuration is good").bucket(name).expect("a good name"))
}

pub async fn on_s3() -> Place {
    let weed = shared_server().await;
    let name = new_name();
    weed.create_bucket(&name).await;
    Place { bucket: s3_bucket(&weed, &name), weed: Some(weed), folder: None }
}

pub async fn on_folder() -> Place {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::create_dir(folder.path().join("bucket")).expect("the bucket's folder");
    let root = FolderRoot::open(folder.path()).expect("the root can be opened");
    Place { bucket: Arc::new(root.bucket("bucket").expect("a good name")), weed: None, folder: Some(folder) }
}

/// Makes a test for each kind of bucket of functions that take a [`Place`].
#[macro_export]
macro_rules! on_both {
    ($($name:ident),+ $(,)?) => {
        mod on_s3 {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name(&$crate::setup::on_s3().await).await; })+
        }
        mod on_folder {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name(&$crate::setup::on_folder().await).await; })+
        }
    };
}

pub fn key(text: &str) -> ObjectKey {
    ObjectKey::new(text).expect("a good key")
}

pub fn content(bytes: impl Into<Bytes>) -> Content {
    Content::from_bytes(bytes.into())
}

/// What comes of content.
pub type Chunks<'a> = Vec<Result<&'a [u8], &'a str>>;

/// Content that says it has `len` bytes, and what really comes.
pub fn odd_content(len: u64, chunks: Chunks<'_>) -> Content {
    let chunks: Vec<_> = chunks
        .into_iter()
        .map(|chunk| chunk.map(Bytes::copy_from_slice).map_err(|e| BodyError(e.to_owned())))
        .collect();
    Content { len, body: Box::pin(futures_util::stream::iter(chunks)) as Body }
}

pub async fn put(bucket: &dyn Bucket, name: &str, bytes: impl Into<Bytes>) -> Etag {
    let written = bucket.put(&key(name), content(bytes), &Labels::default(), &Condition::None).await;
    let written = written.unwrap_or_else(|e| panic!("cannot put {name:?}: {e}"));
    assert!(written.checked, "{name:?} has a checksum that agrees");
    written.what
}

pub async fn all(content: Content) -> Result<Vec<u8>, BodyError> {
    let mut body = content.body;
    let mut bytes = Vec::new();
    while let Some(chunk) = body.next().await {
        bytes.extend_from_slice(&chunk?);
    }
    assert_eq!(bytes.len() as u64, content.len);
    Ok(bytes)
}

/// The whole object; `None` when there is none.
pub async fn get(bucket: &dyn Bucket, name: &str) -> Option<Vec<u8>> {
    let object = bucket.head(&key(name)).await.unwrap_or_else(|e| panic!("cannot head {name:?}: {e}"))?;
    let content = bucket.read(&key(name), &object.etag, 0..object.size).await;
    Some(all(content.unwrap_or_else(|e| panic!("cannot read {name:?}: {e}"))).await.expect("all of it"))
}

/// Every object of a listing.
pub async fn listed(bucket: &dyn Bucket) -> Result<Vec<rhio_blobs::bucket::Listed>, BucketError> {
    let mut objects = Vec::new();
    let mut from = None;
    loop {
        let page = bucket.list(from.as_deref()).await?;
        assert!(page.objects.len() <= 1000);
        assert_eq!(page.skipped, Vec::<String>::new());
        objects.extend(page.objects);
        from = page.next;
        if from.is_none() {
            objects.sort_by(|a, b| a.key.cmp(&b.key));
            return Ok(objects);
        }
    }
}

pub async fn keys(bucket: &dyn Bucket) -> Vec<String> {
    let objects = listed(bucket).await.expect("the bucket can be listed");
    objects.into_iter().map(|object| object.key.as_str().to_owned()).collect()
}

pub fn labels(origin: bool) -> Labels {
    let pairs = [
        ("content-type", "text/csv; charset=utf-8"),
        ("cache-control", "no-cache"),
        ("content-encoding", "x-none"),
        ("x-amz-meta-colour", "deep  red"),
        ("x-amz-meta-n.1_a-b", "1"),
    ];
    let pairs: BTreeMap<_, _> = pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let origin = origin.then(|| Origin { hash: "ab".repeat(32), author: "01".repeat(32) });
    Labels { attributes: Attributes::all(pairs).expect("good attributes"), origin }
}

/// Bytes that differ everywhere.
pub fn pattern(len: usize, seed: u64) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes.into()
}
