//! How many messages a second get from A to B.

use std::time::{Duration, Instant};

use crate::load::{Arrival, Load, stream_size, time_for, wait_for, wait_until_quiet};
use crate::options::{Options, Part, Side};
use crate::pair::{Pair, STATE, STREAM};
use crate::report::Report;
use crate::usage::{Meter, Usage, settle};

const MIB: f64 = 1024.0 * 1024.0;

/// One turn of one side: messages that wait for the link, then messages while it runs.
pub async fn run(options: &Options, side: Side, report: &mut Report) -> anyhow::Result<()> {
    let mut pair = Pair::new(side).await?;
    let load = Load::new(pair.client_a.clone());
    let mut held = 0;
    if options.wants(Part::CatchUp) {
        load.publish(options.messages()).await?;
        held = options.messages();
        settle().await;
        let meter = Meter::start(&pair.servers());
        let begun = Instant::now();
        let arrival = link(&mut pair, held).await?;
        let usage = meter.read(&pair.helpers());
        report.add("catch_up", side, per_second(held, begun, arrival.last));
        report.add("catch_up_flow", side, arrival.flow());
        note_usage(report, "catch-up", side, &usage, held);
    } else {
        pair.link().await?;
    }
    if options.wants(Part::Live) {
        live(options, side, &pair, &load, held, report).await?;
        held += options.messages() + 1;
    }
    if let Some([a, b]) = &pair.rhios {
        report.add("peak_a", side, a.rss_peak_bytes() as f64 / MIB);
        report.add("peak_b", side, b.rss_peak_bytes() as f64 / MIB);
        wait_until_quiet(&pair.client_a, STATE, time_for(0)).await?;
        for (key, client) in [("state_full_a", &pair.client_a), ("state_full_b", &pair.client_b)] {
            report.add(key, side, stream_size(client, STATE).await?.1 as f64 / held as f64);
        }
        tokio::time::sleep(Duration::from_secs(3)).await;
        report.add("after_a", side, a.rss_bytes() as f64 / MIB);
        report.add("after_b", side, b.rss_bytes() as f64 / MIB);
    }
    finish(pair, report).await
}

/// The same messages waiting, but A has signed them before B comes.
pub async fn run_sealed(options: &Options, side: Side, report: &mut Report) -> anyhow::Result<()> {
    let mut pair = Pair::new(side).await?;
    pair.prepare().await?;
    Load::new(pair.client_a.clone()).publish(options.messages()).await?;
    if side == Side::Rhio {
        wait_until_quiet(&pair.client_a, STATE, time_for(options.messages())).await?;
    }
    settle().await;
    let begun = Instant::now();
    let arrival = link(&mut pair, options.messages()).await?;
    report.add("catch_up_sealed", side, per_second(options.messages(), begun, arrival.last));
    report.add("catch_up_sealed_flow", side, arrival.flow());
    finish(pair, report).await
}

/// Starts the link, and waits for what A holds.
async fn link(pair: &mut Pair, held: u64) -> anyhow::Result<Arrival> {
    let client = pair.client_b.clone();
    let ((), arrival) = tokio::try_join!(pair.link(), wait_for(&client, STREAM, 0, held))?;
    Ok(arrival)
}

async fn live(
    options: &Options,
    side: Side,
    pair: &Pair,
    load: &Load,
    held: u64,
    report: &mut Report,
) -> anyhow::Result<()> {
    // One message ahead shows that the link runs.
    load.publish(1).await?;
    wait_for(&pair.client_b, STREAM, held, 1).await?;
    settle().await;
    let count = options.messages();
    let meter = Meter::start(&pair.processes());
    let begun = Instant::now();
    let publish = async {
        load.publish(count).await?;
        let published = Instant::now();
        let arrived = stream_size(&pair.client_b, STREAM).await?.0;
        anyhow::Ok((published, (held + 1 + count).saturating_sub(arrived)))
    };
    let ((published, behind), arrival) = tokio::try_join!(publish, wait_for(&pair.client_b, STREAM, held + 1, count))?;
    report.add("live", side, per_second(count, begun, arrival.last));
    report.add("live_published", side, per_second(count, begun, published));
    report.add("live_behind", side, behind as f64);
    let usage = meter.read(&[]);
    report.add("live_cpu_publisher", side, usage.own * 1e6 / count as f64);
    note_usage(report, "live", side, &usage, count);
    Ok(())
}

fn note_usage(report: &mut Report, phase: &str, side: Side, usage: &Usage, count: u64) {
    for used in &usage.processes {
        let key = match (phase, used.who) {
            ("catch-up", "nats A") => "catch_up_cpu_nats_a",
            ("catch-up", "nats B") => "catch_up_cpu_nats_b",
            ("catch-up", "rhio A") => "catch_up_cpu_rhio_a",
            ("catch-up", "rhio B") => "catch_up_cpu_rhio_b",
            (_, "nats A") => "live_cpu_nats_a",
            (_, "nats B") => "live_cpu_nats_b",
            (_, "rhio A") => "live_cpu_rhio_a",
            (..) => "live_cpu_rhio_b",
        };
        report.add(key, side, used.seconds * 1e6 / count as f64);
        report.threads(phase, &format!("{}, {}", side.name(), used.who), &used.threads.0);
    }
    report.add("others", side, usage.others);
}

fn per_second(count: u64, from: Instant, to: Instant) -> f64 {
    count as f64 / (to - from).as_secs_f64()
}

/// Ends a pair, and keeps what its rhios complained about.
pub async fn finish(pair: Pair, report: &mut Report) -> anyhow::Result<()> {
    let complaints = pair.complaints();
    if let Some(first) = complaints.first() {
        report.note(format!("{} warnings and errors in rhio's logs, such as {first}", complaints.len()));
    }
    pair.finish().await
}
