//! Messages of any size that the servers allow.

use common::{SOON, finish, publish, records, replicating_pair, start, wait_for_records};
use testkit::{Cluster, NatsOptions, link};

/// What rhio's own headers may take of a message.
const HEADROOM: usize = 512;
const MIB: usize = 1 << 20;

/// Two clusters whose servers take messages of these sizes; what `a` has in W goes to `b`.
async fn with_payloads(a: usize, b: usize) -> (Cluster, Cluster) {
    let server = |max| NatsOptions::new().max_payload(max);
    let (mut a, mut b) = tokio::join!(Cluster::with("a", server(a), |r| r), Cluster::with("b", server(b), |r| r));
    link(&mut a, &mut b);
    for cluster in [&a, &b] {
        cluster.create_stream("W", &["w.>"]).await;
    }
    a.publish("w.>", "W");
    b.subscribe("w.>", "W", &a);
    (a, b)
}

fn body(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n % 251) as u8).collect()
}

#[tokio::test]
async fn from_nothing_to_the_default_limit() {
    let (mut a, mut b) = replicating_pair().await;
    // Around the size of a batch, and up to the server's limit of 1 MiB.
    let sizes = [0, 1, 1024, 64 * 1024, MIB / 2 - 60, MIB / 2, MIB / 2 + 1, MIB - HEADROOM];
    for size in sizes {
        publish(&a, "s.history", &[], body(size)).await;
    }
    start(&mut a, &mut b).await;
    for size in sizes {
        publish(&a, "s.live", &[], body(size)).await;
    }
    let arrived = wait_for_records(&b, "S", 2 * sizes.len()).await;
    for (record, size) in arrived.iter().zip(sizes.iter().chain(&sizes)) {
        assert!(record.payload == body(*size), "{size} bytes came as {}", record.payload.len());
    }
    a.check("S", ">", &b, "S").await.until_clean(SOON).await.assert_clean();
    finish(a, b).await;
}

#[tokio::test]
async fn several_mebibytes_where_the_servers_allow_it() {
    let (mut a, mut b) = with_payloads(8 * MIB, 8 * MIB).await;
    let sizes = [MIB, 3 * MIB, 100, 8 * MIB - HEADROOM];
    for size in sizes {
        publish(&a, "w.history", &[], body(size)).await;
    }
    start(&mut a, &mut b).await;
    for size in sizes {
        publish(&a, "w.live", &[("a", "header")], body(size - 20)).await;
    }
    let report = a.check("W", ">", &b, "W").await.until_clean(SOON).await;
    assert_eq!(report.arrived, 8);
    finish(a, b).await;
}

#[tokio::test]
async fn one_that_is_too_large_for_the_subscriber_waits_until_its_server_takes_it() {
    let (mut a, mut b) = with_payloads(4 * MIB, MIB).await;
    for cluster in [&a, &b] {
        cluster.create_stream("S", &["s.>"]).await;
    }
    a.publish("s.>", "S");
    b.subscribe("s.>", "S", &a);
    common::expect_outages(&mut b);
    publish(&a, "w.small", &[], "before").await;
    publish(&a, "w.large", &[], body(2 * MIB)).await;
    publish(&a, "w.small", &[], "after").await;
    start(&mut a, &mut b).await;
    let line = b.rhio.wait_for_log("raise its max_payload", SOON).await;
    for words in ["'w.>'", "stream 'W'", "waiting", &(MIB).to_string()] {
        assert!(line.message.contains(words), "{words} in {}", line.message);
    }
    // The other entry goes on.
    publish(&a, "s.x", &[], "not held up").await;
    wait_for_records(&b, "S", 1).await;

    b.nats.configure(|options| options.max_payload(4 * MIB));
    b.nats.restart().await;
    let report = a.check("W", ">", &b, "W").await.until_clean(SOON).await;
    assert_eq!(report.arrived, 3);
    finish(a, b).await;
}

#[tokio::test]
async fn a_batch_of_many_and_one_large_message_keeps_its_order() {
    let (mut a, mut b) = replicating_pair().await;
    let mut publisher = a.publisher(&["s.a"]).await.sizes(1..=100);
    publisher.publish(1100).await;
    publish(&a, "s.a", &[], body(900_000)).await;
    publisher.publish(1100).await;
    start(&mut a, &mut b).await;
    let report = a.check("S", ">", &b, "S").await.until_clean(SOON).await;
    assert_eq!(report.arrived, 2201);
    finish(a, b).await;
}

#[tokio::test]
async fn headers_count_as_much_as_payloads() {
    let (mut a, mut b) = replicating_pair().await;
    let value = "v".repeat(20_000);
    publish(&a, "s.x", &[("one", &value), ("two", &value), ("three", &value)], "x").await;
    let many: Vec<(String, String)> = (0..1000).map(|n| (format!("h{n}"), n.to_string())).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    publish(&a, "s.x", &many, "x").await;
    start(&mut a, &mut b).await;
    a.check("S", ">", &b, "S").await.until_clean(SOON).await.assert_clean();
    assert_eq!(records(&b, "S").await.len(), 2);
    finish(a, b).await;
}
