//! What is put into a bucket in one cluster appears in the other's bucket, beside whatever else is there.

use common::buckets::{
    Kind, bucket_pair, content, delete, get, keep_arrivals, keys, lines_with, linked, pair_of, put, sync,
    wait_for_keys, wait_for_object, wait_until_gone,
};
use common::{SOON, finish, start, waits_with};
use testkit::{Cluster, eventually};

const LEFT_ALONE: &str = "is left alone: somebody else's object has this key";
const MISSING: &str = "does not exist";

async fn objects_from_before_and_after_arrive(kind: Kind) {
    let (mut a, mut b) = bucket_pair(kind).await;
    let large = content(1, 20 * 1024 * 1024 + 5);
    put(&a, "out", "before.bin", large.clone()).await;
    put(&a, "out", "folder/small.txt", b"small".to_vec()).await;
    start(&mut a, &mut b).await;
    wait_for_object(&b, "inbox", "before.bin", &large).await;
    wait_for_object(&b, "inbox", "folder/small.txt", b"small").await;
    put(&a, "out", "after.txt", b"after".to_vec()).await;
    wait_for_object(&b, "inbox", "after.txt", b"after").await;
    finish(a, b).await;
}

#[tokio::test]
async fn objects_from_before_and_after_arrive_on_s3() {
    objects_from_before_and_after_arrive(Kind::S3).await;
}

#[tokio::test]
async fn objects_from_before_and_after_arrive_in_folders() {
    objects_from_before_and_after_arrive(Kind::Folder).await;
}

#[tokio::test]
async fn s3_and_folders_replicate_to_each_other() {
    let (mut a, mut b) = linked(Kind::S3, Kind::Folder).await;
    for cluster in [&a, &b] {
        cluster.create_bucket("out").await;
        cluster.create_bucket("inbox").await;
    }
    a.publish_bucket("out");
    b.publish_bucket("out");
    a.subscribe_bucket("out", "inbox", &b);
    b.subscribe_bucket("out", "inbox", &a);
    common::expect_departures(&mut a);
    let (from_a, from_b) = (content(1, 9 << 20), content(2, 9 << 20));
    put(&a, "out", "x/from-a", from_a.clone()).await;
    put(&b, "out", "x/from-b", from_b.clone()).await;
    start(&mut a, &mut b).await;
    wait_for_object(&b, "inbox", "x/from-a", &from_a).await;
    wait_for_object(&a, "inbox", "x/from-b", &from_b).await;
    finish(a, b).await;
}

#[tokio::test]
async fn two_subscribers_of_one_bucket_both_get_it() {
    let (mut a, mut b) = bucket_pair(Kind::Folder).await;
    let mut c = common::buckets::cluster("c", Kind::Folder).await;
    c.create_bucket("copy").await;
    testkit::link(&mut a, &mut c);
    c.subscribe_bucket("out", "copy", &a);
    common::expect_departures(&mut c);
    let large = content(1, 9 << 20);
    put(&a, "out", "k", large.clone()).await;
    tokio::join!(start(&mut a, &mut b), c.start());
    wait_for_object(&b, "inbox", "k", &large).await;
    wait_for_object(&c, "copy", "k", &large).await;
    tokio::join!(finish(a, b), c.rhio.finish());
}

#[tokio::test]
async fn buckets_of_two_authors_go_into_buckets_of_one_subscriber() {
    let (mut a, mut b) = bucket_pair(Kind::Folder).await;
    let mut c = common::buckets::cluster("c", Kind::Folder).await;
    c.create_bucket("out").await;
    b.create_bucket("inbox-c").await;
    testkit::link(&mut c, &mut b);
    c.publish_bucket("out");
    b.subscribe_bucket("out", "inbox-c", &c);
    put(&a, "out", "k", "of a").await;
    put(&c, "out", "k", "of c").await;
    tokio::join!(start(&mut a, &mut b), c.start());
    wait_for_object(&b, "inbox", "k", b"of a").await;
    wait_for_object(&b, "inbox-c", "k", b"of c").await;
    tokio::join!(finish(a, b), c.rhio.finish());
}

async fn a_foreign_object_is_left_alone(kind: Kind) {
    let (mut a, mut b) = pair_of(Kind::Folder, kind, Some("follow")).await;
    b.rhio.allow_log(LEFT_ALONE);
    put(&b, "inbox", "taken", "foreign").await;
    put(&b, "inbox", "other", "foreign").await;
    put(&a, "out", "taken", "the author's").await;
    start(&mut a, &mut b).await;
    let line = b.rhio.wait_for_log(LEFT_ALONE, SOON).await;
    assert!(line.message.contains("'taken'"), "{}", line.message);
    // Nothing that the author does touches it, and it is said once.
    sync(&a, &b, "one").await;
    put(&a, "out", "taken", "the author's second").await;
    sync(&a, &b, "two").await;
    put(&a, "out", "passing", "passes").await;
    wait_for_object(&b, "inbox", "passing", b"passes").await;
    delete(&a, "out", "passing").await;
    wait_until_gone(&b, "inbox", "passing").await;
    assert_eq!(get(&b, "inbox", "taken").await.as_deref(), Some(&b"foreign"[..]));
    assert_eq!(lines_with(&b, LEFT_ALONE), 1);

    // Once it is gone there is room.
    delete(&b, "inbox", "taken").await;
    b.rhio.restart().await;
    wait_for_object(&b, "inbox", "taken", b"the author's second").await;
    assert_eq!(get(&b, "inbox", "other").await.as_deref(), Some(&b"foreign"[..]));
    finish(a, b).await;
}

#[tokio::test]
async fn a_foreign_object_is_left_alone_on_s3() {
    a_foreign_object_is_left_alone(Kind::S3).await;
}

#[tokio::test]
async fn a_foreign_object_is_left_alone_in_a_folder() {
    a_foreign_object_is_left_alone(Kind::Folder).await;
}

#[tokio::test]
async fn a_delete_does_not_take_the_foreign_object_under_its_key() {
    let (mut a, mut b) = pair_of(Kind::Folder, Kind::Folder, Some("follow")).await;
    b.rhio.allow_log(LEFT_ALONE);
    put(&b, "inbox", "taken", "foreign").await;
    put(&a, "out", "stays", "so that the bucket is never empty").await;
    put(&a, "out", "taken", "the author's").await;
    put(&a, "out", "landed", "the author's").await;
    start(&mut a, &mut b).await;
    b.rhio.wait_for_log(LEFT_ALONE, SOON).await;
    wait_for_object(&b, "inbox", "landed", b"the author's").await;
    // An app here takes the author's place.
    put(&b, "inbox", "landed", "foreign now").await;
    for key in ["taken", "landed"] {
        delete(&a, "out", key).await;
    }
    put(&a, "out", "witness", "w").await;
    wait_for_object(&b, "inbox", "witness", b"w").await;
    delete(&a, "out", "witness").await;
    wait_until_gone(&b, "inbox", "witness").await;
    sync(&a, &b, "end").await;
    assert_eq!(get(&b, "inbox", "taken").await.as_deref(), Some(&b"foreign"[..]));
    assert_eq!(get(&b, "inbox", "landed").await.as_deref(), Some(&b"foreign now"[..]));
    finish(a, b).await;
}

async fn an_app_that_overwrites_what_arrived_keeps_its_own(kind: Kind) {
    let (mut a, mut b) = pair_of(Kind::Folder, kind, None).await;
    b.rhio.allow_log(LEFT_ALONE);
    put(&a, "out", "k", "first").await;
    start(&mut a, &mut b).await;
    wait_for_object(&b, "inbox", "k", b"first").await;
    put(&b, "inbox", "k", "the app's").await;
    put(&a, "out", "k", "second").await;
    b.rhio.wait_for_log(LEFT_ALONE, SOON).await;
    assert_eq!(get(&b, "inbox", "k").await.as_deref(), Some(&b"the app's"[..]));
    finish(a, b).await;
}

#[tokio::test]
async fn an_app_that_overwrites_what_arrived_keeps_its_own_on_s3() {
    an_app_that_overwrites_what_arrived_keeps_its_own(Kind::S3).await;
}

#[tokio::test]
async fn an_app_that_overwrites_what_arrived_keeps_its_own_in_a_folder() {
    an_app_that_overwrites_what_arrived_keeps_its_own(Kind::Folder).await;
}

async fn what_an_app_deletes_after_its_arrival_does_not_come_back(kind: Kind) {
    let (mut a, mut b) = pair_of(Kind::Folder, kind, None).await;
    put(&a, "out", "used", "used").await;
    put(&a, "out", "stays", "stays").await;
    start(&mut a, &mut b).await;
    for key in ["used", "stays"] {
        wait_for_object(&b, "inbox", key, key.as_bytes()).await;
    }
    sync(&a, &b, "arrived").await;
    delete(&b, "inbox", "used").await;
    sync(&a, &b, "running").await;
    assert_eq!(get(&b, "inbox", "used").await, None);
    b.rhio.restart().await;
    sync(&a, &b, "restarted").await;
    assert_eq!(get(&b, "inbox", "used").await, None);
    b.rhio.kill();
    b.start().await;
    a.rhio.restart().await;
    sync(&a, &b, "killed").await;
    assert_eq!(get(&b, "inbox", "used").await, None);
    // A new version is another matter.
    put(&a, "out", "used", "again").await;
    wait_for_object(&b, "inbox", "used", b"again").await;
    finish(a, b).await;
}

#[tokio::test]
async fn what_an_app_deletes_after_its_arrival_does_not_come_back_on_s3() {
    what_an_app_deletes_after_its_arrival_does_not_come_back(Kind::S3).await;
}

#[tokio::test]
async fn what_an_app_deletes_after_its_arrival_does_not_come_back_in_a_folder() {
    what_an_app_deletes_after_its_arrival_does_not_come_back(Kind::Folder).await;
}

async fn buckets_that_are_missing_are_said_and_heal(kind: Kind) {
    let (mut a, mut b) = linked(kind, kind).await;
    a.publish_bucket("out");
    b.subscribe_bucket("out", "inbox", &a);
    for cluster in [&mut a, &mut b] {
        cluster.rhio.allow_log(MISSING);
    }
    start(&mut a, &mut b).await;
    let at_source = a.rhio.wait_for_log("publication of bucket 'out': waiting: ", SOON).await;
    assert!(at_source.message.contains("bucket 'out' does not exist"), "{}", at_source.message);
    let at_destination = b.rhio.wait_for_log("into 'inbox': waiting: ", SOON).await;
    assert!(at_destination.message.contains("bucket 'inbox' does not exist"), "{}", at_destination.message);
    a.create_bucket("out").await;
    put(&a, "out", "k", "v").await;
    b.create_bucket("inbox").await;
    wait_for_object(&b, "inbox", "k", b"v").await;
    a.rhio.wait_for_log("publication of bucket 'out': active", SOON).await;
    finish(a, b).await;
}

#[tokio::test]
async fn buckets_that_are_missing_are_said_and_heal_on_s3() {
    buckets_that_are_missing_are_said_and_heal(Kind::S3).await;
}

#[tokio::test]
async fn buckets_that_are_missing_are_said_and_heal_in_folders() {
    buckets_that_are_missing_are_said_and_heal(Kind::Folder).await;
}

async fn remove_bucket(cluster: &Cluster, bucket: &str) {
    match &cluster.weed {
        Some(weed) => weed.bucket(bucket).remove().await,
        None => std::fs::remove_dir_all(cluster.folder().join(bucket)).expect("it can be removed"),
    }
}

async fn a_destination_that_is_made_anew_is_filled_again(kind: Kind) {
    let (mut a, mut b) = pair_of(Kind::Folder, kind, None).await;
    for words in [MISSING, "the local bucket is gone"] {
        b.rhio.allow_log(words);
    }
    let large = content(1, 9 << 20);
    put(&a, "out", "large", large.clone()).await;
    put(&a, "out", "small", "small").await;
    start(&mut a, &mut b).await;
    wait_for_object(&b, "inbox", "large", &large).await;
    wait_for_object(&b, "inbox", "small", b"small").await;
    remove_bucket(&b, "inbox").await;
    // Whatever comes next finds it out.
    put(&a, "out", "new", "new").await;
    b.rhio.wait_for_log("the local bucket is gone", SOON).await;
    b.create_bucket("inbox").await;
    wait_for_object(&b, "inbox", "large", &large).await;
    wait_for_keys(&b, "inbox", &["large", "new", "small"]).await;
    finish(a, b).await;
}

#[tokio::test]
async fn a_destination_that_is_made_anew_is_filled_again_on_s3() {
    a_destination_that_is_made_anew_is_filled_again(Kind::S3).await;
}

#[tokio::test]
async fn a_destination_that_is_made_anew_is_filled_again_in_a_folder() {
    a_destination_that_is_made_anew_is_filled_again(Kind::Folder).await;
}

#[tokio::test]
async fn a_source_bucket_that_goes_away_deletes_nothing() {
    let (mut a, mut b) = pair_of(Kind::Folder, Kind::Folder, Some("follow")).await;
    a.rhio.allow_log(MISSING);
    put(&a, "out", "one", "1").await;
    start(&mut a, &mut b).await;
    wait_for_object(&b, "inbox", "one", b"1").await;
    let (out, away) = (a.folder().join("out"), a.folder().join("away"));
    std::fs::rename(&out, &away).expect("it can be moved");
    a.rhio.wait_for_log("bucket 'out' does not exist", SOON).await;
    waits_with(&a, "bucket-missing", "create the bucket").await;
    std::fs::rename(&away, &out).expect("it can be moved back");
    sync(&a, &b, "back").await;
    wait_for_keys(&b, "inbox", &["one", "sync-back-1", "sync-back-2"]).await;
    finish(a, b).await;
}

#[tokio::test]
async fn a_wrong_secret_is_said_on_either_side_and_deletes_nothing() {
    let (mut a, mut b) = pair_of(Kind::S3, Kind::S3, Some("follow")).await;
    put(&a, "out", "k", "v").await;
    start(&mut a, &mut b).await;
    wait_for_object(&b, "inbox", "k", b"v").await;
    let right = |cluster: &Cluster| cluster.rhio.config.s3.clone().expect("a section").credentials;
    for cluster in [&mut a, &mut b] {
        cluster.rhio.allow_log("refuses access");
        cluster.rhio.terminate().await;
        let credentials = right(cluster).map(|(access, _)| (access, "wrong".to_owned()));
        cluster.rhio.rewrite_config(|config| config.s3.as_mut().expect("a section").credentials = credentials);
        cluster.start().await;
    }
    a.rhio.wait_for_log("publication of bucket 'out': waiting: bucket 'out' refuses access", SOON).await;
    b.rhio.wait_for_log("into 'inbox': waiting: local bucket 'inbox' refuses access", SOON).await;
    for cluster in [&a, &b] {
        waits_with(cluster, "s3-credentials", "'s3.credentials'").await;
        let health = eventually!(SOON, "a look at the bucket", {
            let health = cluster.rhio.get("/health").await.json();
            if health["buckets"][0]["state"] == "failing" { Ok(health) } else { Err(health.to_string()) }
        });
        assert_eq!(health["problems"][0]["code"], "s3-credentials", "{health}");
        assert!(!health["problems"].to_string().contains("create the bucket"), "{health}");
    }
    for cluster in [&mut a, &mut b] {
        cluster.rhio.terminate().await;
        let credentials = Some((cluster.s3().access_key().to_owned(), cluster.s3().secret_key().to_owned()));
        cluster.rhio.rewrite_config(|config| config.s3.as_mut().expect("a section").credentials = credentials);
        cluster.start().await;
    }
    sync(&a, &b, "right").await;
    assert_eq!(keys(&b, "inbox").await, ["k", "sync-right-1", "sync-right-2"]);
    finish(a, b).await;
}

#[tokio::test]
async fn nothing_but_the_objects_is_written_into_buckets() {
    let (mut a, mut b) = bucket_pair(Kind::S3).await;
    keep_arrivals(&b).await;
    let large = content(1, (16 << 20) + 1);
    put(&a, "out", "large", large.clone()).await;
    put(&a, "out", "small", "small").await;
    start(&mut a, &mut b).await;
    wait_for_object(&b, "inbox", "large", &large).await;
    wait_for_keys(&b, "inbox", &["large", "small"]).await;
    eventually!(SOON, "both arrivals", common::buckets::arrivals(&b).await.len() == 2);
    assert_eq!(keys(&a, "out").await, ["large", "small"]);
    assert_eq!(b.s3().bucket("inbox").uploads().await, []);
    assert_eq!(a.s3().bucket("out").uploads().await, []);
    finish(a, b).await;
}
