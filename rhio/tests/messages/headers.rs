//! What becomes of a message's headers: what steered JetStream at the source must not steer it at the destination.

use std::time::Duration;

use common::{SOON, finish, pair, publish, records, replicating_pair, start, texts, update_stream, wait_for_records};
use serde_json::json;
use testkit::{Cluster, eventually, link};

/// The values of a header that arrived.
fn values<'a>(record: &'a testkit::checker::Record, name: &str) -> Vec<&'a str> {
    record.headers.get(name).into_iter().flatten().map(String::as_str).collect()
}

#[tokio::test]
async fn ordinary_headers_arrive_unchanged_with_all_their_values() {
    let (mut a, mut b) = replicating_pair().await;
    let headers = [
        ("Content-Type", "text/plain; charset=utf-8"),
        ("many", "one"),
        ("many", "two"),
        ("many", "one"),
        ("Many", "another name"),
        ("empty", ""),
        ("umlaut", "größer ☃"),
        ("Natsy", "no control header"),
    ];
    publish(&a, "s.history", &headers, "x").await;
    start(&mut a, &mut b).await;
    publish(&a, "s.live", &headers, "x").await;
    for record in wait_for_records(&b, "S", 2).await {
        assert_eq!(values(&record, "Content-Type"), ["text/plain; charset=utf-8"]);
        assert_eq!(values(&record, "many"), ["one", "two", "one"]);
        assert_eq!(values(&record, "Many"), ["another name"]);
        assert_eq!(values(&record, "empty"), [""]);
        assert_eq!(values(&record, "umlaut"), ["größer ☃"]);
        assert_eq!(values(&record, "Natsy"), ["no control header"]);
        assert_eq!(values(&record, "X-Rhio-PublicKey"), [a.rhio.public_key()]);
    }
    a.check("S", ">", &b, "S").await.until_clean(SOON).await.assert_clean();
    finish(a, b).await;
}

#[tokio::test]
async fn payloads_are_any_bytes_or_none() {
    let (mut a, mut b) = replicating_pair().await;
    let every_byte: Vec<u8> = (0..=255).collect();
    let payloads = [Vec::new(), vec![0], vec![0xff; 3], b"\r\n+OK\r\nMSG x 1 2\r\n".to_vec(), every_byte];
    for payload in &payloads {
        publish(&a, "s.history", &[], payload.clone()).await;
        publish(&a, "s.history", &[("with", "a header")], payload.clone()).await;
    }
    start(&mut a, &mut b).await;
    for payload in &payloads {
        publish(&a, "s.live", &[], payload.clone()).await;
    }
    let arrived = wait_for_records(&b, "S", 15).await;
    let sent = records(&a, "S").await;
    assert!(arrived.iter().map(|record| &record.payload).eq(sent.iter().map(|record| &record.payload)));
    finish(a, b).await;
}

#[tokio::test]
async fn a_message_id_is_kept_and_does_not_steer_and_the_same_one_twice_is_two_messages() {
    let (mut a, mut b) = pair().await;
    a.create_stream_with("W", &["w.>"], json!({"duplicate_window": 100_000_000})).await;
    // Much longer than the source's: an id that came through would be a duplicate here.
    b.create_stream_with("W", &["w.>"], json!({"duplicate_window": 3_600_000_000_000_i64})).await;
    a.publish("w.>", "W");
    b.subscribe("w.>", "W", &a);
    start(&mut a, &mut b).await;
    let context = async_nats::jetstream::new(a.client().await);
    for text in ["first", "second"] {
        // Until the source's window is over, it takes the id for a duplicate.
        eventually!(SOON, "the source to take the id", {
            let mut headers = async_nats::HeaderMap::new();
            headers.insert("Nats-Msg-Id", "the-same");
            let sent = context.publish_with_headers("w.x", headers, text.into()).await.expect("it is sent");
            !sent.await.expect("an answer").duplicate
        });
    }
    let arrived = wait_for_records(&b, "W", 2).await;
    assert_eq!(texts(&arrived), ["first", "second"]);
    for record in &arrived {
        assert_eq!(values(record, "X-Rhio-Msg-Id"), ["the-same"]);
        assert!(!values(record, "Nats-Msg-Id").contains(&"the-same"), "{record:?}");
    }
    finish(a, b).await;
}

#[tokio::test]
async fn expectations_about_the_source_are_kept_and_not_put_to_the_destination() {
    let (mut a, mut b) = tokio::join!(Cluster::new("a"), Cluster::new("b"));
    link(&mut a, &mut b);
    a.create_stream("SOURCE", &["s.>"]).await;
    b.create_stream("ELSEWHERE", &["s.>", "other"]).await;
    a.publish("s.>", "SOURCE");
    b.subscribe("s.>", "ELSEWHERE", &a);
    publish(&b, "other", &[], "so that sequence numbers differ").await;
    publish(&a, "s.x", &[("Nats-Msg-Id", "one")], "1").await;
    start(&mut a, &mut b).await;
    let expectations = [
        ("Nats-Expected-Stream", "SOURCE"),
        ("Nats-Expected-Last-Sequence", "1"),
        ("Nats-Expected-Last-Subject-Sequence", "1"),
        ("Nats-Expected-Last-Msg-Id", "one"),
    ];
    publish(&a, "s.x", &expectations, "2").await;
    let arrived = wait_for_records(&b, "ELSEWHERE", 3).await;
    for (name, value) in expectations {
        assert_eq!(values(&arrived[2], &format!("X-Rhio-{name}")), [value]);
        assert_eq!(values(&arrived[2], name), [""; 0]);
    }
    finish(a, b).await;
}

#[tokio::test]
async fn a_rollup_at_the_source_removes_nothing_at_the_destination() {
    let (mut a, mut b) = replicating_pair().await;
    for cluster in [&a, &b] {
        update_stream(cluster, "S", json!({"allow_rollup_hdrs": true})).await;
    }
    start(&mut a, &mut b).await;
    for text in ["one", "two"] {
        publish(&a, "s.x", &[], text).await;
    }
    wait_for_records(&b, "S", 2).await;
    publish(&a, "s.x", &[("Nats-Rollup", "all")], "sum").await;
    assert_eq!(a.stream_len("S").await, 1, "the source is rolled up");
    let arrived = wait_for_records(&b, "S", 3).await;
    assert_eq!(texts(&arrived), ["one", "two", "sum"]);
    assert_eq!(values(&arrived[2], "X-Rhio-Nats-Rollup"), ["all"]);
    finish(a, b).await;
}

#[tokio::test]
async fn a_time_to_live_is_passed_on_where_the_stream_allows_it_and_kept_as_text_elsewhere() {
    let (mut a, mut b) = pair().await;
    update_stream(&a, "S", json!({"allow_msg_ttl": true})).await;
    update_stream(&b, "S", json!({"subjects": ["s.without.>"]})).await;
    b.create_stream_with("TTL", &["s.with.>"], json!({"allow_msg_ttl": true})).await;
    a.publish("s.>", "S");
    b.subscribe("s.without.>", "S", &a);
    b.subscribe("s.with.>", "TTL", &a);
    start(&mut a, &mut b).await;
    for subject in ["s.with.x", "s.without.x"] {
        publish(&a, subject, &[("Nats-TTL", "1h")], "long").await;
        publish(&a, subject, &[("Nats-TTL", "2s")], "short").await;
    }
    let without = wait_for_records(&b, "S", 2).await;
    assert_eq!(values(&without[0], "X-Rhio-Nats-TTL"), ["1h"]);
    assert_eq!(values(&without[0], "Nats-TTL"), [""; 0]);
    eventually!(Duration::from_secs(10), "the short one to be gone where it may", {
        let with = records(&b, "TTL").await;
        texts(&with) == ["long"] && values(&with[0], "Nats-TTL") == ["1h"]
    });
    assert_eq!(b.stream_len("S").await, 2, "it stays where it may not");
    finish(a, b).await;
}

#[tokio::test]
async fn an_atomic_batch_arrives_as_its_messages() {
    let (mut a, mut b) = replicating_pair().await;
    update_stream(&a, "S", json!({"allow_atomic": true})).await;
    start(&mut a, &mut b).await;
    let client = a.client().await;
    for number in 1..=3 {
        let mut headers = async_nats::HeaderMap::new();
        headers.insert("Nats-Batch-Id", "batch");
        headers.insert("Nats-Batch-Sequence", number.to_string());
        if number == 3 {
            headers.insert("Nats-Batch-Commit", "1");
        }
        let answer = client.request_with_headers("s.x", headers, number.to_string().into()).await;
        let answer = answer.expect("an answer").payload;
        assert!(!String::from_utf8_lossy(&answer).contains("error"), "{answer:?}");
    }
    let arrived = wait_for_records(&b, "S", 3).await;
    assert_eq!(texts(&arrived), ["1", "2", "3"]);
    for (record, number) in arrived.iter().zip(["1", "2", "3"]) {
        assert_eq!(values(record, "X-Rhio-Nats-Batch-Id"), ["batch"]);
        assert_eq!(values(record, "X-Rhio-Nats-Batch-Sequence"), [number]);
        assert_eq!(values(record, "Nats-Batch-Id"), [""; 0]);
    }
    finish(a, b).await;
}

#[tokio::test]
async fn a_counter_arrives_with_what_it_said() {
    let (mut a, mut b) = pair().await;
    a.create_stream_with("COUNT", &["c.>"], json!({"allow_msg_counter": true, "allow_direct": true})).await;
    b.create_stream("COUNT", &["c.>"]).await;
    a.publish("c.>", "COUNT");
    b.subscribe("c.>", "COUNT", &a);
    start(&mut a, &mut b).await;
    for step in ["+1", "+2", "+4"] {
        publish(&a, "c.x", &[("Nats-Incr", step)], "").await;
    }
    let arrived = wait_for_records(&b, "COUNT", 3).await;
    let source = records(&a, "COUNT").await;
    assert_eq!(texts(&arrived), texts(&source));
    assert!(texts(&arrived)[2].contains('7'), "{:?}", texts(&arrived));
    assert_eq!(values(&arrived[2], "X-Rhio-Nats-Incr"), ["+4"]);
    finish(a, b).await;
}

#[tokio::test]
async fn a_message_that_came_through_rhio_is_not_published_again() {
    let (mut a, mut b) = replicating_pair().await;
    let foreign = ("X-Rhio-PublicKey", "00".repeat(32));
    publish(&a, "s.history", &[(foreign.0, &foreign.1)], "foreign").await;
    publish(&a, "s.history", &[], "own").await;
    start(&mut a, &mut b).await;
    publish(&a, "s.live", &[(foreign.0, &foreign.1)], "foreign").await;
    // Written differently by somebody who is not rhio.
    publish(&a, "s.live", &[("x-rhio-publickey", &foreign.1)], "foreign").await;
    publish(&a, "s.live", &[], "own").await;
    assert_eq!(texts(&wait_for_records(&b, "S", 2).await), ["own", "own"]);
    finish(a, b).await;
}

#[tokio::test]
async fn what_only_looks_like_rhios_own_headers_does_not_get_through() {
    let (mut a, mut b) = replicating_pair().await;
    start(&mut a, &mut b).await;
    let forged = [("X-Rhio-Source", "00/1"), ("X-Rhio-Operation", "00/1"), ("x-rhio-msg-id", "forged"), ("Own", "1")];
    publish(&a, "s.x", &forged, "x").await;
    let arrived = wait_for_records(&b, "S", 1).await;
    assert_eq!(values(&arrived[0], "Own"), ["1"]);
    assert_eq!((values(&arrived[0], "X-Rhio-Operation").len(), values(&arrived[0], "x-rhio-msg-id").len()), (1, 0));
    assert!(!values(&arrived[0], "X-Rhio-Source").contains(&"00/1"));
    finish(a, b).await;
}
