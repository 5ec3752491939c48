//! What rhio takes when little happens.

use std::time::Duration;

use anyhow::Context as _;
use futures_util::StreamExt;

use crate::load::{FILTER, Load, stream_size, time_for, wait_for, wait_until_quiet};
use crate::options::{Options, Side};
use crate::pair::{Pair, STATE, STREAM};
use crate::report::Report;
use crate::throughput::finish;

const MIB: f64 = 1024.0 * 1024.0;
const IDLE_FOR: Duration = Duration::from_secs(5);
const ARRIVED_WITHIN: Duration = Duration::from_secs(20);

/// Memory of two linked rhios after some idle seconds, then messages that wait for each other, so that each becomes an
/// operation of its own, as at one message a second.
pub async fn run(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let mut pair = Pair::new(Side::Rhio).await?;
    pair.link().await?;
    let load = Load::new(pair.client_a.clone());
    load.publish(1).await?;
    wait_for(&pair.client_b, STREAM, 0, 1).await?;
    tokio::time::sleep(IDLE_FOR).await;
    for (key, rhio) in ["idle_a", "idle_b"].into_iter().zip(pair.rhios.iter().flatten()) {
        report.add(key, Side::Rhio, rhio.rss_bytes() as f64 / MIB);
    }

    let mut arrivals = pair.client_b.subscribe(FILTER).await?;
    pair.client_b.flush().await?;
    let count = options.single_messages();
    for number in 0..count {
        load.publish(1).await?;
        let arrived = tokio::time::timeout(ARRIVED_WITHIN, arrivals.next()).await;
        arrived.with_context(|| format!("message {number} did not arrive"))?.context("the connection is closed")?;
    }
    for (key, client) in [("state_single_a", &pair.client_a), ("state_single_b", &pair.client_b)] {
        wait_until_quiet(client, STATE, time_for(0)).await?;
        report.add(key, Side::Rhio, stream_size(client, STATE).await?.1 as f64 / (count + 1) as f64);
    }
    finish(pair, report).await
}
