//! What the tests of this folder and the throughput example share: a bucket in memory that can misbehave, and streams.

#![allow(dead_code, reason = "each user needs another part of it")]

use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use iroh::endpoint::VarInt;
use iroh_blobs::util::{
    AsyncReadRecvStream, AsyncReadRecvStreamExtra, AsyncWriteSendStream, AsyncWriteSendStreamExtra, SendStream,
};
use rhio_blobs::bucket::{
    BodyError, Bucket, BucketError, Condition, Content, Etag, Labels, Limits, ListedUpload, Object, Page, Part, Upload,
    Written,
};
use rhio_blobs::hashing::Hasher;
use rhio_blobs::outboard::OutboardStore;
use rhio_blobs::serve::Source;
use rhio_core::id::BlobHash;
use rhio_core::object::ObjectKey;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};

/// Bytes of a piece as the bucket reads them: no multiple of a group, so that pieces and groups overlap.
pub const PIECE: usize = 50_000;

/// Content without repetition.
pub fn content(size: usize) -> Bytes {
    let mut bytes = vec![0; size];
    blake3::Hasher::new().update(b"transfer").finalize_xof().fill(&mut bytes);
    bytes.into()
}

/// One object. Everything but reading it is not there.
#[derive(Debug)]
pub struct Memory {
    pub content: Mutex<Bytes>,
    /// Reading fails in the middle, before this offset: what a bucket does that notices that the object is replaced.
    pub replaced_at: Option<u64>,
    /// The ranges that were read.
    pub reads: Mutex<Vec<Range<u64>>>,
    /// Bytes that were taken from the bodies.
    pub taken: Arc<AtomicU64>,
}

impl Memory {
    pub fn new(content: Bytes) -> Self {
        let (reads, taken) = (Mutex::default(), Arc::default());
        Self { content: Mutex::new(content), replaced_at: None, reads, taken }
    }
}

fn absent<T>() -> Result<T, BucketError> {
    Err(BucketError::Unsuitable("this bucket can only be read".to_owned()))
}

#[async_trait]
impl Bucket for Memory {
    fn name(&self) -> &str {
        "memory"
    }

    fn limits(&self) -> Limits {
        Limits { min_part: 1, max_parts: 1, max_put: 0, held: 0 }
    }

    async fn check(&self) -> Result<(), BucketError> {
        Ok(())
    }

    async fn read(&self, _: &ObjectKey, version: &Etag, range: Range<u64>) -> Result<Content, BucketError> {
        if *version != etag() {
            return Err(BucketError::Changed);
        }
        self.reads.lock().unwrap().push(range.clone());
        let whole = self.content.lock().unwrap().clone();
        let content = whole.slice(range.start as usize..range.end as usize);
        let mut pieces = Vec::new();
        for start in (range.start..range.end).step_by(PIECE) {
            let end = range.end.min(start + PIECE as u64);
            if self.replaced_at.is_some_and(|at| at < end) {
                pieces.push(Err(BodyError("the object has changed".to_owned())));
                break;
            }
            pieces.push(Ok(content.slice((start - range.start) as usize..(end - range.start) as usize)));
        }
        let taken = self.taken.clone();
        let body = futures_util::stream::iter(pieces).inspect(move |piece| {
            taken.fetch_add(piece.as_ref().map_or(0, Bytes::len) as u64, Ordering::Relaxed);
        });
        Ok(Content { len: range.end - range.start, body: Box::pin(body) })
    }

    async fn list(&self, _: Option<&str>) -> Result<Page, BucketError> {
        absent()
    }
    async fn head(&self, _: &ObjectKey) -> Result<Option<Object>, BucketError> {
        absent()
    }
    async fn put(&self, _: &ObjectKey, _: Content, _: &Labels, _: &Condition) -> Result<Written<Etag>, BucketError> {
        absent()
    }
    async fn copy(
        &self,
        _: (&ObjectKey, &Etag),
        _: &ObjectKey,
        _: &Labels,
        _: &Condition,
    ) -> Result<Written<Etag>, BucketError> {
        absent()
    }
    async fn delete(&self, _: &ObjectKey) -> Result<(), BucketError> {
        absent()
    }
    async fn begin(&self, _: &ObjectKey, _: &Labels) -> Result<Upload, BucketError> {
        absent()
    }
    async fn put_part(&self, _: &Upload, _: u32, _: u64, _: Content) -> Result<Written<Part>, BucketError> {
        absent()
    }
    async fn parts(&self, _: &Upload) -> Result<Vec<Part>, BucketError> {
        absent()
    }
    async fn complete(&self, _: &Upload, _: &[Part], _: &Condition) -> Result<Written<Etag>, BucketError> {
        absent()
    }
    async fn abort(&self, _: &Upload) -> Result<(), BucketError> {
        absent()
    }
    async fn uploads(&self, _: &ObjectKey) -> Result<Vec<ListedUpload>, BucketError> {
        absent()
    }
}

pub fn etag() -> Etag {
    Etag("1".to_owned())
}

/// A blob, the bucket that has it, and the folder that has its outboard.
pub struct Blob {
    pub data: Bytes,
    pub hash: BlobHash,
    pub bucket: Arc<Memory>,
    pub source: Source,
    pub store: OutboardStore,
    pub dir: tempfile::TempDir,
}

impl Blob {
    pub fn new(data: Bytes) -> Self {
        let bucket = Memory::new(data.clone());
        Self::with(data, bucket)
    }

    pub fn with(data: Bytes, bucket: Memory) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = OutboardStore::open(dir.path()).unwrap();
        let mut hasher = Hasher::new(store.draft());
        hasher.update(&data).unwrap();
        let hashed = hasher.finish().unwrap();
        let outboard = hashed.sink.keep(hashed.hash, hashed.size).unwrap();
        let bucket = Arc::new(bucket);
        let key = ObjectKey::new("key").unwrap();
        let source = Source { bucket: bucket.clone(), key, etag: etag(), outboard };
        Self { data, hash: hashed.hash, bucket, source, store, dir }
    }

    pub fn size(&self) -> u64 {
        self.data.len() as u64
    }
}

/// One end of a stream between two tasks.
#[derive(Debug)]
pub struct Pipe(pub DuplexStream);

impl AsyncReadRecvStreamExtra for Pipe {
    fn inner(&mut self) -> &mut (impl AsyncRead + Unpin + Send) {
        &mut self.0
    }
    fn stop(&mut self, _: VarInt) -> io::Result<()> {
        Ok(())
    }
    fn id(&self) -> u64 {
        0
    }
}

impl AsyncWriteSendStreamExtra for Pipe {
    fn inner(&mut self) -> &mut (impl AsyncWrite + Unpin + Send) {
        &mut self.0
    }
    fn reset(&mut self, _: VarInt) -> io::Result<()> {
        Ok(())
    }
    async fn stopped(&mut self) -> io::Result<Option<VarInt>> {
        Ok(None)
    }
    fn id(&self) -> u64 {
        0
    }
}

/// A stream from one task to another, `buffer` bytes long.
pub fn pipe(buffer: usize) -> (AsyncWriteSendStream<Pipe>, AsyncReadRecvStream<Pipe>) {
    let (send, recv) = tokio::io::duplex(buffer);
    (AsyncWriteSendStream::new(Pipe(send)), AsyncReadRecvStream::new(Pipe(recv)))
}

/// Keeps what is sent.
#[derive(Clone, Debug, Default)]
pub struct Kept(pub Arc<Mutex<Vec<u8>>>);

impl Kept {
    pub fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl SendStream for Kept {
    async fn send_bytes(&mut self, bytes: Bytes) -> io::Result<()> {
        self.send(&bytes).await
    }
    async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(())
    }
    async fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
    fn reset(&mut self, _: VarInt) -> io::Result<()> {
        Ok(())
    }
    async fn stopped(&mut self) -> io::Result<Option<VarInt>> {
        Ok(None)
    }
    fn id(&self) -> u64 {
        0
    }
}
