//! Networks between nodes that fail.

use std::time::Duration;

use common::{SOON, finish, publish, replicating_pair, start, wait_for_records};
use testkit::{Cluster, LossyLink, eventually};

/// Two clusters; `b` reaches `a` through a link.
async fn linked_pair() -> (Cluster, Cluster, LossyLink) {
    let (mut a, mut b) = replicating_pair().await;
    let link = LossyLink::to(a.rhio.port()).await;
    let endpoint = link.endpoint();
    b.rhio.rewrite_config(|config| config.nodes[0].endpoints = vec![endpoint]);
    // Only `b` dials.
    a.rhio.rewrite_config(|config| config.nodes[0].endpoints.clear());
    common::expect_departures(&mut b);
    (a, b, link)
}

fn connections(cluster: &Cluster) -> usize {
    cluster.rhio.logs().iter().filter(|line| line.message == "connected").count()
}

#[tokio::test]
async fn a_short_partition_is_outlived_without_a_new_connection() {
    let (mut a, mut b, link) = linked_pair().await;
    start(&mut a, &mut b).await;
    let running = a.publisher(&["s.x"]).await.run(300);
    let check = a.check("S", "s.>", &b, "S").await;
    eventually!(SOON, "the transfer to run", check.now().await.is_ok_and(|report| report.arrived > 30));
    link.cut();
    // Shorter than a connection may be silent.
    tokio::time::sleep(Duration::from_secs(3)).await;
    link.heal();
    running.stop().await;
    check.until_clean(SOON).await.assert_clean();
    assert_eq!(connections(&b), 1);
    finish(a, b).await;
}

#[tokio::test]
async fn a_link_that_swallows_everything_is_given_up_and_another_connection_goes_on() {
    let (mut a, mut b, link) = linked_pair().await;
    // Whichever notices first: QUIC, or the watch over progress.
    b.rhio.allow_log("no progress for");
    start(&mut a, &mut b).await;
    let running = a.publisher(&["s.x"]).await.run(200);
    let check = a.check("S", "s.>", &b, "S").await;
    eventually!(SOON, "the transfer to run", check.now().await.is_ok_and(|report| report.arrived > 30));
    link.cut();
    b.rhio.wait_for_log("\"message\":\"disconnected\"", SOON).await;
    // By then they know each other's own addresses, and may get around the link.
    link.heal();
    running.stop().await;
    check.until_clean(SOON).await.assert_clean();
    assert!(connections(&b) >= 2);
    finish(a, b).await;
}

#[tokio::test]
async fn a_link_that_delays_and_loses_keeps_order_and_completeness() {
    let (mut a, mut b, link) = linked_pair().await;
    link.delay(Duration::from_millis(20));
    link.lose(20);
    let mut publisher = a.publisher(&["s.x", "s.y"]).await.sizes(1..=4000);
    publisher.publish(1000).await;
    start(&mut a, &mut b).await;
    publisher.publish(500).await;
    let report = a.check("S", "s.>", &b, "S").await.until_clean(Duration::from_secs(60)).await;
    assert_eq!(report.arrived, 1500);
    finish(a, b).await;
}

#[tokio::test]
async fn a_name_is_an_endpoint_too() {
    let (mut a, mut b) = replicating_pair().await;
    let endpoints = vec!["name.invalid:9102".to_owned(), format!("localhost:{}", a.rhio.port())];
    b.rhio.rewrite_config(|config| config.nodes[0].endpoints = endpoints);
    publish(&a, "s.x", &[], "by name").await;
    start(&mut a, &mut b).await;
    wait_for_records(&b, "S", 1).await;
    finish(a, b).await;
}

#[tokio::test]
async fn a_name_that_leads_nowhere_is_said() {
    let (mut a, mut b) = replicating_pair().await;
    common::expect_departures(&mut b);
    b.rhio.rewrite_config(|config| config.nodes[0].endpoints = vec!["name.invalid:9102".to_owned()]);
    start(&mut a, &mut b).await;
    let line = b.rhio.wait_for_log("can't reach node", SOON).await;
    assert!(line.raw.contains("none of its addresses can be resolved: name.invalid:9102"), "{}", line.raw);
    assert_eq!(line.field("peer").and_then(|peer| peer.as_str()), Some(a.rhio.public_key().as_str()));
    finish(a, b).await;
}

#[tokio::test]
async fn either_side_may_be_the_one_that_dials() {
    let (mut a, mut b) = replicating_pair().await;
    // `b` knows no address of `a`; `a` dials because it subscribes to something of `b`'s.
    b.rhio.rewrite_config(|config| config.nodes[0].endpoints.clear());
    for cluster in [&a, &b] {
        cluster.create_stream("BACK", &["back.>"]).await;
    }
    b.publish("back.>", "BACK");
    a.subscribe("back.>", "BACK", &b);
    publish(&a, "s.x", &[], "there").await;
    publish(&b, "back.x", &[], "and back").await;
    start(&mut a, &mut b).await;
    wait_for_records(&b, "S", 1).await;
    wait_for_records(&a, "BACK", 1).await;
    assert_eq!((connections(&a), connections(&b)), (1, 1));
    finish(a, b).await;
}
