//! A whole cluster: one NATS server, one rhio beside it, and buckets if it has some.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use async_nats::Client;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::checker::{Check, Publisher};
use crate::nats::{NatsOptions, NatsServer};
use crate::rhio::{Publish, PublishBucket, Rhio, RhioBuilder, S3Section, Subscribe, SubscribeBucket};
use crate::weed::WeedServer;

/// One NATS server with JetStream and one rhio.
///
/// A new cluster's NATS runs; its rhio does not, so that it can be configured first.
#[derive(Debug)]
pub struct Cluster {
    /// The rhio. First, so that it goes before its server.
    pub rhio: Rhio,
    /// The server.
    pub nats: NatsServer,
    /// The S3 server, of a cluster [with one](Cluster::with_s3).
    pub weed: Option<WeedServer>,
    /// What holds its buckets, of a cluster [with folders](Cluster::with_folder).
    folders: Option<TempDir>,
}

impl Cluster {
    /// A cluster with an open NATS server.
    pub async fn new(name: &str) -> Self {
        Self::with(name, NatsOptions::new(), |rhio| rhio).await
    }

    /// A cluster to order.
    pub async fn with(name: &str, nats: NatsOptions, rhio: impl FnOnce(RhioBuilder) -> RhioBuilder) -> Self {
        Self::try_with(name, nats, rhio).await.unwrap_or_else(|e| panic!("{e:#}"))
    }

    /// The same, for a caller that handles the failure.
    pub async fn try_with(
        name: &str,
        nats: NatsOptions,
        rhio: impl FnOnce(RhioBuilder) -> RhioBuilder,
    ) -> anyhow::Result<Self> {
        let nats = NatsServer::try_start(nats).await?;
        let rhio = rhio(Rhio::builder(name).nats(&nats)).try_build()?;
        Ok(Self { rhio, nats, weed: None, folders: None })
    }

    /// A cluster with an open NATS server and an S3 server.
    pub async fn with_s3(name: &str) -> Self {
        Self::try_with_s3(name, NatsOptions::new(), |rhio| rhio).await.unwrap_or_else(|e| panic!("{e:#}"))
    }

    /// The same to order, and for a caller that handles the failure.
    pub async fn try_with_s3(
        name: &str,
        nats: NatsOptions,
        rhio: impl FnOnce(RhioBuilder) -> RhioBuilder,
    ) -> anyhow::Result<Self> {
        let (nats, weed) = tokio::try_join!(NatsServer::try_start(nats), WeedServer::try_start())?;
        let builder = Rhio::builder(name).nats(&nats).s3(S3Section::server(&weed));
        let rhio = rhio(builder).try_build()?;
        Ok(Self { rhio, nats, weed: Some(weed), folders: None })
    }

    /// A cluster with an open NATS server and plain folders as buckets, below [`folder`](Self::folder).
    pub async fn with_folder(name: &str) -> Self {
        let folders = TempDir::with_prefix(format!("rhio-{name}-buckets-")).expect("a temporary folder");
        let s3 = S3Section::folder(folders.path());
        let mut cluster = Self::with(name, NatsOptions::new(), |rhio| rhio.s3(s3)).await;
        cluster.folders = Some(folders);
        cluster
    }

    /// Its S3 server. Panics when it has none.
    pub fn s3(&self) -> &WeedServer {
        self.weed.as_ref().expect("a cluster with an S3 server")
    }

    /// The same, to stop or pause it.
    pub fn s3_mut(&mut self) -> &mut WeedServer {
        self.weed.as_mut().expect("a cluster with an S3 server")
    }

    /// The folder that holds its buckets. Panics when it has none.
    pub fn folder(&self) -> &Path {
        self.folders.as_ref().expect("a cluster with folders").path()
    }

    /// Creates a bucket, on the S3 server or as a folder.
    pub async fn create_bucket(&self, name: &str) {
        match &self.weed {
            Some(weed) => drop(weed.create_bucket(name).await),
            None => std::fs::create_dir(self.folder().join(name))
                .unwrap_or_else(|e| panic!("cannot create the folder of bucket {name}: {e}")),
        }
    }

    /// Starts the rhio.
    pub async fn start(&mut self) {
        self.rhio.start().await;
    }

    /// A new client of its NATS.
    pub async fn client(&self) -> Client {
        self.nats.client().await
    }

    /// Creates a stream in its NATS.
    pub async fn create_stream(&self, name: &str, subjects: &[&str]) {
        self.create_stream_with(name, subjects, json!({})).await;
    }

    /// Creates a stream with further settings, as JetStream's API names them: `json!({"max_msgs": 10})`.
    pub async fn create_stream_with(&self, name: &str, subjects: &[&str], settings: Value) {
        create_stream(&self.client().await, name, subjects, settings).await.unwrap_or_else(|e| panic!("{e:#}"));
    }

    /// How many messages a stream holds.
    pub async fn stream_len(&self, name: &str) -> u64 {
        let context = async_nats::jetstream::new(self.client().await);
        let stream = context.get_stream(name).await.unwrap_or_else(|e| panic!("cannot find stream {name}: {e}"));
        stream.cached_info().state.messages
    }

    /// A publisher on these subjects.
    pub async fn publisher(&self, subjects: &[&str]) -> Publisher {
        Publisher::new(&self.client().await, subjects)
    }

    /// Offers a subject of a local stream; takes effect at the next start or reload.
    pub fn publish(&mut self, subject: &str, stream: &str) {
        self.rhio.rewrite_config(|config| {
            config.publish.push(Publish { subject: subject.into(), stream: stream.into(), allow: None });
        });
    }

    /// Wants a subject of another cluster's, in a local stream; takes effect at the next start or reload.
    pub fn subscribe(&mut self, subject: &str, stream: &str, author: &Cluster) {
        let public_key = author.rhio.public_key();
        self.rhio.rewrite_config(|config| {
            config.subscribe.push(Subscribe { subject: subject.into(), stream: stream.into(), public_key });
        });
    }

    /// Offers a local bucket; takes effect at the next start or reload.
    pub fn publish_bucket(&mut self, bucket: &str) {
        self.rhio.rewrite_config(|config| {
            config.publish_buckets.push(PublishBucket { bucket: bucket.into(), allow: None });
        });
    }

    /// Wants a bucket of another cluster's, in a local one; takes effect at the next start or reload.
    pub fn subscribe_bucket(&mut self, remote: &str, local: &str, author: &Cluster) {
        self.subscribe_bucket_with(remote, local, author, None);
    }

    /// The same with what becomes of deletes: `keep` or `follow`.
    pub fn subscribe_bucket_with(&mut self, remote: &str, local: &str, author: &Cluster, deletes: Option<&str>) {
        let entry = SubscribeBucket {
            remote_bucket: remote.into(),
            local_bucket: local.into(),
            public_key: author.rhio.public_key(),
            deletes: deletes.map(Into::into),
        };
        self.rhio.rewrite_config(|config| config.subscribe_buckets.push(entry));
    }

    /// What compares this cluster's stream, as the source, with another's.
    pub async fn check(&self, source: &str, filter: &str, to: &Cluster, destination: &str) -> Check {
        Check {
            source: (self.client().await, source.into()),
            destination: (to.client().await, destination.into()),
            filter: filter.into(),
            author: self.rhio.public_key(),
        }
    }
}

/// Lists each cluster under the other's `nodes`. Those that run read it at once.
pub fn link(a: &mut Cluster, b: &mut Cluster) {
    let (of_a, of_b) = (a.rhio.as_node(), b.rhio.as_node());
    for (cluster, node) in [(a, of_b), (b, of_a)] {
        cluster.rhio.rewrite_config(|config| config.nodes.push(node));
        if cluster.rhio.is_running() {
            cluster.rhio.reload();
        }
    }
}

/// Creates a stream with file storage and, on top, settings as JetStream's API names them.
pub async fn create_stream(client: &Client, name: &str, subjects: &[&str], settings: Value) -> anyhow::Result<()> {
    let mut config = json!({
        "name": name,
        "subjects": subjects,
        "storage": "file",
        "retention": "limits",
        "num_replicas": 1,
    });
    for (key, value) in settings.as_object().context("settings are a JSON object")? {
        config[key] = value.clone();
    }
    let request = client.request(format!("$JS.API.STREAM.CREATE.{name}"), config.to_string().into());
    let answer = tokio::time::timeout(Duration::from_secs(10), request)
        .await
        .with_context(|| format!("no answer to creating stream {name}"))?
        .with_context(|| format!("cannot create stream {name}"))?;
    let answer: Value = serde_json::from_slice(&answer.payload).context("the server answers in JSON")?;
    if let Some(error) = answer.get("error") {
        bail!("cannot create stream {name}: {error}");
    }
    Ok(())
}
