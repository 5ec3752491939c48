//! Starting, stopping, and servers that come and go.

use std::net::UdpSocket;
use std::time::Duration;

use common::{SOON, expect_outages, finish, publish, replicating_pair, start, texts, wait_for_records};
use testkit::{Cluster, NatsOptions, Rhio, eventually};

/// Replicates while `disturb` happens, and sees that everything arrived once and in order.
async fn survives(disturb: impl AsyncFnOnce(&mut Cluster, &mut Cluster)) {
    let (mut a, mut b) = replicating_pair().await;
    for cluster in [&mut a, &mut b] {
        expect_outages(cluster);
    }
    start(&mut a, &mut b).await;
    let running = a.publisher(&["s.x", "s.y"]).await.run(300);
    let check = a.check("S", "s.>", &b, "S").await;
    eventually!(SOON, "the transfer to run", check.now().await.is_ok_and(|report| report.arrived > 30));
    disturb(&mut a, &mut b).await;
    let before = running.sent();
    eventually!(SOON, "more to be published", running.sent() > before + 50);
    running.stop().await;
    check.until_clean(Duration::from_secs(60)).await.assert_clean();
    finish(a, b).await;
}

#[tokio::test]
async fn a_subscriber_stopped_in_the_middle_ends_in_time_and_goes_on_later() {
    let (mut a, mut b) = replicating_pair().await;
    common::expect_departures(&mut b);
    let mut publisher = a.publisher(&["s.x"]).await.size(2000);
    publisher.publish(10_000).await;
    start(&mut a, &mut b).await;
    let check = a.check("S", "s.>", &b, "S").await;
    eventually!(SOON, "a part to arrive", b.stream_len("S").await > 0);
    let ended = b.rhio.terminate().await;
    assert_eq!(ended.code(), Some(0));
    assert!(ended.took < Duration::from_secs(10), "{:?}", ended.took);
    publisher.publish(10).await;
    b.start().await;
    assert_eq!(check.until_clean(SOON).await.arrived, 10_010);
    finish(a, b).await;
}

#[tokio::test]
async fn an_author_stopped_in_the_middle_ends_in_time_and_goes_on_later() {
    let (mut a, mut b) = replicating_pair().await;
    common::expect_departures(&mut b);
    let mut publisher = a.publisher(&["s.x"]).await.size(2000);
    publisher.publish(10_000).await;
    start(&mut a, &mut b).await;
    let check = a.check("S", "s.>", &b, "S").await;
    eventually!(SOON, "a part to arrive", b.stream_len("S").await > 0);
    let ended = a.rhio.terminate().await;
    assert_eq!(ended.code(), Some(0));
    assert!(ended.took < Duration::from_secs(10), "{:?}", ended.took);
    publisher.publish(10).await;
    a.start().await;
    assert_eq!(check.until_clean(SOON).await.arrived, 10_010);
    finish(a, b).await;
}

#[tokio::test]
async fn a_port_that_is_taken_is_an_error_with_status_1() {
    let mut b = Cluster::new("b").await;
    for words in ["UDP port", "nothing is published"] {
        b.rhio.allow_log(words);
    }
    let _taken = UdpSocket::bind(("0.0.0.0", b.rhio.port())).expect("the port is free");
    b.rhio.spawn().expect("it can be started");
    let status = b.rhio.wait_exit(SOON).await.expect("it ends");
    assert_eq!(status.code(), Some(1));
    let words = format!("UDP port {} can't be bound", b.rhio.port());
    assert!(b.rhio.has_logged(&words) && b.rhio.has_logged("--bind-port"), "{}", b.rhio.log_tail(5));
}

#[tokio::test]
async fn a_nats_that_is_down_at_the_start_is_waited_for() {
    let (mut a, mut b) = replicating_pair().await;
    for cluster in [&mut a, &mut b] {
        expect_outages(cluster);
    }
    publish(&a, "s.x", &[], "one").await;
    a.nats.stop().await;
    b.nats.stop().await;
    for cluster in [&mut a, &mut b] {
        cluster.rhio.spawn().expect("it can be started");
        let line = cluster.rhio.wait_for_log("cannot be reached", SOON).await;
        assert!(line.message.contains(&cluster.nats.address()), "{}", line.message);
        cluster.nats.restart().await;
        cluster.rhio.wait_for_log("rhio is running", SOON).await;
    }
    wait_for_records(&b, "S", 1).await;
    finish(a, b).await;
}

#[tokio::test]
async fn a_rhio_that_waits_for_nats_can_be_stopped() {
    let mut b = Cluster::new("b").await;
    expect_outages(&mut b);
    b.rhio.allow_log("nothing is published");
    b.nats.stop().await;
    b.rhio.spawn().expect("it can be started");
    b.rhio.wait_for_log("cannot be reached", SOON).await;
    assert_eq!(b.rhio.terminate().await.code(), Some(0));
}

#[tokio::test]
async fn a_subscriber_that_is_there_first_waits_for_its_author() {
    let (mut a, mut b) = replicating_pair().await;
    common::expect_departures(&mut b);
    publish(&a, "s.x", &[], "one").await;
    b.start().await;
    let line = b.rhio.wait_for_log("not connected to", SOON).await;
    assert!(line.message.starts_with("subscription to 's.>'"), "{}", line.message);
    a.start().await;
    assert_eq!(texts(&wait_for_records(&b, "S", 1).await), ["one"]);
    finish(a, b).await;
}

#[tokio::test]
async fn the_authors_nats_may_be_restarted() {
    survives(async |a, _| a.nats.restart().await).await;
}

#[tokio::test]
async fn the_subscribers_nats_may_be_restarted() {
    survives(async |_, b| b.nats.restart().await).await;
}

#[tokio::test]
async fn the_authors_nats_may_be_killed() {
    survives(async |a, _| {
        a.nats.kill();
        a.nats.restart().await;
    })
    .await;
}

#[tokio::test]
async fn the_subscribers_nats_may_be_killed() {
    survives(async |_, b| {
        b.nats.kill();
        b.nats.restart().await;
    })
    .await;
}

#[tokio::test]
async fn the_authors_nats_may_freeze_for_a_while() {
    survives(async |a, _| {
        a.nats.pause();
        // Longer than an answer may take.
        tokio::time::sleep(Duration::from_secs(16)).await;
        a.nats.resume();
    })
    .await;
}

#[tokio::test]
async fn the_subscribers_nats_may_freeze_for_a_while() {
    survives(async |_, b| {
        b.nats.pause();
        // Longer than an acknowledgement may take.
        tokio::time::sleep(Duration::from_secs(16)).await;
        assert!(b.rhio.has_logged("subscription to 's.>'") && b.rhio.has_logged("waiting: "), "it is said");
        b.nats.resume();
    })
    .await;
}

#[tokio::test]
async fn the_start_is_summed_up_in_the_log() {
    let (mut a, mut b) = replicating_pair().await;
    start(&mut a, &mut b).await;
    let me = a.rhio.wait_for_log("this node", SOON).await;
    assert_eq!(me.field("public_key").and_then(|key| key.as_str()), Some(a.rhio.public_key().as_str()));
    assert!(me.raw.contains("config.yaml") && me.raw.contains(&a.rhio.config.network_id), "{}", me.raw);
    let socket = a.rhio.wait_for_log("listens for other nodes", SOON).await;
    assert!(socket.raw.contains(&format!(":{}", a.rhio.port())), "{}", socket.raw);
    let publishes = a.rhio.wait_for_log("publishes", SOON).await;
    for words in ["\"subject\":\"s.>\"", "\"stream\":\"S\"", "1 known nodes"] {
        assert!(publishes.raw.contains(words), "{words} in {}", publishes.raw);
    }
    let subscribes = b.rhio.wait_for_log("subscribes", SOON).await;
    for words in ["\"subject\":\"s.>\"", "\"stream\":\"S\"", &a.rhio.public_key()] {
        assert!(subscribes.raw.contains(words), "{words} in {}", subscribes.raw);
    }
    let connected = b.rhio.wait_for_log("\"message\":\"connected\"", SOON).await;
    assert_eq!(connected.field("peer").and_then(|peer| peer.as_str()), Some(a.rhio.public_key().as_str()));
    finish(a, b).await;
}

#[tokio::test]
async fn the_log_is_text_where_that_is_wanted() {
    let nats = testkit::NatsServer::start(NatsOptions::new()).await;
    let rhio = Rhio::builder("text").nats(&nats).configure(|config| config.log_format = "text".into());
    let rhio = rhio.start().await;
    let text = rhio.log_tail(100);
    let key = rhio.public_key();
    assert!(text.lines().any(|line| line.contains(" INFO ") && line.contains(&format!("public_key={key}"))), "{text}");
    assert!(!text.contains('\u{1b}'), "no colours in a file");
    assert!(text.contains("nothing is published and nothing subscribed"), "{text}");
    rhio.finish().await;
}
