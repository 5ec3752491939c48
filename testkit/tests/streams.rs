//! The checker on real streams, with a few lines of copying in rhio's place.

use std::time::Duration;

use async_nats::{Client, jetstream};
use serde_json::json;
use testkit::checker::{Check, Publisher, read_stream};
use testkit::{NatsOptions, NatsServer, create_stream, eventually};

const SOON: Duration = Duration::from_secs(20);
const AUTHOR: &str = "abcd";

async fn copy(source: &Client, destination: &Client) {
    let context = jetstream::new(destination.clone());
    for (index, record) in read_stream(source, "S", "s.>").await.expect("it can be read").into_iter().enumerate() {
        let mut headers = async_nats::HeaderMap::new();
        for (name, values) in &record.headers {
            let name = if name == "Nats-Msg-Id" { "X-Rhio-Msg-Id" } else { name };
            values.iter().for_each(|value| headers.append(name, value.as_str()));
        }
        headers.insert("X-Rhio-PublicKey", AUTHOR);
        headers.insert("X-Rhio-Operation", format!("{:016x}/0", index));
        let stored = context.publish_with_headers(record.subject, headers, record.payload).await;
        stored.expect("it is sent").await.expect("it is stored");
    }
}

async fn two_servers() -> (NatsServer, NatsServer, Check) {
    let (a, b) = (NatsServer::start(NatsOptions::new()).await, NatsServer::start(NatsOptions::new()).await);
    let (source, destination) = (a.client().await, b.client().await);
    for client in [&source, &destination] {
        create_stream(client, "S", &["s.>"], json!({})).await.expect("the stream is created");
    }
    let check = Check {
        source: (source, "S".into()),
        destination: (destination, "S".into()),
        filter: "s.>".into(),
        author: AUTHOR.into(),
    };
    (a, b, check)
}

#[tokio::test]
async fn what_was_copied_is_clean_and_what_is_deleted_there_is_lost() {
    let (_a, _b, check) = two_servers().await;
    let mut publisher = Publisher::new(&check.source.0, &["s.a", "s.b.c"]).sizes(1..=2000).header("Nats-Msg-Id", "{n}");
    publisher.publish(200).await;
    assert_eq!(check.now().await.expect("both can be read").lost.count, 200);
    copy(&check.source.0, &check.destination.0).await;
    let report = check.until_clean(SOON).await;
    assert_eq!(report.arrived, 200);

    let destination = jetstream::new(check.destination.0.clone()).get_stream("S").await.expect("it is there");
    destination.delete_message(17).await.expect("it is deleted");
    let report = check.now().await.expect("both can be read");
    assert_eq!((report.lost.count, report.is_clean_so_far()), (1, true));

    // The source may forget: the publisher's own list is what counts then.
    jetstream::new(check.source.0.clone()).delete_stream("S").await.expect("it is deleted");
    let report = check.against(&publisher.acknowledged).await.expect("the destination can be read");
    assert_eq!((report.expected, report.lost.count), (200, 1));
}

#[tokio::test]
async fn a_publisher_in_the_background_counts_what_was_acknowledged_while_its_server_restarts() {
    let (mut a, _b, check) = two_servers().await;
    let running = Publisher::new(&check.source.0, &["s.a"]).run(500);
    eventually!(SOON, "100 messages", running.sent() >= 100);
    a.restart().await;
    let before = running.sent();
    eventually!(SOON, "100 more", running.sent() >= before + 100);
    let publisher = running.stop().await;
    assert_eq!(publisher.sent(), (publisher.acknowledged.len() + publisher.uncertain.len()) as u64);
    let held = read_stream(&check.source.0, "S", ">").await.expect("it can be read");
    for record in &publisher.acknowledged {
        assert!(held.contains(record), "acknowledged and gone: {record:?}");
    }
}
