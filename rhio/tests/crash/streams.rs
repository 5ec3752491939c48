//! Streams that are deleted and created again, and streams that drop what is acknowledged, with crashes in between.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use testkit::{Cluster, eventually, link};

use crate::support::{SETTLED, assert_no_fork, expect_crashes, settle_commits};
use common::{delete_stream, replicating_pair};

/// Who is down while the source stream is deleted and created again.
#[derive(Clone, Copy, Debug)]
enum Down {
    Nobody,
    Publisher,
    Subscriber,
    Both,
}

async fn source_is_created_again(down: Down) {
    let (mut a, mut b) = replicating_pair().await;
    expect_crashes([&mut a, &mut b]);
    let mut publisher = a.publisher(&["s.a"]).await;
    tokio::join!(a.start(), b.start());
    publisher.publish(60).await;
    settle_commits(&a, &b).await;
    if matches!(down, Down::Publisher | Down::Both) {
        a.rhio.kill();
    }
    if matches!(down, Down::Subscriber | Down::Both) {
        b.rhio.kill();
    }
    delete_stream(&a, "S").await;
    a.create_stream("S", &["s.>"]).await;
    // More than before at once, so that the new stream's numbers pass the old one's.
    publisher.publish(500).await;
    for cluster in [&mut a, &mut b] {
        if !cluster.rhio.is_running() {
            cluster.start().await;
        }
    }
    publisher.publish(20).await;
    let check = a.check("S", "s.>", &b, "S").await;
    let _ = check.until_clean_against(&publisher.acknowledged, SETTLED).await;
    // And a crash later, when only commits tell.
    b.rhio.kill();
    a.rhio.kill();
    a.start().await;
    b.start().await;
    publisher.publish(20).await;
    let _ = check.until_clean_against(&publisher.acknowledged, SETTLED).await;
    assert_no_fork(&[&a, &b]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_stream_that_is_deleted_and_created_again_is_another_one() {
    join_all([Down::Nobody, Down::Publisher, Down::Subscriber, Down::Both].map(source_is_created_again)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_local_stream_that_is_created_again_while_messages_flow_is_filled_from_the_beginning() {
    let (mut a, mut b) = replicating_pair().await;
    expect_crashes([&mut a, &mut b]);
    let running = a.publisher(&["s.a"]).await.run(300);
    tokio::join!(a.start(), b.start());
    let check = a.check("S", "s.>", &b, "S").await;
    eventually!(SETTLED, "messages to flow", check.now().await.is_ok_and(|report| report.arrived > 50));
    delete_stream(&b, "S").await;
    b.create_stream("S", &["s.>"]).await;
    eventually!(SETTLED, "messages to flow again", check.now().await.is_ok_and(|report| report.arrived > 50));
    running.stop().await;
    eventually!(SETTLED, "the new stream to hold everything", {
        match check.now().await {
            Ok(report) if report.is_clean() => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
}

/// A stream that drops what is acknowledged, with crashes on both sides.
async fn queue(retention: &str, victim: &str, point: &str) {
    let (mut a, mut b) = tokio::join!(Cluster::new("a"), Cluster::new("b"));
    link(&mut a, &mut b);
    expect_crashes([&mut a, &mut b]);
    a.create_stream_with("S", &["s.>"], json!({ "retention": retention })).await;
    b.create_stream("S", &["s.>"]).await;
    a.publish("s.>", "S");
    b.subscribe("s.>", "S", &a);
    for rhio in [&mut a.rhio, &mut b.rhio] {
        rhio.set_env("RHIO_TEST_ACK_WAIT_SECONDS", "2");
    }
    let cluster = if victim == "a" { &mut a } else { &mut b };
    cluster.rhio.set_env("RHIO_FAILPOINTS", point);
    let mut publisher = a.publisher(&["s.a"]).await;
    if retention == "interest" {
        // Nobody is interested before the publisher's consumer is there.
        a.rhio.spawn().expect("it starts");
        let stream = common::stream(&a, "S").await;
        eventually!(SETTLED, "the consumer", stream.get_info().await.is_ok_and(|info| info.state.consumer_count > 0));
    } else {
        publisher.publish(100).await;
        a.rhio.spawn().expect("it starts");
    }
    b.rhio.spawn().expect("it starts");
    let running = publisher.run(200);
    let cluster = if victim == "a" { &mut a } else { &mut b };
    let died = cluster.rhio.wait_exit(Duration::from_secs(30)).await;
    assert!(died.is_some(), "it passes {point}");
    cluster.rhio.remove_env("RHIO_FAILPOINTS");
    // It is away for a moment, and messages go on when it is back.
    tokio::time::sleep(Duration::from_millis(200)).await;
    cluster.start().await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    let publisher = running.stop().await;
    let check = a.check("S", "s.>", &b, "S").await;
    let _ = check.until_clean_against(&publisher.acknowledged, SETTLED).await;
    eventually!(SETTLED, "the queue to be empty", {
        let left = a.stream_len("S").await;
        if left == 0 { Ok(()) } else { Err(format!("{left} are left")) }
    });
    check.against(&publisher.acknowledged).await.expect("the stream is there").assert_clean();
    assert_no_fork(&[&a, &b]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_work_queue_is_emptied_into_the_subscriber_whoever_dies() {
    join_all([
        queue("workqueue", "a", "operation-stored:2"),
        queue("workqueue", "a", "queue-acknowledged:5"),
        queue("workqueue", "b", "records-acknowledged:2"),
        queue("workqueue", "b", "commit-stored:2"),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interest_stream_is_emptied_into_the_subscriber_whoever_dies() {
    join_all([
        queue("interest", "a", "operation-stored:3"),
        queue("interest", "a", "queue-acknowledged:5"),
        queue("interest", "b", "commit-sent:2"),
    ])
    .await;
}

/// Nobody has it durably, so nothing may leave the queue.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_work_queue_keeps_what_no_subscriber_has_durably() {
    let (mut a, mut b) = tokio::join!(Cluster::new("a"), Cluster::new("b"));
    link(&mut a, &mut b);
    expect_crashes([&mut a, &mut b]);
    a.create_stream_with("S", &["s.>"], json!({ "retention": "workqueue" })).await;
    b.create_stream("S", &["s.>"]).await;
    a.publish("s.>", "S");
    b.subscribe("s.>", "S", &a);
    let mut publisher = a.publisher(&["s.a"]).await;
    publisher.publish(100).await;
    a.start().await;
    b.rhio.set_env("RHIO_FAILPOINTS", "records-acknowledged:1");
    b.rhio.spawn().expect("it starts");
    b.rhio.wait_exit(Duration::from_secs(30)).await.expect("it dies");
    assert!(b.stream_len("S").await > 0, "records were written");
    // Time for an acknowledgement that must not come.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(a.stream_len("S").await, 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_local_work_queue_gets_each_message_once_although_the_subscriber_dies() {
    let (mut a, mut b) = replicating_pair().await;
    expect_crashes([&mut a, &mut b]);
    delete_stream(&b, "S").await;
    b.create_stream_with("S", &["s.>"], json!({"retention": "workqueue"})).await;
    let mut publisher = a.publisher(&["s.a"]).await;
    publisher.publish(60).await;
    a.start().await;
    for point in ["record-published:25", "records-acknowledged:1"] {
        b.rhio.set_env("RHIO_FAILPOINTS", point);
        b.rhio.spawn().expect("the subscriber starts");
        let status = b.rhio.wait_exit(SETTLED).await;
        assert!(status.is_some(), "the subscriber did not die at {point}");
        publisher.publish(20).await;
    }
    b.rhio.remove_env("RHIO_FAILPOINTS");
    b.start().await;
    // The last one says that whatever could come twice has come.
    publisher.publish(1).await;
    // A queue can't be read without taking from it, so it is emptied by hand.
    let stream = eventually!(
        SETTLED,
        "everything to arrive",
        async {
            let context = async_nats::jetstream::new(b.client().await);
            let mut stream = context.get_stream("S").await.ok()?;
            let messages = stream.info().await.ok()?.state.messages;
            (messages >= 101).then_some(stream)
        }
        .await
    );
    let last = stream.get_info().await.unwrap().state.last_sequence;
    let mut bodies = Vec::new();
    for sequence in 1..=last {
        bodies.extend(stream.get_raw_message(sequence).await.ok().map(|message| message.payload));
    }
    let expected: Vec<_> = publisher.acknowledged.iter().map(|record| record.payload.clone()).collect();
    assert_eq!(bodies, expected);
}
