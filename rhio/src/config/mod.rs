//! Configuration: what an operator can set, where it is read from, and what is wrong with it.
//!
//! An option on the command line wins over an environment variable, that over the file, and that over the default.
//! Every value is checked before anything starts; an error names file, line and key.

mod checks;
mod decode;
mod env;
mod error;
mod given;
mod network;
mod reader;
mod source;
mod tree;

use std::net::IpAddr;
use std::path::PathBuf;

use rhio_core::id::PublicKey;
use rhio_core::subject::Filter;

pub use crate::logging::LogFormat;
pub use crate::otlp::Tracing;
pub use error::{ConfigError, Problem};
pub use given::{Environment, Overrides, environment};
pub use rhio_core::secret::Secret;
pub use rhio_nats::settings::{ClientCert, Credentials, DEFAULT_STATE_STREAM, Endpoint, Nats, State, Storage, Tls};
pub use rhio_net::settings::{DEFAULT_BIND_PORT, NodeEndpoint};
pub use rhio_router::settings::{
    DEFAULT_S3_POLL_INTERVAL, DEFAULT_S3_REGION, Deletes, Import, S3, S3Credentials, S3Endpoint,
};
pub use source::{Loaded, load, load_from};

/// HTTP port, unless set.
pub const DEFAULT_HTTP_BIND_PORT: u16 = 3000;
/// Network id, unless set.
pub const DEFAULT_NETWORK_ID: &str = "rhio-default-network-1";
/// Private key file, unless set; relative to the working directory.
pub const DEFAULT_PRIVATE_KEY_PATH: &str = "private-key.txt";
/// Folder for blobs' outboards, unless set; relative to the working directory.
pub const DEFAULT_BLOBS_DIR: &str = "blobs";

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

/// Who may read what has no `allow` list of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// The nodes listed under `nodes`.
    #[default]
    Known,
    /// Any node with the same network id.
    Open,
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
