//! Source streams that drop messages: queues, limits, purges.

use std::time::Duration;

use common::{
    SOON, finish, pair, publish, records, replicating_pair, start, stream, texts, update_stream, wait_for_records,
};
use rhio_core::log::commit::Commit;
use rhio_core::log::operation::Operation;
use serde_json::json;
use testkit::{Cluster, eventually};

/// Two clusters; what `a` has in its queue Q goes to `b`, where it stays.
async fn queue_pair(retention: &str) -> (Cluster, Cluster) {
    let (mut a, mut b) = pair().await;
    a.create_stream_with("Q", &["q.>"], json!({"retention": retention})).await;
    b.create_stream("Q", &["q.>"]).await;
    a.publish("q.>", "Q");
    b.subscribe("q.>", "Q", &a);
    // What a process that ended had not acknowledged is delivered again after this time.
    a.rhio.set_env("RHIO_TEST_ACK_WAIT_SECONDS", "1");
    common::expect_departures(&mut b);
    (a, b)
}

/// The last commit of an author's log in a node's state stream, when there is one.
async fn last_commit(node: &Cluster, author: &Cluster) -> Option<Commit> {
    let filter = format!("$RHIO.{}.ops.{}.>", node.rhio.public_key(), author.rhio.public_key());
    let state = testkit::checker::read_stream(&node.client().await, "RHIO", &filter).await.expect("it is there");
    state.last().map(|record| Commit::decode(record.payload.clone()).expect("a commit"))
}

/// How many records the subscriber has passed over because they were gone.
async fn gone(subscriber: &Cluster, author: &Cluster) -> u64 {
    last_commit(subscriber, author).await.map_or(0, |commit| commit.gone)
}

/// Waits until the author's log covers everything up to this place, and starts it anew, so that it has none in memory.
async fn seal_and_forget(author: &mut Cluster, through: u64) {
    eventually!(SOON, format!("everything up to {through} to be sealed"), {
        let commit = last_commit(author, author).await;
        let last = commit.and_then(|commit| Operation::read_stored(commit.operations.last()?.clone()).ok());
        last.is_some_and(|operation| operation.through().seq.0 == through)
    });
    author.rhio.restart().await;
}

#[tokio::test]
async fn a_work_queue_keeps_its_messages_until_a_subscriber_has_them() {
    let (mut a, mut b) = queue_pair("workqueue").await;
    let mut publisher = a.publisher(&["q.a", "q.b"]).await;
    publisher.publish(300).await;
    a.start().await;
    a.rhio.wait_for_log("publication of 'q.>' from stream 'Q': active", SOON).await;
    publisher.publish(100).await;
    // All of them are sealed, none has gone.
    let state = stream(&a, "Q").await;
    eventually!(SOON, "everything to be delivered", {
        let names: Vec<String> = futures_util::TryStreamExt::try_collect(state.consumer_names()).await.expect("names");
        let info = match names.first() {
            Some(name) => state.consumer_info(name).await.ok(),
            None => None,
        };
        info.is_some_and(|info| info.num_pending == 0 && info.num_ack_pending == 400)
    });
    assert_eq!(a.stream_len("Q").await, 400);

    b.start().await;
    let check = a.check("Q", ">", &b, "Q").await;
    check.until_clean_against(&publisher.acknowledged, SOON).await.assert_clean();
    eventually!(SOON, "the queue to be empty", a.stream_len("Q").await == 0);

    // The subscriber goes: what comes meanwhile stays.
    b.rhio.terminate().await;
    publisher.publish(200).await;
    assert_eq!(a.stream_len("Q").await, 200);
    a.rhio.restart().await;
    b.start().await;
    check.until_clean_against(&publisher.acknowledged, SOON).await.assert_clean();
    eventually!(SOON, "the queue to be empty", a.stream_len("Q").await == 0);
    assert_eq!(gone(&b, &a).await, 0);
    finish(a, b).await;
}

#[tokio::test]
async fn an_interest_stream_keeps_its_messages_until_a_subscriber_has_them() {
    let (mut a, mut b) = queue_pair("interest").await;
    a.start().await;
    // Nobody is interested before rhio is.
    a.rhio.wait_for_log("publication of 'q.>' from stream 'Q': active", SOON).await;
    let mut publisher = a.publisher(&["q.a"]).await;
    publisher.publish(200).await;
    assert_eq!(a.stream_len("Q").await, 200);
    a.rhio.terminate().await;
    publisher.publish(100).await;
    assert_eq!(a.stream_len("Q").await, 300);
    start(&mut a, &mut b).await;
    let check = a.check("Q", ">", &b, "Q").await;
    check.until_clean_against(&publisher.acknowledged, SOON).await.assert_clean();
    eventually!(SOON, "the stream to be empty", a.stream_len("Q").await == 0);
    finish(a, b).await;
}

#[tokio::test]
async fn a_work_queue_refuses_a_second_reader_and_rhio_says_so() {
    let (mut a, b) = queue_pair("workqueue").await;
    let other = json!({
        "stream_name": "Q",
        "config": {"name": "app", "durable_name": "app", "ack_policy": "explicit", "filter_subject": "q.>"},
    });
    let client = a.client().await;
    client.request("$JS.API.CONSUMER.CREATE.Q.app.q.>", other.to_string().into()).await.expect("an answer");
    a.rhio.allow_log("stream 'Q' refuses a consumer for 'q.>'");
    a.start().await;
    a.rhio.wait_for_log("stream 'Q' refuses a consumer for 'q.>'", SOON).await;
    let mut publisher = a.publisher(&["q.x"]).await;
    publisher.publish(10).await;
    stream(&a, "Q").await.delete_consumer("app").await.expect("it is deleted");
    let mut b = b;
    b.start().await;
    let check = a.check("Q", ">", &b, "Q").await;
    check.until_clean_against(&publisher.acknowledged, SOON).await.assert_clean();
    finish(a, b).await;
}

#[tokio::test]
async fn what_was_deleted_before_it_was_sent_is_passed_over_and_counted() {
    let (mut a, mut b) = replicating_pair().await;
    common::expect_departures(&mut b);
    start(&mut a, &mut b).await;
    publish(&a, "s.x", &[], "1").await;
    wait_for_records(&b, "S", 1).await;
    b.rhio.terminate().await;
    for text in ["2", "3", "4", "5", "6"] {
        publish(&a, "s.x", &[], text).await;
    }
    seal_and_forget(&mut a, 6).await;
    let source = stream(&a, "S").await;
    for sequence in [3, 5, 6] {
        source.delete_message(sequence).await.expect("it is deleted");
    }
    publish(&a, "s.x", &[], "7").await;
    b.start().await;
    assert_eq!(texts(&wait_for_records(&b, "S", 4).await), ["1", "2", "4", "7"]);
    eventually!(SOON, "the count", gone(&b, &a).await == 3);
    finish(a, b).await;
}

#[tokio::test]
async fn a_source_that_was_purged_goes_on_behind_the_gap() {
    let (mut a, mut b) = replicating_pair().await;
    common::expect_departures(&mut b);
    start(&mut a, &mut b).await;
    publish(&a, "s.x", &[], "before").await;
    wait_for_records(&b, "S", 1).await;
    b.rhio.terminate().await;
    a.publisher(&["s.x"]).await.publish(500).await;
    seal_and_forget(&mut a, 501).await;
    stream(&a, "S").await.purge().await.expect("it is purged");
    publish(&a, "s.x", &[], "after").await;
    b.start().await;
    assert_eq!(texts(&wait_for_records(&b, "S", 2).await), ["before", "after"]);
    finish(a, b).await;
}

#[tokio::test]
async fn a_source_that_keeps_its_last_messages_only_sends_those() {
    let (mut a, mut b) = replicating_pair().await;
    update_stream(&a, "S", json!({"max_msgs": 50})).await;
    let mut publisher = a.publisher(&["s.x"]).await;
    publisher.publish(300).await;
    a.start().await;
    a.rhio.wait_for_log("active", SOON).await;
    publisher.publish(300).await;
    seal_and_forget(&mut a, 600).await;
    b.start().await;
    let expected = &publisher.acknowledged[550..];
    a.check("S", ">", &b, "S").await.until_clean_against(expected, SOON).await.assert_clean();
    assert_eq!(records(&a, "S").await.len(), 50);
    finish(a, b).await;
}

#[tokio::test]
async fn messages_that_expired_before_they_were_sent_are_passed_over() {
    let (mut a, mut b) = replicating_pair().await;
    update_stream(&a, "S", json!({"max_age": 1_000_000_000, "duplicate_window": 1_000_000_000})).await;
    a.start().await;
    a.publisher(&["s.x"]).await.publish(100).await;
    seal_and_forget(&mut a, 100).await;
    eventually!(Duration::from_secs(10), "the source to be empty", a.stream_len("S").await == 0);
    b.start().await;
    b.rhio.wait_for_log("active", SOON).await;
    publish(&a, "s.x", &[], "young").await;
    assert_eq!(texts(&wait_for_records(&b, "S", 1).await), ["young"]);
    eventually!(SOON, "the count", gone(&b, &a).await == 100);
    finish(a, b).await;
}
