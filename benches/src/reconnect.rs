//! What it costs B to come back when both clusters hold the same messages.
//!
//! B's rhio is ended, one message is published in A, and B's rhio is started again. It reaches A through a forwarder
//! that counts the bytes of all datagrams, in both directions, handshake included. The clock runs from the first
//! datagram to the moment at which a subscriber of B's NATS has the new message; how long the process took to send that
//! first datagram is told apart.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use async_nats::Subscriber;
use futures_util::StreamExt;
use testkit::{LossyLink, Node};

use crate::load::{FILTER, Load, SIZE, wait_for};
use crate::options::{Options, Side};
use crate::pair::{Pair, STREAM};
use crate::report::Report;
use crate::throughput::finish;
use crate::usage::{Meter, settle};

const MIB: f64 = 1024.0 * 1024.0;
/// How often the forwarder is asked whether anything has come.
const GLANCE: Duration = Duration::from_micros(100);
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
    let link = Arc::new(LossyLink::to(rhios[0].port()).await);
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
    let before = link.forwarded_bytes();
    tokio::try_join!(load.publish(WITNESSES), wait_for(&pair.client_b, STREAM, held, WITNESSES))?;
    let seen = link.forwarded_bytes() - before;
    if seen < WITNESSES * SIZE as u64 {
        report.note(format!("not everything went through the forwarder: {seen} bytes for {WITNESSES} messages"));
    }
    finish(pair, report).await
}

/// Ends B's rhio in order or not, and starts it again.
async fn once(
    pair: &mut Pair,
    link: &Arc<LossyLink>,
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
    link.cut();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let before = link.forwarded_bytes();
    link.heal();

    let glance = Glance::begin(Arc::clone(link), before);
    let started = Instant::now();
    of_b.spawn()?;
    let message = tokio::time::timeout(ARRIVED_WITHIN, arrivals.next()).await;
    let arrived = Instant::now();
    let bytes = link.forwarded_bytes() - before;
    message.context("the new message does not arrive")?.context("the connection to B is closed")?;
    let connecting = glance.end().await.context("the new message came another way than through the forwarder")?;
    tokio::time::sleep(SETTLED_AFTER).await;
    let settled = link.forwarded_bytes() - before;
    ensure!(connecting <= arrived, "the new message came before the first datagram");

    let keys = if crash {
        ["crash_start_ms", "crash_reconnect_ms", "crash_reconnect_bytes", "crash_reconnect_bytes_settled"]
    } else {
        ["start_ms", "reconnect_ms", "reconnect_bytes", "reconnect_bytes_settled"]
    };
    let millis = |time: Duration| time.as_secs_f64() * 1e3;
    let values = [millis(connecting - started), millis(arrived - connecting), bytes as f64, settled as f64];
    keys.into_iter().zip(values).for_each(|(key, value)| report.add(key, Side::Rhio, value));
    Ok(())
}

fn note_peaks(pair: &Pair, report: &mut Report) {
    for (key, rhio) in ["common_peak_a", "common_peak_b"].into_iter().zip(pair.rhios.iter().flatten()) {
        report.add(key, Side::Rhio, rhio.rss_peak_bytes() as f64 / MIB);
    }
}

/// Watches for the first datagram, on a thread of its own: the runtime's timers are too coarse.
struct Glance {
    over: Arc<AtomicBool>,
    seen: tokio::task::JoinHandle<Option<Instant>>,
}

impl Glance {
    fn begin(link: Arc<LossyLink>, before: u64) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&over);
        let seen = tokio::task::spawn_blocking(move || {
            loop {
                if link.forwarded_bytes() > before {
                    return Some(Instant::now());
                }
                if stop.load(Ordering::Relaxed) {
                    return None;
                }
                std::thread::sleep(GLANCE);
            }
        });
        Self { over, seen }
    }

    async fn end(mut self) -> Option<Instant> {
        self.over.store(true, Ordering::Relaxed);
        (&mut self.seen).await.ok().flatten()
    }
}

impl Drop for Glance {
    fn drop(&mut self) {
        // A runtime that ends waits for its blocking tasks.
        self.over.store(true, Ordering::Relaxed);
    }
}
