//! Two subscribers, of which one knows more.

use futures_util::future::join_all;
use std::time::Duration;
use testkit::checker::{Publisher, Record};
use testkit::{Cluster, link};

use super::cut::{Rhio, Runs, State, Stopped, What, Whole, back, cut, expect_cuts, snapshot};
use crate::support::{SETTLED, assert_no_fork, settle_commits};

async fn trio() -> (Cluster, Cluster, Cluster) {
    let (mut a, mut b, mut c) = tokio::join!(Cluster::new("a"), Cluster::new("b"), Cluster::new("c"));
    for cluster in [&a, &b, &c] {
        cluster.create_stream("S", &["s.>"]).await;
    }
    link(&mut a, &mut b);
    link(&mut a, &mut c);
    a.publish("s.>", "S");
    b.subscribe("s.>", "S", &a);
    c.subscribe("s.>", "S", &a);
    expect_cuts(&mut a, &mut b);
    expect_cuts(&mut b, &mut c);
    (a, b, c)
}

async fn arrives(a: &Cluster, to: &Cluster, expected: &[Record]) {
    let check = a.check("S", "s.>", to, "S").await;
    let _ = check.until_clean_against(expected, SETTLED).await;
    // Time for what must not come.
    tokio::time::sleep(Duration::from_millis(300)).await;
    check.against(expected).await.expect("the stream is there").assert_clean();
}

/// What the one that knows less should have: everything, unless the publisher lost the messages themselves.
fn without(publisher: &Publisher, lost: std::ops::Range<usize>, what: What) -> Vec<Record> {
    let kept = |index: &usize| what == State || !lost.contains(index);
    (0..publisher.acknowledged.len()).filter(kept).map(|index| publisher.acknowledged[index].clone()).collect()
}

/// `c` misses the end; then the publisher forgets it, too.
async fn one_knows_more(what: What, rhio: Rhio, knowing_is_there: bool) {
    let (mut a, mut b, mut c) = trio().await;
    tokio::join!(a.start(), b.start(), c.start());
    let mut publisher = a.publisher(&["s.a"]).await;
    publisher.publish(50).await;
    settle_commits(&a, &b).await;
    settle_commits(&a, &c).await;
    let copy = snapshot(&mut a);
    c.rhio.kill();
    for _ in 0..12 {
        publisher.publish(5).await;
    }
    settle_commits(&a, &b).await;
    if !knowing_is_there {
        b.rhio.kill();
    }
    // The one that knows less answers, at any rate.
    a.rhio.kill();
    c.start().await;
    cut(&mut a, &copy, what, rhio).await;
    back(&mut a).await;
    publisher.publish(100).await;
    let expected = without(&publisher, 50..110, what);
    arrives(&a, &c, &expected).await;
    back(&mut b).await;
    publisher.publish(10).await;
    arrives(&a, &b, &publisher.acknowledged).await;
    arrives(&a, &c, &without(&publisher, 50..110, what)).await;
    assert_no_fork(&[&a, &b, &c]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_publisher_takes_back_from_the_one_that_knows_more() {
    join_all([one_knows_more(State, Stopped, true), one_knows_more(Whole, Runs, true)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_one_that_knows_more_comes_later() {
    join_all([one_knows_more(State, Stopped, false), one_knows_more(Whole, Stopped, false)]).await;
}
