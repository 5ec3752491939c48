//! Two S3 servers, what one of them holds, and whether the other one has got it.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use rhio_blobs::bucket::Bucket as _;
use rhio_blobs::bucket::s3::{S3Bucket, S3Config, S3Credentials, S3Server};
use rhio_blobs::hashing::Hasher;
use rhio_core::id::BlobHash;
use rhio_core::object::ObjectKey;
use tempfile::TempDir;
use testkit::WeedServer;

/// Bytes of a small object.
pub const SMALL: usize = 10 << 10;
/// Bytes of one that comes in several parts.
pub const MEDIUM: usize = 20 << 20;
/// Objects that are put or looked at side by side.
const AT_ONCE: usize = 8;
const PIECE: usize = 4 << 20;

/// Where objects come from, and where they go. Both run all the time; every measurement has a bucket of its own in B.
pub struct Servers {
    pub a: WeedServer,
    pub b: WeedServer,
    /// Random files.
    folder: TempDir,
    used: usize,
}

/// A bucket of A's.
#[derive(Clone, Debug)]
pub struct Source {
    /// What the keys of its measurements begin with.
    pub key: &'static str,
    /// Whether bytes say how fast it goes, and not objects.
    pub in_bytes: bool,
    pub bucket: String,
    pub bytes: u64,
    hashes: Arc<HashMap<String, BlobHash>>,
}

impl Source {
    /// Objects.
    pub fn len(&self) -> usize {
        self.hashes.len()
    }
}

impl Servers {
    pub async fn start() -> anyhow::Result<Self> {
        let (a, b) = tokio::try_join!(WeedServer::try_start(), WeedServer::try_start())?;
        let folder = TempDir::with_prefix("rhio-bench-").context("cannot create a temporary folder")?;
        Ok(Self { a, b, folder, used: 0 })
    }

    /// A file of random bytes, and its hash.
    pub fn file(&self, name: &str, bytes: u64) -> anyhow::Result<(PathBuf, BlobHash)> {
        let path = self.folder.path().join(name);
        let mut file = File::create(&path).context("cannot create a random file")?;
        let mut hasher = Hasher::new(std::io::sink());
        let mut random = fastrand::Rng::new();
        let mut piece = vec![0; PIECE];
        let mut left = bytes;
        while left > 0 {
            let piece = &mut piece[..usize::try_from(left.min(PIECE as u64))?];
            random.fill(piece);
            hasher.update(piece)?;
            file.write_all(piece).context("cannot write a random file")?;
            left -= piece.len() as u64;
        }
        Ok((path, hasher.finish()?.hash))
    }

    /// Puts one large object into a bucket of A's.
    pub async fn one(&self, key: &'static str, bytes: u64) -> anyhow::Result<Source> {
        let (path, hash) = self.file(key, bytes)?;
        let bucket = self.a.create_bucket(&format!("{key}-source")).await;
        bucket.put_file("object", &path).await;
        std::fs::remove_file(path)?;
        let hashes = Arc::new([("object".to_owned(), hash)].into());
        Ok(Source { key, in_bytes: true, bucket: bucket.name().to_owned(), bytes, hashes })
    }

    /// Puts many there.
    pub async fn many(&self, key: &'static str, count: u64, size: usize) -> anyhow::Result<Source> {
        let bucket = self.a.create_bucket(&format!("{key}-source")).await;
        let put = async |number: u64| {
            let name = format!("folder-{}/object-{number}", number % 10);
            let mut content = vec![0; size];
            fastrand::fill(&mut content);
            let hash = hash(&content)?;
            bucket.put(&name, content).await;
            anyhow::Ok((name, hash))
        };
        let hashes: HashMap<_, _> = stream::iter(0..count).map(put).buffer_unordered(AT_ONCE).try_collect().await?;
        let bytes = count * size as u64;
        Ok(Source { key, in_bytes: size > SMALL, bucket: bucket.name().to_owned(), bytes, hashes: Arc::new(hashes) })
    }

    /// A new bucket.
    pub async fn bucket(&mut self, server: Place) -> String {
        self.used += 1;
        let name = format!("bench-{}", self.used);
        self.at(server).create_bucket(&name).await;
        name
    }

    /// Removes a bucket with all that is in it.
    pub async fn remove(&self, server: Place, bucket: &str) {
        self.at(server).bucket(bucket).remove().await;
    }

    pub fn at(&self, server: Place) -> &WeedServer {
        match server {
            Place::A => &self.a,
            Place::B => &self.b,
        }
    }

    /// Makes sure that a bucket of B's holds what a source does, byte for byte, and nothing else.
    pub async fn check(&self, source: &Source, bucket: &str) -> anyhow::Result<()> {
        let keys = self.b.bucket(bucket).keys().await;
        ensure!(keys.len() == source.len(), "{} objects are in B instead of {}", keys.len(), source.len());
        let bucket = client(&self.b, bucket)?;
        let compare = async |key: String| {
            let found = content_hash(&bucket, &key).await?;
            ensure!(source.hashes.get(&key) == Some(&found), "'{key}' is not in B what it is in A");
            Ok(())
        };
        stream::iter(keys).map(compare).buffer_unordered(AT_ONCE).try_collect().await
    }

    /// The same for one object that was imported into A.
    pub async fn check_import(&self, bucket: &str, key: &str, hash: BlobHash) -> anyhow::Result<()> {
        let found = content_hash(&client(&self.a, bucket)?, key).await?;
        ensure!(found == hash, "'{key}' was imported wrong");
        Ok(())
    }
}

/// One of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    A,
    B,
}

fn client(server: &WeedServer, bucket: &str) -> anyhow::Result<S3Bucket> {
    let credentials = S3Credentials {
        access_key: server.access_key().to_owned(),
        secret_key: server.secret_key().to_owned(),
        session_token: None,
    };
    let config = S3Config { credentials: Some(credentials), ..S3Config::new(server.endpoint(), "us-east-1") };
    Ok(S3Server::connect(config)?.bucket(bucket)?)
}

async fn content_hash(bucket: &S3Bucket, key: &str) -> anyhow::Result<BlobHash> {
    let opened = bucket.open(&ObjectKey::new(key)?).await?;
    let (_, mut content) = opened.with_context(|| format!("'{key}' is not there"))?;
    let mut hasher = Hasher::new(std::io::sink());
    while let Some(piece) = content.body.next().await {
        hasher.update(&piece?)?;
    }
    Ok(hasher.finish()?.hash)
}

fn hash(content: &[u8]) -> anyhow::Result<BlobHash> {
    let mut hasher = Hasher::new(std::io::sink());
    hasher.update(content)?;
    Ok(hasher.finish()?.hash)
}

/// Hashes a file as an import does, without putting it anywhere. The outboard is made and dropped.
pub fn hash_file(path: &Path, threads: std::num::NonZero<usize>) -> anyhow::Result<BlobHash> {
    let mut file = File::open(path)?;
    let mut hasher = Hasher::new(std::io::sink());
    let mut piece = vec![0; PIECE];
    loop {
        let read = file.read(&mut piece)?;
        if read == 0 {
            return Ok(hasher.finish()?.hash);
        }
        hasher.update_on(threads, &piece[..read])?;
    }
}
