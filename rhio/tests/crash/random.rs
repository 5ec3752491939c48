//! Everything dies at random while messages flow in both directions, into one stream on each side.
//!
//! `RHIO_CRASH_SECONDS` makes it longer (`make soak SECONDS=600`), `RHIO_CRASH_SEED` makes the same choices again.

use std::time::{Duration, Instant};

use testkit::checker::Check;
use testkit::{Cluster, LossyLink, Node, create_stream, eventually};

use crate::dice::{Dice, number};
use crate::support::{assert_no_fork, expect_crashes, settle};
use common::{pair, replicating_pair};

/// What can fail.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Part {
    Rhio(usize),
    Nats(usize),
    Link,
}

/// How it fails.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    Killed,
    Paused,
    Cut,
}

struct World {
    clusters: [Cluster; 2],
    links: [LossyLink; 2],
    down: Vec<(Part, Fault, Instant)>,
}

impl World {
    fn strike(&mut self, dice: &mut Dice) {
        let part = match dice.draw(9) {
            0..=2 => Part::Rhio(0),
            3..=5 => Part::Rhio(1),
            6 => Part::Nats(0),
            7 => Part::Nats(1),
            _ => Part::Link,
        };
        if self.down.iter().any(|(down, ..)| *down == part) {
            return;
        }
        let paused = dice.draw(3) == 0;
        let fault = match part {
            Part::Link => Fault::Cut,
            _ if paused => Fault::Paused,
            _ => Fault::Killed,
        };
        println!("{part:?} {fault:?}");
        match (part, fault) {
            (Part::Rhio(i), Fault::Paused) => self.clusters[i].rhio.pause(),
            (Part::Rhio(i), _) => self.clusters[i].rhio.kill(),
            (Part::Nats(i), Fault::Paused) => self.clusters[i].nats.pause(),
            (Part::Nats(i), _) => self.clusters[i].nats.kill(),
            (Part::Link, _) => self.links.iter().for_each(LossyLink::cut),
        }
        let length = if dice.draw(6) == 0 { dice.millis(1000, 4000) } else { dice.millis(20, 700) };
        self.down.push((part, fault, Instant::now() + length));
    }

    /// Brings back what has been down long enough.
    async fn recover(&mut self, all: bool) {
        let (due, later) = self.down.drain(..).partition(|(_, _, until)| all || *until <= Instant::now());
        self.down = later;
        let due: Vec<(Part, Fault, Instant)> = due;
        for (part, fault, _) in due {
            match (part, fault) {
                (Part::Rhio(i), Fault::Paused) => self.clusters[i].rhio.resume(),
                (Part::Rhio(i), _) => self.clusters[i].rhio.spawn().expect("rhio starts"),
                (Part::Nats(i), Fault::Paused) => self.clusters[i].nats.resume(),
                (Part::Nats(i), _) => self.clusters[i].nats.restart().await,
                (Part::Link, _) => self.links.iter().for_each(LossyLink::heal),
            }
        }
    }
}

async fn linked_world() -> World {
    let (mut a, mut b) = tokio::join!(Cluster::new("a"), Cluster::new("b"));
    a.create_stream("S", &["s.>"]).await;
    b.create_stream("S", &["s.>"]).await;
    let links = [LossyLink::to(a.rhio.port()).await, LossyLink::to(b.rhio.port()).await];
    let nodes = [&a, &b].map(|cluster| cluster.rhio.public_key());
    let node = |i: usize| Node { public_key: nodes[i].clone(), endpoints: vec![links[i].endpoint()] };
    a.rhio.rewrite_config(|config| config.nodes.push(node(1)));
    b.rhio.rewrite_config(|config| config.nodes.push(node(0)));
    a.publish("s.>", "S");
    b.publish("s.>", "S");
    a.subscribe("s.>", "S", &b);
    b.subscribe("s.>", "S", &a);
    expect_crashes([&mut a, &mut b]);
    World { clusters: [a, b], links, down: Vec::new() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_dies_at_random_and_nothing_is_lost_or_comes_twice() {
    let seconds = number("RHIO_CRASH_SECONDS").unwrap_or(25);
    let seed = number("RHIO_CRASH_SEED").unwrap_or_else(crate::dice::fresh);
    println!("RHIO_CRASH_SEED={seed} RHIO_CRASH_SECONDS={seconds}");
    let mut dice = Dice(seed);
    let mut world = linked_world().await;
    let mut running = Vec::new();
    for (cluster, subject) in world.clusters.iter().zip(["s.a", "s.b"]) {
        running.push(cluster.publisher(&[subject, "s.both"]).await.sizes(20..=2000).run(150));
    }
    for cluster in &mut world.clusters {
        cluster.start().await;
    }
    let end = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < end {
        tokio::time::sleep(dice.millis(5, 500)).await;
        world.strike(&mut dice);
        world.recover(false).await;
    }
    world.recover(true).await;
    let mut sent = 0;
    for publisher in running {
        sent += publisher.stop().await.sent();
    }
    let [a, b] = &world.clusters;
    let quiet = Instant::now();
    let there: Check = a.check("S", "s.>", b, "S").await;
    let back: Check = b.check("S", "s.>", a, "S").await;
    let (there, back) =
        tokio::join!(there.until_clean(Duration::from_secs(60)), back.until_clean(Duration::from_secs(60)));
    println!("{sent} sent; {there}; {back}; {:.1?} after the last fault", quiet.elapsed());
    assert_no_fork(&[a, b]).await;
}

/// Longer than the duplicate window of the local stream, which therefore covers nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscriber_is_killed_with_messages_under_way_to_a_server_that_stands_still() {
    let (mut a, mut b) = pair().await;
    let settings = serde_json::json!({ "duplicate_window": 100_000_000 });
    create_stream(&b.client().await, "D", &["d.>"], settings).await.expect("the stream is created");
    expect_crashes([&mut a, &mut b]);
    a.create_stream("D", &["d.>"]).await;
    a.publish("d.>", "D");
    b.subscribe("d.>", "D", &a);
    let mut publisher = a.publisher(&["d.x"]).await.sizes(100..=4000);
    tokio::join!(a.start(), b.start());
    publisher.publish(50).await;
    let check = a.check("D", "d.>", &b, "D").await;
    let _ = check.until_clean(Duration::from_secs(20)).await;
    for (round, down) in [0, 300, 50, 1200, 10].into_iter().enumerate() {
        b.nats.pause();
        publisher.publish(600).await;
        // Long enough for the records to reach the server's socket.
        tokio::time::sleep(Duration::from_millis(250)).await;
        b.rhio.kill();
        tokio::time::sleep(Duration::from_millis(down)).await;
        b.rhio.spawn().expect("it starts");
        if round % 2 == 0 {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        b.nats.resume();
        publisher.publish(20).await;
        let report = check.until_clean(Duration::from_secs(30)).await;
        assert_eq!(report.arrived as u64, publisher.sent(), "round {round}");
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    check.now().await.expect("both are there").assert_clean();
    assert_no_fork(&[&a, &b]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_are_killed_again_and_again_under_load() {
    let (mut a, mut b) = replicating_pair().await;
    expect_crashes([&mut a, &mut b]);
    let running = a.publisher(&["s.a"]).await.run(1000);
    tokio::join!(a.start(), b.start());
    for round in 0..6 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let nats = if round % 2 == 0 { &mut b.nats } else { &mut a.nats };
        nats.kill();
        nats.restart().await;
    }
    running.stop().await;
    eventually!(Duration::from_secs(10), "the source to be readable", a.stream_len("S").await > 0);
    settle(&a, &b, "S").await;
}
