//! What a version of rhio with other formats has left in the state stream.

use async_nats::jetstream;
use common::{SOON, expect_departures, finish, publish, replicating_pair, start, wait_for_commits, wait_for_records};
use futures_util::StreamExt;
use testkit::Cluster;

/// Makes every descriptor in a node's state stream one of the format before this one: only its version is read.
async fn age(cluster: &Cluster) {
    let context = jetstream::new(cluster.client().await);
    let stream = context.get_stream("RHIO").await.expect("a state stream");
    let filter_subject = format!("$RHIO.{}.log.>", cluster.rhio.public_key());
    let mut subjects = stream.info_with_subjects(filter_subject.clone()).await.expect("its subjects");
    let mut aged = 0;
    while let Some(found) = subjects.next().await {
        let (subject, _) = found.expect("a subject");
        let message = stream.get_last_raw_message_by_subject(&subject).await.expect("a descriptor");
        let mut payload = message.payload.to_vec();
        assert_eq!(payload[0], rhio_core::log::descriptor::VERSION);
        payload[0] -= 1;
        stream.purge().filter(subject.clone()).await.expect("it can be purged");
        let sent = context.publish(subject, payload.into()).await.expect("it is sent");
        sent.await.expect("it is stored");
        aged += 1;
    }
    assert!(aged > 0, "no descriptor under {filter_subject}");
}

#[tokio::test]
async fn a_state_stream_of_another_format_is_named_and_nothing_is_lost_or_comes_twice() {
    let (mut a, mut b) = replicating_pair().await;
    start(&mut a, &mut b).await;
    for text in ["one", "two", "three"] {
        publish(&a, "s.x", &[], text).await;
    }
    wait_for_records(&b, "S", 3).await;
    wait_for_commits(&b, 3).await;
    expect_departures(&mut b);
    let words = "written by another version of rhio";
    for cluster in [&mut a, &mut b] {
        cluster.rhio.allow_log(words);
        cluster.rhio.terminate().await;
        age(cluster).await;
    }
    publish(&a, "s.x", &[], "four").await;
    start(&mut a, &mut b).await;
    publish(&a, "s.x", &[], "five").await;
    a.rhio.wait_for_log(words, SOON).await;
    let report = a.check("S", ">", &b, "S").await.until_clean(SOON).await;
    report.assert_clean();
    assert_eq!(report.arrived, 5);
    finish(a, b).await;
}
