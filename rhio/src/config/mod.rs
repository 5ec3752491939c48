//! Configuration: what an operator can set, where it is read from, and what is wrong with it.
//!
//! An option on the command line wins over an environment variable, that over the file, and that over the default.
//! Every value is checked before anything starts; an error names file, line and key.

mod checks;
mod decode;
mod env;
mod error;
mod network;
mod reader;
mod source;
mod tree;

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use rhio_core::id::PublicKey;
use rhio_core::subject::Filter;

use crate::telemetry::Sample;

pub use error::{ConfigError, Problem};
pub use network::{Endpoint, NodeEndpoint};
pub use source::{Environment, Loaded, Overrides, environment, load, load_from};

/// UDP port for other nodes, unless set.
pub const DEFAULT_BIND_PORT: u16 = 9102;
/// HTTP port, unless set.
pub const DEFAULT_HTTP_BIND_PORT: u16 = 3000;
/// Network id, unless set.
pub const DEFAULT_NETWORK_ID: &str = "rhio-default-network-1";
/// Private key file, unless set; relative to the working directory.
pub const DEFAULT_PRIVATE_KEY_PATH: &str = "private-key.txt";
/// Folder for blobs' outboards, unless set; relative to the working directory.
pub const DEFAULT_BLOBS_DIR: &str = "blobs";
/// Stream for rhio's own operation log, unless set.
pub const DEFAULT_STATE_STREAM: &str = "RHIO";
/// Region that S3 requests are signed for, unless set.
pub const DEFAULT_S3_REGION: &str = "eu-central-1";
/// How often buckets are listed, unless set.
pub const DEFAULT_S3_POLL_INTERVAL: Duration = Duration::from_secs(5);

/// Everything that can be configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// UDP port for other nodes. 0 picks a free one. Default 9102.
    pub bind_port: u16,
    /// TCP port for HTTP. 0 turns HTTP off. Default 3000.
    pub http_bind_port: u16,
    /// Address that HTTP listens on. Default: all of them.
    pub http_bind_address: Option<IpAddr>,
    /// Nodes with another id never talk. Not empty. Default `rhio-default-network-1`.
    pub network_id: String,
    /// File with the node's private key: 64 hex digits. Default `private-key.txt`.
    pub private_key_path: PathBuf,
    /// What is logged: a level, `=LEVEL` or a filter, as [`crate::logging::LogFilter`] reads it. Default `INFO`.
    pub log_level: String,
    /// How a log line looks. Default text.
    pub log_format: LogFormat,
    /// Who may read what has no list of its own. Default known.
    pub access: Access,
    /// Folder for what blobs need on local disk; a cache. Default `blobs`.
    pub blobs_dir: PathBuf,
    /// The local NATS.
    pub nats: Nats,
    /// The local S3, when there is one.
    pub s3: Option<S3>,
    /// What `rhio.import` may read.
    pub import: Import,
    /// Where traces go; `None`: nothing is traced.
    pub tracing: Option<Tracing>,
    /// Other nodes that this one knows.
    pub nodes: Vec<Node>,
    /// What this node offers.
    pub publish: Publish,
    /// What this node wants.
    pub subscribe: Subscribe,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Who may read what has no `allow` list of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// The nodes listed under `nodes`.
    #[default]
    Known,
    /// Any node with the same network id.
    Open,
}

/// The local NATS and how to connect to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nats {
    /// Servers of one cluster, tried in random order. At least one. Default `localhost:4222`.
    pub endpoint: Vec<Endpoint>,
    /// How to authenticate. Default: not at all.
    pub credentials: Option<Credentials>,
    /// TLS settings. When set, TLS is required; else a server that asks for TLS gets it with the system's CAs.
    pub tls: Option<Tls>,
    /// Where rhio keeps its operation log.
    pub state: State,
}

/// How to authenticate at NATS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// User name and password.
    UserPassword {
        /// The user's name.
        username: String,
        /// Its password.
        password: Secret,
    },
    /// A token.
    Token(Secret),
    /// The seed of a user's nkey, `SU…`.
    Nkey(Secret),
    /// A file with a user JWT and its seed, read again on every connect, so that it can be renewed at any time.
    CredsFile(PathBuf),
}

/// TLS towards NATS. All files are PEM and are read again on every connect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// The CA that signed the server's certificate. Default: the system's CAs.
    pub ca: Option<PathBuf>,
    /// Our own certificate and its key, for servers that verify clients.
    pub client: Option<ClientCert>,
}

/// A client certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCert {
    /// The certificate, with its chain.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// rhio's own stream, which holds the operation logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Its name. Default `RHIO`.
    pub stream: String,
    /// Its replicas, 1 to 5, for when rhio creates it. Default 1.
    pub replicas: u8,
    /// Its storage, for when rhio creates it. Default file.
    pub storage: Storage,
}

/// Where JetStream keeps a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Storage {
    /// On disk.
    #[default]
    File,
    /// In memory: gone when the server restarts.
    Memory,
}

/// The local S3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3 {
    /// Where it is. Default `http://localhost:9000`.
    pub endpoint: S3Endpoint,
    /// Region that requests are signed for. Default `eu-central-1`.
    pub region: String,
    /// Keys; without them requests are not signed.
    pub credentials: Option<S3Credentials>,
    /// The CA that signed the server's certificate, PEM. Default: the system's CAs.
    pub ca: Option<PathBuf>,
    /// Buckets are named in the path of a request, not in the host name. Default true.
    pub path_style: bool,
    /// Time between two listings of a bucket, 100 ms to a day. Default 5 s.
    pub poll_interval: Duration,
    /// Subject under which the server's notifications of changes arrive. Default: none.
    pub events: Option<Filter>,
}

/// Where buckets are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum S3Endpoint {
    /// An S3 server: `http://` or `https://`, host and optional port.
    Server(String),
    /// A folder in which each bucket is a folder.
    Folder(PathBuf),
}

/// Keys for S3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Credentials {
    /// The key's name.
    pub access_key: String,
    /// Its secret.
    pub secret_key: Secret,
    /// Token of a temporary session.
    pub session_token: Option<Secret>,
}

/// What `rhio.import` may read, and where it puts it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Import {
    /// Files below these folders, and no others. Default: none.
    pub dirs: Vec<PathBuf>,
    /// The bucket for what names none. Default: the first published one.
    pub bucket: Option<String>,
}

/// Export of traces by OpenTelemetry's protocol, OTLP over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tracing {
    /// The collector: `http://` or `https://`, host, and a path if `/v1/traces` is not at the root.
    pub otlp_endpoint: String,
    /// The share of batches that is traced. Default: all of them.
    pub sample: Sample,
    /// Headers of every request.
    pub headers: Vec<(String, Secret)>,
}

/// Another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its public key.
    pub public_key: PublicKey,
    /// Where to reach it; empty when only it dials us.
    pub endpoints: Vec<NodeEndpoint>,
}

/// What this node offers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Publish {
    /// Local buckets.
    pub s3_buckets: Vec<PublishBucket>,
    /// Subjects of local streams. On one stream, no two of them are the same or overlap in part.
    pub nats_subjects: Vec<PublishSubject>,
}

/// A bucket that this node offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishBucket {
    /// The local bucket.
    pub bucket: String,
    /// Who may read it; `None`: as [`Config::access`] says.
    pub allow: Option<Vec<PublicKey>>,
}

/// A subject that this node offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishSubject {
    /// What is offered.
    pub subject: Filter,
    /// The local stream that captures it.
    pub stream: String,
    /// Who may read it; `None`: as [`Config::access`] says.
    pub allow: Option<Vec<PublicKey>>,
}

/// What this node wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscribe {
    /// Other nodes' buckets. No two go into the same local bucket.
    pub s3_buckets: Vec<SubscribeBucket>,
    /// Other nodes' subjects. No two of one author into one local stream overlap.
    pub nats_subjects: Vec<SubscribeSubject>,
}

/// A bucket that this node wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscribeBucket {
    /// Its name at the author.
    pub remote_bucket: String,
    /// The local bucket for its objects.
    pub local_bucket: String,
    /// The author.
    pub public_key: PublicKey,
    /// What becomes of an object here that the author deletes.
    pub deletes: Deletes,
}

/// What becomes of an object here that its author deletes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Deletes {
    /// It stays.
    #[default]
    Keep,
    /// It goes.
    Follow,
}

/// A subject that this node wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscribeSubject {
    /// What is wanted.
    pub subject: Filter,
    /// The local stream that must capture it.
    pub stream: String,
    /// The author.
    pub public_key: PublicKey,
}

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps a text from being shown.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            bind_port: DEFAULT_BIND_PORT,
            http_bind_port: DEFAULT_HTTP_BIND_PORT,
            http_bind_address: None,
            network_id: DEFAULT_NETWORK_ID.into(),
            private_key_path: DEFAULT_PRIVATE_KEY_PATH.into(),
            log_level: crate::logging::DEFAULT_LEVEL.into(),
            log_format: LogFormat::default(),
            access: Access::default(),
            blobs_dir: DEFAULT_BLOBS_DIR.into(),
            nats: Nats::default(),
            s3: None,
            import: Import::default(),
            tracing: None,
            nodes: Vec::new(),
            publish: Publish::default(),
            subscribe: Subscribe::default(),
        }
    }
}

impl Default for Nats {
    fn default() -> Self {
        let state = State { stream: DEFAULT_STATE_STREAM.into(), replicas: 1, storage: Storage::default() };
        Self { endpoint: vec![Endpoint::default()], credentials: None, tls: None, state }
    }
}

impl Default for S3 {
    fn default() -> Self {
        Self {
            endpoint: S3Endpoint::Server("http://localhost:9000".into()),
            region: DEFAULT_S3_REGION.into(),
            credentials: None,
            ca: None,
            path_style: true,
            events: None,
            poll_interval: DEFAULT_S3_POLL_INTERVAL,
        }
    }
}

impl Config {
    /// The keys whose values differ and that a running rhio cannot take over: everything but `nodes`, `publish` and
    /// `subscribe`.
    pub fn needs_restart(&self, new: &Self) -> Vec<&'static str> {
        let Self {
            bind_port,
            http_bind_port,
            http_bind_address,
            network_id,
            private_key_path,
            log_level,
            log_format,
            access,
            blobs_dir,
            nats,
            s3,
            import,
            tracing,
            nodes: _,
            publish: _,
            subscribe: _,
        } = self;
        let differs = [
            ("bind_port", *bind_port != new.bind_port),
            ("http_bind_port", *http_bind_port != new.http_bind_port),
            ("http_bind_address", *http_bind_address != new.http_bind_address),
            ("network_id", *network_id != new.network_id),
            ("private_key_path", *private_key_path != new.private_key_path),
            ("log_level", *log_level != new.log_level),
            ("log_format", *log_format != new.log_format),
            ("access", *access != new.access),
            ("blobs_dir", *blobs_dir != new.blobs_dir),
            ("nats", *nats != new.nats),
            ("s3", *s3 != new.s3),
            ("import", *import != new.import),
            ("tracing", *tracing != new.tracing),
        ];
        differs.iter().filter(|(_, differs)| *differs).map(|(key, _)| *key).collect()
    }
}
