//! What is put into a bucket in one cluster appears in the other's bucket.

mod common;

use common::buckets::{Kind, bucket_pair, content, put, wait_for_object};
use common::{finish, start};

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
