//! The publisher's NATS forgets: the log is taken back, never forked; new messages that reuse numbers arrive, and old
//! ones stay where they arrived.

use futures_util::future::join_all;
use std::time::Duration;
use testkit::Cluster;
use testkit::checker::Publisher;

use super::cut::{Data, Rhio, Runs, State, Stopped, What, Whole, back, cut, expect_cuts, snapshot};
use crate::support::{assert_no_fork, settle, settle_against, settle_commits};
use common::{delete_stream, replicating_pair};

/// Whether messages differ from each other.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Payloads {
    Unique,
    Same,
}

use Payloads::{Same, Unique};

async fn more(publisher: &mut Publisher, count: u64, payloads: Payloads) {
    for _ in 0..count {
        match payloads {
            Unique => publisher.publish(1).await,
            Same => publisher.publish_message("s.a", async_nats::HeaderMap::new(), "the same").await,
        }
    }
}

async fn running_pair() -> (Cluster, Cluster) {
    let (mut a, mut b) = replicating_pair().await;
    expect_cuts(&mut a, &mut b);
    tokio::join!(a.start(), b.start());
    (a, b)
}

/// The subscriber runs and can be asked.
async fn forgets(what: What, rhio: Rhio, payloads: Payloads) {
    let (mut a, mut b) = running_pair().await;
    let mut publisher = a.publisher(&["s.a", "s.b"]).await;
    more(&mut publisher, 50, payloads).await;
    settle_commits(&a, &b).await;
    let copy = snapshot(&mut a);
    more(&mut publisher, 60, payloads).await;
    settle_commits(&a, &b).await;
    cut(&mut a, &copy, what, rhio).await;
    // Fewer than were lost, then more: the numbers are given again.
    more(&mut publisher, 30, payloads).await;
    back(&mut a).await;
    more(&mut publisher, 100, payloads).await;
    settle_against(&a, &b, &publisher).await;
    // It goes on, over another start.
    a.rhio.kill();
    b.rhio.kill();
    tokio::join!(a.start(), b.start());
    more(&mut publisher, 20, payloads).await;
    settle_against(&a, &b, &publisher).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publisher_that_forgets_everything_goes_on_in_a_log_that_is_not_forked() {
    join_all([
        forgets(Whole, Stopped, Unique),
        forgets(Whole, Runs, Unique),
        forgets(Whole, Stopped, Same),
        forgets(Whole, Runs, Same),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publisher_that_forgets_messages_and_not_its_log_sends_the_new_ones() {
    join_all([
        forgets(Data, Stopped, Unique),
        forgets(Data, Runs, Unique),
        forgets(Data, Stopped, Same),
        forgets(Data, Runs, Same),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publisher_that_forgets_its_log_takes_it_back() {
    join_all([
        forgets(State, Stopped, Unique),
        forgets(State, Runs, Unique),
        forgets(State, Stopped, Same),
        forgets(State, Runs, Same),
    ])
    .await;
}

/// The numbers are given again under load, in the moments in which rhio finds out.
async fn forgets_under_load(what: What) {
    let (mut a, b) = running_pair().await;
    let mut publisher = a.publisher(&["s.a"]).await;
    publisher.publish(100).await;
    settle_commits(&a, &b).await;
    let copy = snapshot(&mut a);
    publisher.publish(60).await;
    settle_commits(&a, &b).await;
    let client = a.client().await;
    cut(&mut a, &copy, what, Runs).await;
    testkit::eventually!(Duration::from_secs(10), "a connection", client.flush().await.is_ok());
    publisher.publish(2000).await;
    settle_against(&a, &b, &publisher).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers_that_are_given_again_under_load() {
    join_all([forgets_under_load(Whole), forgets_under_load(Data), forgets_under_load(State)]).await;
}

/// The subscriber is away while the publisher recovers, so that a new log begins.
async fn unreachable(what: What, rhio: Rhio, point: Option<&str>) {
    let (mut a, mut b) = running_pair().await;
    let mut publisher = a.publisher(&["s.a", "s.b"]).await;
    more(&mut publisher, 50, Unique).await;
    settle_commits(&a, &b).await;
    let copy = snapshot(&mut a);
    if let Some(point) = point {
        b.rhio.kill();
        b.rhio.set_env("RHIO_FAILPOINTS", point);
        b.rhio.spawn().expect("it starts");
    }
    more(&mut publisher, 60, Unique).await;
    match point {
        // It dies with records written that no commit covers.
        Some(_) => {
            b.rhio.wait_exit(Duration::from_secs(30)).await.expect("it dies");
            b.rhio.remove_env("RHIO_FAILPOINTS");
        }
        None => {
            settle_commits(&a, &b).await;
            b.rhio.kill();
        }
    }
    cut(&mut a, &copy, what, rhio).await;
    back(&mut a).await;
    more(&mut publisher, 100, Unique).await;
    a.rhio.wait_for_log("begins a new log", Duration::from_secs(20)).await;
    more(&mut publisher, 20, Unique).await;
    b.start().await;
    settle_against(&a, &b, &publisher).await;
    a.rhio.kill();
    a.start().await;
    more(&mut publisher, 20, Unique).await;
    settle_against(&a, &b, &publisher).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_that_is_away_meanwhile_finds_a_new_log() {
    join_all([unreachable(Whole, Stopped, None), unreachable(Whole, Runs, None), unreachable(State, Stopped, None)])
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_written_and_not_committed_does_not_come_again_with_a_new_log() {
    join_all([
        unreachable(State, Stopped, Some("records-acknowledged:3")),
        unreachable(State, Runs, Some("record-published:20")),
        unreachable(State, Stopped, Some("commit-sent:2")),
    ])
    .await;
}

/// The state stream is deleted.
async fn state_is_deleted(rhio: Rhio, point: Option<&str>) {
    let (mut a, mut b) = running_pair().await;
    let mut publisher = a.publisher(&["s.a"]).await;
    more(&mut publisher, 50, Unique).await;
    settle_commits(&a, &b).await;
    if let Some(point) = point {
        b.rhio.kill();
        b.rhio.set_env("RHIO_FAILPOINTS", point);
        b.rhio.spawn().expect("it starts");
        more(&mut publisher, 50, Unique).await;
        b.rhio.wait_exit(Duration::from_secs(30)).await.expect("it dies");
        b.rhio.remove_env("RHIO_FAILPOINTS");
    }
    if rhio == Stopped {
        a.rhio.kill();
    }
    delete_stream(&a, "RHIO").await;
    back(&mut a).await;
    more(&mut publisher, 50, Unique).await;
    back(&mut b).await;
    settle(&a, &b, "S").await;
    a.rhio.kill();
    b.rhio.kill();
    tokio::join!(a.start(), b.start());
    more(&mut publisher, 20, Unique).await;
    settle(&a, &b, "S").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publisher_whose_state_is_deleted_begins_a_log_and_nothing_comes_twice() {
    join_all([
        state_is_deleted(Stopped, None),
        state_is_deleted(Runs, None),
        state_is_deleted(Stopped, Some("records-acknowledged:2")),
    ])
    .await;
}

/// Anybody may read, so the publisher does not know whom to ask.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_publisher_that_forgets_its_log_begins_another() {
    let (mut a, mut b) = tokio::join!(Cluster::new("a"), Cluster::new("b"));
    expect_cuts(&mut a, &mut b);
    for cluster in [&a, &b] {
        cluster.create_stream("S", &["s.>"]).await;
    }
    let author = a.rhio.as_node();
    a.rhio.rewrite_config(|config| config.access = Some("open".into()));
    b.rhio.rewrite_config(|config| config.nodes.push(author));
    a.publish("s.>", "S");
    b.subscribe("s.>", "S", &a);
    tokio::join!(a.start(), b.start());
    let mut publisher = a.publisher(&["s.a"]).await;
    more(&mut publisher, 30, Unique).await;
    settle_commits(&a, &b).await;
    let copy = snapshot(&mut a);
    more(&mut publisher, 30, Unique).await;
    settle_commits(&a, &b).await;
    cut(&mut a, &copy, State, Stopped).await;
    back(&mut a).await;
    more(&mut publisher, 30, Unique).await;
    settle_against(&a, &b, &publisher).await;
}

/// The publisher dies while it takes operations back.
async fn dies_taking_back(point: &str) {
    let (mut a, b) = running_pair().await;
    let mut publisher = a.publisher(&["s.a"]).await;
    more(&mut publisher, 20, Unique).await;
    settle_commits(&a, &b).await;
    let copy = snapshot(&mut a);
    more(&mut publisher, 30, Unique).await;
    settle_commits(&a, &b).await;
    cut(&mut a, &copy, State, Stopped).await;
    a.rhio.set_env("RHIO_FAILPOINTS", point);
    a.rhio.spawn().expect("it starts");
    more(&mut publisher, 10, Unique).await;
    a.rhio.wait_exit(Duration::from_secs(30)).await.unwrap_or_else(|| panic!("it does not die at {point}"));
    a.rhio.remove_env("RHIO_FAILPOINTS");
    a.start().await;
    more(&mut publisher, 10, Unique).await;
    settle_against(&a, &b, &publisher).await;
    assert_no_fork(&[&a, &b]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dying_while_taking_back_does_no_harm() {
    join_all(
        ["operation-taken-back:1", "operation-taken-back:5", "server-noted:1", "operation-stored:1"]
            .map(dies_taking_back),
    )
    .await;
}
