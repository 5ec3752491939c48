//! S3 servers and folders that fail for a while: nothing half-written is ever visible, nothing is concluded from an error,
//! it is said what is wrong, other objects go on, and everything arrives once it can.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use common::buckets::{
    Kind, bucket_pair, content, delete, get, keys, lines_with, pair_of, put, sync, wait_for_keys, wait_for_object,
    wait_until_gone,
};
use common::s3_proxy::{Fate, S3Proxy};
use common::{SOON, finish, start, waits_with};
use tempfile::TempDir;
use testkit::{Cluster, S3Section, eventually};

/// What is said of an object that can't be written now.
const NOT_YET: &str = "is not here yet";

/// An author with folders, and a subscriber whose S3 server can fail.
async fn failing_destination() -> (Cluster, Cluster, S3Proxy) {
    let (a, mut b) = pair_of(Kind::Folder, Kind::S3, None).await;
    let proxy = S3Proxy::of(&mut b).await;
    (a, b, proxy)
}

/// Writes of "stuck" objects are refused so, everything else is passed on.
async fn refused_writes(status: u16, code: &'static str) {
    let (mut a, mut b, proxy) = failing_destination().await;
    b.rhio.allow_log(NOT_YET);
    proxy.set(move |asked| match asked.is_write() && asked.path.contains("stuck") {
        true => Fate::refusal(status, code),
        false => Fate::Pass,
    });
    start(&mut a, &mut b).await;
    let (small, large) = (content(1, 1000), content(2, (9 << 20) + 3));
    put(&a, "out", "stuck-small", small.clone()).await;
    put(&a, "out", "stuck-large", large.clone()).await;
    for key in ["stuck-small", "stuck-large"] {
        let said = format!("'{key}' {NOT_YET}");
        let line = b.rhio.wait_for_log(&said, SOON).await;
        assert!(line.message.contains(code) && line.message.contains(&status.to_string()), "{}", line.message);
    }
    // Others go on, also those that were put later.
    put(&a, "out", "free", "fine").await;
    wait_for_object(&b, "inbox", "free", b"fine").await;
    assert_eq!(keys(&b, "inbox").await, ["free"]);
    assert!(lines_with(&b, NOT_YET) <= 10, "the same trouble is not said again and again");

    proxy.heal();
    wait_for_object(&b, "inbox", "stuck-small", &small).await;
    wait_for_object(&b, "inbox", "stuck-large", &large).await;
    assert_eq!(b.s3().bucket("inbox").uploads().await, []);
    finish(a, b).await;
}

#[tokio::test]
async fn an_s3_server_that_is_full() {
    refused_writes(507, "XMinioStorageFull").await;
}

#[tokio::test]
async fn an_s3_server_that_fails_inside() {
    refused_writes(500, "InternalError").await;
}

#[tokio::test]
async fn an_s3_server_that_wants_fewer_requests() {
    refused_writes(503, "SlowDown").await;
}

#[tokio::test]
async fn an_s3_server_that_can_only_be_read() {
    refused_writes(403, "AccessDenied").await;
}

/// What is said of a server that refuses everything so.
async fn refused_listings(status: u16, code: &'static str, cause: &str, remedy: &str) {
    let (mut a, mut b, proxy) = failing_destination().await;
    b.rhio.allow_log("refuses access");
    b.rhio.allow_log("does not exist");
    proxy.set(move |_| Fate::refusal(status, code));
    start(&mut a, &mut b).await;
    let entry = waits_with(&b, cause, remedy).await;
    assert!(entry["waits_for"].as_str().is_some_and(|words| !words.is_empty()), "{entry}");
    proxy.heal();
    put(&a, "out", "k", "v").await;
    wait_for_object(&b, "inbox", "k", b"v").await;
    finish(a, b).await;
}

#[tokio::test]
async fn wrong_keys_no_permission_a_wrong_clock_and_no_bucket_are_told_apart() {
    refused_listings(403, "InvalidAccessKeyId", "s3-credentials", "'s3.credentials'").await;
    refused_listings(403, "AccessDenied", "s3-permission", "list, read and write").await;
    refused_listings(403, "RequestTimeTooSkewed", "s3-clock", "clock").await;
    refused_listings(404, "NoSuchBucket", "bucket-missing", "create the bucket").await;
}

#[tokio::test]
async fn uploads_that_can_not_be_begun_or_completed() {
    let (mut a, mut b, proxy) = failing_destination().await;
    b.rhio.allow_log(NOT_YET);
    proxy.set(|asked| match asked.method == "POST" {
        true => Fate::refusal(500, "InternalError"),
        false => Fate::Pass,
    });
    let large = content(1, (9 << 20) + 3);
    put(&a, "out", "large", large.clone()).await;
    start(&mut a, &mut b).await;
    b.rhio.wait_for_log(NOT_YET, SOON).await;
    // It can be begun, but not completed.
    proxy.set(|asked| match asked.method == "POST" && asked.query.contains("uploadId") {
        true => Fate::refusal(500, "InternalError"),
        false => Fate::Pass,
    });
    let completing = || proxy.count(|asked| asked.method == "POST" && asked.query.contains("uploadId"));
    eventually!(SOON, "two attempts to complete it", completing() >= 2);
    let parts = proxy.count(|asked| asked.is_write() && asked.query.contains("partNumber"));
    assert_eq!(parts, 2, "what is stored is not fetched again");
    assert_eq!(get(&b, "inbox", "large").await, None);
    proxy.heal();
    wait_for_object(&b, "inbox", "large", &large).await;
    assert_eq!(b.s3().bucket("inbox").uploads().await, []);
    finish(a, b).await;
}

#[tokio::test]
async fn connections_that_break_in_the_middle_of_a_write() {
    let (mut a, mut b, proxy) = failing_destination().await;
    b.rhio.allow_log(NOT_YET);
    proxy.set(|asked| if asked.is_write() { Fate::Cut } else { Fate::Pass });
    let (small, large) = (content(1, 500_000), content(2, (17 << 20) + 3));
    put(&a, "out", "small", small.clone()).await;
    put(&a, "out", "large", large.clone()).await;
    start(&mut a, &mut b).await;
    for key in ["small", "large"] {
        b.rhio.wait_for_log(&format!("'{key}' {NOT_YET}"), SOON).await;
    }
    assert_eq!(keys(&b, "inbox").await, Vec::<String>::new());
    proxy.heal();
    wait_for_object(&b, "inbox", "small", &small).await;
    wait_for_object(&b, "inbox", "large", &large).await;
    assert_eq!(b.s3().bucket("inbox").uploads().await, []);
    finish(a, b).await;
}

#[tokio::test]
async fn a_slow_s3_server_on_both_sides() {
    let (mut a, mut b) = bucket_pair(Kind::S3).await;
    let (at_a, at_b) = (S3Proxy::of(&mut a).await, S3Proxy::of(&mut b).await);
    for proxy in [&at_a, &at_b] {
        proxy.set(|_| Fate::Delay(Duration::from_millis(250)));
    }
    start(&mut a, &mut b).await;
    let large = content(1, (9 << 20) + 3);
    put(&a, "out", "large", large.clone()).await;
    for number in 0..60 {
        put(&a, "out", &format!("k{number:02}"), format!("{number}")).await;
    }
    eventually!(SOON, "all objects", keys(&b, "inbox").await.len() == 61);
    wait_for_object(&b, "inbox", "large", &large).await;
    wait_for_object(&b, "inbox", "k59", b"59").await;
    finish(a, b).await;
}

/// Freezes a server while something is under way, until it is certain that its rhio waits for it.
async fn paused(author: bool) {
    let (mut a, mut b) = pair_of(Kind::S3, Kind::S3, Some("follow")).await;
    let proxy = S3Proxy::of(if author { &mut a } else { &mut b }).await;
    for key in ["before", "to-go"] {
        put(&a, "out", key, key).await;
    }
    start(&mut a, &mut b).await;
    wait_for_object(&b, "inbox", "before", b"before").await;
    wait_for_object(&b, "inbox", "to-go", b"to-go").await;
    let large = content(1, (20 << 20) + 3);
    put(&a, "out", "large", large.clone()).await;
    delete(&a, "out", "to-go").await;
    let begun = proxy.count(|asked| asked.path.contains("large"));
    eventually!(SOON, "work on the large object", proxy.count(|asked| asked.path.contains("large")) > begun);
    if author {
        a.s3_mut().pause()
    } else {
        b.s3_mut().pause()
    }
    // Its rhio waits for it.
    eventually!(SOON, "a request that is not answered", proxy.unanswered() > 0);
    if author {
        a.s3_mut().resume()
    } else {
        b.s3_mut().resume()
    }
    wait_for_object(&b, "inbox", "large", &large).await;
    wait_until_gone(&b, "inbox", "to-go").await;
    assert_eq!(keys(&b, "inbox").await, ["before", "large"]);
    assert_eq!(b.s3().bucket("inbox").uploads().await, []);
    finish(a, b).await;
}

#[tokio::test]
async fn the_authors_s3_server_stands_still_for_a_while() {
    paused(true).await;
}

#[tokio::test]
async fn the_subscribers_s3_server_stands_still_for_a_while() {
    paused(false).await;
}

#[tokio::test]
async fn a_listing_that_fails_in_the_middle_deletes_nothing() {
    let (mut a, mut b) = pair_of(Kind::S3, Kind::Folder, Some("follow")).await;
    a.rhio.allow_log("InternalError");
    let proxy = S3Proxy::of(&mut a).await;
    // More than one page.
    let all: Vec<String> = (0..1020).map(|number| format!("k{number:04}")).collect();
    let bucket = a.s3().bucket("out");
    for some in all.chunks(50) {
        futures_util::future::join_all(some.iter().map(|key| bucket.put(key, key.clone()))).await;
    }
    start(&mut a, &mut b).await;
    eventually!(SOON, "all objects", keys(&b, "inbox").await == all);
    proxy.set(|asked| match asked.is_listing() && asked.query.contains("continuation-token") {
        true => Fate::refusal(500, "InternalError"),
        false => Fate::Pass,
    });
    // One that the first page would tell of, and one of the second page.
    for key in ["k0005", "k1015"] {
        delete(&a, "out", key).await;
    }
    a.rhio.wait_for_log("InternalError", SOON).await;
    let pages = proxy.count(|asked| asked.is_listing());
    eventually!(SOON, "more listings", proxy.count(|asked| asked.is_listing()) > pages + 6);
    assert_eq!(keys(&b, "inbox").await, all, "something is concluded from half a listing");
    // What the first page tells of is heard all the same.
    put(&a, "out", "a-new", "new").await;
    wait_for_object(&b, "inbox", "a-new", b"new").await;
    proxy.heal();
    for key in ["k0005", "k1015"] {
        wait_until_gone(&b, "inbox", key).await;
    }
    assert_eq!(keys(&b, "inbox").await.len(), 1019);
    finish(a, b).await;
}

/// Documents in place of a listing, and what is said of each.
fn no_listings() -> [(&'static str, String); 6] {
    let listing = |inside: &str| format!("<?xml version=\"1.0\"?><ListBucketResult>{inside}</ListBucketResult>");
    [
        // The server holds back the rest and does not say how to get it.
        ("ends a listing in the middle", listing("<IsTruncated>true</IsTruncated>")),
        (
            "ends a listing in the middle",
            listing("<IsTruncated>true</IsTruncated><NextContinuationToken></NextContinuationToken>"),
        ),
        // It is not said whether that is all.
        ("IsTruncated", listing("<Name>out</Name>")),
        // No listing at all.
        ("waiting: ", "<html><body>Welcome to nginx!</body></html>".to_owned()),
        ("waiting: ", String::new()),
        // A whole one, as of a disk that was not mounted.
        ("lists as empty", listing("<IsTruncated>false</IsTruncated>")),
    ]
}

#[tokio::test]
async fn an_answer_that_is_no_whole_listing_deletes_nothing() {
    let (mut a, mut b) = pair_of(Kind::S3, Kind::Folder, Some("follow")).await;
    a.rhio.allow_log("waiting: ");
    let proxy = S3Proxy::of(&mut a).await;
    for key in ["one", "two", "three"] {
        put(&a, "out", key, key).await;
    }
    start(&mut a, &mut b).await;
    wait_for_keys(&b, "inbox", &["one", "three", "two"]).await;
    for (number, (words, document)) in no_listings().into_iter().enumerate() {
        let (mark, seen) = (a.rhio.log_mark(), proxy.count(|asked| asked.is_listing()));
        proxy.set(move |asked| match asked.is_listing() {
            true => Fate::Answer(200, document.clone()),
            false => Fate::Pass,
        });
        a.rhio.wait_for_log_after(mark, words, SOON).await;
        eventually!(SOON, "more listings", proxy.count(|asked| asked.is_listing()) > seen + 3);
        // Another object's way through shows that the author had its chance to say deletes.
        proxy.heal();
        sync(&a, &b, &format!("round-{number}")).await;
        let here = keys(&b, "inbox").await;
        assert!(["one", "three", "two"].iter().all(|key| here.iter().any(|k| k == key)), "{words}: {here:?}");
    }
    delete(&a, "out", "two").await;
    wait_until_gone(&b, "inbox", "two").await;
    finish(a, b).await;
}

/// A small file system of its own. It goes when dropped, which must be after whoever uses it.
struct Mount(TempDir);

impl Mount {
    /// Needs the right to mount: there is no other way to a disk that is full and only the test's.
    fn new(size: &str) -> Self {
        let folder = TempDir::with_prefix("rhio-full-").expect("a folder");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(folder.path());
        let done = mount.output().is_ok_and(|done| done.status.success());
        assert!(done, "a small file system can't be mounted here, which this test needs: run it as root");
        Self(folder)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).output();
    }
}

#[tokio::test]
async fn a_folder_on_a_full_disk() {
    let disk = Mount::new("24m");
    let (mut a, mut b) = bucket_pair(Kind::Folder).await;
    b.rhio.allow_log(NOT_YET);
    let (inbox, ballast) = (disk.path().join("inbox"), disk.path().join("ballast"));
    std::fs::create_dir(&inbox).expect("a folder");
    std::fs::write(&ballast, vec![0; 20 << 20]).expect("there is room");
    b.rhio.rewrite_config(|config| config.s3 = Some(S3Section::folder(disk.path())));
    start(&mut a, &mut b).await;
    let arrives = async |key: &str, bytes: &[u8]| {
        // The bucket is on that disk, not where the others look.
        let path: PathBuf = inbox.join(key);
        eventually!(SOON, format!("'{key}'"), std::fs::read(&path).is_ok_and(|found| found == bytes));
    };
    let full = async |key: &str| {
        let line = b.rhio.wait_for_log(&format!("'{key}' {NOT_YET}"), SOON).await;
        assert!(line.message.contains("No space left on device"), "{}", line.message);
        assert!(!inbox.join(key).exists());
    };
    let (medium, large) = (content(1, 7 << 20), content(2, (9 << 20) + 3));
    put(&a, "out", "medium", medium.clone()).await;
    full("medium").await;
    // What was written of it is given back, so that what fits arrives.
    put(&a, "out", "small", "fits").await;
    arrives("small", b"fits").await;
    // Parts that are stored are kept, to go on with.
    put(&a, "out", "large", large.clone()).await;
    full("large").await;
    std::fs::remove_file(&ballast).expect("it can be removed");
    arrives("medium", &medium).await;
    arrives("large", &large).await;
    finish(a, b).await;
    drop(disk);
}
