//! Putting a rhio together before its first start.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use p2panda_core::SigningKey;
use tempfile::TempDir;

use super::log::LogFile;
use super::{Node, Publish, PublishBucket, Rhio, RhioConfig, S3Section, Subscribe, SubscribeBucket, find_rhio};
use crate::nats::NatsServer;
use crate::ports::PortLease;

/// Names the log level of every rhio that a test does not give one, to look at what a test does.
const LOG_LEVEL: &str = "RHIO_TEST_LOG_LEVEL";
/// What the log says once a node does its work.
const READY_LOG: &str = "rhio is running";

/// A rhio to be. Its keys and ports are known as soon as it is built, before anything starts.
#[derive(Debug)]
pub struct RhioBuilder {
    name: String,
    binary: Option<PathBuf>,
    key: SigningKey,
    config: RhioConfig,
    text: Option<String>,
    env: BTreeMap<String, String>,
    arguments: Vec<String>,
    ready_log: String,
    allowed: Vec<String>,
}

impl RhioBuilder {
    pub(super) fn new(name: &str) -> Self {
        let config = RhioConfig {
            network_id: format!("testkit-{}", std::process::id()),
            log_format: "json".into(),
            log_level: std::env::var(LOG_LEVEL).ok(),
            nats_endpoint: "127.0.0.1:4222".into(),
            ..RhioConfig::default()
        };
        Self {
            name: name.into(),
            binary: None,
            key: SigningKey::generate(),
            config,
            text: None,
            env: BTreeMap::new(),
            arguments: Vec::new(),
            ready_log: READY_LOG.into(),
            allowed: Vec::new(),
        }
    }

    /// Runs this executable, such as `env!("CARGO_BIN_EXE_rhio")`. Without it: [`find_rhio`].
    pub fn binary(mut self, path: impl AsRef<Path>) -> Self {
        self.binary = Some(path.as_ref().to_path_buf());
        self
    }

    /// The private key that a number stands for, the same each time. Without it: a random one.
    pub fn seed(mut self, seed: u64) -> Self {
        let mut bytes = [0x5a; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        self.key = SigningKey::from_bytes(&bytes);
        self
    }

    /// A given private key.
    pub fn signing_key(mut self, key: SigningKey) -> Self {
        self.key = key;
        self
    }

    /// Works with this NATS server, with the credentials that it wants.
    pub fn nats(mut self, server: &NatsServer) -> Self {
        self.config.nats(server);
        self
    }

    /// Changes the configuration in any other way.
    pub fn configure(mut self, change: impl FnOnce(&mut RhioConfig)) -> Self {
        change(&mut self.config);
        self
    }

    /// Uses this text as `config.yaml` instead of what the other methods put together.
    pub fn config_yaml(mut self, text: &str) -> Self {
        self.text = Some(text.into());
        self
    }

    /// Knows another node.
    pub fn node(mut self, node: Node) -> Self {
        self.config.nodes.push(node);
        self
    }

    /// Offers a subject of a local stream.
    pub fn publish(mut self, subject: &str, stream: &str) -> Self {
        self.config.publish.push(Publish { subject: subject.into(), stream: stream.into(), allow: None });
        self
    }

    /// Wants a subject of an author's, in a local stream.
    pub fn subscribe(mut self, subject: &str, stream: &str, public_key: &str) -> Self {
        let entry = Subscribe { subject: subject.into(), stream: stream.into(), public_key: public_key.into() };
        self.config.subscribe.push(entry);
        self
    }

    /// Works with buckets there.
    pub fn s3(mut self, s3: S3Section) -> Self {
        self.config.s3 = Some(s3);
        self
    }

    /// Offers a bucket.
    pub fn publish_bucket(mut self, bucket: &str) -> Self {
        self.config.publish_buckets.push(PublishBucket { bucket: bucket.into(), allow: None });
        self
    }

    /// Wants an author's bucket, in a local one.
    pub fn subscribe_bucket(mut self, remote_bucket: &str, local_bucket: &str, public_key: &str) -> Self {
        self.config.subscribe_buckets.push(SubscribeBucket {
            remote_bucket: remote_bucket.into(),
            local_bucket: local_bucket.into(),
            public_key: public_key.into(),
            deletes: None,
        });
        self
    }

    /// Sets an environment variable. Those of the test process that begin with `RHIO_` are not passed on.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.into(), value.into());
        self
    }

    /// Appends a command line argument.
    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// The words in the log that [`Rhio::start`] waits for.
    pub fn ready_log(mut self, words: &str) -> Self {
        self.ready_log = words.into();
        self
    }

    /// Warnings and errors that hold these words are expected.
    pub fn allow_log(mut self, words: &str) -> Self {
        self.allowed.push(words.into());
        self
    }

    /// Whatever is logged is fine.
    pub fn allow_any_log(self) -> Self {
        // Every line holds the empty words.
        self.allow_log("")
    }

    /// Gives it a port and a folder, and writes its key. It does not run yet.
    pub fn build(self) -> Rhio {
        self.try_build().unwrap_or_else(|e| panic!("{e:#}"))
    }

    /// The same, for a caller that handles the failure.
    pub fn try_build(mut self) -> anyhow::Result<Rhio> {
        let binary = self.binary.map_or_else(find_rhio, Ok)?;
        let folder =
            TempDir::with_prefix(format!("rhio-{}-", self.name)).context("cannot create a temporary folder")?;
        let port = PortLease::take();
        self.config.bind_port = port.port();
        // The lease is good for both; one is UDP, the other TCP.
        self.config.http_bind_port = port.port();
        if self.config.s3.is_some() && self.config.blobs_dir.is_none() {
            self.config.blobs_dir = Some(folder.path().join("blobs").display().to_string());
        }
        let rhio = Rhio {
            name: self.name,
            binary,
            log: LogFile::new(folder.path()),
            folder,
            key: self.key,
            port,
            config: self.config,
            text: self.text,
            env: self.env,
            arguments: self.arguments,
            ready_log: self.ready_log,
            process: None,
            started_at: 0,
            allowed: self.allowed,
        };
        let key_file = rhio.key_path();
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&key_file)
            .and_then(|mut file| writeln!(file, "{}", rhio.key.to_hex()))
            .with_context(|| format!("cannot write {}", key_file.display()))?;
        rhio.write_config();
        Ok(rhio)
    }

    /// Builds and starts it.
    pub async fn start(self) -> Rhio {
        let mut rhio = self.build();
        rhio.start().await;
        rhio
    }
}
