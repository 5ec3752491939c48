//! Lag is real: by what is verified and stored here, and unknown is never 0.

use serde_json::Value;
use testkit::{Cluster, eventually, link};

use super::wait_for;
use common::{SOON, expect_departures, finish, publish, replicating_pair, start, wait_for_records};

fn lag<'a>(subscriptions: &'a Value, part: &str) -> &'a Value {
    &subscriptions[0]["lag"][part]
}

#[tokio::test]
async fn a_subscription_that_holds_everything_has_no_lag_and_says_where_it_is() {
    let (mut a, mut b) = replicating_pair().await;
    start(&mut a, &mut b).await;
    a.publisher(&["s.x"]).await.size(100).publish(500).await;
    wait_for_records(&b, "S", 500).await;
    let applied = |s: &Value| s[0]["applied"]["messages"] == 500 && *lag(s, "messages") == 0;
    let subscriptions = wait_for(&b.rhio, "/api/v1/subscriptions", "no lag", applied).await;
    assert_eq!((lag(&subscriptions, "bytes"), lag(&subscriptions, "seconds")), (&0.into(), &0.0.into()));
    let subscription = &subscriptions[0];
    assert_eq!((&subscription["state"], &subscription["author"]), (&"active".into(), &a.rhio.public_key().into()));
    assert_eq!((&subscription["stream"], &subscription["name"]), (&"S".into(), &"s.>".into()));
    let publications = a.rhio.get("/api/v1/publications").await.json();
    let (mine, yours) = (&publications[0]["position"], &subscription["position"]);
    assert_eq!(mine, yours, "both are at the end of one log");
    assert_eq!((&mine["messages"], &mine["source_sequence"]), (&500.into(), &500.into()));
    assert_eq!(publications[0]["sealed"]["messages"], 500);
    let reader = wait_for(&a.rhio, "/api/v1/publications", "the reader's word", |p| {
        p[0]["readers"][0]["applied_operation"] == mine["operation"]
    });
    assert_eq!(reader.await[0]["readers"][0]["public_key"], Value::from(b.rhio.public_key()));
    finish(a, b).await;
}

#[tokio::test]
async fn what_a_full_local_stream_keeps_out_is_counted_and_grows_old() {
    let (mut a, mut b) = (Cluster::new("a").await, Cluster::new("b").await);
    link(&mut a, &mut b);
    a.create_stream("S", &["s.>"]).await;
    b.create_stream_with("S", &["s.>"], serde_json::json!({ "max_msgs": 10, "discard": "new" })).await;
    a.publish("s.>", "S");
    b.subscribe("s.>", "S", &a);
    b.rhio.allow_log("subscription to 's.>'");
    start(&mut a, &mut b).await;
    for number in 0..25 {
        publish(&a, "s.x", &[], format!("{number}")).await;
    }
    let waits = |s: &Value| s[0]["state"] == "waiting" && s[0]["last_error"].is_string();
    let subscriptions = wait_for(&b.rhio, "/api/v1/subscriptions", "a full stream", waits).await;
    assert!(subscriptions[0]["remedy"].as_str().is_some_and(|remedy| remedy.contains("full")), "{subscriptions}");
    assert_eq!(subscriptions[0]["code"], "stream-full-messages", "{subscriptions}");
    let health = wait_for(&b.rhio, "/health", "a problem", |health| health["status"] == "Degraded").await;
    assert!(health["problems"].to_string().contains("maximum messages"), "{health}");
    assert_eq!(health["problems"][0]["code"], "stream-full-messages", "{health}");
    let metrics = b.rhio.get("/metrics").await.body;
    let counted = metrics.lines().find(|line| line.contains("code=\"stream-full-messages\""));
    assert!(counted.is_some_and(|line| line.starts_with("rhio_subscription_troubles_total{")), "{counted:?}");
    common::update_stream(&b, "S", serde_json::json!({ "max_msgs": -1 })).await;
    wait_for_records(&b, "S", 25).await;
    wait_for(&b.rhio, "/api/v1/subscriptions", "no lag", |s| *lag(s, "messages") == 0).await;
    finish(a, b).await;
}

#[tokio::test]
async fn while_the_author_is_away_the_lag_is_unknown_and_never_0() {
    let (mut a, mut b) = replicating_pair().await;
    expect_departures(&mut b);
    start(&mut a, &mut b).await;
    publish(&a, "s.x", &[], "1").await;
    let applied = |s: &Value| s[0]["applied"]["messages"] == 1 && *lag(s, "messages") == 0;
    wait_for(&b.rhio, "/api/v1/subscriptions", "no lag", applied).await;
    a.rhio.terminate().await;
    let unknown = |s: &Value| ["messages", "bytes", "seconds"].iter().all(|part| lag(s, part).is_null());
    let subscriptions =
        wait_for(&b.rhio, "/api/v1/subscriptions", "an unknown lag", |s| unknown(s) && s[0]["state"] == "waiting");
    let subscriptions = subscriptions.await;
    assert!(subscriptions[0]["waits_for"].as_str().is_some_and(|why| why.contains("not connected")), "{subscriptions}");
    assert_eq!(subscriptions[0]["applied"]["messages"], 1, "what is here stays known");
    let metrics = b.rhio.get("/metrics").await.body;
    assert!(!metrics.contains("rhio_subscription_lag_messages{"), "an unknown gauge is absent");
    assert!(metrics.lines().any(|l| l.starts_with("rhio_subscription_lag_known{") && l.ends_with(" 0")), "{metrics}");
    a.start().await;
    publish(&a, "s.x", &[], "2").await;
    wait_for(&b.rhio, "/api/v1/subscriptions", "no lag", |s| *lag(s, "messages") == 0).await;
    finish(a, b).await;
}

#[tokio::test]
async fn a_backlog_is_counted_in_messages_bytes_and_seconds_while_it_shrinks() {
    let (mut a, mut b) = replicating_pair().await;
    let mut publisher = a.publisher(&["s.x"]).await.size(500);
    publisher.publish(60_000).await;
    start(&mut a, &mut b).await;
    let seen = eventually!(SOON, "a backlog to be seen", {
        let s = b.rhio.get("/api/v1/subscriptions").await.json();
        match lag(&s, "messages").as_u64() {
            Some(messages) if messages > 0 => Ok(s),
            _ => Err(s.to_string()),
        }
    });
    assert!(lag(&seen, "messages").as_u64().is_some_and(|n| n <= 60_000), "{seen}");
    assert!(lag(&seen, "bytes").as_u64() != Some(0), "of what is not signed yet nobody knows the bytes: {seen}");
    let last = wait_for(&b.rhio, "/api/v1/subscriptions", "no lag", |s| *lag(s, "messages") == 0).await;
    assert_eq!(last[0]["applied"]["messages"], 60_000);
    // A sample is taken every two seconds: all of this may have been over before the first one.
    wait_for(&b.rhio, "/api/v1/history", "a sample of it", |history| {
        let series = &history["series"][0];
        series["id"] == last[0]["id"] && series["messages"].as_array().is_some_and(|samples| !samples.is_empty())
    })
    .await;
    finish(a, b).await;
}

#[tokio::test]
async fn objects_on_their_way_are_transfers_and_lag_and_then_known() {
    let (mut a, mut b) = (Cluster::with_s3("a").await, Cluster::with_s3("b").await);
    link(&mut a, &mut b);
    a.create_bucket("from").await;
    b.create_bucket("into").await;
    let bucket = a.s3().bucket("from");
    bucket.put("big.bin", vec![7_u8; 96 * 1024 * 1024]).await;
    bucket.put("small.txt", b"hello".to_vec()).await;
    a.publish_bucket("from");
    b.subscribe_bucket("from", "into", &a);
    start(&mut a, &mut b).await;
    let transfer = wait_for(&b.rhio, "/api/v1/transfers", "a transfer", |transfers| {
        transfers
            .as_array()
            .is_some_and(|list| list.iter().any(|t| t["key"] == "big.bin" && t["done"].as_u64() > Some(0)))
    });
    let transfers = transfer.await;
    let big = transfers.as_array().and_then(|list| list.iter().find(|t| t["key"] == "big.bin")).expect("it is there");
    assert_eq!((&big["direction"], &big["size"]), (&"receive".into(), &(96 * 1024 * 1024).into()));
    assert_eq!(big["peer"], Value::from(a.rhio.public_key()));
    let done = |s: &Value| *lag(s, "objects") == 0 && s[0]["applied"]["messages"] == 2;
    let subscriptions = wait_for(&b.rhio, "/api/v1/subscriptions", "both objects", done).await;
    assert_eq!((lag(&subscriptions, "bytes"), lag(&subscriptions, "seconds")), (&0.into(), &0.0.into()));
    assert_eq!(*lag(&subscriptions, "messages"), Value::Null);
    let (here, there) =
        (a.rhio.get("/api/v1/blobs").await.json(), b.rhio.get("/api/v1/blobs?bucket=into").await.json());
    let sizes = |blobs: &Value| {
        let mut all: Vec<_> = blobs
            .as_array()
            .into_iter()
            .flatten()
            .map(|b| (b["key"].to_string(), b["hash"].to_string(), b["size"].as_u64()))
            .collect();
        all.sort();
        all
    };
    assert_eq!((sizes(&here), sizes(&here).len()), (sizes(&there), 2));
    assert!(
        there
            .as_array()
            .is_some_and(|all| all.iter().all(|b| b["origin"] == a.rhio.public_key().as_str() && b["here"] == true))
    );
    let page = b.rhio.get("/api/v1/blobs?limit=1").await;
    let next = page.header("link").and_then(|link| link.strip_prefix('<')?.split_once('>')).expect("a next page").0;
    let second = b.rhio.get(next).await;
    assert_ne!(page.json()[0]["key"], second.json()[0]["key"]);
    assert_eq!(b.rhio.get("/api/v1/status").await.json()["blobs"]["count"], 2);
    finish(a, b).await;
}
