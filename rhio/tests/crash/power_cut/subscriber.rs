//! The subscriber's NATS forgets: what was lost is filled in again, and nothing comes twice.

use futures_util::future::join_all;
use serde_json::json;
use std::time::Duration;

use super::cut::{Data, Rhio, Runs, State, Stopped, What, Whole, back, cut, expect_cuts, snapshot};
use crate::support::{SETTLED, assert_no_fork, expect_crashes, settle, settle_commits};
use common::{delete_stream, publish, replicating_pair, stream};

async fn forgets(what: What, rhio: Rhio) {
    let (mut a, mut b) = replicating_pair().await;
    expect_cuts(&mut a, &mut b);
    tokio::join!(a.start(), b.start());
    let mut publisher = a.publisher(&["s.a", "s.b"]).await;
    publisher.publish(100).await;
    settle_commits(&a, &b).await;
    let copy = snapshot(&mut b);
    for _ in 0..30 {
        publisher.publish(5).await;
    }
    settle_commits(&a, &b).await;
    let running = publisher.run(200);
    cut(&mut b, &copy, what, rhio).await;
    back(&mut b).await;
    // More comes while it finds out what it forgot.
    tokio::time::sleep(Duration::from_millis(500)).await;
    running.stop().await;
    settle(&a, &b, "S").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_subscriber_forgets_is_filled_in_again() {
    join_all([(Whole, Runs), (Whole, Stopped), (Data, Runs), (Data, Stopped)].map(|(what, rhio)| forgets(what, rhio)))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_that_forgets_only_its_state_gets_nothing_twice() {
    join_all([(State, Runs), (State, Stopped)].map(|(what, rhio)| forgets(what, rhio))).await;
}

/// Messages of the subscriber's own cluster lie between, and take the places of those that were lost. Twice, so that
/// what was noted between the two cuts must not be believed.
async fn forgets_twice(what: What, rhio: Rhio) {
    let (mut a, mut b) = replicating_pair().await;
    expect_cuts(&mut a, &mut b);
    tokio::join!(a.start(), b.start());
    let mut publisher = a.publisher(&["s.a"]).await;
    publisher.publish(40).await;
    settle_commits(&a, &b).await;
    let first = snapshot(&mut b);
    for n in 0..20 {
        publisher.publish(3).await;
        publish(&b, "s.local", &[], format!("first {n}")).await;
    }
    settle_commits(&a, &b).await;
    cut(&mut b, &first, what, rhio).await;
    for n in 0..50 {
        publish(&b, "s.local", &[], format!("second {n}")).await;
    }
    back(&mut b).await;
    publisher.publish(5).await;
    settle_commits(&a, &b).await;
    let second = snapshot(&mut b);
    for n in 0..20 {
        publisher.publish(3).await;
        publish(&b, "s.local", &[], format!("third {n}")).await;
    }
    settle_commits(&a, &b).await;
    cut(&mut b, &second, what, rhio).await;
    publish(&b, "s.local", &[], "fourth").await;
    back(&mut b).await;
    publisher.publish(5).await;
    settle(&a, &b, "S").await;
    // And back to the very beginning.
    settle_commits(&a, &b).await;
    cut(&mut b, &first, what, rhio).await;
    back(&mut b).await;
    publisher.publish(5).await;
    settle(&a, &b, "S").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_cuts_with_other_messages_in_between() {
    join_all([
        forgets_twice(Whole, Runs),
        forgets_twice(Data, Stopped),
        forgets_twice(Data, Runs),
        forgets_twice(State, Stopped),
    ])
    .await;
}

/// The subscriber dies while it goes back.
async fn dies_at(point: &str) {
    let (mut a, mut b) = replicating_pair().await;
    expect_cuts(&mut a, &mut b);
    tokio::join!(a.start(), b.start());
    let mut publisher = a.publisher(&["s.a"]).await;
    publisher.publish(30).await;
    settle_commits(&a, &b).await;
    let copy = snapshot(&mut b);
    for _ in 0..10 {
        publisher.publish(5).await;
    }
    settle_commits(&a, &b).await;
    cut(&mut b, &copy, Data, Stopped).await;
    b.rhio.set_env("RHIO_FAILPOINTS", point);
    b.rhio.spawn().expect("it starts");
    b.rhio.wait_exit(Duration::from_secs(30)).await.expect("it dies");
    b.rhio.remove_env("RHIO_FAILPOINTS");
    b.start().await;
    publisher.publish(10).await;
    settle(&a, &b, "S").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dying_while_going_back_does_no_harm() {
    join_all(["cursor-recommitted:1", "record-published:3", "commit-stored:1"].map(dies_at)).await;
}

/// The state stream is deleted, with a local stream that holds only the last messages.
async fn state_is_deleted(rhio: Rhio, limit: Option<i64>) {
    let (mut a, mut b) = replicating_pair().await;
    expect_cuts(&mut a, &mut b);
    if let Some(limit) = limit {
        common::update_stream(&b, "S", json!({ "max_msgs": limit })).await;
    }
    tokio::join!(a.start(), b.start());
    let mut publisher = a.publisher(&["s.a"]).await;
    for _ in 0..20 {
        publisher.publish(10).await;
    }
    let check = a.check("S", "s.>", &b, "S").await;
    let expected = |all: &[testkit::checker::Record]| {
        let keep = limit.map_or(all.len(), |limit| usize::try_from(limit).expect("a small number"));
        all[all.len() - keep..].to_vec()
    };
    testkit::eventually!(SETTLED, "all to arrive", {
        check.against(&expected(&publisher.acknowledged)).await.is_ok_and(|report| report.is_clean())
    });
    let before = stream(&b, "S").await.cached_info().state.last_sequence;
    if rhio == Stopped {
        b.rhio.kill();
    }
    delete_stream(&b, "RHIO").await;
    back(&mut b).await;
    publisher.publish(10).await;
    testkit::eventually!(SETTLED, "the rest to arrive", {
        match check.against(&expected(&publisher.acknowledged)).await {
            Ok(report) if report.is_clean() => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    // Time for what must not come.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let after = stream(&b, "S").await.cached_info().state.last_sequence;
    assert_eq!(after, before + 10, "nothing was written again");
    assert_no_fork(&[&a, &b]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_whose_state_is_deleted_gets_nothing_twice() {
    join_all([
        state_is_deleted(Stopped, None),
        state_is_deleted(Runs, None),
        state_is_deleted(Stopped, Some(50)),
        state_is_deleted(Runs, Some(50)),
    ])
    .await;
}

/// The local stream holds only the last messages, and forgets all of those whose commits are still there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_left_the_local_stream_long_ago_does_not_come_again_after_a_cut() {
    let (mut a, mut b) = replicating_pair().await;
    expect_crashes([&mut a, &mut b]);
    expect_cuts(&mut a, &mut b);
    common::update_stream(&b, "S", json!({ "max_msgs": 40 })).await;
    b.rhio.set_env("RHIO_TEST_PRUNE_SECONDS", "1");
    tokio::join!(a.start(), b.start());
    let mut publisher = a.publisher(&["s.a"]).await;
    for _ in 0..20 {
        publisher.publish(5).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let check = a.check("S", "s.>", &b, "S").await;
    let last = |all: &[testkit::checker::Record]| all[all.len() - 40..].to_vec();
    testkit::eventually!(SETTLED, "all to arrive", {
        check.against(&last(&publisher.acknowledged)).await.is_ok_and(|report| report.is_clean())
    });
    let copy = snapshot(&mut b);
    for _ in 0..30 {
        publisher.publish(5).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    testkit::eventually!(SETTLED, "all to arrive", {
        check.against(&last(&publisher.acknowledged)).await.is_ok_and(|report| report.is_clean())
    });
    // Two prunings, of which there is one each second; only what they left out tells them from none.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    cut(&mut b, &copy, Data, Stopped).await;
    let before = stream(&b, "S").await.cached_info().state.last_sequence;
    back(&mut b).await;
    publisher.publish(10).await;
    testkit::eventually!(SETTLED, "what was lost to arrive again", {
        match check.against(&last(&publisher.acknowledged)).await {
            Ok(report) if report.is_clean() => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    let after = stream(&b, "S").await.cached_info().state.last_sequence;
    assert_eq!(after, before + 160, "only what was lost was written again");
}
