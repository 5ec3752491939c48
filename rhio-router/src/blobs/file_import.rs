//! `rhio.import`: puts a file into a published bucket, and hashes it in the same pass.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::stream;
use rhio_blobs::bucket::{BodyError, Bucket, BucketError, Condition, Content, Etag, Labels, Part, Upload, Written};
use rhio_blobs::hashing::{Hashed, Hasher};
use rhio_blobs::outboard::OutboardDraft;
use rhio_core::catalog::Put;
use rhio_core::id::BlobHash;
use rhio_core::object::{Attributes, ObjectKey};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::node::Node;
use crate::settings::Import;

use super::checking::is_kept;
use super::failure::Failure;
use super::importing;
use super::publication::BucketPublication;
use super::transfers::{Direction, Progress};
use super::upload_note::{self, Noted};

/// Parts that are under way at once.
const AT_ONCE: usize = 3;
/// Bytes that are read at once.
const PIECE: u64 = 1024 * 1024;
/// Pieces that wait.
const AHEAD: usize = 4;
/// How often a long import is logged.
const REPORT: Duration = Duration::from_secs(5);

/// What is to be imported.
#[derive(Clone, Debug)]
pub struct Wish {
    /// The file.
    pub path: String,
    /// The bucket; `None`: the configured one, else the first that is published.
    pub bucket: Option<String>,
    /// The key; `None`: the path below the folder that may be imported from.
    pub key: Option<String>,
}

/// Imports a file. When this returns, the object is in the bucket and the catalog tells of it.
///
/// # Errors
/// When it may not be, or can't be; the bucket has nothing of it then.
pub async fn import(node: &Node, config: &Import, wish: Wish) -> Result<Put, Failure> {
    let publication = bucket(node, config, wish.bucket.as_deref())?;
    let (path, dirs) = (PathBuf::from(&wish.path), config.dirs.clone());
    let opened = tokio::task::spawn_blocking(move || open(&path, &dirs)).await;
    let Opened { file, size, below } = opened.map_err(|_| Failure::new(500, "opening the file failed"))??;
    let key = match wish.key {
        Some(key) => key,
        None => below.ok_or_else(|| Failure::new(400, "the file's name is not UTF-8; name a \"key\""))?,
    };
    let key = ObjectKey::new(key).map_err(|error| Failure::new(400, error.to_string()))?;
    let _busy = publication.hold(&key).ok_or_else(|| {
        Failure::new(409, format!("another import into '{key}' of bucket '{}' is under way", publication.bucket.name()))
    })?;
    let labels = Labels { attributes: attributes(&key), origin: None };
    let bucket = &publication.bucket;
    let progress = node.blobs.transfers.begin(Direction::Import, bucket.name(), &key, size, None);
    let begun = Instant::now();
    let (hash, draft) = {
        let storing = store(node, bucket, &key, (file, size), &labels, &progress);
        let reporting = report(&wish.path, &progress);
        tokio::select! {
            stored = storing => stored?,
            never = reporting => match never {},
        }
    };
    let failed = |reason: String| Failure::new(503, reason);
    progress.done();
    draft.keep(hash, size).map_err(|error| failed(format!("'blobs_dir' can't be written: {error}")))?;
    let object = bucket.head(&key).await.map_err(|error| failed(error.to_string()))?;
    let object = object.filter(|object| object.size == size);
    let object = object.ok_or_else(|| Failure::new(409, "somebody else wrote or deleted the object meanwhile"))?;
    let put = importing::put(&key, &object, hash);
    failpoint::hit("import-stored");
    if !publication.announce(put.clone()).await {
        return Err(failed(format!(
            "the file is in bucket '{}', but its catalog can't be written now; it is announced as soon as it can",
            bucket.name()
        )));
    }
    let seconds = begun.elapsed().as_secs_f64();
    info!(path = wish.path, bucket = bucket.name(), %key, size, %hash, seconds, "imported");
    Ok(put)
}

fn bucket(node: &Node, config: &Import, wanted: Option<&str>) -> Result<Arc<BucketPublication>, Failure> {
    let published = node.holdings.buckets();
    let Some(name) = wanted.or(config.bucket.as_deref()) else {
        return published.into_iter().next().ok_or_else(|| Failure::new(404, "no bucket is published here"));
    };
    let found = published.into_iter().find(|publication| publication.bucket.name() == name);
    found.ok_or_else(|| {
        Failure::new(404, format!("bucket '{name}' is not published here, so nobody would get the file"))
    })
}

struct Opened {
    file: File,
    size: u64,
    /// The path below the folder.
    below: Option<String>,
}

/// Opens a file if it is really below one of the folders, whatever links lead there.
fn open(path: &Path, dirs: &[PathBuf]) -> Result<Opened, Failure> {
    if dirs.is_empty() {
        return Err(Failure::new(403, "no folder may be imported from; set 'import.dirs' in the configuration"));
    }
    if !path.is_absolute() {
        return Err(Failure::new(400, "the path must be absolute"));
    }
    // Only what is below the folders is looked at further: nobody learns from here which other files there are.
    let outside = || {
        let names: Vec<String> = dirs.iter().map(|dir| dir.display().to_string()).collect();
        Failure::new(403, format!("the file is not below a folder that may be imported from ({})", names.join(", ")))
    };
    let looks_inside = dirs.iter().any(|dir| path.starts_with(dir));
    let unreadable = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound if looks_inside => Failure::new(404, "there is no such file"),
        std::io::ErrorKind::PermissionDenied if looks_inside => {
            Failure::new(403, "the file can't be read: no permission")
        }
        _ if looks_inside => Failure::new(500, format!("the file can't be read: {error}")),
        _ => outside(),
    };
    let real = path.canonicalize().map_err(unreadable)?;
    let root = |real: &Path| {
        dirs.iter().filter_map(|dir| dir.canonicalize().ok()).find(|dir| real.starts_with(dir) && real != dir)
    };
    root(&real).ok_or_else(outside)?;
    if !real.metadata().map_err(unreadable)?.is_file() {
        return Err(Failure::new(400, "this is no regular file"));
    }
    let file = File::open(&real).map_err(unreadable)?;
    // Somebody may have put a link in its place since it was looked at: what counts is what was opened.
    let real = opened_path(&file).unwrap_or(real);
    let dir = root(&real).ok_or_else(outside)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(Failure::new(400, "this is no regular file"));
    }
    let below = real.strip_prefix(&dir).ok().and_then(|below| below.to_str()).map(str::to_owned);
    Ok(Opened { file, size: metadata.len(), below })
}

#[cfg(target_os = "linux")]
fn opened_path(file: &File) -> Option<PathBuf> {
    use std::os::fd::AsRawFd;
    std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).ok()
}

#[cfg(not(target_os = "linux"))]
fn opened_path(_: &File) -> Option<PathBuf> {
    None
}

/// What the name tells of the content.
fn attributes(key: &ObjectKey) -> Attributes {
    let guessed = mime_guess::from_path(key.as_str()).first_raw();
    Attributes::keep(guessed.map(|kind| ("content-type".to_owned(), kind.to_owned())))
}

type Pieces = mpsc::Receiver<Bytes>;

/// Reads and hashes on a thread of its own; pieces come as they are read.
fn read(
    file: File,
    size: u64,
    draft: OutboardDraft,
) -> (Pieces, tokio::task::JoinHandle<std::io::Result<Hashed<OutboardDraft>>>) {
    let (sender, pieces) = mpsc::channel(AHEAD);
    let task = tokio::task::spawn_blocking(move || {
        let mut hasher = Hasher::new(draft);
        let mut file = file;
        loop {
            let mut buffer = Vec::with_capacity(PIECE.min(size.saturating_sub(hasher.size()).max(1)) as usize);
            let read = file.by_ref().take(PIECE).read_to_end(&mut buffer)?;
            if read == 0 {
                break;
            }
            hasher.update(&buffer)?;
            if sender.blocking_send(buffer.into()).is_err() {
                return Err(std::io::Error::other("nobody takes it any more"));
            }
        }
        hasher.finish()
    });
    (pieces, task)
}

/// Writes the object, and says its hash.
async fn store(
    node: &Node,
    bucket: &Arc<dyn Bucket>,
    key: &ObjectKey,
    (file, size): (File, u64),
    labels: &Labels,
    progress: &Progress,
) -> Result<(BlobHash, OutboardDraft), Failure> {
    let part = upload_note::part_size(size, &bucket.limits());
    let (mut pieces, hashing) = read(file, size, node.blobs.outboards.draft());
    let changed = || Failure::new(409, "the file changed while it was read");
    let unreadable = |error: std::io::Error| Failure::new(500, format!("the file can't be read: {error}"));
    let failed = |error: BucketError| Failure::new(503, format!("the object can't be written: {error}"));
    if size <= part {
        let mut content = BytesMut::with_capacity(size as usize);
        while let Some(piece) = pieces.recv().await.filter(|piece| content.len() + piece.len() <= size as usize) {
            content.extend_from_slice(&piece);
        }
        drop(pieces);
        let Hashed { hash, size: read, sink: draft } = hashing.await.map_err(|_| changed())?.map_err(unreadable)?;
        if read != size {
            return Err(changed());
        }
        let content = Content::from_bytes(content.freeze());
        let written = bucket.put(key, content, labels, &Condition::None).await.map_err(failed)?;
        check(&**bucket, key, &written, (&hash, size)).await?;
        progress.add(size);
        return Ok((hash, draft));
    }
    let mut noted =
        Noted::import(node, &**bucket, key, size, labels).await.map_err(|e| Failure::new(503, e.to_string()))?;
    let outcome = async {
        let mut parts = Parts {
            bucket,
            upload: noted.upload(),
            part,
            size,
            begun: 0,
            current: None,
            running: JoinSet::new(),
            stored: Vec::new(),
            checked: true,
        };
        while let Some(piece) = pieces.recv().await {
            parts.write(piece, progress).await.map_err(failed)?;
        }
        let (mut stored, checked) = parts.finish(progress).await.map_err(failed)?;
        let Hashed { hash, size: read, sink: draft } = hashing.await.map_err(|_| changed())?.map_err(unreadable)?;
        if read != size {
            return Err(changed());
        }
        stored.sort_by_key(|part| part.number);
        let mut written = bucket.complete(noted.upload(), &stored, &Condition::None).await.map_err(failed)?;
        written.checked &= checked;
        check(&**bucket, key, &written, (&hash, size)).await?;
        Ok((hash, draft))
    }
    .await;
    let ended = if outcome.is_ok() { noted.forget(node).await } else { noted.abort(node, &**bucket).await };
    if let Err(error) = ended {
        warn!(bucket = bucket.name(), %key, %error, "an upload could not be tidied up; it is when rhio starts again");
    }
    outcome
}

/// Fails when the bucket does not have what it has confirmed.
async fn check(
    bucket: &dyn Bucket,
    key: &ObjectKey,
    written: &Written<Etag>,
    content: (&BlobHash, u64),
) -> Result<(), Failure> {
    if written.checked {
        return Ok(());
    }
    let failed = |error: String| Failure::new(503, format!("the object can't be checked: {error}"));
    let object = bucket.head(key).await.map_err(|error| failed(error.to_string()))?;
    let kept = match &object {
        Some(object) => is_kept(bucket, key, object, content).await.map_err(|error| failed(error.to_string()))?,
        None => false,
    };
    if kept {
        return Ok(());
    }
    // What is not what was imported must not be published.
    bucket.delete(key).await.map_err(|error| failed(error.to_string()))?;
    Err(Failure::new(503, "the bucket does not have what it was sent"))
}

/// An upload that is being written, piece by piece. Parts are uploaded while they are read, so that memory does not grow
/// with their size.
struct Parts<'a> {
    bucket: &'a Arc<dyn Bucket>,
    upload: &'a Upload,
    /// Bytes of a part, a multiple of [`PIECE`].
    part: u64,
    size: u64,
    /// Bytes of the parts that have begun.
    begun: u64,
    /// The part that is being written, and the bytes that it lacks.
    current: Option<(mpsc::Sender<Result<Bytes, BodyError>>, u64)>,
    running: JoinSet<Result<Written<Part>, BucketError>>,
    /// The parts that are stored.
    stored: Vec<Part>,
    /// Whether each of them was checked.
    checked: bool,
}

impl Parts<'_> {
    async fn write(&mut self, piece: Bytes, progress: &Progress) -> Result<(), BucketError> {
        if self.current.is_none() {
            while self.running.len() >= AT_ONCE {
                self.one(progress).await?;
            }
            self.begin();
        }
        let Some((sender, left)) = &mut self.current else { return Ok(()) };
        *left = left.saturating_sub(piece.len() as u64);
        let done = *left == 0;
        // Where the upload has ended early, its end tells why.
        let _ = sender.send(Ok(piece)).await;
        if done {
            self.current = None;
        }
        Ok(())
    }

    fn begin(&mut self) {
        let (offset, number) = (self.begun, self.begun / self.part + 1);
        let len = self.part.min(self.size.saturating_sub(offset));
        self.begun += len;
        let (sender, receiver) = mpsc::channel(AHEAD);
        let pieces =
            stream::unfold(receiver, async |mut receiver| receiver.recv().await.map(|piece| (piece, receiver)));
        let content = Content { len, body: Box::pin(pieces) };
        let (bucket, upload) = (Arc::clone(self.bucket), self.upload.clone());
        self.running.spawn(async move { bucket.put_part(&upload, number as u32, offset, content).await });
        self.current = Some((sender, len));
    }

    async fn one(&mut self, progress: &Progress) -> Result<(), BucketError> {
        if let Some(stored) = self.running.join_next().await {
            let part = stored.map_err(|error| BucketError::Body(error.to_string()))??;
            progress.add(part.what.size);
            self.checked &= part.checked;
            self.stored.push(part.what);
        }
        Ok(())
    }

    async fn finish(mut self, progress: &Progress) -> Result<(Vec<Part>, bool), BucketError> {
        self.current = None;
        while !self.running.is_empty() {
            self.one(progress).await?;
        }
        Ok((self.stored, self.checked))
    }
}

enum Never {}

/// Logs how far a long import is.
async fn report(path: &str, progress: &Progress) -> Never {
    loop {
        tokio::time::sleep(REPORT).await;
        let now = progress.report();
        info!(path, done = now.done, size = now.size, bytes_per_second = now.rate as u64, "imports");
    }
}
