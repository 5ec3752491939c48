//! A node that a test plays itself, on rhio's own network code, so that it can misbehave.

use bytes::Bytes;
use p2panda_core::SigningKey;
use rhio::config::NodeEndpoint;
use rhio_core::id::PublicKey;
use rhio_core::log::body::Body;
use rhio_core::log::descriptor::{LogDescriptor, Source};
use rhio_core::log::operation::Operation;
use rhio_core::manifest::{Entry, Manifest};
use rhio_core::record::{CanonicalRecord, Position, SourceRecord};
use rhio_core::seal::Tail;
use rhio_core::subject::Filter;
use rhio_core::wire::{CloseCode, Frame, Interest, LogState, Pull, Want, encode_batch};
use rhio_net::connection::{Connection, Ended};
use rhio_net::endpoint::Network;
use rhio_net::stream::{self, FrameReader, FrameWriter};
use testkit::{Cluster, Node, eventually};
use tokio::sync::mpsc;

use super::SOON;

/// The node.
pub struct Peer {
    pub key: SigningKey,
    network: Network,
    incoming: mpsc::Receiver<Connection>,
}

impl Peer {
    /// One on the network of a cluster.
    pub async fn beside(cluster: &Cluster) -> Self {
        let key = SigningKey::generate();
        let (network, incoming) = Network::bind(&key, &cluster.rhio.config.network_id, 0).await.expect("a free port");
        Self { key, network, incoming }
    }

    pub fn public_key(&self) -> String {
        self.key.verifying_key().to_hex()
    }

    /// An entry of `nodes` that names it.
    pub fn as_node(&self) -> Node {
        let sockets = self.network.sockets();
        let port = sockets.iter().find(|socket| socket.is_ipv4()).expect("an IPv4 socket").port();
        Node { public_key: self.public_key(), endpoints: vec![format!("127.0.0.1:{port}")] }
    }

    /// Connects to a cluster's rhio.
    pub async fn dial(&self, cluster: &Cluster) -> Connection {
        let target = cluster.rhio.public_key().parse::<PublicKey>().expect("a key");
        let endpoint = NodeEndpoint { host: "127.0.0.1".into(), port: cluster.rhio.port() };
        eventually!(SOON, "a connection", self.network.dial(target, std::slice::from_ref(&endpoint)).await)
    }

    /// The next connection that somebody makes.
    pub async fn accept(&mut self) -> Connection {
        tokio::time::timeout(SOON, self.incoming.recv()).await.expect("in time").expect("a connection")
    }
}

/// The code that the other side closed a connection with.
pub async fn closed_with(connection: &Connection) -> CloseCode {
    match tokio::time::timeout(SOON, connection.closed()).await.expect("it is closed in time") {
        Ended::ByPeer(code) => code,
        other => panic!("closed by something else: {other}"),
    }
}

/// Waits for the next stream that the other side opens, and its first frame.
pub async fn next_request(connection: &Connection) -> Option<(FrameWriter, FrameReader, Frame)> {
    let (send, recv) = connection.accept_bi().await.ok()?;
    let (writer, mut reader) = (FrameWriter::new(send), FrameReader::new(recv));
    let frame = reader.next().await.ok()??;
    Some((writer, reader, frame))
}

/// Asks for the logs under a filter.
pub async fn watch(connection: &Connection, filter: &str) -> (FrameWriter, FrameReader, Vec<LogState>) {
    let (mut writer, mut reader) = stream::open(connection).await.expect("a stream");
    let filter = Filter::parse(filter).expect("a filter");
    writer.send(&Frame::Watch(Interest::Messages(filter))).await.expect("it is sent");
    loop {
        match reader.next().await.expect("an answer") {
            Some(Frame::Logs(logs)) if logs.is_empty() => {}
            Some(Frame::Logs(logs)) => return (writer, reader, logs),
            other => panic!("instead of logs: {other:?}"),
        }
    }
}

/// Asks for a log from its beginning.
pub fn pull(state: &LogState) -> Frame {
    let filter = state.descriptor.filter().expect("messages").clone();
    let want = Want::Messages { filter, floors: Vec::new() };
    Frame::Pull(Pull { log: state.descriptor.id(), next: Default::default(), held: None, want })
}

/// A log that a test signs itself.
pub struct Log {
    pub key: SigningKey,
    pub descriptor: LogDescriptor,
    pub tail: Tail,
}

impl Log {
    /// An empty log for `s.>`.
    pub fn of(key: &SigningKey) -> Self {
        let filter = Filter::parse("s.>").expect("a filter");
        let source = Source { stream: "S".into(), created: 1_700_000_000_000_000_000, filter };
        let descriptor = LogDescriptor::messages(key.verifying_key().into(), 1_700_000_000_000, source);
        Self { key: key.clone(), descriptor, tail: Tail::default() }
    }

    /// What a node that holds this log says of it.
    pub fn state(&self) -> LogState {
        LogState {
            descriptor: self.descriptor.clone(),
            closed: false,
            head: self.tail.head,
            through: self.tail.through,
            total: self.tail.total,
            pending: Some(0),
        }
    }

    /// The next message.
    pub fn record(&self, subject: &str, text: &str) -> SourceRecord {
        let seq = self.tail.through.seq.next();
        let position = Position { seq, time: 1_700_000_000_000_000_000 + seq.0 };
        let record = CanonicalRecord::encode(subject, b"", text.as_bytes()).expect("a record");
        SourceRecord { position, record }
    }

    /// Signs an operation about one message, as the next one of the log.
    pub fn sign(&mut self, record: &SourceRecord) -> Operation {
        let operation = self.sign_as(&self.key.clone(), record);
        self.tail = Tail::after(&operation);
        operation
    }

    /// The same with any key, and without going on.
    pub fn sign_as(&self, key: &SigningKey, record: &SourceRecord) -> Operation {
        let entry = Entry { position: record.position, digest: record.record.digest() };
        let len = record.record.as_bytes().len() as u64;
        let content = Manifest::new(len, vec![entry]).expect("a manifest").into();
        let body = Body { before: self.tail.total, content };
        Operation::sign(key, self.descriptor.id(), self.tail.head, 1_700_000_000_000_000, body)
    }
}

/// A batch frame.
pub fn batch(operation: &Operation, record: &SourceRecord) -> Bytes {
    encode_batch(operation.raw(), std::iter::once(Ok(&record.record)))
}
