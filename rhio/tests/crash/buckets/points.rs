//! A process dies between two steps of an invariant, and comes back.

use std::time::Duration;

use futures_util::future::join_all;
use testkit::Cluster;

use super::support::{Source, expect_crashes};
use common::buckets::{Kind, bucket_pair};

/// Which process dies.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Side {
    Publisher,
    Subscriber,
}

use Kind::{Folder, S3};
use Side::{Publisher, Subscriber};

/// Dies when it passes `name` for the `n`-th time, while objects are on their way.
async fn dies_at(side: Side, kind: Kind, name: &str, n: u64) {
    let (mut a, mut b) = bucket_pair(kind).await;
    expect_crashes([&mut a, &mut b]);
    let mut source = Source::default();
    source.fill(&a).await;
    let doomed = |cluster: &mut Cluster| cluster.rhio.set_env("RHIO_FAILPOINTS", &format!("{name}:{n}"));
    match side {
        Publisher => doomed(&mut a),
        Subscriber => doomed(&mut b),
    }
    a.rhio.spawn().expect("the publisher starts");
    b.rhio.spawn().expect("the subscriber starts");
    let victim = if side == Publisher { &mut a } else { &mut b };
    let died = victim.rhio.wait_exit(Duration::from_secs(40)).await;
    let died = died.unwrap_or_else(|| panic!("it never passed {name} {n} times"));
    assert_eq!(died.code(), None, "it was aborted at {name}");
    victim.rhio.remove_env("RHIO_FAILPOINTS");
    source.change(&a).await;
    let victim = if side == Publisher { &mut a } else { &mut b };
    victim.start().await;
    source.settle(&b).await;
}

async fn dies_at_each(side: Side, kind: Kind, name: &str, times: &[u64]) {
    join_all(times.iter().map(|n| dies_at(side, kind, name, *n))).await;
}

macro_rules! points {
    ($($test:ident: $side:ident on $kind:ident at $name:literal $times:expr;)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $test() {
            dies_at_each($side, $kind, $name, &$times).await;
        }
    )*};
}

points! {
    publisher_dies_after_a_catalog_was_described: Publisher on Folder at "catalog-described" [1];
    publisher_dies_after_an_object_was_hashed: Publisher on Folder at "object-hashed" [1, 20];
    publisher_dies_after_an_operation_was_stored: Publisher on Folder at "catalog-stored" [1, 2];
    publisher_dies_after_an_operation_was_sent: Publisher on Folder at "catalog-sent" [1, 2];
    subscriber_dies_after_it_noted_the_catalog: Subscriber on Folder at "catalog-known" [1];
    subscriber_dies_after_it_stored_operations: Subscriber on Folder at "catalog-copied" [1, 2];
    subscriber_dies_in_the_middle_of_an_object: Subscriber on Folder at "bytes-verified" [3, 150];
    subscriber_dies_after_an_object_landed: Subscriber on Folder at "object-landed" [1, 15];
    subscriber_dies_after_it_told_of_an_arrival: Subscriber on Folder at "arrival-told" [1, 15];
    subscriber_dies_after_it_noted_what_landed: Subscriber on Folder at "landing-noted" [1, 5];
    subscriber_dies_after_an_upload_was_intended: Subscriber on S3 at "upload-intended" [1];
    subscriber_dies_before_an_upload_was_noted: Subscriber on S3 at "upload-begun" [1];
    subscriber_dies_after_an_upload_was_noted: Subscriber on S3 at "upload-noted" [1];
    subscriber_dies_after_a_part_was_stored: Subscriber on S3 at "part-stored" [1, 2];
    subscriber_dies_after_a_part_was_noted: Subscriber on S3 at "part-noted" [1, 3];
    subscriber_dies_after_an_upload_was_completed: Subscriber on S3 at "upload-completed" [1];
    subscriber_dies_after_an_upload_was_checked: Subscriber on S3 at "upload-checked" [1];
    subscriber_dies_in_the_middle_of_a_part: Subscriber on S3 at "bytes-verified" [200];
}
