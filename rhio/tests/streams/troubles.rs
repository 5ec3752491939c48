//! Streams that are missing, do not fit, come and go: a visible state of that one entry, which heals when it is put right.

use common::{
    SOON, delete_stream, finish, pair, publish, replicating_pair, start, texts, update_stream, wait_for_records,
    waits_with,
};
use serde_json::json;
use testkit::{Cluster, eventually};

/// Adds a second, healthy entry from `a` to `b`, to see that it is not held up.
async fn add_bystander(a: &mut Cluster, b: &mut Cluster) {
    for cluster in [&*a, &*b] {
        cluster.create_stream("OTHER", &["other.>"]).await;
    }
    a.publish("other.>", "OTHER");
    b.subscribe("other.>", "OTHER", a);
}

/// Sees that the second entry works now.
async fn assert_bystander_works(a: &Cluster, b: &Cluster) {
    publish(a, "other.x", &[], "x").await;
    a.check("OTHER", ">", b, "OTHER").await.until_clean(SOON).await.assert_clean();
}

#[tokio::test]
async fn a_source_stream_that_is_missing_is_waited_for() {
    let (mut a, mut b) = pair().await;
    a.publish("late.>", "LATE");
    b.create_stream("LATE", &["late.>"]).await;
    b.subscribe("late.>", "LATE", &a);
    add_bystander(&mut a, &mut b).await;
    a.rhio.allow_log("stream 'LATE' does not exist");
    b.rhio.allow_log("the author publishes nothing under this filter (yet)");
    start(&mut a, &mut b).await;
    let line = a.rhio.wait_for_log("stream 'LATE' does not exist", SOON).await;
    assert!(line.message.starts_with("publication of 'late.>' from stream 'LATE': waiting: "), "{}", line.message);
    b.rhio.wait_for_log("the author publishes nothing under this filter (yet)", SOON).await;
    assert_bystander_works(&a, &b).await;

    a.create_stream("LATE", &["late.>"]).await;
    publish(&a, "late.x", &[], "here").await;
    assert_eq!(texts(&wait_for_records(&b, "LATE", 1).await), ["here"]);
    a.rhio.wait_for_log("publication of 'late.>' from stream 'LATE': active", SOON).await;
    finish(a, b).await;
}

#[tokio::test]
async fn a_local_stream_that_is_missing_is_waited_for() {
    let (mut a, mut b) = pair().await;
    a.publish("s.>", "S");
    update_stream(&b, "S", json!({"subjects": ["elsewhere"]})).await;
    b.subscribe("s.>", "LATE", &a);
    add_bystander(&mut a, &mut b).await;
    b.rhio.allow_log("local stream 'LATE' does not exist");
    publish(&a, "s.x", &[], "one").await;
    start(&mut a, &mut b).await;
    let line = b.rhio.wait_for_log("local stream 'LATE' does not exist", SOON).await;
    assert!(line.message.starts_with("subscription to 's.>' of "), "{}", line.message);
    assert!(line.message.contains("create it"), "{}", line.message);
    waits_with(&b, "stream-missing", "create it").await;
    assert_bystander_works(&a, &b).await;

    publish(&a, "s.x", &[], "two").await;
    b.create_stream("LATE", &["s.>"]).await;
    assert_eq!(texts(&wait_for_records(&b, "LATE", 2).await), ["one", "two"]);
    finish(a, b).await;
}

#[tokio::test]
async fn a_source_stream_that_does_not_capture_the_subject_is_waited_for() {
    let (mut a, mut b) = pair().await;
    a.publish("more.>", "S");
    b.create_stream("MORE", &["more.>"]).await;
    b.subscribe("more.>", "MORE", &a);
    add_bystander(&mut a, &mut b).await;
    a.rhio.allow_log("does not capture 'more.>'");
    b.rhio.allow_log("the author publishes nothing under this filter (yet)");
    start(&mut a, &mut b).await;
    let line = a.rhio.wait_for_log("does not capture 'more.>'", SOON).await;
    assert!(line.message.contains("stream 'S'") && line.message.contains("it has s.>"), "{}", line.message);
    assert_bystander_works(&a, &b).await;

    update_stream(&a, "S", json!({"subjects": ["s.>", "more.>"]})).await;
    publish(&a, "more.x", &[], "here").await;
    assert_eq!(texts(&wait_for_records(&b, "MORE", 1).await), ["here"]);
    finish(a, b).await;
}

#[tokio::test]
async fn a_local_stream_that_captures_a_part_of_the_subjects_waits_at_the_first_it_does_not() {
    let (mut a, mut b) = replicating_pair().await;
    update_stream(&b, "S", json!({"subjects": ["s.a"]})).await;
    add_bystander(&mut a, &mut b).await;
    b.rhio.allow_log("does not capture 's.b'");
    start(&mut a, &mut b).await;
    for (subject, text) in [("s.a", "one"), ("s.b", "two"), ("s.a", "three")] {
        publish(&a, subject, &[], text).await;
    }
    let line = b.rhio.wait_for_log("does not capture 's.b'", SOON).await;
    assert!(line.message.contains("it has s.a") && line.message.contains("add the subject"), "{}", line.message);
    assert_bystander_works(&a, &b).await;

    update_stream(&b, "S", json!({"subjects": ["s.a", "s.b"]})).await;
    assert_eq!(texts(&wait_for_records(&b, "S", 3).await), ["one", "two", "three"]);
    finish(a, b).await;
}

#[tokio::test]
async fn a_local_stream_deleted_while_rhio_runs_is_said_and_filled_again_from_the_beginning() {
    let (mut a, mut b) = replicating_pair().await;
    add_bystander(&mut a, &mut b).await;
    for words in ["local stream 'S'", "the local stream was deleted and created again"] {
        b.rhio.allow_log(words);
    }
    publish(&a, "s.x", &[], "one").await;
    start(&mut a, &mut b).await;
    wait_for_records(&b, "S", 1).await;
    delete_stream(&b, "S").await;
    publish(&a, "s.x", &[], "two").await;
    b.rhio.wait_for_log("local stream 'S' does not exist", SOON).await;
    assert_bystander_works(&a, &b).await;
    b.create_stream("S", &["s.>"]).await;
    assert_eq!(texts(&wait_for_records(&b, "S", 2).await), ["one", "two"]);
    finish(a, b).await;
}

#[tokio::test]
async fn a_local_stream_created_anew_under_its_name_is_filled_again() {
    let (mut a, mut b) = replicating_pair().await;
    for words in ["local stream 'S'", "the local stream was deleted and created again", "out of place"] {
        b.rhio.allow_log(words);
    }
    publish(&a, "s.x", &[], "one").await;
    start(&mut a, &mut b).await;
    wait_for_records(&b, "S", 1).await;
    delete_stream(&b, "S").await;
    b.create_stream("S", &["s.>"]).await;
    publish(&a, "s.x", &[], "two").await;
    assert_eq!(texts(&wait_for_records(&b, "S", 2).await), ["one", "two"]);
    finish(a, b).await;
}

#[tokio::test]
async fn a_source_stream_deleted_and_created_again_goes_on_with_its_new_messages() {
    let (mut a, mut b) = replicating_pair().await;
    add_bystander(&mut a, &mut b).await;
    a.rhio.allow_log("stream 'S'");
    b.rhio.allow_log("closed by the peer: not available now");
    start(&mut a, &mut b).await;
    let mut publisher = a.publisher(&["s.x"]).await;
    publisher.publish(300).await;
    let check = a.check("S", ">", &b, "S").await;
    check.until_clean_against(&publisher.acknowledged, SOON).await.assert_clean();

    // Fewer than before, then more than before.
    for count in [50, 600] {
        delete_stream(&a, "S").await;
        a.create_stream("S", &["s.>"]).await;
        publisher.publish(count).await;
        check.until_clean_against(&publisher.acknowledged, SOON).await.assert_clean();
    }
    assert_bystander_works(&a, &b).await;
    finish(a, b).await;
}

#[tokio::test]
async fn a_source_stream_created_again_while_the_author_was_down_is_another_one() {
    let (mut a, mut b) = replicating_pair().await;
    common::expect_departures(&mut b);
    start(&mut a, &mut b).await;
    let mut publisher = a.publisher(&["s.x"]).await;
    publisher.publish(200).await;
    let check = a.check("S", ">", &b, "S").await;
    check.until_clean_against(&publisher.acknowledged, SOON).await.assert_clean();
    a.rhio.terminate().await;
    delete_stream(&a, "S").await;
    a.create_stream("S", &["s.>"]).await;
    publisher.publish(400).await;
    a.start().await;
    check.until_clean_against(&publisher.acknowledged, SOON).await.assert_clean();
    finish(a, b).await;
}

#[tokio::test]
async fn a_source_stream_deleted_for_good_is_said_and_hurts_nobody_else() {
    let (mut a, mut b) = replicating_pair().await;
    add_bystander(&mut a, &mut b).await;
    a.rhio.allow_log("stream 'S'");
    b.rhio.allow_log("subscription to 's.>'");
    publish(&a, "s.x", &[], "one").await;
    start(&mut a, &mut b).await;
    wait_for_records(&b, "S", 1).await;
    delete_stream(&a, "S").await;
    a.rhio.wait_for_log("stream 'S' does not exist", SOON).await;
    assert_bystander_works(&a, &b).await;
    finish(a, b).await;
}

#[tokio::test]
async fn a_local_stream_that_is_full_waits_and_goes_on_after_a_purge() {
    let (mut a, mut b) = replicating_pair().await;
    update_stream(&b, "S", json!({"max_msgs": 20, "discard": "new"})).await;
    add_bystander(&mut a, &mut b).await;
    b.rhio.allow_log("local stream 'S' refuses a message: maximum messages exceeded");
    let mut publisher = a.publisher(&["s.x"]).await;
    publisher.publish(30).await;
    start(&mut a, &mut b).await;
    b.rhio.wait_for_log("maximum messages exceeded", SOON).await;
    waits_with(&b, "stream-full-messages", "is full").await;
    let first = wait_for_records(&b, "S", 20).await;
    assert_bystander_works(&a, &b).await;

    common::stream(&b, "S").await.purge().await.expect("it is purged");
    let second = wait_for_records(&b, "S", 10).await;
    let arrived: Vec<_> = first.iter().chain(&second).map(|record| record.payload.clone()).collect();
    let sent: Vec<_> = publisher.acknowledged.iter().map(|record| record.payload.clone()).collect();
    assert_eq!(arrived, sent);
    finish(a, b).await;
}

#[tokio::test]
async fn a_local_stream_that_keeps_one_message_per_subject_gets_the_last_of_each() {
    let (mut a, mut b) = replicating_pair().await;
    update_stream(&b, "S", json!({"max_msgs_per_subject": 1})).await;
    start(&mut a, &mut b).await;
    a.publisher(&["s.a", "s.b", "s.c"]).await.publish(300).await;
    publish(&a, "s.a", &[], "last a").await;
    publish(&a, "s.c", &[], "last c").await;
    let arrived = eventually!(SOON, "the last of each", {
        let arrived = common::records(&b, "S").await;
        let texts = texts(&arrived);
        (texts.len() == 3 && texts[1..] == ["last a", "last c"]).then_some(arrived)
    });
    assert_eq!(common::subjects(&arrived), ["s.b", "s.a", "s.c"]);
    // The cursor's own message is gone by now; that is no sign of a stream that forgot.
    b.rhio.restart().await;
    publish(&a, "s.d", &[], "more").await;
    assert_eq!(texts(&wait_for_records(&b, "S", 4).await)[3], "more");
    finish(a, b).await;
}

#[tokio::test]
async fn a_local_stream_that_denies_deletes_and_purges_is_fine() {
    let (mut a, mut b) = pair().await;
    a.publish("d.>", "D");
    a.create_stream("D", &["d.>"]).await;
    b.create_stream_with("D", &["d.>"], json!({"deny_delete": true, "deny_purge": true})).await;
    b.subscribe("d.>", "D", &a);
    a.publisher(&["d.x"]).await.publish(200).await;
    start(&mut a, &mut b).await;
    b.rhio.restart().await;
    a.publisher(&["d.x"]).await.publish(200).await;
    let report = a.check("D", ">", &b, "D").await.until_clean(SOON).await;
    assert_eq!(report.arrived, 400);
    finish(a, b).await;
}

#[tokio::test]
async fn a_local_queue_that_is_emptied_while_it_is_full_gives_each_message_once() {
    let (mut a, mut b) = pair().await;
    let settings = json!({"retention": "workqueue", "max_msgs": 20, "discard": "new"});
    b.create_stream_with("Q", &["q.>"], settings).await;
    a.create_stream("Q", &["q.>"]).await;
    a.publish("q.>", "Q");
    b.subscribe("q.>", "Q", &a);
    b.rhio.allow_log("local stream 'Q' refuses a message: maximum messages exceeded");
    let mut publisher = a.publisher(&["q.x"]).await;
    publisher.publish(50).await;
    start(&mut a, &mut b).await;
    b.rhio.wait_for_log("maximum messages exceeded", SOON).await;

    // A worker that takes the first half of what is there, and then the rest as it comes.
    let queue = common::stream(&b, "Q").await;
    let config = async_nats::jetstream::consumer::pull::Config {
        durable_name: Some("worker".into()),
        ack_policy: async_nats::jetstream::consumer::AckPolicy::Explicit,
        ..Default::default()
    };
    let worker = queue.create_consumer(config).await.expect("a consumer");
    let mut done = Vec::new();
    let worked = eventually!(SOON, "the worker to get everything", {
        let mut batch = worker.fetch().max_messages(10).messages().await.expect("messages");
        while let Some(message) = futures_util::StreamExt::next(&mut batch).await {
            let message = message.expect("a message");
            message.double_ack().await.expect("it is acknowledged");
            done.push(message.payload.clone());
        }
        if done.len() >= 50 { Ok(done.clone()) } else { Err(format!("{} so far", done.len())) }
    });
    let sent: Vec<_> = publisher.acknowledged.iter().map(|record| record.payload.clone()).collect();
    assert_eq!(worked.len(), sent.len(), "each once");
    assert!(worked == sent, "in order");
    finish(a, b).await;
}
