//! Several servers in `endpoint`: those that do not answer keep nothing waiting.

use common::{SOON, expect_outages, finish, publish, replicating_pair, start, wait_for_records};
use testkit::PortLease;

/// How often B is started anew: each time the servers are tried in another order.
const STARTS: usize = 5;

#[tokio::test]
async fn servers_of_the_list_that_are_down_keep_no_subscription_waiting() {
    let (mut a, mut b) = replicating_pair().await;
    let down = [PortLease::take(), PortLease::take()];
    let real = b.rhio.config.nats_endpoint.clone();
    let [first, second] = down.each_ref().map(PortLease::port);
    b.rhio.rewrite_config(|config| {
        config.nats_endpoint = format!("127.0.0.1:{first},127.0.0.1:{second},{real}");
    });
    expect_outages(&mut b);
    start(&mut a, &mut b).await;
    for count in 1..=STARTS {
        publish(&a, "s.x", &[], "there").await;
        wait_for_records(&b, "S", count).await;
        b.rhio.restart().await;
    }
    finish(a, b).await;
}

#[tokio::test]
async fn a_server_of_the_list_that_takes_connections_and_says_nothing_keeps_no_subscription_waiting() {
    let (mut a, mut b) = replicating_pair().await;
    // The kernel takes connections for it; nobody answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let silent_port = silent.local_addr().expect("an address").port();
    let real = b.rhio.config.nats_endpoint.clone();
    b.rhio.rewrite_config(|config| config.nats_endpoint = format!("127.0.0.1:{silent_port},{real}"));
    expect_outages(&mut b);
    start(&mut a, &mut b).await;
    for count in 1..=2 {
        publish(&a, "s.x", &[], "there").await;
        wait_for_records(&b, "S", count).await;
        b.rhio.restart().await;
    }
    testkit::eventually!(SOON, "it to be ready again", b.rhio.get("/readyz").await.status == 200);
    finish(a, b).await;
}
