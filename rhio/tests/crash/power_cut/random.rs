//! Crashes and power cuts at random while messages flow. The source keeps its messages, and everything else may forget.
//!
//! `RHIO_CRASH_SECONDS` makes it longer (`make soak SECONDS=600`), `RHIO_CRASH_SEED` makes the same choices again.

use std::time::{Duration, Instant};

use testkit::{Cluster, StoreCopy, eventually};

use super::cut::{Data, Runs, State, Stopped, Whole, cut, expect_cuts, snapshot};
use crate::dice::{Dice, number};
use crate::support::assert_no_fork;
use common::{publish, replicating_pair};

/// Copies that can be put back, at most.
const COPIES: usize = 4;

struct Copies(Vec<StoreCopy>);

impl Copies {
    fn take(&mut self, cluster: &mut Cluster) {
        if self.0.len() == COPIES {
            self.0.remove(0);
        }
        self.0.push(snapshot(cluster));
    }

    /// One of them; those that are later never were.
    fn pick(&mut self, dice: &mut Dice) -> Option<&StoreCopy> {
        let count = u64::try_from(self.0.len()).expect("a few");
        if count == 0 {
            return None;
        }
        let picked = usize::try_from(dice.draw(count)).expect("a few");
        self.0.truncate(picked + 1);
        self.0.last()
    }
}

async fn strike(dice: &mut Dice, a: &mut Cluster, b: &mut Cluster, copies: &mut (Copies, Copies)) {
    let rhio = if dice.draw(2) == 0 { Runs } else { Stopped };
    match dice.draw(9) {
        0 => a.rhio.kill(),
        1 => b.rhio.kill(),
        2 => {
            a.nats.kill();
            a.nats.restart().await;
        }
        3 => {
            b.nats.kill();
            b.nats.restart().await;
        }
        4 => copies.0.take(a),
        5 => copies.1.take(b),
        6 => {
            if let Some(copy) = copies.0.pick(dice) {
                println!("the publisher forgets its state, rhio {rhio:?}");
                cut(a, copy, State, rhio).await;
            }
        }
        _ => {
            let what = [Whole, Data, State][usize::try_from(dice.draw(3)).expect("a few")];
            if let Some(copy) = copies.1.pick(dice) {
                println!("the subscriber forgets {what:?}, rhio {rhio:?}");
                cut(b, copy, what, rhio).await;
            }
        }
    }
    if dice.draw(2) == 0 {
        tokio::time::sleep(dice.millis(0, 400)).await;
    }
    for cluster in [a, b] {
        if !cluster.rhio.is_running() {
            cluster.rhio.spawn().expect("rhio starts");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn power_is_cut_at_random_and_nothing_is_lost_or_comes_twice() {
    let seconds = number("RHIO_CRASH_SECONDS").unwrap_or(20);
    let seed = number("RHIO_CRASH_SEED").unwrap_or_else(crate::dice::fresh);
    println!("RHIO_CRASH_SEED={seed} RHIO_CRASH_SECONDS={seconds}");
    let mut dice = Dice(seed);
    let (mut a, mut b) = replicating_pair().await;
    expect_cuts(&mut a, &mut b);
    b.rhio.allow_log("takes out a record that is out of place");
    tokio::join!(a.start(), b.start());
    let running = a.publisher(&["s.a", "s.b.c"]).await.sizes(20..=1500).run(150);
    let mut copies = (Copies(Vec::new()), Copies(Vec::new()));
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut local = 0;
    while Instant::now() < end {
        tokio::time::sleep(dice.millis(50, 900)).await;
        strike(&mut dice, &mut a, &mut b, &mut copies).await;
        if dice.draw(2) == 0 {
            local += 1;
            publish(&b, "s.local", &[], format!("local {local}")).await;
        }
    }
    let publisher = running.stop().await;
    let check = a.check("S", "s.>", &b, "S").await;
    eventually!(Duration::from_secs(60), "everything to be there once, in order", {
        match check.now().await {
            Ok(report) if report.is_clean() => Ok(()),
            Ok(report) => Err(report.to_string()),
            Err(error) => Err(format!("{error:#}")),
        }
    });
    println!("{} sent", publisher.sent());
    assert_no_fork(&[&a, &b]).await;
}
