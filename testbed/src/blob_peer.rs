//! A node that a test plays itself, for buckets: it signs catalogs, and sends content as it should or as it should not.

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use iroh::endpoint::{RecvStream, SendStream, VarInt};
use p2panda_core::SigningKey;
use rhio_blobs::bucket::folder::FolderRoot;
use rhio_blobs::bucket::{Bucket, Condition, Content, Labels};
use rhio_blobs::hashing::Hasher;
use rhio_blobs::outboard::OutboardStore;
use rhio_blobs::serve::{BlobRequest, Source, read_request, respond};
use rhio_core::catalog::{Catalog, Entry, Put};
use rhio_core::id::BlobHash;
use rhio_core::log::body::Body;
use rhio_core::log::descriptor::LogDescriptor;
use rhio_core::log::operation::{Head, Operation};
use rhio_core::log::total::Total;
use rhio_core::object::{Attributes, ObjectKey};
use rhio_core::record::Position;
use rhio_core::wire::{Batch, Frame, LogState, Pull};
use rhio_net::connection::Connection;
use rhio_net::stream::{FrameReader, FrameWriter};
use tempfile::TempDir;

use super::SOON;

/// A catalog that a test signs itself.
#[derive(Clone)]
pub struct CatalogLog {
    pub key: SigningKey,
    pub descriptor: LogDescriptor,
    pub head: Option<Head>,
    pub total: Total,
    pub operations: Vec<Operation>,
}

impl CatalogLog {
    /// An empty one.
    pub fn of(key: &SigningKey, bucket: &str) -> Self {
        let descriptor = LogDescriptor::bucket(key.verifying_key().into(), 1_700_000_000_000, bucket);
        Self { key: key.clone(), descriptor, head: None, total: Total::default(), operations: Vec::new() }
    }

    /// The next operation, without going on.
    pub fn next(&self, entries: Vec<Entry>) -> Operation {
        self.sign(&self.key, self.total, entries)
    }

    /// The same with any key, and with whatever it says that came before.
    pub fn sign(&self, key: &SigningKey, before: Total, entries: Vec<Entry>) -> Operation {
        self.sign_any(key, Body { before, content: Catalog::new(entries).expect("a catalog").into() })
    }

    /// The same with anything in it.
    pub fn sign_any(&self, key: &SigningKey, body: Body) -> Operation {
        Operation::sign(key, self.descriptor.id(), self.head, 1_700_000_000_000_000, body)
    }

    /// Goes on with these.
    pub fn add(&mut self, entries: Vec<Entry>) {
        let operation = self.next(entries);
        self.head = Some(operation.head());
        self.total = operation.after();
        self.operations.push(operation);
    }

    /// How far it is.
    pub fn state(&self) -> LogState {
        LogState {
            descriptor: self.descriptor.clone(),
            closed: false,
            head: self.head,
            through: Position::default(),
            total: self.total,
            pending: Some(0),
        }
    }

    /// That as a frame.
    pub fn told(&self) -> Bytes {
        Frame::Logs(vec![self.state()]).encode()
    }

    /// What an honest author sends for a pull.
    pub fn sent(&self, pull: &Pull) -> Vec<Bytes> {
        self.operations.iter().filter(|operation| operation.seq() >= pull.next).map(frame).collect()
    }

    /// What an honest author answers.
    pub fn answers(self) -> Answer {
        Answer { watch: vec![self.told()], pull: Box::new(move |pull| self.sent(pull)) }
    }
}

/// An operation as it is sent.
pub fn frame(operation: &Operation) -> Bytes {
    Frame::Batch(Batch::bare(operation.raw().clone())).encode()
}

/// Content with its hash tree.
pub struct Blob {
    pub data: Vec<u8>,
    pub hash: BlobHash,
    source: Source,
    _folder: TempDir,
}

impl Blob {
    pub async fn new(data: Vec<u8>) -> Self {
        let folder = TempDir::with_prefix("rhio-peer-").expect("a folder");
        let (files, trees) = (folder.path().join("files"), folder.path().join("trees"));
        std::fs::create_dir_all(files.join("bucket")).expect("it can be made");
        let store = OutboardStore::open(&trees).expect("a folder for outboards");
        let mut hasher = Hasher::new(store.draft());
        hasher.update(&data).expect("it can be hashed");
        let hashed = hasher.finish().expect("it can be hashed");
        let outboard = hashed.sink.keep(hashed.hash, hashed.size).expect("it can be kept");
        let bucket = FolderRoot::open(&files).expect("a folder").bucket("bucket").expect("a bucket");
        let key = ObjectKey::new("blob").expect("a key");
        let content = Content::from_bytes(data.clone().into());
        let written = bucket.put(&key, content, &Labels::default(), &Condition::None).await.expect("it is stored");
        let source = Source { bucket: Arc::new(bucket), key, etag: written.what, outboard };
        Self { data, hash: hashed.hash, source, _folder: folder }
    }

    /// An entry that says that it is there.
    pub fn put(&self, key: &str) -> Entry {
        Entry::Put(Put {
            key: ObjectKey::new(key).expect("a key"),
            hash: self.hash,
            size: self.data.len() as u64,
            modified: 1_700_000_000_000,
            etag: "1".to_owned(),
            attributes: Attributes::keep([]),
        })
    }

    async fn response(&self, request: &BlobRequest) -> Vec<u8> {
        let sent = Kept::default();
        respond(request, &self.source, &mut sent.clone()).await.expect("an honest response");
        std::mem::take(&mut sent.0.lock().expect("a lock"))
    }
}

/// What follows the bytes of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// The end, as it should.
    End,
    /// Nothing, and no end.
    Silence,
    /// The stream is reset with this code.
    Reset(u32),
}

/// Spoils a response: the bytes that are asked for, the honest response, and what follows it.
pub type Manner = Box<dyn Fn(Range<u64>, &mut Vec<u8>) -> Then + Send + Sync>;
/// What is sent for a pull.
pub type Pulled = Box<dyn Fn(&Pull) -> Vec<Bytes> + Send + Sync>;

/// Answers with frames.
pub struct Answer {
    /// To a watch.
    pub watch: Vec<Bytes>,
    /// To a pull.
    pub pull: Pulled,
}

impl Answer {
    /// The same to every pull.
    pub fn new(watch: Vec<Bytes>, pull: Vec<Bytes>) -> Self {
        Self { watch, pull: Box::new(move |_| pull.clone()) }
    }
}

/// What an author does that a test plays.
pub struct Author {
    answer: Mutex<Answer>,
    blobs: HashMap<BlobHash, (Blob, Manner)>,
    honest: AtomicBool,
    asked: Mutex<Vec<(BlobHash, Range<u64>)>>,
}

impl Author {
    pub fn new(answer: Answer, blobs: Vec<(Blob, Manner)>) -> Arc<Self> {
        let blobs = blobs.into_iter().map(|(blob, manner)| (blob.hash, (blob, manner))).collect();
        Arc::new(Self { answer: Mutex::new(answer), blobs, honest: AtomicBool::new(false), asked: Mutex::default() })
    }

    /// From now on pulls are answered so.
    pub fn set_answer(&self, answer: Answer) {
        *self.answer.lock().expect("a lock") = answer;
    }

    /// From now on content is sent as it is. What was asked for before is forgotten.
    pub fn reform(&self) {
        self.asked.lock().expect("a lock").clear();
        self.honest.store(true, Ordering::SeqCst);
    }

    /// Bytes of a blob that were asked for, in this order.
    pub fn asked_for(&self, hash: BlobHash) -> Vec<Range<u64>> {
        let asked = self.asked.lock().expect("a lock");
        asked.iter().filter(|(of, _)| *of == hash).map(|(_, range)| range.clone()).collect()
    }

    /// Serves a connection until it is gone.
    pub async fn serve(self: Arc<Self>, connection: Connection) {
        while let Ok((send, recv)) = connection.accept_bi().await {
            let author = Arc::clone(&self);
            tokio::spawn(async move { author.serve_stream(send, recv).await });
        }
    }

    async fn serve_stream(&self, send: SendStream, recv: RecvStream) {
        let (mut writer, mut reader) = (FrameWriter::new(send), FrameReader::new(recv));
        match reader.next().await {
            Ok(Some(frame @ (Frame::Watch(_) | Frame::Pull(_)))) => {
                let answer = {
                    let answer = self.answer.lock().expect("a lock");
                    match &frame {
                        Frame::Pull(pull) => (answer.pull)(pull),
                        _ => answer.watch.clone(),
                    }
                };
                for bytes in answer {
                    let _ = writer.send_bytes(bytes).await;
                }
                // The stream stays open until the other side is gone.
                while let Ok(Some(_)) = reader.next().await {}
            }
            Ok(Some(Frame::Blob)) => {
                if let (Ok(send), Ok(recv)) = (writer.into_stream(), reader.into_stream()) {
                    self.serve_blob(send, recv).await;
                }
            }
            _ => {}
        }
    }

    async fn serve_blob(&self, mut send: SendStream, mut recv: RecvStream) {
        let Ok(request) = read_request(&mut recv).await else { return };
        let Some((blob, manner)) = self.blobs.get(&request.hash) else { return };
        let len = blob.data.len() as u64;
        let bounds: Vec<u64> = request.ranges.boundaries().iter().map(|chunk| (chunk.0 * 1024).min(len)).collect();
        let range = bounds.first().copied().unwrap_or(0)..bounds.get(1).copied().unwrap_or(len);
        self.asked.lock().expect("a lock").push((request.hash, range.clone()));
        let mut response = blob.response(&request).await;
        let then = if self.honest.load(Ordering::SeqCst) { Then::End } else { manner(range, &mut response) };
        if send.write_all(&response).await.is_err() {
            return;
        }
        match then {
            Then::End => drop(send.finish()),
            Then::Silence => {}
            Then::Reset(code) => drop(send.reset(VarInt::from_u32(code))),
        }
        // Whoever drops a stream ends it.
        let _ = send.stopped().await;
    }
}

/// A request for chunks of a blob, as the protocol writes it: widths of spans, the first of which is not wanted.
pub fn request(hash: BlobHash, spans: &[u64]) -> Vec<u8> {
    let mut bytes = vec![0];
    bytes.extend_from_slice(hash.as_bytes());
    for number in [2, 0, spans.len() as u64].iter().chain(spans).chain(&[1, 0]) {
        let mut value = *number;
        while value >= 0x80 {
            bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        bytes.push(value as u8);
    }
    bytes
}

/// Asks for content with any bytes.
pub async fn ask(connection: &Connection, request: &[u8]) -> (SendStream, RecvStream) {
    let (mut send, recv) = connection.open_bi().await.expect("a stream");
    send.write_all(&Frame::Blob.encode()).await.expect("it is sent");
    // A peer that has read enough of it may have gone.
    let _ = send.write_all(request).await;
    let _ = send.finish();
    (send, recv)
}

/// Everything that comes, or why not.
pub async fn all(recv: &mut RecvStream) -> Result<Vec<u8>, iroh::endpoint::ReadToEndError> {
    tokio::time::timeout(SOON, recv.read_to_end(64 << 20)).await.expect("in time")
}

/// Keeps what is sent.
#[derive(Clone, Debug, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl iroh_blobs::util::SendStream for Kept {
    async fn send_bytes(&mut self, bytes: Bytes) -> io::Result<()> {
        self.send(&bytes).await
    }
    async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.lock().expect("a lock").extend_from_slice(bytes);
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
