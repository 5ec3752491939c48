//! Two processes with one private key on one NATS: never a fork; one works, the other says why it does not, and takes
//! over when the first is gone.

use std::time::Duration;

use common::{SOON, finish, replicating_pair};
use testkit::{Cluster, Rhio, eventually};

/// What either side says, and what to do about it.
const STANDS_BACK: &str = "Run one rhio per key";

/// Another process with the key, the NATS and the configuration of a cluster's rhio.
fn twin(cluster: &Cluster) -> Rhio {
    let config = cluster.rhio.config.clone();
    Rhio::builder("twin")
        .signing_key(cluster.rhio.signing_key().clone())
        .configure(|own| {
            let port = own.bind_port;
            *own = config;
            own.bind_port = port;
        })
        .allow_any_log()
        .build()
}

#[tokio::test]
async fn of_two_authors_one_seals_and_the_other_takes_over_when_it_is_gone() {
    let (mut a, mut b) = replicating_pair().await;
    a.rhio.allow_log("publication of 's.>'");
    b.rhio.allow_log("subscription to 's.>'");
    common::expect_departures(&mut b);
    let mut other = twin(&a);
    let endpoint = other.endpoint();
    b.rhio.rewrite_config(|config| config.nodes[0].endpoints.push(endpoint));
    common::start(&mut a, &mut b).await;
    let running = a.publisher(&["s.x"]).await.run(100);
    let check = a.check("S", "s.>", &b, "S").await;
    eventually!(SOON, "the transfer to run", check.now().await.is_ok_and(|report| report.arrived > 20));
    other.start().await;
    eventually!(SOON, "one of them to stand back", other.has_logged(STANDS_BACK) || a.rhio.has_logged(STANDS_BACK));

    a.rhio.terminate().await;
    let before = running.sent();
    eventually!(SOON, "more to be published", running.sent() > before + 50);
    running.stop().await;
    check.until_clean(Duration::from_secs(60)).await.assert_clean();
    other.finish().await;
    finish(a, b).await;
}

#[tokio::test]
async fn of_two_subscribers_one_writes_and_the_other_takes_over_when_it_is_gone() {
    let (mut a, mut b) = replicating_pair().await;
    b.rhio.allow_log("subscription to 's.>'");
    common::expect_departures(&mut b);
    common::start(&mut a, &mut b).await;
    let running = a.publisher(&["s.x"]).await.run(100);
    let check = a.check("S", "s.>", &b, "S").await;
    eventually!(SOON, "the transfer to run", check.now().await.is_ok_and(|report| report.arrived > 20));
    let mut other = twin(&b);
    other.start().await;
    eventually!(SOON, "one of them to stand back", other.has_logged(STANDS_BACK) || b.rhio.has_logged(STANDS_BACK));

    b.rhio.terminate().await;
    let before = running.sent();
    eventually!(SOON, "more to be published", running.sent() > before + 50);
    running.stop().await;
    check.until_clean(Duration::from_secs(60)).await.assert_clean();
    other.finish().await;
    finish(a, b).await;
}
