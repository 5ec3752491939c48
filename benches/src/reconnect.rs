//! What it costs B to come back when both clusters hold the same messages.
//!
//! B's rhio is ended, one message is published in A, and B's rhio is started again. It reaches A through a forwarder
//! that counts the bytes of all datagrams, in both directions, handshake included. The clock runs from the first
//! datagram to the moment at which a subscriber of B's NATS has the new message; how long the process took to send that
//! first datagram is told apart.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use async_nats::Subscriber;
use futures_util::StreamExt;
use testkit::Node;

use crate::forwarder::{Datagram, Forwarder, bytes, sent_by_anybody};
use crate::load::{FILTER, Load, SIZE, wait_for};
use crate::options::{Options, Side};
use crate::pair::{Pair, STREAM};
use crate::report::Report;
use crate::throughput::finish;
use crate::usage::{Meter, settle};

const MIB: f64 = 1024.0 * 1024.0;
const ARRIVED_WITHIN: Duration = Duration::from_secs(60);
const SETTLED_AFTER: Duration = Duration::from_secs(1);
/// Messages that must be seen on their way through the forwarder.
const WITNESSES: u64 = 2_000;

/// The whole measurement, of rhio alone.
pub async fn run(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let mut pair = Pair::new(Side::Rhio).await?;
    let load = Load::new(pair.client_a.clone());
    pair.link().await?;
    let mut held = options.common();
    tokio::try_join!(load.publish(held), wait_for(&pair.client_b, STREAM, 0, held))?;
    note_peaks(&pair, report);

    let rhios = pair.rhios.as_mut().context("this measures rhio")?;
    rhios[1].terminate().await;
    let link = Forwarder::to(rhios[0].port()).await?;
    let node = Node { public_key: rhios[0].public_key(), endpoints: vec![link.endpoint()] };
    rhios[1].rewrite_config(|config| config.nodes = vec![node]);
    // Once without being measured, so that every measured start finds the same.
    rhios[1].try_start().await?;
    load.publish(1).await?;
    wait_for(&pair.client_b, STREAM, held, 1).await?;
    held += 1;

    let mut arrivals = pair.client_b.subscribe(FILTER).await?;
    pair.client_b.flush().await?;
    let meter = Meter::start(&pair.servers());
    for _ in 0..if options.quick { 2 } else { 5 } {
        settle().await;
        once(&mut pair, &link, &load, &mut arrivals, false, report).await?;
        once(&mut pair, &link, &load, &mut arrivals, true, report).await?;
        held += 2;
    }
    report.add("others", Side::Rhio, meter.read(&[]).others);
    note_peaks(&pair, report);

    // The nodes might know a way around the forwarder.
    link.forget();
    tokio::try_join!(load.publish(WITNESSES), wait_for(&pair.client_b, STREAM, held, WITNESSES))?;
    let seen = bytes(&link.seen());
    if seen < WITNESSES * SIZE as u64 {
        report.note(format!("not everything went through the forwarder: {seen} bytes for {WITNESSES} messages"));
    }
    finish(pair, report).await
}

/// Ends B's rhio in order or not, and starts it again.
async fn once(
    pair: &mut Pair,
    link: &Forwarder,
    load: &Load,
    arrivals: &mut Subscriber,
    crash: bool,
    report: &mut Report,
) -> anyhow::Result<()> {
    let [_, of_b] = pair.rhios.as_mut().context("this measures rhio")?;
    if crash {
        of_b.kill();
    } else {
        of_b.terminate().await;
    }
    load.publish(1).await?;
    // After a crash A goes on asking for a while whether B is still there. That is not part of coming back.
    link.cut(true);
    tokio::time::sleep(Duration::from_millis(200)).await;
    link.forget();
    link.cut(false);

    let by_anybody = sent_by_anybody();
    let started = Instant::now();
    of_b.spawn()?;
    let message = tokio::time::timeout(ARRIVED_WITHIN, arrivals.next()).await;
    let arrived = Instant::now();
    message.context("the new message does not arrive")?.context("the connection to B is closed")?;
    tokio::time::sleep(SETTLED_AFTER).await;
    let by_anybody = sent_by_anybody() - by_anybody;

    // What A still sends to the B that is gone is no part of this.
    let all = link.seen();
    let seen: Vec<Datagram> = all.iter().copied().skip_while(|datagram| !datagram.inward).collect();
    let connecting = seen.first().context("the new message came another way than through the forwarder")?.at;
    let until: Vec<Datagram> = seen.iter().copied().filter(|datagram| datagram.at <= arrived).collect();
    // What goes through is sent twice: by the node, and by the forwarder.
    let around = by_anybody.saturating_sub(2 * all.len() as u64);
    report.add("reconnect_around", Side::Rhio, around as f64);
    report.datagrams(crash, seen.iter().map(|d| (d.at.saturating_duration_since(connecting), d.inward, d.bytes)));

    let keys = if crash {
        ["crash_start_ms", "crash_reconnect_ms", "crash_reconnect_bytes", "crash_reconnect_bytes_settled"]
    } else {
        ["start_ms", "reconnect_ms", "reconnect_bytes", "reconnect_bytes_settled"]
    };
    let millis = |time: Duration| time.as_secs_f64() * 1e3;
    let values =
        [millis(connecting - started), millis(arrived - connecting), bytes(&until) as f64, bytes(&seen) as f64];
    keys.into_iter().zip(values).for_each(|(key, value)| report.add(key, Side::Rhio, value));
    Ok(())
}

fn note_peaks(pair: &Pair, report: &mut Report) {
    for (key, rhio) in ["common_peak_a", "common_peak_b"].into_iter().zip(pair.rhios.iter().flatten()) {
        report.add(key, Side::Rhio, rhio.rss_peak_bytes() as f64 / MIB);
    }
}
