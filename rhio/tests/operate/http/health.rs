//! `/livez`, `/readyz` and `/health` while servers, streams and buckets come and go.

use std::net::TcpListener;

use serde_json::Value;
use testkit::{Cluster, NatsOptions, eventually};

use super::{lone, wait_for, wait_for_readiness};
use common::{SOON, delete_stream, expect_departures, expect_outages, finish, replicating_pair, start};

#[tokio::test]
async fn a_linked_pair_is_running_and_every_stream_is_named() {
    let (mut a, mut b) = replicating_pair().await;
    start(&mut a, &mut b).await;
    for cluster in [&a, &b] {
        let health =
            wait_for(&cluster.rhio, "/health", "the node to run", |health| health["status"] == "Running").await;
        assert_eq!((&health["ready"], health["problems"].as_array().map(Vec::len)), (&true.into(), Some(0)));
        let stream = &health["streams"][0];
        assert_eq!((&stream["name"], &stream["state"]), (&"S".into(), &"ok".into()));
        assert!(stream["last_checked"].as_str().is_some_and(|at| at.ends_with('Z')), "{stream}");
        assert_eq!(cluster.rhio.get("/readyz").await.status, 200);
        assert_eq!(cluster.rhio.get("/livez").await.status, 200);
    }
    finish(a, b).await;
}

#[tokio::test]
async fn without_nats_at_the_start_the_node_lives_and_says_what_it_waits_for() {
    let mut a = Cluster::with("a", NatsOptions::default(), |rhio| rhio.ready_log("trying on")).await;
    expect_outages(&mut a);
    a.create_stream("S", &["s.>"]).await;
    a.publish("s.>", "S");
    a.nats.stop().await;
    a.start().await;
    assert_eq!(a.rhio.get("/livez").await.status, 200);
    let answer = a.rhio.get("/readyz").await;
    assert_eq!(answer.status, 503);
    let reason = &answer.json()["reasons"][0];
    assert!(reason["what"].as_str().is_some_and(|what| what.contains(&a.nats.port().to_string())), "{reason}");
    assert!(reason["remedy"].as_str().is_some_and(|remedy| remedy.contains("nats.endpoint")), "{reason}");
    let health = a.rhio.get("/health").await;
    assert_eq!((health.status, &health.json()["status"]), (200, &"Error".into()));
    a.nats.restart().await;
    wait_for_readiness(&a.rhio, 200).await;
    a.rhio.finish().await;
}

#[tokio::test]
async fn nats_going_away_is_an_error_and_its_return_heals() {
    let (mut a, mut b) = replicating_pair().await;
    expect_outages(&mut a);
    expect_outages(&mut b);
    start(&mut a, &mut b).await;
    wait_for_readiness(&b.rhio, 200).await;
    b.nats.stop().await;
    let readiness = wait_for_readiness(&b.rhio, 503).await;
    assert!(!readiness["reasons"].as_array().is_none_or(Vec::is_empty), "{readiness}");
    let health = wait_for(&b.rhio, "/health", "an error", |health| health["status"] == "Error").await;
    assert_eq!(health["nats"]["state"], "failing");
    assert!(health["nats"]["last_error"].is_string(), "{health}");
    assert_eq!(b.rhio.get("/livez").await.status, 200, "nobody may restart a node in an outage");
    b.nats.restart().await;
    wait_for_readiness(&b.rhio, 200).await;
    wait_for(&b.rhio, "/health", "the node to run", |health| health["status"] == "Running").await;
    finish(a, b).await;
}

#[tokio::test]
async fn a_stream_that_is_missing_is_named_until_it_is_there() {
    let (mut a, mut b) = replicating_pair().await;
    expect_outages(&mut b);
    start(&mut a, &mut b).await;
    wait_for_readiness(&b.rhio, 200).await;
    delete_stream(&b, "S").await;
    let readiness = wait_for_readiness(&b.rhio, 503).await;
    let reason = &readiness["reasons"][0];
    assert!(reason["what"].as_str().is_some_and(|what| what.contains("'S'")), "{reason}");
    assert!(reason["remedy"].as_str().is_some_and(|remedy| remedy.contains("nats stream add S")), "{reason}");
    assert_eq!(reason["code"], "stream-missing");
    let health = b.rhio.get("/health").await.json();
    assert_eq!((&health["status"], &health["streams"][0]["state"]), (&"Degraded".into(), &"failing".into()));
    b.create_stream("S", &["s.>"]).await;
    wait_for_readiness(&b.rhio, 200).await;
    finish(a, b).await;
}

#[tokio::test]
async fn a_bucket_that_is_missing_and_an_s3_server_that_is_away_are_told() {
    let mut a = Cluster::with_s3("a").await;
    expect_outages(&mut a);
    a.rhio.allow_log("bucket");
    a.publish_bucket("pictures");
    a.start().await;
    let bucket = |health: &Value| health["buckets"][0].clone();
    let readiness = wait_for_readiness(&a.rhio, 503).await;
    assert!(readiness.to_string().contains("pictures"), "{readiness}");
    a.create_bucket("pictures").await;
    wait_for_readiness(&a.rhio, 200).await;
    a.s3_mut().stop().await;
    wait_for_readiness(&a.rhio, 503).await;
    let health = a.rhio.get("/health").await.json();
    assert_eq!((&bucket(&health)["name"], &bucket(&health)["state"]), (&"pictures".into(), &"failing".into()));
    a.s3_mut().restart().await;
    wait_for_readiness(&a.rhio, 200).await;
    a.rhio.finish().await;
}

#[tokio::test]
async fn a_peer_that_is_away_degrades_the_node_and_leaves_it_ready() {
    let (mut a, mut b) = replicating_pair().await;
    expect_departures(&mut b);
    start(&mut a, &mut b).await;
    wait_for(&b.rhio, "/health", "the node to run", |health| health["status"] == "Running").await;
    a.rhio.terminate().await;
    let health = wait_for(&b.rhio, "/health", "a degraded node", |health| health["status"] == "Degraded").await;
    assert_eq!(health["ready"], true);
    let problem = &health["problems"][0];
    let key = a.rhio.public_key();
    assert!(problem["what"].as_str().is_some_and(|what| what.contains(&key[..10])), "{problem}");
    assert!(problem["remedy"].as_str().is_some_and(|remedy| remedy.contains("UDP")), "{problem}");
    let peers = b.rhio.get("/api/v1/peers").await.json();
    assert_eq!((&peers[0]["connected"], &peers[0]["round_trip_seconds"]), (&false.into(), &Value::Null));
    a.start().await;
    wait_for(&b.rhio, "/health", "the node to run", |health| health["status"] == "Running").await;
    finish(a, b).await;
}

#[tokio::test]
async fn a_reload_changes_what_is_looked_at() {
    let mut a = Cluster::new("a").await;
    a.create_stream("S", &["s.>"]).await;
    a.publish("s.>", "S");
    a.start().await;
    wait_for_readiness(&a.rhio, 200).await;
    a.create_stream("T", &["t.>"]).await;
    a.publish("t.>", "T");
    a.rhio.reload();
    let health = wait_for(&a.rhio, "/health", "both streams", |health| {
        health["streams"].as_array().is_some_and(|streams| streams.len() == 2 && health["ready"] == true)
    });
    assert_eq!(health.await["streams"][1]["name"], "T");
    a.rhio.finish().await;
}

#[tokio::test]
async fn a_port_that_is_taken_is_an_error_and_not_another_port() {
    let mut a = lone().await;
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port();
    a.rhio.config.http_bind_port = port;
    let failure = a.rhio.try_start().await.expect_err("the port is taken").to_string();
    assert!(failure.contains("exit status: 1") && failure.contains(&port.to_string()), "{failure}");
    assert!(failure.contains("--http-bind-port"), "{failure}");
    a.rhio.allow_log("can't be bound");
}

#[tokio::test]
async fn port_0_turns_http_off() {
    let mut a = lone().await;
    let port = a.rhio.config.http_bind_port;
    a.rhio.config.http_bind_port = 0;
    a.start().await;
    assert!(!a.rhio.has_logged("serves HTTP"));
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err());
    a.rhio.finish().await;
}

#[tokio::test]
async fn a_node_stops_in_time_while_clients_hold_connections() {
    let mut a = lone().await;
    a.start().await;
    let address = ("127.0.0.1", a.rhio.config.http_bind_port);
    let idle: Vec<_> = (0..20).map(|_| std::net::TcpStream::connect(address).expect("it accepts")).collect();
    eventually!(SOON, "an answer beside idle connections", a.rhio.try_get("/livez").await.is_some());
    let ended = a.rhio.terminate().await;
    assert_eq!(ended.code(), Some(0));
    assert!(ended.took < std::time::Duration::from_secs(10), "{:?}", ended.took);
    drop(idle);
}
