//! What the node says of itself, as JSON: the answers of `/api/v1`, of `/health` and `/readyz`, and of `rhio.status`.
//!
//! These types are the description too: `docs/api.schema.json` is made from them, and a test compares both. Adding a
//! field is free, changing one is not. A value that is not known is `null`, never 0. Times are RFC 3339 in UTC.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Verdict {
    /// Everything that is configured works.
    Running,
    /// Something that is configured does not work, the rest does.
    Degraded,
    /// Nothing works: NATS, the node's own state or the network is not there.
    Error,
}

/// Something that is wrong, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// What it is about, such as `stream 'workload'`.
    pub what: String,
    /// What is wrong with it.
    pub problem: String,
    /// The same as a code that stays when the words change.
    #[serde(default)]
    pub code: String,
    /// The next thing to do.
    pub remedy: String,
    /// Whether the node is not ready because of it.
    pub blocks_readiness: bool,
}

/// What the last look at something showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CheckState {
    /// It is not known yet.
    Unknown,
    /// It answers.
    Ok,
    /// It does not.
    Failing,
}

/// Something that rhio needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Check {
    /// Its name: a stream, a bucket, or a server's address.
    pub name: String,
    /// What the last look showed.
    pub state: CheckState,
    /// Why it failed the last time that it did.
    pub last_error: Option<String>,
    /// The same as a code that stays when the words change.
    pub last_error_code: Option<String>,
    /// When that was.
    pub last_error_at: Option<String>,
    /// When it was looked at last.
    pub last_checked: Option<String>,
}

/// The answer of `/health`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Health {
    /// The verdict.
    pub status: Verdict,
    /// Whether `/readyz` says 200.
    pub ready: bool,
    /// What is wrong, worst first.
    pub problems: Vec<Problem>,
    /// The NATS server.
    pub nats: Check,
    /// The stream that holds rhio's own logs.
    pub state: Check,
    /// The UDP port for other nodes.
    pub network: Check,
    /// Every stream that the configuration names.
    pub streams: Vec<Check>,
    /// Every bucket that the configuration names.
    pub buckets: Vec<Check>,
}

/// The answer of `/readyz`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Readiness {
    /// Whether the node can do its work.
    pub ready: bool,
    /// Why not.
    pub reasons: Vec<Problem>,
}

/// Which way a connection was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The peer dialled.
    In,
    /// This node dialled.
    Out,
}

/// Another node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Peer {
    /// Its public key, 64 hex digits.
    pub public_key: String,
    /// Whether the configuration names it; in an open network others may connect too.
    pub configured: bool,
    /// The addresses of it that are configured.
    pub addresses: Vec<String>,
    /// Whether there is a connection with it.
    pub connected: bool,
    /// Whether something is subscribed there, so that a connection is kept.
    pub wanted: bool,
    /// The address that is talked to now.
    pub remote_address: Option<String>,
    /// Who made the present connection.
    pub direction: Option<Side>,
    /// Since when it is connected.
    pub connected_since: Option<String>,
    /// Round-trip time of the present connection.
    pub round_trip_seconds: Option<f64>,
    /// UDP payload received from it since the process started.
    pub received_bytes: u64,
    /// UDP payload sent to it since the process started.
    pub sent_bytes: u64,
    /// Connections made with it since the process started.
    pub connects: u64,
    /// Why there is no connection, as far as that is known.
    pub last_error: Option<String>,
    /// The same as a code that stays when the words change; `null` while connected.
    pub code: Option<String>,
}

/// The answer of `/api/v1/peers/count`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PeerCount {
    /// Nodes that are listed by `/api/v1/peers`.
    pub count: u64,
    /// Those of them that are connected.
    pub connected: u64,
}

/// What an entry is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Messages under a subject filter.
    Subject,
    /// The objects of a bucket.
    Bucket,
}

/// The state of a publication or subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EntryState {
    /// Not begun yet.
    Starting,
    /// At work.
    Active,
    /// It can't go on by itself; it is tried again all the time.
    Waiting,
}

/// Where in its log an entry stands, durably.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LogPosition {
    /// The log, 64 hex digits.
    pub log: String,
    /// The number of the last operation; `null` while there is none.
    pub operation: Option<u64>,
    /// Messages that the log describes up to there, or a catalog's entries.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Sequence number of the last message in the author's stream; `null` for buckets.
    pub source_sequence: Option<u64>,
}

/// How far behind an entry is. Every value is `null` while it is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Lag {
    /// Messages that are missing; `null` for buckets.
    pub messages: Option<u64>,
    /// Changes of objects that are missing; `null` for subjects.
    pub objects: Option<u64>,
    /// Bytes of what is missing, as far as the author has signed it.
    pub bytes: Option<u64>,
    /// What is missing is at most this old; 0 when nothing is.
    pub seconds: Option<f64>,
}

/// What was done since the process started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Totals {
    /// Messages, or objects.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// A node that reads a publication.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Reader {
    /// Its public key.
    pub public_key: String,
    /// Since when it reads.
    pub since: String,
    /// The last operation that it says to hold durably; `null` while it has not said.
    pub applied_operation: Option<u64>,
}

/// Something that this node offers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Publication {
    /// Names it in `/api/v1/history`.
    pub id: String,
    /// What it is about.
    pub kind: Kind,
    /// The subject filter, or the bucket.
    pub name: String,
    /// The local stream; `null` for buckets.
    pub stream: Option<String>,
    /// The bucket; `null` for subjects.
    pub bucket: Option<String>,
    /// Its state.
    pub state: EntryState,
    /// Why it waits; `null` unless it does.
    pub waits_for: Option<String>,
    /// The same as a code that stays when the words change.
    pub code: Option<String>,
    /// What to do about that.
    pub remedy: Option<String>,
    /// Where its log ends; `null` while that is not known.
    pub position: Option<LogPosition>,
    /// What is not sealed yet.
    pub lag: Lag,
    /// What was sealed.
    pub sealed: Totals,
    /// Operations that this took.
    pub sealed_operations: u64,
    /// What was sent to other nodes.
    pub sent: Totals,
    /// Messages that can't be replicated.
    pub unreplicable: u64,
    /// Who reads it now.
    pub readers: Vec<Reader>,
    /// When something was sealed last.
    pub last_progress: Option<String>,
    /// The last trouble.
    pub last_error: Option<String>,
    /// The same as a code.
    pub last_error_code: Option<String>,
    /// What to do about it, if it lasts.
    pub last_error_remedy: Option<String>,
    /// When that was.
    pub last_error_at: Option<String>,
    /// How often it ran into troubles, by code; one that lasts counts once. Those that did not occur are left out.
    #[serde(default)]
    pub troubles: BTreeMap<String, u64>,
}

/// Something that this node wants of another one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Subscription {
    /// Names it in `/api/v1/history`.
    pub id: String,
    /// What it is about.
    pub kind: Kind,
    /// The subject filter, or the author's bucket.
    pub name: String,
    /// The local stream; `null` for buckets.
    pub stream: Option<String>,
    /// The local bucket; `null` for subjects.
    pub bucket: Option<String>,
    /// The author's public key.
    pub author: String,
    /// Its state.
    pub state: EntryState,
    /// Why it waits; `null` unless it does.
    pub waits_for: Option<String>,
    /// The same as a code that stays when the words change.
    pub code: Option<String>,
    /// What to do about that.
    pub remedy: Option<String>,
    /// What of the author's newest log is stored here; `null` while that is not known.
    pub position: Option<LogPosition>,
    /// How far it is behind the author, by what is verified and durably stored here.
    pub lag: Lag,
    /// What was verified.
    pub verified: Totals,
    /// What was stored.
    pub applied: Totals,
    /// Messages that the author's stream no longer held.
    pub gone: u64,
    /// What the author sent that was not accepted.
    pub refused: u64,
    /// The same by reason: `protocol`, `signature`, `digest`, `order`, `other`. Reasons that did not occur are left out.
    pub refused_by_reason: BTreeMap<String, u64>,
    /// Times that it was begun anew because nothing moved.
    pub restarts: u64,
    /// A mass delete waits for an operator's word.
    pub held_deletes: bool,
    /// When something was stored last.
    pub last_progress: Option<String>,
    /// The last trouble.
    pub last_error: Option<String>,
    /// The same as a code.
    pub last_error_code: Option<String>,
    /// What to do about it, if it lasts.
    pub last_error_remedy: Option<String>,
    /// When that was.
    pub last_error_at: Option<String>,
    /// How often it ran into troubles, by code; one that lasts counts once. Those that did not occur are left out.
    #[serde(default)]
    pub troubles: BTreeMap<String, u64>,
}

/// Which way content goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// From a local file or bucket into a catalog.
    Import,
    /// To another node.
    Send,
    /// From another node.
    Receive,
}

/// Content on its way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Transfer {
    /// Which way.
    pub direction: Direction,
    /// The local bucket.
    pub bucket: String,
    /// The object.
    pub key: String,
    /// Its bytes.
    pub size: u64,
    /// Bytes that are done.
    pub done: u64,
    /// Bytes a second since it began here.
    pub bytes_per_second: f64,
    /// Seconds that it takes to the end at that rate; `null` while nothing has moved.
    pub seconds_left: Option<f64>,
    /// The other node; `null` for imports.
    pub peer: Option<String>,
    /// When it began here.
    pub begun: String,
}

/// An object that is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Blob {
    /// BLAKE3 hash of its content, 64 hex digits.
    pub hash: String,
    /// Its bytes.
    pub size: u64,
    /// The local bucket.
    pub bucket: String,
    /// Its key there.
    pub key: String,
    /// The public key of the node that it comes from; for an object of a published bucket, this node.
    pub origin: String,
    /// Whether the local bucket holds it. It does not while it has still to be brought here.
    pub here: bool,
}

/// All objects that are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BlobTotals {
    /// How many.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What an operation describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OperationKind {
    /// Messages.
    Messages,
    /// A catalog's entries.
    Catalog,
}

/// A signed operation that this node holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Operation {
    /// Its hash, 64 hex digits.
    pub hash: String,
    /// The log that it belongs to, 64 hex digits.
    pub log: String,
    /// Who signed it.
    pub author: String,
    /// Its number in the log.
    pub operation: u64,
    /// The hash of the operation before it.
    pub backlink: Option<String>,
    /// When it was signed, by the author's clock.
    pub signed: String,
    /// What it describes.
    pub describes: OperationKind,
    /// How many messages or entries.
    pub count: u64,
    /// Sequence number of its first message in the author's stream; `null` for catalogs.
    pub first_sequence: Option<u64>,
    /// Sequence number of its last message.
    pub last_sequence: Option<u64>,
    /// Its own bytes, header and body.
    pub bytes: u64,
}

/// The answer of `/api/v1/operations/count`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OperationCount {
    /// Operations that the state stream holds for this node, own and others'; `null` while it does not answer.
    pub count: Option<u64>,
}

/// The answer of `/api/v1/status` and of `rhio.status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NodeStatus {
    /// rhio's version.
    pub version: String,
    /// The node's public key, 64 hex digits.
    pub public_key: String,
    /// The network that it belongs to.
    pub network_id: String,
    /// When this answer was made.
    pub time: String,
    /// When the process started.
    pub started: String,
    /// Seconds since then.
    pub uptime_seconds: f64,
    /// UDP sockets on which other nodes reach it.
    pub listens: Vec<String>,
    /// How it is.
    pub health: Health,
    /// Known nodes.
    pub peers: Vec<Peer>,
    /// What it offers.
    pub publications: Vec<Publication>,
    /// What it wants.
    pub subscriptions: Vec<Subscription>,
    /// Content on its way.
    pub transfers: Vec<Transfer>,
    /// Operations that it holds.
    pub operations: OperationCount,
    /// Objects that it knows.
    pub blobs: BlobTotals,
}

/// The last minutes of one publication or subscription, one value for each time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Series {
    /// The publication's or subscription's `id`.
    pub id: String,
    /// Messages or objects sealed or applied since the process started.
    pub messages: Vec<u64>,
    /// Their bytes.
    pub bytes: Vec<u64>,
    /// Messages or objects that were missing.
    pub lag: Vec<Option<u64>>,
    /// How old the oldest missing one was at most.
    pub lag_seconds: Vec<Option<f64>>,
}

/// The answer of `/api/v1/history`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct History {
    /// Seconds between two values.
    pub interval_seconds: f64,
    /// Seconds since the Unix epoch of the newest value of each series; they are in step.
    pub newest: f64,
    /// One for each publication and subscription. A younger one has fewer values.
    pub series: Vec<Series>,
}

/// The answer to a request that can't be fulfilled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Failure {
    /// One sentence.
    pub error: String,
}
