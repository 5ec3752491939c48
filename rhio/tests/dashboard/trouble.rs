//! What it shows when something is wrong.

use testkit::Look;

use crate::page::Dashboard;
use common::{expect_departures, expect_outages, finish, replicating_pair, start};

const SUBSCRIPTION: &str = "#subscriptions tbody";

#[tokio::test]
async fn it_says_that_nats_is_away_and_recovers() {
    let (mut a, mut b) = replicating_pair().await;
    expect_departures(&mut a);
    expect_outages(&mut b);
    start(&mut a, &mut b).await;
    let dashboard = Dashboard::open(&b, Look::DESK).await;
    dashboard.wait_for("#verdict", "Everything works").await;

    b.nats.kill();
    dashboard.wait_for("#verdict", "This node can't do its work").await;
    dashboard.wait_for("#problems", "NATS").await;
    dashboard.wait_for("#problems", "What to do: check that NATS runs").await;
    dashboard.wait_for("#problems", "The readiness check fails because of this").await;
    dashboard.wait_for("#needs", "Fails NATS server").await;
    assert!(dashboard.page().evaluate("document.title").await.as_str().is_some_and(|title| title.starts_with("error")));
    // It is the node that says so: the page itself is live.
    assert_eq!(dashboard.text("#live").await, "live");
    for (name, look) in [("nats-away", Look::DESK), ("nats-away-phone", Look::PHONE.dark())] {
        dashboard.page().look(look).await;
        dashboard.assert_fits().await;
        dashboard.picture(name).await;
    }

    b.nats.restart().await;
    dashboard.wait_for("#verdict", "Everything works").await;
    dashboard.wait_for(SUBSCRIPTION, "Active").await;
    dashboard.assert_clean();
    finish(a, b).await;
}

#[tokio::test]
async fn an_unknown_lag_is_no_zero_and_a_missing_author_is_named() {
    let (a, mut b) = replicating_pair().await;
    expect_departures(&mut b);
    b.start().await;
    let dashboard = Dashboard::open(&b, Look::DESK).await;
    dashboard.wait_for("#verdict", "One thing needs attention").await;
    dashboard.wait_for("#problems", &format!("node {}", &a.rhio.public_key()[..10])).await;
    dashboard.wait_for("#problems", "What to do:").await;
    dashboard.wait_for("#peers", "Not connected").await;
    dashboard.wait_for(SUBSCRIPTION, "Waiting").await;
    assert_eq!(dashboard.text(&format!("{SUBSCRIPTION} [data-slot=lag]")).await, "unknown");
    let label = format!("document.querySelector('{SUBSCRIPTION} .plot.lag svg').getAttribute('aria-label')");
    let label = dashboard.page().evaluate(&label).await;
    assert!(label.as_str().is_some_and(|label| label.ends_with("unknown")), "{label}");
    dashboard.wait_for("[data-tile=behind]", "unknown").await;
    dashboard.picture("author-away").await;
    dashboard.assert_clean();
    finish(a, b).await;
}

#[tokio::test]
async fn it_says_when_the_node_itself_is_gone_and_comes_back_with_it() {
    let (mut a, mut b) = replicating_pair().await;
    expect_departures(&mut a);
    expect_departures(&mut b);
    start(&mut a, &mut b).await;
    a.publisher(&["s.x"]).await.publish(10).await;
    let dashboard = Dashboard::open(&b, Look::DESK).await;
    dashboard.wait_for(SUBSCRIPTION, "10 messages").await;

    b.rhio.kill();
    dashboard.wait_for("#verdict", "This node does not answer since").await;
    dashboard.wait_for("#live", "not connected").await;
    // What was known stays, but does not look like news.
    dashboard.wait_for(SUBSCRIPTION, "10 messages").await;
    dashboard.wait_until("it looks old", "Number(getComputedStyle(document.querySelector('.data')).opacity) < 1").await;
    dashboard.picture("gone").await;

    b.start().await;
    dashboard.page().evaluate("document.querySelector('#retry').click()").await;
    dashboard.wait_for("#verdict", "Everything works").await;
    dashboard.wait_for("#live", "live").await;
    // A new process counts from 0.
    dashboard.wait_for(SUBSCRIPTION, "0 messages").await;
    a.publisher(&["s.x"]).await.publish(5).await;
    dashboard.wait_for(SUBSCRIPTION, "5 messages").await;
    dashboard.assert_clean_but_for_silence();
    finish(a, b).await;
}
