//! Publishing, and waiting until something has arrived.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use async_nats::{Client, Subject};
use bytes::Bytes;
use futures_util::StreamExt;
use serde_json::Value;

/// Bytes of each payload.
pub const SIZE: usize = 256;
/// What the measured streams capture.
pub const FILTER: &str = "bench.>";
const SUBJECTS: usize = 16;
/// Every so many messages one asks for an acknowledgement, which then stands for all before it.
const CHUNK: u64 = 500;
/// Messages that may be under way; JetStream drops what waits beyond its ingest queue.
const WINDOW: u64 = 4_000;
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(30);
/// How often a stream is asked what it holds.
const POLL: Duration = Duration::from_millis(5);

/// Publishes as fast as a server takes it.
pub struct Load {
    client: Client,
    subjects: Vec<Subject>,
    payloads: Vec<Bytes>,
}

impl Load {
    /// A publisher on some subjects below the filter.
    pub fn new(client: Client) -> Self {
        let mut random = fastrand::Rng::with_seed(7);
        let payloads = (0..1024).map(|_| (0..SIZE).map(|_| random.u8(..)).collect::<Vec<_>>().into()).collect();
        let subjects = (0..SUBJECTS).map(|n| Subject::from(format!("bench.s{n}"))).collect();
        Self { client, subjects, payloads }
    }

    /// Publishes so many messages, and returns when all of them are acknowledged.
    pub async fn publish(&self, count: u64) -> anyhow::Result<()> {
        let inbox = self.client.new_inbox();
        let mut answers = self.client.subscribe(inbox.clone()).await.context("cannot subscribe to acknowledgements")?;
        let mut waiting = 0;
        for number in 1..=count {
            let turn = usize::try_from(number).context("a count of messages")?;
            let subject = self.subjects[turn % self.subjects.len()].clone();
            let payload = self.payloads[turn % self.payloads.len()].clone();
            if number % CHUNK != 0 && number != count {
                self.client.publish(subject, payload).await.context("cannot publish")?;
                continue;
            }
            self.client.publish_with_reply(subject, inbox.clone(), payload).await.context("cannot publish")?;
            waiting += 1;
            while waiting >= WINDOW / CHUNK || (waiting > 0 && number == count) {
                let answer = tokio::time::timeout(ACKNOWLEDGED_WITHIN, answers.next()).await;
                let answer = answer.context("the server does not acknowledge")?.context("the connection is closed")?;
                let answer: Value = serde_json::from_slice(&answer.payload).context("an acknowledgement in JSON")?;
                ensure!(answer.get("error").is_none(), "the stream did not take a message: {answer}");
                waiting -= 1;
            }
        }
        Ok(())
    }
}

/// What a stream says about itself.
pub async fn stream_info(client: &Client, stream: &str) -> anyhow::Result<Value> {
    let request = client.request(format!("$JS.API.STREAM.INFO.{stream}"), Bytes::new());
    let answer = tokio::time::timeout(Duration::from_secs(20), request).await;
    let answer = answer.with_context(|| format!("no word about stream {stream}"))??;
    let answer: Value = serde_json::from_slice(&answer.payload).context("the server answers in JSON")?;
    ensure!(answer.get("error").is_none(), "stream {stream}: {}", answer["error"]);
    Ok(answer)
}

/// Messages and bytes that a stream holds.
pub async fn stream_size(client: &Client, stream: &str) -> anyhow::Result<(u64, u64)> {
    let info = stream_info(client, stream).await?;
    let number = |name: &str| info["state"][name].as_u64().with_context(|| format!("{name} of stream {stream}"));
    Ok((number("messages")?, number("bytes")?))
}

/// How something arrived.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// When a poll first saw some of it, and how much that was.
    first: (Instant, u64),
    /// When a poll first saw all of it.
    pub last: Instant,
    count: u64,
}

impl Arrival {
    /// Messages a second from the first that were seen to the last, without what it took to get going.
    pub fn flow(&self) -> f64 {
        (self.count - self.first.1) as f64 / (self.last - self.first.0).as_secs_f64()
    }
}

/// Waits until a stream holds `before + count` messages. The stream may appear meanwhile.
pub async fn wait_for(client: &Client, stream: &str, before: u64, count: u64) -> anyhow::Result<Arrival> {
    let deadline = Instant::now() + time_for(count);
    let mut first = None;
    let mut ticks = tokio::time::interval(POLL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let messages = stream_size(client, stream).await.map_or(0, |(messages, _)| messages);
        let (now, arrived) = (Instant::now(), messages.saturating_sub(before));
        if arrived > 0 && first.is_none() {
            first = Some((now, arrived));
        }
        if let Some(first) = first.filter(|_| arrived >= count) {
            ensure!(arrived == count, "{arrived} messages arrived instead of {count}");
            return Ok(Arrival { first, last: now, count });
        }
        if now > deadline {
            bail!("after {} s only {arrived} of {count} messages have arrived", time_for(count).as_secs());
        }
    }
}

/// Waits until a stream has not changed for half a second.
pub async fn wait_until_quiet(client: &Client, stream: &str, deadline: Duration) -> anyhow::Result<()> {
    let deadline = Instant::now() + deadline;
    let (mut seen, mut since) = (None, Instant::now());
    while since.elapsed() < Duration::from_millis(500) {
        ensure!(Instant::now() < deadline, "stream {stream} does not come to rest");
        let last = stream_info(client, stream).await?["state"]["last_seq"].as_u64();
        if last != seen {
            (seen, since) = (last, Instant::now());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// How long so many messages may take before it counts as a stall.
pub fn time_for(count: u64) -> Duration {
    Duration::from_secs(30 + count / 5_000)
}
