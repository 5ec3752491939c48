//! Who may read what.

use std::time::Duration;

use common::{SOON, finish, pair, publish, start, texts, wait_for_records};
use testkit::{Cluster, Node, Publish, eventually};

const REFUSED_CONNECTION: &str = "refused a connection";
const REFUSED_SUBSCRIPTION: &str = "refused a subscription";
const REFUSES_US: &str = "refuses us";

/// `b` knows `a` and subscribes; `a` publishes and knows nobody.
async fn strangers() -> (Cluster, Cluster) {
    let (mut a, mut b) = tokio::join!(Cluster::new("a"), Cluster::new("b"));
    for cluster in [&a, &b] {
        cluster.create_stream("S", &["s.>"]).await;
    }
    a.publish("s.>", "S");
    b.subscribe("s.>", "S", &a);
    let node = a.rhio.as_node();
    b.rhio.rewrite_config(|config| config.nodes.push(node));
    (a, b)
}

fn allow_refusals(a: &mut Cluster, b: &mut Cluster) {
    for words in [REFUSED_CONNECTION, REFUSED_SUBSCRIPTION] {
        a.rhio.allow_log(words);
    }
    for words in [REFUSES_US, "refused by the peer", "not connected to", "can't reach node", "access refused"] {
        b.rhio.allow_log(words);
    }
}

/// By key alone: it dials us.
fn by_key(cluster: &Cluster) -> Node {
    Node { public_key: cluster.rhio.public_key(), endpoints: Vec::new() }
}

#[tokio::test]
async fn a_node_that_is_not_listed_is_refused_and_both_sides_say_what_to_change() {
    let (mut a, mut b) = strangers().await;
    allow_refusals(&mut a, &mut b);
    publish(&a, "s.x", &[], "secret").await;
    start(&mut a, &mut b).await;
    let at_author = a.rhio.wait_for_log(REFUSED_CONNECTION, SOON).await;
    assert_eq!(at_author.field("peer").and_then(|peer| peer.as_str()), Some(b.rhio.public_key().as_str()));
    assert!(at_author.message.contains("add its public key to 'nodes'"), "{}", at_author.message);
    let at_reader = b.rhio.wait_for_log(REFUSES_US, SOON).await;
    for words in [&b.rhio.public_key(), "'nodes'"] {
        assert!(at_reader.message.contains(words), "{words} in {}", at_reader.message);
    }
    assert_eq!(at_reader.field("peer").and_then(|peer| peer.as_str()), Some(a.rhio.public_key().as_str()));

    // And the state of the entry, by which time it has tried again.
    b.rhio.wait_for_log("waiting: ", SOON).await;
    assert_eq!(b.stream_len("S").await, 0);
    finish(a, b).await;
}

#[tokio::test]
async fn a_node_that_is_listed_later_starts_by_itself() {
    let (mut a, mut b) = strangers().await;
    allow_refusals(&mut a, &mut b);
    publish(&a, "s.x", &[], "one").await;
    start(&mut a, &mut b).await;
    b.rhio.wait_for_log(REFUSES_US, SOON).await;
    let node = by_key(&b);
    a.rhio.rewrite_config(|config| config.nodes.push(node));
    a.rhio.reload();
    assert_eq!(texts(&wait_for_records(&b, "S", 1).await), ["one"]);
    finish(a, b).await;
}

#[tokio::test]
async fn with_open_access_anyone_on_the_network_reads() {
    let (mut a, mut b) = strangers().await;
    a.rhio.rewrite_config(|config| config.access = Some("open".into()));
    publish(&a, "s.x", &[], "public").await;
    start(&mut a, &mut b).await;
    assert_eq!(texts(&wait_for_records(&b, "S", 1).await), ["public"]);
    finish(a, b).await;
}

#[tokio::test]
async fn an_entrys_own_list_admits_a_node_that_is_not_known_otherwise() {
    let (mut a, mut b) = strangers().await;
    let key = b.rhio.public_key();
    a.rhio.rewrite_config(|config| config.publish[0].allow = Some(vec![key]));
    publish(&a, "s.x", &[], "for b").await;
    start(&mut a, &mut b).await;
    assert_eq!(texts(&wait_for_records(&b, "S", 1).await), ["for b"]);
    finish(a, b).await;
}

#[tokio::test]
async fn an_entrys_own_list_keeps_a_known_node_out_of_that_entry_alone() {
    let (mut a, mut b) = pair().await;
    allow_refusals(&mut a, &mut b);
    for cluster in [&a, &b] {
        cluster.create_stream("OPEN", &["open.>"]).await;
    }
    a.publish("open.>", "OPEN");
    let other = testkit::Rhio::builder("somebody else").build().public_key();
    a.rhio.rewrite_config(|config| {
        config.publish.push(Publish { subject: "s.>".into(), stream: "S".into(), allow: Some(vec![other]) });
    });
    b.subscribe("s.>", "S", &a);
    b.subscribe("open.>", "OPEN", &a);
    publish(&a, "s.x", &[], "not for b").await;
    publish(&a, "open.x", &[], "for b").await;
    start(&mut a, &mut b).await;
    assert_eq!(texts(&wait_for_records(&b, "OPEN", 1).await), ["for b"]);
    let at_author = a.rhio.wait_for_log(REFUSED_SUBSCRIPTION, SOON).await;
    assert_eq!(at_author.field("peer").and_then(|peer| peer.as_str()), Some(b.rhio.public_key().as_str()));
    assert!(at_author.message.contains("'allow'"), "{}", at_author.message);
    let at_reader = b.rhio.wait_for_log("refused by the peer", SOON).await;
    assert!(at_reader.message.starts_with("subscription to 's.>' of "), "{}", at_reader.message);
    for words in [&b.rhio.public_key(), "'s.>'", "'allow'"] {
        assert!(at_reader.message.contains(words), "{words} in {}", at_reader.message);
    }
    assert_eq!(b.stream_len("S").await, 0);
    finish(a, b).await;
}

#[tokio::test]
async fn a_narrow_entry_is_open_to_its_readers_although_a_wider_one_is_not() {
    let (mut a, mut b) = pair().await;
    allow_refusals(&mut a, &mut b);
    let (me, other) = (b.rhio.public_key(), testkit::Rhio::builder("somebody else").build().public_key());
    a.rhio.rewrite_config(|config| {
        let entry = |subject: &str, key: String| Publish {
            subject: subject.into(),
            stream: "S".into(),
            allow: Some(vec![key]),
        };
        config.publish = vec![entry("s.>", other), entry("s.public.*", me)];
    });
    b.subscribe("s.>", "S", &a);
    publish(&a, "s.secret", &[], "secret").await;
    publish(&a, "s.public.x", &[], "public").await;
    start(&mut a, &mut b).await;
    assert_eq!(texts(&wait_for_records(&b, "S", 1).await), ["public"]);
    publish(&a, "s.secret", &[], "secret").await;
    publish(&a, "s.public.x", &[], "public").await;
    assert_eq!(texts(&wait_for_records(&b, "S", 2).await), ["public", "public"]);
    finish(a, b).await;
}

#[tokio::test]
async fn a_wide_entry_and_a_narrow_one_in_it_give_each_message_once() {
    let (mut a, mut b) = pair().await;
    a.publish("s.>", "S");
    a.publish("s.public.*", "S");
    b.subscribe("s.>", "S", &a);
    a.publisher(&["s.public.x", "s.y"]).await.publish(50).await;
    start(&mut a, &mut b).await;
    a.publisher(&["s.public.x", "s.y"]).await.publish(50).await;
    let report = a.check("S", ">", &b, "S").await.until_clean(SOON).await;
    assert_eq!(report.arrived, 100);
    finish(a, b).await;
}

#[tokio::test]
async fn nodes_of_another_network_never_talk() {
    let (mut a, mut b) = common::replicating_pair().await;
    a.rhio.rewrite_config(|config| config.access = Some("open".into()));
    b.rhio.rewrite_config(|config| config.network_id = "another network".into());
    b.rhio.allow_log("can't reach node");
    b.rhio.allow_log("not connected to");
    publish(&a, "s.x", &[], "not for other networks").await;
    start(&mut a, &mut b).await;
    b.rhio.wait_for_log("can't reach node", SOON).await;
    b.rhio.wait_for_log("not connected to", SOON).await;
    assert_eq!(b.stream_len("S").await, 0);
    assert!(!a.rhio.logs().iter().any(|line| line.message == "connected"), "no connection came about");
    finish(a, b).await;
}

#[tokio::test]
async fn a_node_that_is_taken_off_the_list_reads_nothing_more() {
    let (mut a, mut b) = common::replicating_pair().await;
    allow_refusals(&mut a, &mut b);
    start(&mut a, &mut b).await;
    publish(&a, "s.x", &[], "before").await;
    wait_for_records(&b, "S", 1).await;
    let mark = a.rhio.log_mark();
    a.rhio.rewrite_config(|config| config.nodes.clear());
    a.rhio.reload();
    a.rhio.wait_for_log_after(mark, "configuration reloaded", SOON).await;
    publish(&a, "s.x", &[], "after").await;
    b.rhio.wait_for_log("the node refuses us", SOON).await;
    a.rhio.wait_for_log_after(mark, REFUSED_CONNECTION, SOON).await;
    assert_eq!(texts(&common::records(&b, "S").await), ["before"]);

    // And once more on the list, it gets what it missed.
    let node = by_key(&b);
    a.rhio.rewrite_config(|config| config.nodes.push(node));
    a.rhio.reload();
    assert_eq!(texts(&wait_for_records(&b, "S", 2).await), ["before", "after"]);
    finish(a, b).await;
}

#[tokio::test]
async fn a_node_that_is_taken_off_an_entrys_list_keeps_the_other_entries() {
    let (mut a, mut b) = common::replicating_pair().await;
    allow_refusals(&mut a, &mut b);
    for cluster in [&a, &b] {
        cluster.create_stream("OTHER", &["other.>"]).await;
    }
    a.publish("other.>", "OTHER");
    b.subscribe("other.>", "OTHER", &a);
    start(&mut a, &mut b).await;
    publish(&a, "s.x", &[], "before").await;
    publish(&a, "other.x", &[], "before").await;
    wait_for_records(&b, "S", 1).await;
    wait_for_records(&b, "OTHER", 1).await;
    let mark = a.rhio.log_mark();
    a.rhio.rewrite_config(|config| config.publish[0].allow = Some(Vec::new()));
    a.rhio.reload();
    a.rhio.wait_for_log_after(mark, "configuration reloaded", SOON).await;
    publish(&a, "s.x", &[], "after").await;
    publish(&a, "other.x", &[], "after").await;
    wait_for_records(&b, "OTHER", 2).await;
    a.rhio.wait_for_log_after(mark, REFUSED_SUBSCRIPTION, SOON).await;
    assert_eq!(b.stream_len("S").await, 1);
    let reconnected = || b.rhio.logs().iter().filter(|line| line.message == "connected").count() > 1;
    assert!(!reconnected(), "the connection stays");
    finish(a, b).await;
}

#[tokio::test]
async fn whoever_is_refused_does_not_flood_the_log() {
    let (mut a, mut b) = strangers().await;
    allow_refusals(&mut a, &mut b);
    start(&mut a, &mut b).await;
    // Its dials: at once, and at growing distances from then on.
    tokio::time::sleep(Duration::from_secs(4)).await;
    let refusals = || a.rhio.logs().iter().filter(|line| line.message.contains(REFUSED_CONNECTION)).count();
    eventually!(SOON, "a refusal", refusals() >= 1);
    assert!(refusals() <= 2, "{} lines within 4 s", refusals());
    finish(a, b).await;
}
