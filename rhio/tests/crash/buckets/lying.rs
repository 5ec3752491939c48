//! Servers that do not keep what they are sent, and say that they do. What lands is what the author has, or nothing.

use std::sync::atomic::{AtomicBool, Ordering};

use testkit::{Cluster, VersityServer, eventually};

use super::support::{PART, SETTLED, Source, expect_crashes, nothing_is_noted};
use common::buckets::{Kind, bucket_pair, content, get};
use common::s3_proxy::{Asked, Fate, Other, Rest, S3Proxy};
use common::{SOON, start};

/// Bytes of a large object: six parts.
const LARGE: usize = 5 * PART + 99;
/// What is said when a bucket does not have what it confirmed.
const NOT_KEPT: &str = "the bucket does not have what it was sent";

/// The first request of a kind meets a fate, all others pass.
fn first(which: impl Fn(&Asked) -> bool + Send + 'static, fate: Fate) -> impl Fn(&Asked) -> Fate + Send + 'static {
    let met = AtomicBool::new(false);
    move |asked| match which(asked) && !met.swap(true, Ordering::SeqCst) {
        true => fate.clone(),
        false => Fate::Pass,
    }
}

/// Kills the subscriber, several times, while parts of an object have come half; the server does `rest` with those.
async fn killed_in_mid_part(a: &mut Cluster, b: &mut Cluster, proxy: &S3Proxy, rest: Rest) {
    for (round, number) in [2, 4, 6].into_iter().enumerate() {
        proxy.set(move |asked| match asked.part() {
            Some(part) if part >= number => Fate::Stuck(rest),
            _ => Fate::Pass,
        });
        match round {
            0 => start(a, b).await,
            _ => b.start().await,
        }
        // Four are under way at once, and another one begins when one is confirmed and noted.
        eventually!(SOON, "parts to be stuck", proxy.stuck() == (7 - number as usize).min(4));
        b.rhio.kill();
        eventually!(SOON, "the server to be done with it", proxy.stuck() == 0);
    }
    proxy.heal();
    b.start().await;
    let line = b.rhio.wait_for_log("a large object has landed", SETTLED).await;
    let fetched = line.field("fetched").and_then(serde_json::Value::as_u64).expect("a number");
    assert!(fetched < LARGE as u64, "it goes on with what was confirmed: {}", line.raw);
    assert!(proxy.count(|asked| asked.is_reading("large")) >= 1, "what was broken off is read once");
}

async fn keeps_what_broke_off(other: Other) {
    let (mut a, mut b) = bucket_pair(Kind::S3).await;
    expect_crashes([&mut a, &mut b]);
    let proxy = S3Proxy::of(&mut b).await;
    let mut source = Source::default();
    source.put(&a, "large", 7, LARGE).await;
    killed_in_mid_part(&mut a, &mut b, &proxy, Rest::Other(other)).await;
    source.settle(&b).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_fills_up_parts_that_broke_off_with_zeros() {
    keeps_what_broke_off(Other::Zeros).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_keeps_parts_that_broke_off_as_they_came() {
    keeps_what_broke_off(Other::Short).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_has_something_older_for_parts_that_broke_off() {
    keeps_what_broke_off(Other::Old).await;
}

/// A subscriber on versitygw is killed in the middle of parts.
async fn killed_on_versitygw(options: &[&str]) {
    let (mut a, mut b) = bucket_pair(Kind::S3).await;
    expect_crashes([&mut a, &mut b]);
    let server = VersityServer::start(options).await;
    let inbox = server.create_bucket("inbox").await;
    let proxy = S3Proxy::between(&mut b, &server.endpoint()).await;
    let mut source = Source::default();
    source.put(&a, "large", 7, LARGE).await;
    killed_in_mid_part(&mut a, &mut b, &proxy, Rest::Real).await;
    assert!(inbox.get("large").await.as_ref() == source.objects.get("large"), "it is the author's");
    assert_eq!(inbox.uploads().await, []);
    nothing_is_noted(&b).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_subscriber_dies_in_mid_part_on_versitygw() {
    killed_on_versitygw(&[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_subscriber_dies_in_mid_part_where_versions_prove_nothing() {
    killed_on_versitygw(&["--data-integrity-etag"]).await;
}

/// Two clusters; the subscriber's server lies once. All the same everything arrives as it is.
async fn lies_once(which: impl Fn(&Asked) -> bool + Send + 'static, fate: Fate) -> (Cluster, Cluster, S3Proxy) {
    let (mut a, mut b) = bucket_pair(Kind::S3).await;
    expect_crashes([&mut a, &mut b]);
    let proxy = S3Proxy::of(&mut b).await;
    proxy.set(first(which, fate));
    let mut source = Source::default();
    source.put(&a, "large", 7, 2 * PART + 99).await;
    source.put(&a, "small", 8, 5_000).await;
    start(&mut a, &mut b).await;
    source.settle(&b).await;
    (a, b, proxy)
}

fn second_part(asked: &Asked) -> bool {
    asked.part() == Some(2)
}

fn small(asked: &Asked) -> bool {
    asked.is_write() && asked.path.ends_with("/small")
}

/// The same, and it is said.
async fn lies_and_is_found_out(which: fn(&Asked) -> bool, fate: Fate) {
    let (_a, b, _proxy) = lies_once(which, fate).await;
    let line = b.rhio.wait_for_log(NOT_KEPT, SOON).await;
    assert!(line.message.contains("is not here yet") || line.message.contains("is brought again"), "{}", line.raw);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_keeps_a_part_broken() {
    for other in [Other::Zeros, Other::Short, Other::Old] {
        lies_and_is_found_out(second_part, Fate::Keep(other)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_keeps_an_object_broken() {
    for other in [Other::Zeros, Other::Short, Other::Old] {
        lies_and_is_found_out(small, Fate::Keep(other)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_loses_a_part_after_it_confirmed_it() {
    lies_and_is_found_out(second_part, Fate::Lose).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_confirms_a_completion_that_does_not_happen() {
    let document = "<CompleteMultipartUploadResult><ETag>&quot;0123&quot;</ETag></CompleteMultipartUploadResult>";
    lies_and_is_found_out(Asked::is_completion, Fate::Answer(200, document.to_owned())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_completes_and_does_not_confirm() {
    let (_a, _b, proxy) = lies_once(Asked::is_completion, Fate::Mute).await;
    assert!(proxy.count(|asked| asked.is_reading("large")) >= 1, "what nobody confirmed is read once");
    assert_eq!(proxy.count(|asked| asked.part().is_some()), 3, "and not sent again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_completes_twice() {
    lies_once(Asked::is_completion, Fate::Twice).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_stores_and_does_not_confirm() {
    let (_a, _b, proxy) = lies_once(small, Fate::Mute).await;
    // It is there as soon as it is stored, and read only then.
    eventually!(SOON, "what nobody confirmed to be read once", proxy.count(|asked| asked.is_reading("small")) >= 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_checksums_prove_is_not_read() {
    let (mut a, mut b) = bucket_pair(Kind::S3).await;
    let proxy = S3Proxy::of(&mut b).await;
    let mut source = Source::default();
    source.put(&a, "large", 7, LARGE).await;
    source.put(&a, "small", 8, 5_000).await;
    start(&mut a, &mut b).await;
    // Not through the proxy.
    source.settle(&b).await;
    assert!(get(&b, "inbox", "large").await == Some(content(7, LARGE)));
    assert_eq!(proxy.count(|asked| asked.is_reading("large") || asked.is_reading("small")), 0);
    assert_eq!(proxy.count(|asked| asked.part().is_some()), 6);
}
