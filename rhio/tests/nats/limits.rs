//! Limits of streams, accounts and servers: rhio asks for no more than they allow.

use std::ops::Range;

use async_nats::jetstream;
use common::{SOON, expect_outages, finish, publish, start, texts, wait_for_records};
use serde_json::{Value, json};
use testkit::{Cluster, NatsOptions, eventually, link};

/// Enough to need several requests and a catch-up.
const MESSAGES: usize = 300;

async fn pair(source: NatsOptions, settings: Value) -> (Cluster, Cluster) {
    let (mut a, mut b) = tokio::join!(Cluster::with("a", source, |rhio| rhio), Cluster::new("b"));
    a.create_stream_with("S", &["s.>"], settings).await;
    b.create_stream("S", &["s.>"]).await;
    link(&mut a, &mut b);
    a.publish("s.>", "S");
    b.subscribe("s.>", "S", &a);
    (a, b)
}

async fn publish_numbers(cluster: &Cluster, numbers: Range<usize>) {
    let context = jetstream::new(cluster.client().await);
    for number in numbers {
        let sent = context.publish("s.x", number.to_string().into()).await;
        sent.expect("it is sent").await.expect("it is stored");
    }
}

async fn arrive_before_and_after_the_start(source: NatsOptions, settings: Value) {
    let what = settings.to_string();
    let (mut a, mut b) = pair(source, settings).await;
    publish_numbers(&a, 0..MESSAGES).await;
    start(&mut a, &mut b).await;
    wait_for_records(&b, "S", MESSAGES).await;
    publish_numbers(&a, MESSAGES..2 * MESSAGES).await;
    let found = texts(&wait_for_records(&b, "S", 2 * MESSAGES).await);
    let expected: Vec<_> = (0..2 * MESSAGES).map(|number| number.to_string()).collect();
    assert_eq!(found, expected, "{what}");
    finish(a, b).await;
}

#[tokio::test]
async fn a_stream_that_limits_its_consumers_is_read() {
    let inactive = json!({"consumer_limits": {"inactive_threshold": 30_000_000_000_u64}});
    arrive_before_and_after_the_start(NatsOptions::new(), inactive).await;
    let both = json!({"consumer_limits": {"inactive_threshold": 1_000_000_000_u64, "max_ack_pending": 7}});
    arrive_before_and_after_the_start(NatsOptions::new(), both).await;
}

#[tokio::test]
async fn a_work_queue_that_limits_what_is_unacknowledged_is_read() {
    let settings = json!({"retention": "workqueue", "consumer_limits": {"max_ack_pending": 10}});
    arrive_before_and_after_the_start(NatsOptions::new(), settings).await;
}

#[tokio::test]
async fn a_server_that_limits_requests_and_what_is_unacknowledged_is_read() {
    let server = || NatsOptions::new().jetstream("  limits { max_request_batch: 10, max_ack_pending: 20 }");
    arrive_before_and_after_the_start(server(), json!({})).await;
    arrive_before_and_after_the_start(server(), json!({"retention": "workqueue"})).await;
}

#[tokio::test]
async fn a_message_above_the_limit_of_its_server_arrives_where_the_other_side_takes_it() {
    const LARGE: usize = 5 * 1024 * 1024;
    let (mut a, mut b) = tokio::join!(
        Cluster::with("a", NatsOptions::new().max_payload(2 * LARGE), |rhio| rhio),
        Cluster::with("b", NatsOptions::new().max_payload(2 * LARGE), |rhio| rhio),
    );
    a.create_stream("S", &["s.>"]).await;
    b.create_stream("S", &["s.>"]).await;
    link(&mut a, &mut b);
    a.publish("s.>", "S");
    b.subscribe("s.>", "S", &a);
    for number in 0..3 {
        publish(&a, "s.x", &[], format!("before {number}")).await;
    }
    publish(&a, "s.x", &[], vec![b'x'; LARGE]).await;
    for number in 0..3 {
        publish(&a, "s.x", &[], format!("behind {number}")).await;
    }
    expect_outages(&mut a);
    a.rhio.start().await;
    eventually!(SOON, "all of it to be sealed", common::counted(&a, "rhio_sealed_messages_total").await >= 7.0);
    a.rhio.terminate().await;
    a.nats.configure(|options| options.max_payload(1024 * 1024));
    a.nats.restart().await;
    start(&mut a, &mut b).await;
    let records = wait_for_records(&b, "S", 7).await;
    assert_eq!(records[3].payload.len(), LARGE);
    finish(a, b).await;
}
