//! How long a message takes from being published to being seen in B.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use async_nats::jetstream::consumer::push::OrderedConfig;
use async_nats::jetstream::consumer::{DeliverPolicy, push};
use async_nats::{Client, jetstream};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::time::MissedTickBehavior;

use crate::load::{Load, SIZE, wait_for};
use crate::options::{Options, Side};
use crate::pair::{PLAIN, Pair, STREAM};
use crate::report::Report;
use crate::stats::{median, quantile};
use crate::throughput::finish;
use crate::usage::{Meter, settle};

/// A thousand messages a second.
const PACE: Duration = Duration::from_millis(1);
/// Messages at the beginning that are not counted.
const WARM_UP: u64 = 500;
const ARRIVED_WITHIN: Duration = Duration::from_secs(20);

/// What the times in payloads count from. Publisher and consumer are this one process, with one clock.
static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// One turn of one side: publishing in B itself, then in A. The link runs both times.
pub async fn run(options: &Options, side: Side, report: &mut Report) -> anyhow::Result<()> {
    let mut pair = Pair::new(side).await?;
    Load::new(pair.client_a.clone()).publish(1).await?;
    pair.link().await?;
    wait_for(&pair.client_b, STREAM, 0, 1).await?;
    settle().await;

    let count = options.latency_messages();
    let meter = Meter::start(&pair.processes());
    let publisher = pair.b.client().await;
    let plain = measure(&publisher, "plain.x", &pair.client_b, PLAIN.0, count).await?;
    let publisher = pair.a.client().await;
    let linked = measure(&publisher, "bench.latency", &pair.client_b, STREAM, count).await?;
    report.add("others", side, meter.read(&[]).others);

    for (key, samples, share) in [
        ("plain_p50", &plain, 0.5),
        ("plain_p90", &plain, 0.9),
        ("plain_p99", &plain, 0.99),
        ("latency_p50", &linked, 0.5),
        ("latency_p90", &linked, 0.9),
        ("latency_p99", &linked, 0.99),
    ] {
        report.add(key, side, quantile(samples, share));
    }
    report.add("added_p50", side, median(&linked) - median(&plain));
    finish(pair, report).await
}

/// Milliseconds from handing each message to the client until an ordered push consumer of the stream has it.
async fn measure(
    publisher: &Client,
    subject: &str,
    consumer: &Client,
    stream: &str,
    count: u64,
) -> anyhow::Result<Vec<f64>> {
    let mut arrivals = watch(consumer, stream).await?;
    let total = WARM_UP + count;
    let publish = async {
        let mut ticks = tokio::time::interval(PACE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        for number in 0..total {
            ticks.tick().await;
            publisher.publish(subject.to_owned(), stamped(number)).await.context("cannot publish")?;
        }
        publisher.flush().await.context("cannot publish")
    };
    let consume = async {
        let mut times = Vec::new();
        for number in 0..total {
            let message = tokio::time::timeout(ARRIVED_WITHIN, arrivals.next()).await;
            let message = message.with_context(|| format!("message {number} of {total} did not arrive"))?;
            let message = message.context("the consumer has ended")?.context("the consumer failed")?;
            let now = ORIGIN.elapsed().as_nanos() as u64;
            let (sent, told) = read_stamp(&message.payload)?;
            if told != number {
                bail!("message {told} arrived instead of {number}");
            }
            if number >= WARM_UP {
                times.push(now.saturating_sub(sent) as f64 / 1e6);
            }
        }
        Ok(times)
    };
    let ((), times) = tokio::try_join!(publish, consume)?;
    Ok(times)
}

/// What comes into a stream from now on.
async fn watch(client: &Client, stream: &str) -> anyhow::Result<push::Ordered> {
    let context = jetstream::new(client.clone());
    let stream = context.get_stream(stream).await.context("cannot find the stream")?;
    let config = OrderedConfig {
        deliver_subject: client.new_inbox(),
        deliver_policy: DeliverPolicy::New,
        ..OrderedConfig::default()
    };
    let consumer = stream.create_consumer(config).await.context("cannot create a consumer")?;
    consumer.messages().await.context("cannot consume")
}

fn stamped(number: u64) -> Bytes {
    let mut payload = vec![0; SIZE];
    payload[8..16].copy_from_slice(&number.to_be_bytes());
    payload[..8].copy_from_slice(&(ORIGIN.elapsed().as_nanos() as u64).to_be_bytes());
    payload.into()
}

fn read_stamp(payload: &[u8]) -> anyhow::Result<(u64, u64)> {
    let field = |from: usize| payload.get(from..from + 8)?.try_into().ok().map(u64::from_be_bytes);
    field(0).zip(field(8)).context("a message of somebody else's")
}
