//! A process dies between two steps of the invariant, and comes back.

use std::time::Duration;

use futures_util::future::join_all;
use testkit::Cluster;

use crate::support::{expect_crashes, expect_words, settle};
use common::replicating_pair;

/// Which process dies.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Side {
    Publisher,
    Subscriber,
}

use Side::{Publisher, Subscriber};

/// Dies when it passes `name` for the `n`-th time, while messages flow.
async fn dies_at(side: Side, name: &str, n: u64) {
    let (mut a, mut b) = replicating_pair().await;
    expect_crashes([&mut a, &mut b]);
    let mut publisher = a.publisher(&["s.a", "s.b.c"]).await.sizes(20..=3000);
    // Some history, so that catching up is crashed too.
    publisher.publish(40).await;
    let running = publisher.run(250);
    let doomed = |cluster: &mut Cluster| cluster.rhio.set_env("RHIO_FAILPOINTS", &format!("{name}:{n}"));
    match side {
        Publisher => doomed(&mut a),
        Subscriber => doomed(&mut b),
    }
    a.rhio.spawn().expect("the publisher starts");
    b.rhio.spawn().expect("the subscriber starts");
    let victim = if side == Publisher { &mut a } else { &mut b };
    let died = victim.rhio.wait_exit(Duration::from_secs(30)).await;
    let died = died.unwrap_or_else(|| panic!("it never passed {name} {n} times"));
    assert_eq!(died.code(), None, "it was aborted at {name}");
    victim.rhio.remove_env("RHIO_FAILPOINTS");
    // It is away for a moment, and messages go on when it is back.
    tokio::time::sleep(Duration::from_millis(100)).await;
    victim.start().await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    running.stop().await;
    settle(&a, &b, "S").await;
}

/// Several times at once: mostly they wait.
async fn dies_at_each(side: Side, name: &str, times: &[u64]) {
    join_all(times.iter().map(|n| dies_at(side, name, *n))).await;
}

macro_rules! points {
    ($($test:ident: $side:ident at $name:literal $times:expr;)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $test() {
            dies_at_each($side, $name, &$times).await;
        }
    )*};
}

points! {
    publisher_dies_after_a_log_was_described: Publisher at "log-described" [1];
    publisher_dies_after_the_server_was_noted: Publisher at "server-noted" [1];
    publisher_dies_after_an_operation_was_stored: Publisher at "operation-stored" [1, 2, 7];
    publisher_dies_after_an_operation_was_released: Publisher at "operation-released" [1, 2, 7];
    publisher_dies_after_an_operation_was_sent: Publisher at "operation-sent" [1, 2, 7];
    publisher_dies_after_it_heard_of_progress: Publisher at "applied-heard" [1, 2, 7];
    subscriber_dies_after_it_noted_the_log: Subscriber at "descriptor-stored" [1];
    subscriber_dies_after_a_record_was_sent: Subscriber at "record-published" [1, 2, 7, 45];
    subscriber_dies_after_records_were_acknowledged: Subscriber at "records-acknowledged" [1, 2, 7];
    subscriber_dies_after_a_commit_was_sent: Subscriber at "commit-sent" [1, 2, 7];
    subscriber_dies_after_a_commit_was_stored: Subscriber at "commit-stored" [1, 2, 7];
    subscriber_dies_after_it_told_of_progress: Subscriber at "applied-sent" [1, 2, 7];
}

/// What a crash left behind is in disorder; the process dies again while it puts that right.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscriber_dies_while_it_takes_out_what_is_out_of_place() {
    let (mut a, mut b) = replicating_pair().await;
    expect_crashes([&mut a, &mut b]);
    expect_words(&mut b, &["takes out a record that is out of place"]);
    let mut publisher = a.publisher(&["s.a"]).await;
    publisher.publish(30).await;
    b.rhio.set_env("RHIO_FAILPOINTS", "records-acknowledged:1");
    a.start().await;
    b.rhio.spawn().expect("the subscriber starts");
    b.rhio.wait_exit(Duration::from_secs(30)).await.expect("it dies");
    // As if one in the middle had been refused while the later ones were taken.
    let stream = common::stream(&b, "S").await;
    let before = stream.cached_info().state.messages;
    assert!(before > 2, "{before} records were written");
    stream.delete_message(2).await.expect("it is deleted");
    b.rhio.set_env("RHIO_FAILPOINTS", "misplaced-deleted:1");
    b.rhio.spawn().expect("the subscriber starts");
    b.rhio.wait_exit(Duration::from_secs(30)).await.expect("it dies again");
    b.rhio.remove_env("RHIO_FAILPOINTS");
    b.start().await;
    publisher.publish(20).await;
    // What is there is in disorder until it is taken out.
    let check = a.check("S", "s.>", &b, "S").await;
    testkit::eventually!(Duration::from_secs(20), "order", check.now().await.is_ok_and(|report| report.is_clean()));
    settle(&a, &b, "S").await;
}

/// Dies again and again at the same place, at every start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscriber_dies_at_every_start() {
    let (mut a, mut b) = replicating_pair().await;
    expect_crashes([&mut a, &mut b]);
    let publisher = a.publisher(&["s.a"]).await;
    let running = publisher.run(200);
    a.start().await;
    for point in ["record-published:3", "commit-sent:1", "records-acknowledged:1", "record-published:2"] {
        b.rhio.set_env("RHIO_FAILPOINTS", point);
        b.rhio.spawn().expect("the subscriber starts");
        b.rhio.wait_exit(Duration::from_secs(30)).await.expect("it dies");
    }
    b.rhio.remove_env("RHIO_FAILPOINTS");
    b.start().await;
    running.stop().await;
    settle(&a, &b, "S").await;
}
