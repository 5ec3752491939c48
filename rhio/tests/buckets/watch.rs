//! What follows from listings, notifications, restarts and reloads, and what does not.

use std::path::PathBuf;
use std::time::Duration;

use common::buckets::{
    Heard, Kind, arrivals, ask, bucket_pair, content, delete, get, keep_arrivals, keys, lines_with, linked, pair_of,
    put, sync, wait_for_keys, wait_for_object, wait_until_gone,
};
use common::{SOON, expect_outages, finish, start};
use serde_json::json;
use testkit::{Cluster, eventually};

const EMPTY: &str = "lists as empty";
const HELD: &str = "none is deleted here until that is confirmed";

async fn fill(a: &Cluster, count: usize) -> Vec<String> {
    let keys: Vec<String> = (0..count).map(|number| format!("object-{number:03}")).collect();
    for key in &keys {
        put(a, "out", key, key.clone()).await;
    }
    keys
}

async fn wait_for_count(b: &Cluster, count: usize) {
    eventually!(SOON, format!("{count} objects"), {
        let there = keys(b, "inbox").await.len();
        if there == count { Ok(()) } else { Err(there) }
    });
}

async fn an_empty_listing_deletes_nothing_until_another_object_is_there(kind: Kind) {
    let (mut a, mut b) = pair_of(kind, Kind::Folder, Some("follow")).await;
    a.rhio.allow_log(EMPTY);
    let objects = fill(&a, 8).await;
    start(&mut a, &mut b).await;
    wait_for_count(&b, 8).await;
    let there = keys(&b, "inbox").await;
    // What is deleted while others are still there is followed: the node must not look in between.
    a.rhio.pause();
    for key in &objects {
        delete(&a, "out", key).await;
    }
    a.rhio.resume();
    let mark = a.rhio.log_mark();
    a.rhio.wait_for_log(EMPTY, SOON).await;
    // A node that finds it empty at its start concludes nothing either.
    a.rhio.restart().await;
    a.rhio.wait_for_log_after(mark, EMPTY, SOON).await;
    b.rhio.restart().await;
    // Longer than a delete waits for more of its kind.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(keys(&b, "inbox").await, there);
    put(&a, "out", "object-new", "new").await;
    wait_for_keys(&b, "inbox", &["object-new"]).await;
    finish(a, b).await;
}

#[tokio::test]
async fn an_empty_listing_deletes_nothing_until_another_object_is_there_on_s3() {
    an_empty_listing_deletes_nothing_until_another_object_is_there(Kind::S3).await;
}

#[tokio::test]
async fn an_empty_listing_deletes_nothing_until_another_object_is_there_in_a_folder() {
    an_empty_listing_deletes_nothing_until_another_object_is_there(Kind::Folder).await;
}

#[tokio::test]
async fn a_mass_delete_waits_for_a_word() {
    let (mut a, mut b) = pair_of(Kind::Folder, Kind::Folder, Some("follow")).await;
    b.rhio.allow_log(HELD);
    let objects = fill(&a, 40).await;
    start(&mut a, &mut b).await;
    wait_for_count(&b, 40).await;
    // Few are followed at once.
    for key in &objects[..3] {
        delete(&a, "out", key).await;
    }
    wait_for_count(&b, 37).await;
    assert_eq!(lines_with(&b, HELD), 0);
    let refused = ask(&b, "rhio.deletes", "inbox").await.expect_err("nothing is held");
    assert_eq!((refused.0, refused.1.contains("no deletes are held")), (409, true), "{refused:?}");

    for key in &objects[3..33] {
        delete(&a, "out", key).await;
    }
    let line = b.rhio.wait_for_log(HELD, SOON).await;
    for words in ["30 of 37", "nats request rhio.deletes 'inbox'"] {
        assert!(line.message.contains(words), "{words} in {}", line.message);
    }
    // The rest goes on, and a restart forgets nothing.
    put(&a, "out", "new", "new").await;
    wait_for_object(&b, "inbox", "new", b"new").await;
    b.rhio.restart().await;
    b.rhio.wait_for_log(HELD, SOON).await;
    sync(&a, &b, "held").await;
    wait_for_count(&b, 40).await;
    let refused = ask(&b, "rhio.deletes", "out").await.expect_err("no such subscription");
    assert_eq!((refused.0, refused.1.contains("'out'")), (404, true), "{refused:?}");

    let answer = ask(&b, "rhio.deletes", "inbox").await.expect("they are held");
    assert!(answer.contains("'inbox'"), "{answer}");
    wait_for_count(&b, 10).await;
    let mut left: Vec<&str> = objects[33..].iter().map(String::as_str).collect();
    left.extend(["new", "sync-held-1", "sync-held-2"]);
    left.sort_unstable();
    wait_for_keys(&b, "inbox", &left).await;
    // The next few are followed unasked again.
    delete(&a, "out", "new").await;
    wait_until_gone(&b, "inbox", "new").await;
    finish(a, b).await;
}

#[tokio::test]
async fn a_mass_delete_that_is_taken_back_deletes_nothing() {
    let (mut a, mut b) = pair_of(Kind::Folder, Kind::Folder, Some("follow")).await;
    b.rhio.allow_log(HELD);
    let objects = fill(&a, 30).await;
    start(&mut a, &mut b).await;
    wait_for_count(&b, 30).await;
    for key in &objects[..25] {
        delete(&a, "out", key).await;
    }
    b.rhio.wait_for_log(HELD, SOON).await;
    let mark = b.rhio.log_mark();
    for key in &objects[..25] {
        put(&a, "out", key, key.clone()).await;
    }
    sync(&a, &b, "back").await;
    b.rhio.wait_for_log_after(mark, "active", SOON).await;
    wait_for_count(&b, 32).await;
    let mut wanted: Vec<&str> = objects.iter().map(String::as_str).collect();
    wanted.extend(["sync-back-1", "sync-back-2"]);
    wait_for_keys(&b, "inbox", &wanted).await;
    finish(a, b).await;
}

/// Each publishes bucket `both` and subscribes to the other's.
async fn two_way(kind: Kind) -> (Cluster, Cluster) {
    let (mut a, mut b) = linked(kind, kind).await;
    for cluster in [&mut a, &mut b] {
        cluster.create_bucket("both").await;
        cluster.publish_bucket("both");
        common::expect_departures(cluster);
    }
    a.subscribe_bucket("both", "both", &b);
    b.subscribe_bucket("both", "both", &a);
    (a, b)
}

async fn two_buckets_that_feed_each_other_do_not_echo(kind: Kind) {
    let (mut a, mut b) = two_way(kind).await;
    for cluster in [&mut a, &mut b] {
        cluster.rhio.allow_log("is left alone: somebody else's object has this key");
    }
    // Both have something of their own under one key.
    put(&a, "both", "same", "of a").await;
    put(&b, "both", "same", "of b").await;
    put(&a, "both", "from-a", "1").await;
    let (at_a, at_b) = (Heard::at(&a).await, Heard::at(&b).await);
    start(&mut a, &mut b).await;
    wait_for_object(&b, "both", "from-a", b"1").await;
    put(&b, "both", "from-b", "2").await;
    wait_for_object(&a, "both", "from-b", b"2").await;
    // Overwritten where it came from.
    put(&a, "both", "from-a", "one").await;
    wait_for_object(&b, "both", "from-a", b"one").await;
    for cluster in [&mut a, &mut b] {
        cluster.rhio.restart().await;
    }
    for (from, to, key) in [(&a, &b, "more-a"), (&b, &a, "more-b"), (&a, &b, "end-a"), (&b, &a, "end-b")] {
        put(from, "both", key, key).await;
        wait_for_object(to, "both", key, key.as_bytes()).await;
    }
    assert_eq!(get(&a, "both", "same").await.as_deref(), Some(&b"of a"[..]));
    assert_eq!(get(&b, "both", "same").await.as_deref(), Some(&b"of b"[..]));
    // What came from there did not go back.
    at_a.wait_for("end-b").await;
    at_b.wait_for("end-a").await;
    assert_eq!(at_a.keys(), ["from-b", "more-b", "end-b"]);
    assert_eq!(at_b.keys(), ["from-a", "from-a", "more-a", "end-a"]);
    finish(a, b).await;
}

#[tokio::test]
async fn two_buckets_that_feed_each_other_do_not_echo_on_s3() {
    two_buckets_that_feed_each_other_do_not_echo(Kind::S3).await;
}

#[tokio::test]
async fn two_buckets_that_feed_each_other_do_not_echo_in_folders() {
    two_buckets_that_feed_each_other_do_not_echo(Kind::Folder).await;
}

#[tokio::test]
async fn a_key_may_move_from_one_side_to_the_other() {
    let (mut a, mut b) = two_way(Kind::Folder).await;
    put(&a, "both", "moves", "of a").await;
    put(&a, "both", "stays-a", "a").await;
    put(&b, "both", "stays-b", "b").await;
    start(&mut a, &mut b).await;
    wait_for_object(&b, "both", "moves", b"of a").await;
    wait_for_object(&a, "both", "stays-b", b"b").await;
    // Gone at its author, it is still the author's where it arrived, until an app there writes its own.
    delete(&a, "both", "moves").await;
    for round in ["1", "2"] {
        put(&a, "both", round, round).await;
        wait_for_object(&b, "both", round, round.as_bytes()).await;
    }
    assert_eq!(get(&a, "both", "moves").await, None);
    put(&b, "both", "moves", "of b").await;
    wait_for_object(&a, "both", "moves", b"of b").await;
    put(&b, "both", "moves", "of b again").await;
    wait_for_object(&a, "both", "moves", b"of b again").await;
    for cluster in [&mut a, &mut b] {
        cluster.rhio.restart().await;
    }
    put(&b, "both", "moves", "of b at last").await;
    wait_for_object(&a, "both", "moves", b"of b at last").await;
    assert_eq!(get(&b, "both", "moves").await.as_deref(), Some(&b"of b at last"[..]));
    finish(a, b).await;
}

/// The hash trees that a rhio has: reading an object again leaves one.
fn outboards(cluster: &Cluster) -> Vec<String> {
    let dir = PathBuf::from(cluster.rhio.config.blobs_dir.as_ref().expect("a folder"));
    let mut names = Vec::new();
    for shard in std::fs::read_dir(dir).expect("a folder").flatten().filter(|entry| entry.path().is_dir()) {
        let files = std::fs::read_dir(shard.path()).expect("a folder").flatten();
        names.extend(files.map(|file| file.file_name().to_string_lossy().into_owned()));
    }
    names.sort();
    names
}

fn forget_outboards(cluster: &Cluster) {
    let dir = cluster.rhio.config.blobs_dir.as_ref().expect("a folder");
    std::fs::remove_dir_all(dir).expect("it can be removed");
}

async fn restarts_read_and_bring_nothing_again(kind: Kind) {
    let (mut a, mut b) = pair_of(kind, kind, None).await;
    let bytes = content(1, 100_000);
    for key in ["one", "two"] {
        put(&a, "out", key, bytes.clone()).await;
    }
    put(&a, "out", "large", content(2, 9 << 20)).await;
    start(&mut a, &mut b).await;
    wait_for_count(&b, 3).await;
    sync(&a, &b, "first").await;
    assert_eq!(outboards(&a).len(), 2);
    let heard = Heard::at(&b).await;
    let mut expected = Vec::new();
    for (round, kill) in [("stopped", false), ("killed", true)] {
        for cluster in [&mut a, &mut b] {
            match kill {
                true => cluster.rhio.kill(),
                false => assert_eq!(cluster.rhio.terminate().await.code(), Some(0)),
            }
        }
        forget_outboards(&a);
        start(&mut a, &mut b).await;
        sync(&a, &b, round).await;
        expected.extend([format!("sync-{round}-1"), format!("sync-{round}-2")]);
        heard.wait_for(&format!("sync-{round}-2")).await;
        assert_eq!(outboards(&a), Vec::<String>::new(), "after both were {round}");
        assert_eq!(heard.keys(), expected, "after both were {round}");
    }
    assert_eq!(lines_with(&a, "begins catalog"), 1);
    finish(a, b).await;
}

#[tokio::test]
async fn restarts_read_and_bring_nothing_again_on_s3() {
    restarts_read_and_bring_nothing_again(Kind::S3).await;
}

#[tokio::test]
async fn restarts_read_and_bring_nothing_again_in_folders() {
    restarts_read_and_bring_nothing_again(Kind::Folder).await;
}

/// The catalog begins anew then, because the server may have forgotten the end of it.
#[tokio::test]
async fn a_restart_of_nats_reads_and_brings_nothing_again() {
    let (mut a, mut b) = pair_of(Kind::Folder, Kind::Folder, Some("follow")).await;
    for cluster in [&mut a, &mut b] {
        expect_outages(cluster);
    }
    for key in ["one", "two", "gone"] {
        put(&a, "out", key, content(1, 100_000)).await;
    }
    start(&mut a, &mut b).await;
    wait_for_count(&b, 3).await;
    sync(&a, &b, "first").await;
    // What is used here is not brought again, and what goes meanwhile is deleted.
    delete(&b, "inbox", "two").await;
    forget_outboards(&a);
    a.nats.restart().await;
    delete(&a, "out", "gone").await;
    wait_until_gone(&b, "inbox", "gone").await;
    sync(&a, &b, "source").await;
    b.nats.restart().await;
    let heard = Heard::at(&b).await;
    sync(&a, &b, "destination").await;
    heard.wait_for("sync-destination-2").await;
    assert_eq!(lines_with(&a, "begins catalog"), 2);
    assert_eq!(heard.keys(), ["sync-destination-1", "sync-destination-2"]);
    let dir = PathBuf::from(a.rhio.config.blobs_dir.as_ref().expect("a folder"));
    assert!(!dir.exists(), "nothing was read again");
    assert_eq!(get(&b, "inbox", "two").await, None);
    finish(a, b).await;
}

#[tokio::test]
async fn an_arrival_is_told_once_and_never_before_the_object_is_there() {
    let (mut a, mut b) = bucket_pair(Kind::Folder).await;
    keep_arrivals(&b).await;
    let large = content(1, 9 << 20);
    start(&mut a, &mut b).await;
    // Whoever hears of it finds it.
    let client = b.client().await;
    let mut messages = client.subscribe("rhio.events.object").await.expect("a subscription");
    client.flush().await.expect("the server has it");
    put(&a, "out", "folder/large", large.clone()).await;
    let heard = tokio::time::timeout(SOON, futures_util::StreamExt::next(&mut messages)).await;
    let message = heard.expect("in time").expect("a message");
    assert!(get(&b, "inbox", "folder/large").await == Some(large.clone()), "it is whole");
    let told: serde_json::Value = serde_json::from_slice(&message.payload).expect("JSON");
    let time = told["time"].as_str().expect("a time").to_owned();
    let parsed = time::OffsetDateTime::parse(&time, &time::format_description::well_known::Rfc3339);
    let age = time::OffsetDateTime::now_utc() - parsed.expect("a time as RFC 3339 has it");
    assert!(age < time::Duration::minutes(1) && age > -time::Duration::seconds(1), "{time}");
    assert_eq!(
        told,
        json!({
            "bucket": "inbox", "key": "folder/large", "size": large.len(), "time": time,
            "hash": blake3::hash(&large).to_hex().as_str(),
            "author": a.rhio.public_key(), "remote_bucket": "out",
        })
    );
    // A crash may have it said again; its id is the same then.
    for number in 0..5 {
        for index in 0..10 {
            put(&a, "out", &format!("{number}-{index}"), content(number * 10 + index, 3_000)).await;
        }
        tokio::time::sleep(Duration::from_millis(100 * number)).await;
        b.rhio.kill();
        b.start().await;
    }
    wait_for_count(&b, 51).await;
    sync(&a, &b, "end").await;
    let mut told: Vec<String> =
        arrivals(&b).await.iter().map(|arrival| arrival["key"].as_str().expect("a key").to_owned()).collect();
    told.sort();
    assert_eq!(told, keys(&b, "inbox").await);
    // And a new version is a new arrival.
    put(&a, "out", "0-0", "changed").await;
    eventually!(SOON, "one more arrival", arrivals(&b).await.len() == told.len() + 1);
    finish(a, b).await;
}

#[tokio::test]
async fn an_object_that_changes_while_it_is_read_is_read_again() {
    let (mut a, mut b) = pair_of(Kind::S3, Kind::Folder, None).await;
    start(&mut a, &mut b).await;
    for number in 0..12 {
        put(&a, "out", "large", content(number, 24 << 20)).await;
    }
    wait_for_object(&b, "inbox", "large", &content(11, 24 << 20)).await;
    finish(a, b).await;
}

/// A file that a program writes as it goes, in place.
#[tokio::test]
async fn a_file_that_grows_arrives_as_it_is_at_last() {
    use std::io::Write;

    let (mut a, mut b) = bucket_pair(Kind::Folder).await;
    // Said only when it lasts.
    b.rhio.allow_log("'growing' is not here yet");
    start(&mut a, &mut b).await;
    let mut file = std::fs::File::create(a.folder().join("out").join("growing")).expect("a file");
    let mut whole = Vec::new();
    for number in 0..30 {
        let more = content(number, 1 << 20);
        file.write_all(&more).expect("it is written");
        whole.extend(more);
        if let Some(found) = get(&b, "inbox", "growing").await {
            assert!(whole.starts_with(&found), "what arrived was there at some time");
        }
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    wait_for_object(&b, "inbox", "growing", &whole).await;
    finish(a, b).await;
}

#[tokio::test]
async fn a_notification_makes_it_look_at_once() {
    let (mut a, mut b) = pair_of(Kind::S3, Kind::Folder, None).await;
    a.rhio.rewrite_config(|config| {
        let s3 = config.s3.as_mut().expect("a section");
        (s3.poll_interval, s3.events) = ("1h".to_owned(), Some("minio.events".to_owned()));
    });
    put(&a, "out", "before", "before").await;
    start(&mut a, &mut b).await;
    wait_for_object(&b, "inbox", "before", b"before").await;
    put(&a, "out", "folder/a b.txt", "after").await;
    let event = |bucket: &str| {
        let record = json!({
            "eventVersion": "2.0", "eventSource": "minio:s3", "awsRegion": "", "eventName": "s3:ObjectCreated:Put",
            "eventTime": "2026-01-01T00:00:00.000Z", "userIdentity": { "principalId": "minio" },
            "s3": {
                "s3SchemaVersion": "1.0", "configurationId": "Config",
                "bucket": { "name": bucket, "arn": format!("arn:aws:s3:::{bucket}") },
                "object": { "key": "folder%2Fa+b.txt", "size": 5, "eTag": "5d41402abc4b2a76b9719d911017c592" },
            },
        });
        json!({ "EventName": "s3:ObjectCreated:Put", "Key": format!("{bucket}/folder/a b.txt"), "Records": [record] })
    };
    let client = a.client().await;
    let tell = async |payload: String| {
        client.publish("minio.events", payload.into()).await.expect("it is sent");
        client.flush().await.expect("the server has it");
    };
    // What it can't use does no harm.
    tell("no JSON".to_owned()).await;
    tell(json!({ "Records": [{ "s3": {} }] }).to_string()).await;
    tell(event("another").to_string()).await;
    // Time for what must not come.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(keys(&b, "inbox").await, ["before"]);
    tell(event("out").to_string()).await;
    wait_for_object(&b, "inbox", "folder/a b.txt", b"after").await;
    finish(a, b).await;
}
