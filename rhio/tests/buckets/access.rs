//! Who may read which bucket, and changes of that while it runs.

use common::buckets::{Kind, bucket_pair, content, get, keys, linked, pair_of, put, wait_for_keys, wait_for_object};
use common::{SOON, finish, start, waits_with};
use testkit::{Cluster, Node, PublishBucket, eventually};

const REFUSED_CONNECTION: &str = "refused a connection";
const REFUSED_SUBSCRIPTION: &str = "refused a subscription";
const RELOADED: &str = "configuration reloaded";

fn allow_refusals(a: &mut Cluster, b: &mut Cluster) {
    for words in [REFUSED_CONNECTION, REFUSED_SUBSCRIPTION] {
        a.rhio.allow_log(words);
    }
    for words in ["refuses us", "refused by the peer", "access refused", "is not published for"] {
        b.rhio.allow_log(words);
    }
}

/// Each sees the other's key, and what to change.
async fn both_say_so(a: &Cluster, b: &Cluster, at_author: &str, at_reader: &str) {
    let line = a.rhio.wait_for_log(at_author, SOON).await;
    assert_eq!(line.field("peer").and_then(|peer| peer.as_str()), Some(b.rhio.public_key().as_str()));
    let line = b.rhio.wait_for_log(at_reader, SOON).await;
    for words in [b.rhio.public_key().as_str(), "'nodes'"] {
        assert!(line.message.contains(words), "{words} in {}", line.message);
    }
}

#[tokio::test]
async fn a_node_that_is_not_listed_gets_nothing_until_it_is() {
    let (mut a, mut b) = bucket_pair(Kind::Folder).await;
    allow_refusals(&mut a, &mut b);
    a.rhio.rewrite_config(|config| config.nodes.clear());
    put(&a, "out", "k", "v").await;
    start(&mut a, &mut b).await;
    both_say_so(&a, &b, REFUSED_CONNECTION, "refuses us").await;
    waits_with(&b, "peer-refuses-us", "rhio id").await;
    assert_eq!(keys(&b, "inbox").await, Vec::<String>::new());
    let node = Node { public_key: b.rhio.public_key(), endpoints: Vec::new() };
    a.rhio.rewrite_config(|config| config.nodes.push(node));
    a.rhio.reload();
    wait_for_object(&b, "inbox", "k", b"v").await;
    finish(a, b).await;
}

#[tokio::test]
async fn only_who_is_on_a_buckets_list_reads_it() {
    let (mut a, mut b) = linked(Kind::Folder, Kind::Folder).await;
    allow_refusals(&mut a, &mut b);
    for bucket in ["for-all", "for-some", "for-b"] {
        a.create_bucket(bucket).await;
        b.create_bucket(bucket).await;
        put(&a, bucket, "k", bucket).await;
        b.subscribe_bucket(bucket, bucket, &a);
    }
    let other = testkit::Rhio::builder("other").build().public_key();
    let allow = [("for-all", None), ("for-some", Some(vec![other])), ("for-b", Some(vec![b.rhio.public_key()]))];
    a.rhio.rewrite_config(|config| {
        config.publish_buckets = allow.map(|(bucket, allow)| PublishBucket { bucket: bucket.into(), allow }).into();
    });
    start(&mut a, &mut b).await;
    for bucket in ["for-all", "for-b"] {
        wait_for_object(&b, bucket, "k", bucket.as_bytes()).await;
    }
    both_say_so(&a, &b, REFUSED_SUBSCRIPTION, "bucket 'for-some' is not published for").await;
    waits_with(&b, "not-published-for-us", "'allow'").await;
    let line = a.rhio.wait_for_log(REFUSED_SUBSCRIPTION, SOON).await;
    assert_eq!(line.field("bucket").and_then(|bucket| bucket.as_str()), Some("for-some"));
    assert_eq!(get(&b, "for-some", "k").await, None);
    finish(a, b).await;
}

#[tokio::test]
async fn a_bucket_that_is_not_published_looks_like_one_that_is_not_allowed() {
    let (mut a, mut b) = linked(Kind::Folder, Kind::Folder).await;
    allow_refusals(&mut a, &mut b);
    for bucket in ["public", "private"] {
        a.create_bucket(bucket).await;
    }
    put(&a, "private", "k", "v").await;
    a.publish_bucket("public");
    for (remote, local) in [("private", "one"), ("nowhere", "two")] {
        b.create_bucket(local).await;
        b.subscribe_bucket(remote, local, &a);
    }
    start(&mut a, &mut b).await;
    for remote in ["private", "nowhere"] {
        let line = b.rhio.wait_for_log(&format!("bucket '{remote}' is not published for"), SOON).await;
        assert!(line.message.contains("waiting: "), "{}", line.message);
    }
    assert_eq!(keys(&b, "one").await, Vec::<String>::new());
    finish(a, b).await;
}

#[tokio::test]
async fn access_that_is_taken_away_ends_at_once_and_comes_back() {
    let (mut a, mut b) = bucket_pair(Kind::Folder).await;
    allow_refusals(&mut a, &mut b);
    a.create_bucket("other").await;
    b.create_bucket("other").await;
    a.publish_bucket("other");
    b.subscribe_bucket("other", "other", &a);
    put(&a, "out", "before", "1").await;
    start(&mut a, &mut b).await;
    wait_for_object(&b, "inbox", "before", b"1").await;
    let mark = a.rhio.log_mark();
    a.rhio.rewrite_config(|config| config.publish_buckets[0].allow = Some(Vec::new()));
    a.rhio.reload();
    a.rhio.wait_for_log_after(mark, RELOADED, SOON).await;
    put(&a, "out", "after", "2").await;
    // The other bucket goes on.
    put(&a, "other", "k", "v").await;
    wait_for_object(&b, "other", "k", b"v").await;
    a.rhio.wait_for_log_after(mark, REFUSED_SUBSCRIPTION, SOON).await;
    assert_eq!(keys(&b, "inbox").await, ["before"]);
    a.rhio.rewrite_config(|config| config.publish_buckets[0].allow = None);
    a.rhio.reload();
    wait_for_object(&b, "inbox", "after", b"2").await;
    finish(a, b).await;
}

#[tokio::test]
async fn a_bucket_that_is_added_begins_and_one_that_is_removed_ends_while_others_go_on() {
    let (mut a, mut b) = pair_of(Kind::Folder, Kind::Folder, None).await;
    allow_refusals(&mut a, &mut b);
    start(&mut a, &mut b).await;
    put(&a, "out", "one", "1").await;
    wait_for_object(&b, "inbox", "one", b"1").await;
    let large = content(1, 30 << 20);
    put(&a, "out", "large", large.clone()).await;
    a.create_bucket("late").await;
    b.create_bucket("late-in").await;
    put(&a, "late", "k", "v").await;
    a.publish_bucket("late");
    a.rhio.reload();
    b.subscribe_bucket("late", "late-in", &a);
    b.rhio.reload();
    wait_for_object(&b, "late-in", "k", b"v").await;
    wait_for_object(&b, "inbox", "large", &large).await;
    let connected = b.rhio.logs().iter().filter(|line| line.message == "connected").count();
    assert_eq!(connected, 1);

    // The subscription goes, then comes back; meanwhile nothing arrives.
    let mark = b.rhio.log_mark();
    let entry = b.rhio.config.subscribe_buckets[0].clone();
    b.rhio.rewrite_config(|config| drop(config.subscribe_buckets.remove(0)));
    b.rhio.reload();
    b.rhio.wait_for_log_after(mark, RELOADED, SOON).await;
    put(&a, "out", "two", "2").await;
    put(&a, "late", "witness", "w").await;
    wait_for_object(&b, "late-in", "witness", b"w").await;
    assert_eq!(get(&b, "inbox", "two").await, None);
    b.rhio.rewrite_config(|config| config.subscribe_buckets.push(entry));
    b.rhio.reload();
    wait_for_object(&b, "inbox", "two", b"2").await;

    // The publication goes.
    let mark = b.rhio.log_mark();
    a.rhio.rewrite_config(|config| drop(config.publish_buckets.remove(0)));
    a.rhio.reload();
    b.rhio.wait_for_log_after(mark, "bucket 'out' is not published for", SOON).await;
    put(&a, "out", "three", "3").await;
    put(&a, "late", "last", "l").await;
    wait_for_object(&b, "late-in", "last", b"l").await;
    wait_for_keys(&b, "inbox", &["large", "one", "two"]).await;
    a.publish_bucket("out");
    a.rhio.reload();
    wait_for_object(&b, "inbox", "three", b"3").await;
    finish(a, b).await;
}

#[tokio::test]
async fn deletes_that_are_to_be_followed_from_now_on_are() {
    let (mut a, mut b) = pair_of(Kind::Folder, Kind::Folder, None).await;
    for key in ["one", "two"] {
        put(&a, "out", key, key).await;
    }
    start(&mut a, &mut b).await;
    for key in ["one", "two"] {
        wait_for_object(&b, "inbox", key, key.as_bytes()).await;
    }
    let mark = b.rhio.log_mark();
    b.rhio.rewrite_config(|config| config.subscribe_buckets[0].deletes = Some("follow".into()));
    b.rhio.reload();
    b.rhio.wait_for_log_after(mark, RELOADED, SOON).await;
    std::fs::remove_file(a.folder().join("out/one")).expect("it can be deleted");
    eventually!(SOON, "the delete", keys(&b, "inbox").await == ["two"]);
    finish(a, b).await;
}
