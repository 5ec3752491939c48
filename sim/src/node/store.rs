//! Names and layouts in NATS: subjects of the state stream, headers of replicated messages.
//!
//! | subject | what the messages hold |
//! | --- | --- |
//! | `ops.<author>.<log>` | an own log: [`Commit`]s |
//! | `ops.<author>.<log>.<created>` | a subscriber's copy, by when its local stream was created; the last one is the cursor |
//! | `ops.<author>.<log>.copy` | a subscriber's copy of a catalog |
//! | `landed.<log>` | which entries of a catalog are settled |
//! | `log.<author>.<log>` | the log's descriptor |
//! | `server.<log>` | which run of the NATS server the author of the log knew when it last made sure of its end, and where |

use std::collections::BTreeMap;

use rhio_core::apply::standing::Committed;
use rhio_core::apply::{Cursor, Outgoing};
use rhio_core::codec::Reader;
use rhio_core::headers;
use rhio_core::id::{LogId, OpSeq, PublicKey, SourceSeq};
use rhio_core::log::commit::Commit;
use rhio_core::log::descriptor::{LogDescriptor, Source};
use rhio_core::log::operation::Operation;
use rhio_core::record::{CanonicalRecord, Position, SourceRecord};

use crate::jetstream::Message;

pub fn ops_subject(author: PublicKey, log: LogId) -> String {
    format!("ops.{author}.{log}")
}

pub fn descriptor_subject(author: PublicKey, log: LogId) -> String {
    format!("log.{author}.{log}")
}

pub fn server_subject(log: LogId) -> String {
    format!("server.{log}")
}

pub fn copy_subject(author: PublicKey, log: LogId, created: u64) -> String {
    format!("{}.{created}", ops_subject(author, log))
}

pub fn catalog_copy_subject(author: PublicKey, log: LogId) -> String {
    format!("{}.copy", ops_subject(author, log))
}

pub fn landed_subject(log: LogId) -> String {
    format!("landed.{log}")
}

/// One commit in the state stream.
#[derive(Clone, Debug)]
pub struct Stored {
    pub seq: u64,
    /// When it was stored.
    pub time: u64,
    pub commit: Commit,
    pub operations: Vec<Operation>,
}

impl Stored {
    pub fn read(message: &Message) -> Self {
        let commit = Commit::decode(message.payload.clone()).expect("a commit of ours");
        Self::of(message.seq, message.time, commit)
    }

    pub fn of(seq: u64, time: u64, commit: Commit) -> Self {
        let read = |raw: &bytes::Bytes| Operation::read_stored(raw.clone()).expect("an operation of ours");
        let operations = commit.operations.iter().map(read).collect();
        Self { seq, time, commit, operations }
    }

    pub fn last(&self) -> &Operation {
        self.operations.last().expect("a commit is never empty")
    }

    /// Where a subscriber stands with it.
    pub fn committed(&self) -> Committed {
        let (last, commit) = (self.last(), &self.commit);
        let cursor = Cursor {
            head: Some(last.head()),
            through: last.through(),
            total: last.after(),
            local: commit.local,
            gone: commit.gone,
        };
        Committed { seq: self.seq, time: self.time, cursor }
    }
}

/// A log as the state stream has it.
#[derive(Clone, Debug)]
pub struct StoredLog {
    pub descriptor: LogDescriptor,
    pub commits: Vec<Stored>,
}

impl StoredLog {
    /// Every operation that is stored, also those of commits that were taken back.
    pub fn operations(&self) -> BTreeMap<OpSeq, &Operation> {
        self.commits.iter().flat_map(|stored| &stored.operations).map(|op| (op.seq(), op)).collect()
    }
}

/// The descriptors of an author's logs about messages in the state stream, oldest epoch first.
pub fn descriptors_of(messages: &[Message], author: PublicKey) -> Vec<LogDescriptor> {
    let mut logs = all_of(messages, author);
    logs.retain(|log| log.source().is_some());
    logs
}

/// The descriptors of an author's catalogs in the state stream, oldest epoch first.
pub fn catalogs_of(messages: &[Message], author: PublicKey) -> Vec<LogDescriptor> {
    let mut logs = all_of(messages, author);
    logs.retain(|log| log.bucket_name().is_some());
    logs
}

fn all_of(messages: &[Message], author: PublicKey) -> Vec<LogDescriptor> {
    let prefix = format!("log.{author}.");
    let described = messages.iter().filter(|message| message.subject.starts_with(&prefix));
    let read = |message: &Message| LogDescriptor::read(&mut Reader::new(message.payload.clone()));
    let mut logs: Vec<_> = described.map(|message| read(message).expect("a descriptor of ours")).collect();
    logs.sort_by_key(|log| log.epoch);
    logs
}

/// An author's own logs in its state stream, by stream life and epoch.
pub fn logs_of(messages: &[Message], author: PublicKey) -> Vec<StoredLog> {
    let stored = |descriptor: LogDescriptor| {
        let subject = ops_subject(author, descriptor.id());
        let commits = messages.iter().filter(|m| *m.subject == *subject).map(Stored::read).collect();
        StoredLog { descriptor, commits }
    };
    let mut logs: Vec<_> = descriptors_of(messages, author).into_iter().map(stored).collect();
    logs.sort_by_key(|log| (source(&log.descriptor).created, log.descriptor.epoch));
    logs
}

/// What a log is about: messages, as all logs here.
pub fn source(descriptor: &LogDescriptor) -> &Source {
    descriptor.source().expect("a log about messages")
}

/// The headers of a replicated message.
///
/// The mark names the *life of the author's stream*, not the log: what was written under one log, and never committed,
/// must be known again under the next one. And it holds the time besides the sequence number, because after a power cut
/// the author's stream gives the same numbers to other messages.
pub fn headers_of(descriptor: &LogDescriptor, operation: &Operation, record: &Outgoing) -> Vec<(String, String)> {
    let Position { seq, time } = record.position;
    vec![
        (headers::PUBLIC_KEY.to_owned(), descriptor.author.to_string()),
        (headers::OPERATION.to_owned(), format!("{}/{}", operation.hash().mark(), record.index)),
        (headers::SOURCE.to_owned(), format!("{}/{seq}/{time}", descriptor.life())),
    ]
}

/// Where the author's stream had this message, if it came from that life of it.
pub fn position_of(descriptor: &LogDescriptor, message: &Message) -> Option<Position> {
    let mut parts = message.header(headers::SOURCE)?.split('/');
    if parts.next()? != descriptor.life() {
        return None;
    }
    Some(Position { seq: SourceSeq(parts.next()?.parse().ok()?), time: parts.next()?.parse().ok()? })
}

/// The record of a message, unless it came through rhio.
pub fn record_of(message: &Message, echo: bool) -> Option<SourceRecord> {
    if !echo && message.header(headers::PUBLIC_KEY).is_some() {
        return None;
    }
    let position = Position { seq: SourceSeq(message.seq), time: message.time };
    let record = CanonicalRecord::encode(message.subject.as_bytes(), b"", &message.payload).expect("a plain message");
    Some(SourceRecord { position, record })
}
