//! Two rhios between the S3 servers.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use async_nats::Subscriber;
use futures_util::StreamExt as _;
use serde_json::Value;
use testkit::{LogLine, NatsOptions, NatsServer, PublishBucket, Rhio, S3Section, SubscribeBucket, WeedServer};

/// As in the configuration's default: the bench does not wait for a listing but for the first one.
const POLL: &str = "5s";
const KNOWN_WITHIN: Duration = Duration::from_secs(300);

/// Both nodes with a NATS server each; nothing of rhio runs yet.
pub struct Nodes {
    pub of_a: Rhio,
    pub of_b: Rhio,
    pub a: NatsServer,
    pub b: NatsServer,
    arrivals: Subscriber,
}

/// A bucket on a server, which may be reached another way.
pub struct Bucket<'a> {
    pub server: &'a WeedServer,
    pub endpoint: Option<String>,
    pub name: &'a str,
}

impl<'a> Bucket<'a> {
    pub fn new(server: &'a WeedServer, name: &'a str) -> Self {
        Self { server, endpoint: None, name }
    }

    fn section(&self) -> S3Section {
        let section = S3Section::server(self.server);
        let endpoint = self.endpoint.clone().unwrap_or(section.endpoint);
        S3Section { endpoint, poll_interval: POLL.into(), ..section }
    }
}

impl Nodes {
    /// What is in the bucket of A's is to be brought into the one of B's.
    pub async fn new(from: &Bucket<'_>, to: &Bucket<'_>) -> anyhow::Result<Self> {
        let nats = async |name: &str| NatsServer::try_start(NatsOptions::new().name(name)).await;
        let (a, b) = tokio::try_join!(nats("a"), nats("b"))?;
        let mut of_a = Rhio::builder("a").nats(&a).s3(from.section()).allow_any_log().try_build()?;
        let mut of_b = Rhio::builder("b").nats(&b).s3(to.section()).allow_any_log().try_build()?;
        let entry = PublishBucket { bucket: from.name.into(), allow: Some(vec![of_b.public_key()]) };
        of_a.rewrite_config(|config| config.publish_buckets.push(entry));
        let (node, public_key) = (of_a.as_node(), of_a.public_key());
        let entry = SubscribeBucket {
            remote_bucket: from.name.into(),
            local_bucket: to.name.into(),
            public_key,
            deletes: None,
        };
        of_b.rewrite_config(|config| {
            config.nodes.push(node);
            config.subscribe_buckets.push(entry);
        });
        let client = b.client().await;
        let arrivals = client.subscribe("rhio.events.object").await?;
        client.flush().await?;
        Ok(Self { of_a, of_b, a, b, arrivals })
    }

    /// Starts A's half, and waits until its catalog tells of everything.
    pub async fn prepare(&mut self) -> anyhow::Result<()> {
        self.of_a.try_start().await?;
        self.of_a.wait_for_log("the catalog is complete", KNOWN_WITHIN).await;
        Ok(())
    }

    /// Starts what does not run yet.
    pub async fn start(&mut self) -> anyhow::Result<()> {
        for rhio in [&mut self.of_a, &mut self.of_b] {
            if !rhio.is_running() {
                rhio.spawn()?;
            }
        }
        Ok(())
    }

    /// Waits until so many objects are told to have landed. Returns when the last one was.
    pub async fn arrived(&mut self, count: usize, within: Duration) -> anyhow::Result<Instant> {
        let deadline = Instant::now() + within;
        let mut keys = HashSet::new();
        while keys.len() < count {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(message) = tokio::time::timeout(left, self.arrivals.next()).await else {
                bail!("{} of {count} objects arrived within {} s", keys.len(), within.as_secs());
            };
            let message = message.context("the connection to B is closed")?;
            let arrival: Value = serde_json::from_slice(&message.payload).context("an event in JSON")?;
            keys.insert(arrival["key"].as_str().context("an event names a key")?.to_owned());
        }
        Ok(Instant::now())
    }

    /// The processes of rhio that run.
    pub fn helpers(&mut self) -> Vec<(&'static str, u32)> {
        let both = [("rhio A", &mut self.of_a), ("rhio B", &mut self.of_b)];
        both.into_iter().filter_map(|(who, rhio)| rhio.is_running().then(|| (who, rhio.process_id()))).collect()
    }

    /// The NATS servers' processes.
    pub fn servers(&self) -> [(&'static str, u32); 2] {
        [("nats A", self.a.process_id()), ("nats B", self.b.process_id())]
    }

    /// Ends everything in order. Returns what rhio complained about.
    pub async fn finish(mut self) -> anyhow::Result<Vec<String>> {
        let mut codes = Vec::new();
        let mut complaints = Vec::new();
        for rhio in [&mut self.of_b, &mut self.of_a] {
            if rhio.is_running() {
                codes.push(rhio.terminate().await.code());
            }
            let loud = rhio.logs().into_iter().filter(LogLine::is_loud);
            complaints.extend(loud.map(|line| format!("rhio {}: {}", rhio.name(), line.raw)));
        }
        self.a.stop().await;
        self.b.stop().await;
        ensure!(codes.iter().all(|code| *code == Some(0)), "a rhio ended with status {codes:?}");
        Ok(complaints)
    }
}
