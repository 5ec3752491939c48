//! The state stream stays bounded: what the streams no longer hold is pruned, on both sides.

use serde_json::json;
use std::time::Duration;
use testkit::{Cluster, eventually, link};

use crate::support::{SETTLED, assert_no_fork, expect_crashes, operations};

async fn pruning_pair() -> (Cluster, Cluster) {
    let (mut a, mut b) = tokio::join!(Cluster::new("a"), Cluster::new("b"));
    link(&mut a, &mut b);
    expect_crashes([&mut a, &mut b]);
    for cluster in [&mut a, &mut b] {
        cluster.create_stream_with("S", &["s.>"], json!({ "max_msgs": 50 })).await;
        cluster.rhio.set_env("RHIO_TEST_PRUNE_SECONDS", "1");
    }
    a.publish("s.>", "S");
    b.subscribe("s.>", "S", &a);
    (a, b)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn state_stays_bounded_on_both_sides() {
    let (mut a, mut b) = pruning_pair().await;
    tokio::join!(a.start(), b.start());
    let mut publisher = a.publisher(&["s.a"]).await;
    for _ in 0..300 {
        // One by one, so that each is an operation of its own.
        publisher.publish(1).await;
        tokio::time::sleep(Duration::from_millis(4)).await;
    }
    let check = a.check("S", "s.>", &b, "S").await;
    let _ = check.until_clean(SETTLED).await;
    for cluster in [&a, &b] {
        eventually!(SETTLED, "the state to be pruned", {
            let count = operations(cluster).await.len();
            if (1..=60).contains(&count) { Ok(()) } else { Err(format!("{count} operations are left")) }
        });
    }
    // What is left is enough to go on, for both.
    a.rhio.kill();
    b.rhio.kill();
    tokio::join!(a.start(), b.start());
    publisher.publish(10).await;
    let last = publisher.acknowledged[260..].to_vec();
    eventually!(SETTLED, "the last ones to arrive", {
        match check.against(&last).await {
            Ok(report) if report.is_clean() => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    assert_no_fork(&[&a, &b]).await;
}

/// Dies while it prunes.
async fn dies_pruning(publisher_dies: bool, n: u64) {
    let (mut a, mut b) = pruning_pair().await;
    let victim = if publisher_dies { &mut a } else { &mut b };
    let point = if publisher_dies { "log-pruned" } else { "copy-pruned" };
    victim.rhio.set_env("RHIO_FAILPOINTS", &format!("{point}:{n}"));
    a.rhio.spawn().expect("it starts");
    b.rhio.spawn().expect("it starts");
    let running = a.publisher(&["s.a"]).await.run(100);
    let victim = if publisher_dies { &mut a } else { &mut b };
    victim.rhio.wait_exit(Duration::from_secs(30)).await.expect("it dies");
    victim.rhio.remove_env("RHIO_FAILPOINTS");
    victim.start().await;
    // Messages go on for a while.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let publisher = running.stop().await;
    let expected = publisher.acknowledged[publisher.acknowledged.len() - 50..].to_vec();
    let check = a.check("S", "s.>", &b, "S").await;
    eventually!(SETTLED, "the last ones to arrive", {
        match check.against(&expected).await {
            Ok(report) if report.is_clean() => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    assert_no_fork(&[&a, &b]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dying_while_pruning_does_no_harm() {
    tokio::join!(dies_pruning(true, 1), dies_pruning(true, 2), dies_pruning(false, 1), dies_pruning(false, 2));
}
