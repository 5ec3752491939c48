//! The files of the demo, and what becomes of them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use async_nats::{Client, Subscriber};
use futures_util::StreamExt;
use serde_json::Value;
use testkit::{Bucket, Cluster, patience};

/// Where files are put in A.
pub const OUT: &str = "bucket-out-1";
/// Where they appear in B.
pub const IN: &str = "bucket-in-1";

/// Content that looks like nothing, another one for each number: Marsaglia's generator.
pub fn content(number: u64, len: usize) -> Vec<u8> {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut out: Vec<u8> = std::iter::repeat_with(&mut next).take(len.div_ceil(8)).flatten().collect();
    out.truncate(len);
    out
}

/// Puts files into A, and knows what B must hold in the end.
pub struct Files {
    bucket: Bucket,
    put: BTreeMap<String, Vec<u8>>,
}

impl Files {
    pub fn new(a: &Cluster) -> Self {
        Self { bucket: a.s3().bucket(OUT), put: BTreeMap::new() }
    }

    /// Puts a file into A's bucket; the time is that of sending.
    pub async fn put(&mut self, name: &str, content: Vec<u8>) -> Instant {
        let sent = Instant::now();
        self.bucket.put(name, content.clone()).await;
        self.imported(name, content);
        sent
    }

    /// A file came into A's bucket another way.
    pub fn imported(&mut self, name: &str, content: Vec<u8>) {
        self.put.insert(name.to_owned(), content);
    }

    /// Compares what is in B's bucket with what was put into A's, byte for byte. Says how much there is.
    pub async fn check(&self, b: &Cluster) -> anyhow::Result<(usize, usize)> {
        let bucket = b.s3().bucket(IN);
        let keys = bucket.keys().await;
        ensure!(keys.iter().eq(self.put.keys()), "B holds {keys:?} instead of {:?}", self.put.keys());
        for (name, content) in &self.put {
            let found = bucket.get(name).await.with_context(|| format!("'{name}' is not in B"))?;
            ensure!(found == *content, "'{name}' is not in B what it is in A");
        }
        Ok((keys.len(), self.put.values().map(Vec::len).sum()))
    }
}

/// A file that appeared in B.
pub struct Landed {
    pub key: String,
    pub size: u64,
    /// The BLAKE3 hash, 64 hex digits.
    pub hash: String,
    pub at: Instant,
}

/// Hears of every file that arrives in B.
pub struct Landings {
    subscriber: Subscriber,
}

impl Landings {
    pub async fn watch(client: &Client) -> anyhow::Result<Self> {
        let subscriber = client.subscribe("rhio.events.object").await.context("cannot subscribe in B")?;
        client.flush().await.context("cannot subscribe in B")?;
        Ok(Self { subscriber })
    }

    /// The next file, which may take so long.
    pub async fn next(&mut self, within: Duration) -> anyhow::Result<Landed> {
        let within = if within == Duration::MAX { within } else { patience(within) };
        let Ok(message) = tokio::time::timeout(within, self.subscriber.next()).await else {
            bail!("no file in B within {} s", within.as_secs());
        };
        let message = message.context("the connection to B is closed")?;
        let event: Value = serde_json::from_slice(&message.payload).context("an event in JSON")?;
        let text = |name: &str| event[name].as_str().map(str::to_owned).with_context(|| format!("{name} in {event}"));
        let size = event["size"].as_u64().with_context(|| format!("size in {event}"))?;
        Ok(Landed { key: text("key")?, size, hash: text("hash")?, at: Instant::now() })
    }
}

/// Asks A's rhio to import a file; its hash.
pub async fn import(client: &Client, path: &str, within: Duration) -> anyhow::Result<String> {
    let request = async_nats::Request::new().payload(path.to_owned().into()).timeout(Some(patience(within)));
    let answer = client.send_request("rhio.import", request).await.context("no answer to rhio.import")?;
    let text = String::from_utf8_lossy(&answer.payload).into_owned();
    let failed = answer.headers.as_ref().is_some_and(|headers| headers.get("Nats-Service-Error").is_some());
    ensure!(!failed, "rhio.import: {text}");
    Ok(text)
}
