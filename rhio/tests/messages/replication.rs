//! Messages published in one cluster appear in another: once, in order, unchanged.

use common::{SOON, finish, pair, publish, records, replicating_pair, start, subjects, wait_for_records};
use testkit::{Cluster, link};

#[tokio::test]
async fn history_from_before_rhio_ever_ran_and_what_is_published_meanwhile_arrive_in_one_go() {
    let (mut a, mut b) = replicating_pair().await;
    let mut publisher = a.publisher(&["s.a", "s.b.c"]).await.sizes(1..=2000).header("N", "{n}");
    publisher.publish(1500).await;
    let running = publisher.run(400);
    start(&mut a, &mut b).await;
    let check = a.check("S", "s.>", &b, "S").await;
    testkit::eventually!(SOON, "the first live message to arrive", {
        check.now().await.is_ok_and(|report| report.arrived > 1500)
    });
    let publisher = running.stop().await;
    let report = check.until_clean(SOON).await;
    assert_eq!(report.arrived as u64, publisher.sent());
    finish(a, b).await;
}

/// Publishes on each subject, before the start and again afterwards, and sees which arrive.
async fn arrives(publication: &str, subscription: &str, sent: &[&str]) -> Vec<String> {
    let (mut a, mut b) = tokio::join!(Cluster::new("a"), Cluster::new("b"));
    link(&mut a, &mut b);
    a.create_stream("W", &["w.>"]).await;
    b.create_stream("IN", &["w.>"]).await;
    a.publish(publication, "W");
    b.subscribe(subscription, "IN", &a);
    let mut publisher = a.publisher(sent).await;
    publisher.publish(sent.len() as u64).await;
    start(&mut a, &mut b).await;
    let filter = |record: &&testkit::checker::Record| {
        let matches = |filter| testkit::checker::subject_matches(filter, &record.subject);
        matches(publication) && matches(subscription)
    };
    let expected = |publisher: &testkit::checker::Publisher| -> Vec<_> {
        publisher.acknowledged.iter().filter(filter).cloned().collect()
    };
    let check = a.check("W", ">", &b, "IN").await;
    let _ = check.until_clean_against(&expected(&publisher), SOON).await;
    publisher.publish(sent.len() as u64).await;
    // What is last in the source and not wanted would have come by now, had it been sent: order is kept.
    let _ = check.until_clean_against(&expected(&publisher), SOON).await;
    let arrived = records(&b, "IN").await;
    let first: Vec<String> = subjects(&arrived).into_iter().map(str::to_owned).collect();
    finish(a, b).await;
    first[..first.len() / 2].to_vec()
}

#[tokio::test]
async fn a_subscription_narrower_than_the_publication_gets_its_part() {
    let sent = ["w.a.energy", "w.a.heat", "w.a.b.energy", "w.b.energy", "w.energy"];
    assert_eq!(arrives("w.>", "w.*.energy", &sent).await, ["w.a.energy", "w.b.energy"]);
}

#[tokio::test]
async fn a_publication_narrower_than_the_subscription_sends_its_part() {
    let sent = ["w.a.energy", "w.a.heat", "w.a.b.energy", "w.b.energy", "w.energy"];
    assert_eq!(arrives("w.*.energy", "w.>", &sent).await, ["w.a.energy", "w.b.energy"]);
}

#[tokio::test]
async fn filters_that_overlap_in_part_meet_in_the_middle() {
    let sent = ["w.a.x", "w.b.x", "w.a.y", "w.a", "w.a.x"];
    assert_eq!(arrives("w.a.*", "w.*.x", &sent).await, ["w.a.x", "w.a.x"]);
}

#[tokio::test]
async fn several_publications_of_one_author_meet_in_one_subscription() {
    let (mut a, mut b) = pair().await;
    for stream in ["ONE", "TWO"] {
        let subject = stream.to_lowercase();
        a.create_stream(stream, &[&format!("x.{subject}.>")]).await;
        a.publish(&format!("x.{subject}.>"), stream);
    }
    b.create_stream("X", &["x.>"]).await;
    b.subscribe("x.>", "X", &a);
    a.publisher(&["x.one.a", "x.two.a"]).await.publish(200).await;
    start(&mut a, &mut b).await;
    a.publisher(&["x.one.b", "x.two.b"]).await.publish(200).await;
    for (stream, filter) in [("ONE", "x.one.>"), ("TWO", "x.two.>")] {
        let report = a.check(stream, filter, &b, "X").await.until_clean(SOON).await;
        assert_eq!(report.arrived, 200);
    }
    finish(a, b).await;
}

#[tokio::test]
async fn several_authors_are_gathered_in_one_stream_on_one_subject() {
    let (mut a, mut b) = replicating_pair().await;
    let mut c = Cluster::new("c").await;
    c.create_stream("S", &["s.>"]).await;
    c.publish("s.>", "S");
    link(&mut c, &mut b);
    b.subscribe("s.>", "S", &c);
    for author in [&a, &c] {
        author.publisher(&["s.same"]).await.publish(200).await;
    }
    tokio::join!(start(&mut a, &mut b), c.start());
    for author in [&a, &c] {
        author.publisher(&["s.same"]).await.publish(200).await;
        let report = author.check("S", "s.>", &b, "S").await.until_clean(SOON).await;
        assert_eq!(report.arrived, 400);
    }
    assert_eq!(b.stream_len("S").await, 800);
    common::expect_departures(&mut b);
    tokio::join!(finish(a, b), c.rhio.finish());
}

#[tokio::test]
async fn both_directions_on_the_same_subject_and_stream_have_no_echo() {
    let (mut a, mut b) = replicating_pair().await;
    b.publish("s.>", "S");
    a.subscribe("s.>", "S", &b);
    a.publisher(&["s.same"]).await.publish(100).await;
    b.publisher(&["s.same"]).await.publish(50).await;
    start(&mut a, &mut b).await;
    for round in 1..=3 {
        // Were anything sent back, it would lie before what is published after it.
        a.publisher(&["s.same"]).await.publish(10).await;
        b.publisher(&["s.same"]).await.publish(10).await;
        let _ = a.check("S", "s.>", &b, "S").await.until_clean(SOON).await;
        let _ = b.check("S", "s.>", &a, "S").await.until_clean(SOON).await;
        let expected = 150 + round * 20;
        assert_eq!((a.stream_len("S").await, b.stream_len("S").await), (expected, expected));
    }
    finish(a, b).await;
}

#[tokio::test]
async fn a_triangle_of_clusters_has_no_loop() {
    let (mut a, mut b) = replicating_pair().await;
    b.publish("s.>", "S");
    a.subscribe("s.>", "S", &b);
    let mut c = Cluster::new("c").await;
    c.create_stream("S", &["s.>"]).await;
    link(&mut a, &mut c);
    link(&mut b, &mut c);
    c.publish("s.>", "S");
    for author in [&a, &b] {
        c.subscribe("s.>", "S", author);
    }
    for subscriber in [&mut a, &mut b] {
        subscriber.subscribe("s.>", "S", &c);
    }
    tokio::join!(start(&mut a, &mut b), c.start());
    for round in 1..=3 {
        for cluster in [&a, &b, &c] {
            cluster.publisher(&["s.same"]).await.publish(20).await;
        }
        for (author, others) in [(&a, [&b, &c]), (&b, [&a, &c]), (&c, [&a, &b])] {
            for other in others {
                let _ = author.check("S", "s.>", other, "S").await.until_clean(SOON).await;
            }
        }
        for cluster in [&a, &b, &c] {
            assert_eq!(cluster.stream_len("S").await, round * 60);
        }
    }
    for cluster in [&mut a, &mut b, &mut c] {
        common::expect_departures(cluster);
    }
    tokio::join!(finish(a, b), c.rhio.finish());
}

#[tokio::test]
async fn one_stream_serves_several_subscriptions_of_one_subscriber() {
    let (mut a, mut b) = pair().await;
    a.publish("s.>", "S");
    common::update_stream(&b, "S", serde_json::json!({"subjects": ["s.*.heat"]})).await;
    b.create_stream("ENERGY", &["s.*.energy"]).await;
    b.subscribe("s.*.energy", "ENERGY", &a);
    b.subscribe("s.*.heat", "S", &a);
    publish(&a, "s.1.energy", &[], "one").await;
    start(&mut a, &mut b).await;
    for subject in ["s.1.heat", "s.2.energy", "s.2.heat", "s.3.energy"] {
        publish(&a, subject, &[], subject.to_owned()).await;
    }
    assert_eq!(subjects(&wait_for_records(&b, "ENERGY", 3).await), ["s.1.energy", "s.2.energy", "s.3.energy"]);
    assert_eq!(subjects(&wait_for_records(&b, "S", 2).await), ["s.1.heat", "s.2.heat"]);
    finish(a, b).await;
}

#[tokio::test]
async fn a_hundred_subscriptions_of_one_author_go_side_by_side() {
    let (mut a, mut b) = pair().await;
    a.publish("s.>", "S");
    let subjects: Vec<String> = (0..100).map(|n| format!("s.{n}")).collect();
    for subject in &subjects {
        b.subscribe(subject, "S", &a);
    }
    start(&mut a, &mut b).await;
    let subjects: Vec<&str> = subjects.iter().map(String::as_str).collect();
    a.publisher(&subjects).await.publish(300).await;
    wait_for_records(&b, "S", 300).await;
    for filter in ["s.0", "s.99"] {
        assert_eq!(a.check("S", filter, &b, "S").await.until_clean(SOON).await.arrived, 3);
    }
    finish(a, b).await;
}

#[tokio::test]
async fn a_subscriber_that_is_frozen_costs_the_others_and_the_author_nothing() {
    let (mut a, mut b) = replicating_pair().await;
    let mut c = Cluster::new("c").await;
    c.create_stream("S", &["s.>"]).await;
    c.subscribe("s.>", "S", &a);
    link(&mut a, &mut c);
    tokio::join!(start(&mut a, &mut b), c.start());
    let mut publisher = a.publisher(&["s.a"]).await.size(16 * 1024);
    publisher.publish(10).await;
    let to_c = a.check("S", "s.>", &c, "S").await;
    let _ = to_c.until_clean(SOON).await;

    c.rhio.pause();
    let before = a.rhio.rss_bytes();
    // 32 MiB, more than the windows of a connection.
    publisher.publish(2000).await;
    let report = a.check("S", "s.>", &b, "S").await.until_clean(SOON).await;
    assert_eq!(report.arrived, 2010);
    let grown = a.rhio.rss_peak_bytes().saturating_sub(before);
    assert!(grown < 128 << 20, "the author's memory grew by {} MiB", grown >> 20);

    c.rhio.resume();
    let report = to_c.until_clean(SOON).await;
    assert_eq!(report.arrived, 2010);
    // When it was away for long enough, the connection was given up.
    for cluster in [&mut b, &mut c] {
        common::expect_departures(cluster);
    }
    tokio::join!(finish(a, b), c.rhio.finish());
}
