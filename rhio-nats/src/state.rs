//! rhio's own stream: the signed operations that this node holds, and its cursors. There is no other durable state.
//!
//! What stands where is in [`subject`].
//!
//! Every append names the sequence number of the last message on its subject (compare-and-set). Of two processes that
//! append to one log, one is refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_nats::HeaderMap;
use async_nats::jetstream::context::PublishErrorKind;
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::{Config as StreamConfig, DiscardPolicy, RawMessageErrorKind, StorageType, Stream};
use async_nats::jetstream::{self, ErrorCode};
use bytes::Bytes;
use futures_util::StreamExt;
use rhio_core::codec::{DecodeError, Reader};
use rhio_core::id::{LogId, OpHash, OpSeq, PublicKey, SourceSeq};
use rhio_core::log::commit::Commit;
use rhio_core::log::descriptor::LogDescriptor;
use rhio_core::log::operation::{Operation, OperationError};
use rhio_core::record::Position;
use thiserror::Error;
use tracing::warn;

use crate::settings;

use super::client::Client;
use super::reader::ReadError;
use super::scan::Scan;

use subject::StateSubject;

mod holdings;
mod notes;
pub mod subject;

pub use notes::Note;

/// What went wrong with the state stream.
#[derive(Debug, Error)]
pub enum StateError {
    /// NATS did not answer as it should; the outcome is unknown.
    #[error("state stream {stream}: {source}")]
    Nats {
        /// The stream's name.
        stream: String,
        /// The library's error.
        source: async_nats::Error,
    },
    /// Another process has appended to the log since this one read it.
    #[error("another process appended to the log in state stream {stream}")]
    Refused {
        /// The stream's name.
        stream: String,
    },
    /// A message in the stream that rhio did not write, or that was damaged.
    #[error("state stream {stream}, message {seq}: {reason}")]
    Damaged {
        /// The stream's name.
        stream: String,
        /// Its sequence number.
        seq: u64,
        /// What is wrong.
        reason: String,
    },
    /// Something that another version of rhio wrote, which this one does not read.
    #[error("state stream {stream}, message {seq}: written by another version of rhio ({format})")]
    Format {
        /// The stream's name.
        stream: String,
        /// Its sequence number.
        seq: u64,
        /// Which formats it is about.
        format: DecodeError,
    },
    /// Reading a range of it failed.
    #[error("state stream: {0}")]
    Read(#[from] ReadError),
}

/// A commit and where it is.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Sequence number in the state stream.
    pub seq: u64,
    /// When the state stream stored it, in nanoseconds since the Unix epoch.
    pub time: u64,
    /// What it says.
    pub commit: Commit,
}

impl Stored {
    /// The operations, which were verified before they were stored.
    ///
    /// # Errors
    /// When the bytes were damaged since.
    pub fn operations(&self, state: &StateStore) -> Result<Vec<Operation>, StateError> {
        self.commit.operations.iter().map(|raw| state.operation(self.seq, raw.clone())).collect()
    }
}

/// The subject of a log's commits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LogSubject(String);

impl LogSubject {
    /// The subject's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Access to the state stream.
#[derive(Clone, Debug)]
pub struct StateStore {
    client: Client,
    context: jetstream::Context,
    stream: Stream,
    name: String,
    node: PublicKey,
    wanted: StreamConfig,
    /// It was said that another version of rhio has written here.
    foreign: Arc<AtomicBool>,
}

impl StateStore {
    /// Opens the stream; creates it, or adds this node's subjects to it, where that is lacking.
    ///
    /// # Errors
    /// When NATS does not answer or refuses.
    pub async fn open(client: &Client, config: &settings::State, node: PublicKey) -> Result<Self, StateError> {
        let context = client.jetstream();
        let name = config.stream.clone();
        let failed = |source: async_nats::Error| StateError::Nats { stream: name.clone(), source };
        let prefix = subject::prefix(node);
        let subjects = format!("{prefix}.>");
        let wanted = StreamConfig {
            name: name.clone(),
            description: Some("rhio: signed operations and cursors. Deleting it makes rhio start over.".to_owned()),
            subjects: vec![subjects.clone()],
            num_replicas: usize::from(config.replicas),
            storage: match config.storage {
                settings::Storage::File => StorageType::File,
                settings::Storage::Memory => StorageType::Memory,
            },
            allow_direct: true,
            max_bytes: config.max_bytes.and_then(|bytes| i64::try_from(bytes).ok()).unwrap_or(-1),
            // What is the oldest must not go for want of room: it is what pruning leaves.
            discard: DiscardPolicy::New,
            ..StreamConfig::default()
        };
        let mut stream = match context.get_or_create_stream(wanted.clone()).await {
            Ok(stream) => stream,
            // Another node that starts in this moment may have created it with its own subjects.
            Err(error) => match context.get_stream(&name).await {
                Ok(stream) => stream,
                Err(_) => return Err(failed(error.into())),
            },
        };
        let info = stream.info().await.map_err(|e| failed(e.into()))?;
        let captured =
            |s: &String| rhio_core::subject::Filter::parse(s).is_ok_and(|f| f.matches(&format!("{prefix}.ops")));
        if !info.config.subjects.iter().any(captured) {
            let mut config = info.config.clone();
            config.subjects.push(subjects);
            context.update_stream(config).await.map_err(|e| failed(e.into()))?;
        }
        Ok(Self { client: client.clone(), context, stream, name, node, wanted, foreign: Arc::default() })
    }

    /// Creates the stream again when somebody has deleted it.
    ///
    /// # Errors
    /// When NATS does not answer or refuses.
    pub async fn ensure(&self) -> Result<(), StateError> {
        match self.context.get_stream(&self.name).await {
            Ok(_) => Ok(()),
            Err(error) if is_missing(&error) => {
                warn!(stream = self.name, "the state stream is gone; it is created again, and nothing of it is known");
                self.context.get_or_create_stream(self.wanted.clone()).await.map_err(|e| self.failed(e))?;
                Ok(())
            }
            Err(error) => Err(self.failed(error)),
        }
    }

    /// The subject of an own log.
    pub fn own(&self, log: LogId) -> LogSubject {
        LogSubject(StateSubject::Operations { author: self.node, log, subscription: None }.of(self.node))
    }

    /// The subject of another author's log, as `subscription` applies it.
    pub fn applied(&self, author: PublicKey, log: LogId, subscription: &str) -> LogSubject {
        let subscription = Some(subscription.to_owned());
        LogSubject(StateSubject::Operations { author, log, subscription }.of(self.node))
    }

    fn failed(&self, source: impl Into<async_nats::Error>) -> StateError {
        StateError::Nats { stream: self.name.clone(), source: source.into() }
    }

    fn damaged(&self, seq: u64, reason: String) -> StateError {
        StateError::Damaged { stream: self.name.clone(), seq, reason }
    }

    /// Reads an operation that stands at this place.
    fn operation(&self, seq: u64, raw: Bytes) -> Result<Operation, StateError> {
        Operation::read_stored(raw).map_err(|error| match error {
            OperationError::Decode(error) => self.undecoded(seq, error),
            error => self.damaged(seq, error.to_string()),
        })
    }

    fn undecoded(&self, seq: u64, error: DecodeError) -> StateError {
        match error {
            format @ DecodeError::Version { .. } => StateError::Format { stream: self.name.clone(), seq, format },
            error => self.damaged(seq, error.to_string()),
        }
    }

    /// The last commit of a log.
    ///
    /// # Errors
    /// When NATS does not answer, or the message is damaged.
    pub async fn last(&self, subject: &LogSubject) -> Result<Option<Stored>, StateError> {
        let message = self.last_message(&subject.0).await?;
        message.map(|(place, payload)| self.stored(place, payload)).transpose()
    }

    fn stored(&self, (seq, time): (u64, u64), payload: Bytes) -> Result<Stored, StateError> {
        let commit = Commit::decode(payload).map_err(|error| self.undecoded(seq, error))?;
        Ok(Stored { seq, time, commit })
    }

    /// Asks the stream's leader, never a replica that may lag.
    async fn last_message(&self, subject: &str) -> Result<Option<((u64, u64), Bytes)>, StateError> {
        match self.stream.get_last_raw_message_by_subject(subject).await {
            Ok(message) => Ok(Some((place(&message), message.payload))),
            Err(error) if matches!(error.kind(), RawMessageErrorKind::NoMessageFound) => Ok(None),
            Err(error) => Err(self.failed(error)),
        }
    }

    async fn next_message(&self, subject: &str, from: u64) -> Result<Option<((u64, u64), Bytes)>, StateError> {
        let request = self.stream.raw_message_builder().sequence(from).next_by_subject(subject);
        match request.send().await {
            Ok(message) => Ok(Some((place(&message), message.payload))),
            Err(error) if matches!(error.kind(), RawMessageErrorKind::NoMessageFound) => Ok(None),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// Appends a commit behind the message with sequence number `expected` (0 when there is none). Returns its own.
    ///
    /// # Errors
    /// [`StateError::Refused`] when another message is the last; any other error leaves open whether it was stored.
    pub async fn append(&self, subject: &LogSubject, commit: &Commit, expected: u64) -> Result<u64, StateError> {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Expected-Last-Subject-Sequence", expected.to_string());
        let sent = self.context.publish_with_headers(subject.0.clone(), headers, commit.encode()).await;
        let ack = match sent {
            Ok(ack) => {
                failpoint::hit("commit-sent");
                ack.await
            }
            Err(error) => Err(error),
        };
        match ack {
            Ok(ack) => Ok(ack.sequence),
            Err(error) if error.kind() == PublishErrorKind::WrongLastSequence => {
                Err(StateError::Refused { stream: self.name.clone() })
            }
            Err(error) => Err(self.failed(error)),
        }
    }

    async fn put(&self, subject: String, payload: Bytes) -> Result<(), StateError> {
        let ack = self.context.publish(subject, payload).await.map_err(|e| self.failed(e))?;
        ack.await.map_err(|e| self.failed(e))?;
        Ok(())
    }

    /// Stores what a log is about, unless that is there already.
    ///
    /// # Errors
    /// When NATS does not answer.
    pub async fn put_descriptor(&self, descriptor: &LogDescriptor) -> Result<(), StateError> {
        let subject = describes(descriptor).of(self.node);
        let encoded = descriptor.encode();
        match self.last_message(&subject).await? {
            Some((_, payload)) if payload == encoded => Ok(()),
            _ => self.put(subject, encoded).await,
        }
    }

    /// Every log of this author that the node knows of, oldest epoch first. Those that another version of rhio wrote are
    /// passed over, which is logged.
    ///
    /// # Errors
    /// When NATS does not answer, or a descriptor is damaged.
    pub async fn descriptors(&self, author: PublicKey) -> Result<Vec<LogDescriptor>, StateError> {
        let filter = format!("{}.log.{author}.*", subject::prefix(self.node));
        let mut scan = Scan::open(&self.client, &self.stream, &filter, 1, false).await?;
        let mut logs = Vec::new();
        while let Some(message) = scan.next().await? {
            let read = LogDescriptor::read(&mut Reader::new(message.payload.clone()));
            match read.map_err(|error| self.undecoded(message.seq, error)) {
                Ok(log) if !logs.contains(&log) => logs.push(log),
                Ok(_) => {}
                Err(error @ StateError::Format { .. }) => {
                    if !self.foreign.swap(true, Ordering::Relaxed) {
                        warn!("{error}; what it describes begins anew in a new log, nothing is written twice");
                    }
                }
                Err(error) => return Err(error),
            }
        }
        logs.sort_by_key(|log| log.epoch);
        Ok(logs)
    }

    /// The logs of an author's bucket that the node knows of, oldest epoch first.
    ///
    /// # Errors
    /// When NATS does not answer, or a descriptor is damaged.
    pub async fn bucket_logs(&self, author: PublicKey, bucket: &str) -> Result<Vec<LogDescriptor>, StateError> {
        let mut logs = self.descriptors(author).await?;
        logs.retain(|log| log.bucket_name() == Some(bucket));
        Ok(logs)
    }

    /// The server that acknowledged the end of an own log, and the position behind which the log was begun or
    /// continued, as was noted.
    ///
    /// # Errors
    /// When NATS does not answer.
    pub async fn noted_server(&self, log: LogId) -> Result<Option<(String, Position)>, StateError> {
        let found = self.last_message(&StateSubject::Server(log).of(self.node)).await?;
        Ok(found.map(|(_, payload)| {
            let text = String::from_utf8_lossy(&payload).into_owned();
            let mut parts = text.split(' ');
            let server = parts.next().unwrap_or_default().to_owned();
            let mut number = || parts.next().and_then(|part| part.parse().ok()).unwrap_or_default();
            (server, Position { seq: SourceSeq(number()), time: number() })
        }))
    }

    /// Notes the server.
    ///
    /// # Errors
    /// When NATS does not answer.
    pub async fn note_server(&self, log: LogId, server: &str, after: Position) -> Result<(), StateError> {
        let subject = StateSubject::Server(log).of(self.node);
        let note = format!("{server} {} {}", after.seq, after.time);
        self.put(subject.clone(), Bytes::from(note)).await?;
        if let Some(((seq, _), _)) = self.last_message(&subject).await? {
            self.purge(&subject, seq).await?;
        }
        Ok(())
    }

    /// The first commit, at or behind `from` in the state stream, of a log.
    ///
    /// # Errors
    /// When NATS does not answer, or the message is damaged.
    pub async fn first(&self, subject: &LogSubject, from: u64) -> Result<Option<Stored>, StateError> {
        let found = self.next_message(&subject.0, from).await?;
        found.map(|(place, payload)| self.stored(place, payload)).transpose()
    }

    /// The commit that holds operation `wanted`, or the first one behind it when it was pruned. Costs a number of
    /// requests that grows with the logarithm of the stream's length.
    ///
    /// # Errors
    /// When NATS does not answer, or a message is damaged.
    pub async fn find(&self, subject: &LogSubject, wanted: OpSeq) -> Result<Option<Stored>, StateError> {
        let Some(last) = self.last(subject).await? else { return Ok(None) };
        if self.last_op(&last)? < wanted {
            return Ok(None);
        }
        let Some(first) = self.first(subject, 1).await? else { return Ok(None) };
        if self.last_op(&first)? >= wanted {
            return Ok(Some(first));
        }
        // Invariant: the commit at or behind `low` ends before `wanted`; `best` does not.
        let (mut low, mut high, mut best) = (first.seq, last.seq, last);
        while low + 1 < high {
            let middle = low + (high - low) / 2;
            match self.first(subject, middle).await? {
                Some(stored) if self.last_op(&stored)? < wanted => low = stored.seq.min(high - 1).max(middle),
                Some(stored) => (high, best) = (middle, stored),
                None => high = middle,
            }
        }
        Ok(Some(best))
    }

    /// The hash that a log has for operation `wanted`; `None` when it was pruned, or is not there yet.
    ///
    /// # Errors
    /// When NATS does not answer, or a message is damaged.
    pub async fn hash_of(&self, subject: &LogSubject, wanted: OpSeq) -> Result<Option<OpHash>, StateError> {
        let Some(stored) = self.find(subject, wanted).await? else { return Ok(None) };
        let found = stored.operations(self)?.into_iter().find(|operation| operation.seq() == wanted);
        Ok(found.map(|operation| operation.hash()))
    }

    fn last_op(&self, stored: &Stored) -> Result<OpSeq, StateError> {
        self.op_seq(stored, stored.commit.operations.last())
    }

    /// The number of one of a commit's operations.
    fn op_seq(&self, stored: &Stored, raw: Option<&Bytes>) -> Result<OpSeq, StateError> {
        self.operation(stored.seq, raw.cloned().unwrap_or_default()).map(|operation| operation.seq())
    }

    /// Reads a log's commits in order, from a place in the state stream to its present end.
    ///
    /// # Errors
    /// When NATS does not answer.
    pub async fn read(&self, subject: &LogSubject, from: u64) -> Result<StateReader, StateError> {
        let scan = Scan::open(&self.client, &self.stream, &subject.0, from, false).await?;
        Ok(StateReader { scan, state: self.clone() })
    }

    /// Drops a log's commits before `keep_from`.
    ///
    /// # Errors
    /// When NATS does not answer.
    pub async fn prune(&self, subject: &LogSubject, keep_from: u64) -> Result<(), StateError> {
        self.purge(&subject.0, keep_from).await
    }

    /// Drops a log, or this node's copy of one, and what is noted about it. The descriptor goes with the last copy.
    ///
    /// # Errors
    /// When NATS does not answer.
    pub async fn forget(
        &self,
        descriptor: &LogDescriptor,
        subject: &LogSubject,
        note: Option<&Note>,
    ) -> Result<(), StateError> {
        let log = descriptor.id();
        let mut subjects = vec![subject.0.clone()];
        subjects.extend(note.map(|note| note.subject.clone()));
        let others = self.copies(descriptor.author, log).await?;
        if others.iter().all(|other| other == subject) {
            subjects.extend([StateSubject::Server(log).of(self.node), describes(descriptor).of(self.node)]);
        }
        for subject in subjects {
            self.stream.purge().filter(subject).await.map_err(|e| self.failed(e))?;
        }
        Ok(())
    }

    /// Where this node keeps its copies of an author's log: one per subscription.
    ///
    /// # Errors
    /// When NATS does not answer.
    pub async fn copies(&self, author: PublicKey, log: LogId) -> Result<Vec<LogSubject>, StateError> {
        let filter = StateSubject::Operations { author, log, subscription: Some("*".to_owned()) }.of(self.node);
        let info = self.stream.info_with_subjects(filter).await.map_err(|e| self.failed(e))?;
        let subjects = info.collect::<Vec<_>>().await;
        subjects
            .into_iter()
            .map(|found| found.map(|(subject, _)| LogSubject(subject)).map_err(|e| self.failed(e)))
            .collect()
    }

    async fn purge(&self, subject: &str, keep_from: u64) -> Result<(), StateError> {
        let purge = self.stream.purge().filter(subject.to_owned()).sequence(keep_from);
        purge.await.map_err(|e| self.failed(e))?;
        Ok(())
    }
}

fn describes(descriptor: &LogDescriptor) -> StateSubject {
    StateSubject::Descriptor { author: descriptor.author, log: descriptor.id() }
}

/// Sequence number and time.
fn place(message: &StreamMessage) -> (u64, u64) {
    (message.sequence, u64::try_from(message.time.unix_timestamp_nanos()).unwrap_or_default())
}

/// Reads commits in order.
pub struct StateReader {
    scan: Scan,
    state: StateStore,
}

impl StateReader {
    /// The next commit, `None` at what was the end when reading began.
    ///
    /// # Errors
    /// When NATS does not answer, or a message is damaged.
    pub async fn next(&mut self) -> Result<Option<Stored>, StateError> {
        match self.scan.next().await? {
            Some(message) => {
                // What came may share memory with what came along with it, and this may be kept for long.
                let payload = Bytes::copy_from_slice(&message.payload);
                Ok(Some(self.state.stored((message.seq, message.time), payload)?))
            }
            None => Ok(None),
        }
    }
}

/// Whether an error of the JetStream API says that the stream does not exist.
pub fn is_missing(error: &async_nats::jetstream::context::GetStreamError) -> bool {
    use async_nats::jetstream::context::GetStreamErrorKind;
    matches!(error.kind(), GetStreamErrorKind::JetStream(e) if e.error_code() == ErrorCode::STREAM_NOT_FOUND)
}
