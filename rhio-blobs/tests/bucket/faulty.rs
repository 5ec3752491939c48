//! Faults happen when they are planned, and only then.

use rhio_blobs::bucket::faulty::{Fault, Faulty, Operation};
use rhio_blobs::bucket::{Bucket as _, BucketError, Condition, Labels};

use crate::setup::{all, content, get, key, on_folder, put};

fn down() -> BucketError {
    BucketError::Unavailable { bucket: "bucket".into(), reason: "planned".into() }
}

#[tokio::test]
async fn calls_fail_by_plan() {
    let place = on_folder().await;
    let faulty = Faulty::new(place.bucket.clone(), |operation, number| match (operation, number) {
        (Operation::Put, 1) => Fault::Before(down()),
        (Operation::Put, 2) => Fault::After(down()),
        (Operation::Put, 3) => Fault::Cut(2),
        (Operation::Put, 4) => Fault::Corrupt(1),
        _ => Fault::None,
    });
    let write = async |name: &str| faulty.put(&key(name), content("abcd"), &Labels::default(), &Condition::None).await;
    assert!(matches!(write("1").await, Err(BucketError::Unavailable { .. })));
    assert!(matches!(write("2").await, Err(BucketError::Unavailable { .. })));
    assert!(matches!(write("3").await, Err(BucketError::Body(_))));
    write("4").await.unwrap();
    write("5").await.unwrap();
    assert_eq!(get(&*place.bucket, "1").await, None);
    assert_eq!(get(&*place.bucket, "2").await.unwrap(), b"abcd");
    assert_eq!(get(&*place.bucket, "3").await, None);
    assert_eq!(get(&*place.bucket, "4").await.unwrap(), b"a\x9dcd");
    assert_eq!(get(&*place.bucket, "5").await.unwrap(), b"abcd");
    assert_eq!((faulty.calls(Operation::Put), faulty.calls(Operation::Delete)), (5, 0));
}

#[tokio::test]
async fn what_is_read_can_be_cut_and_corrupted() {
    let place = on_folder().await;
    let etag = put(&*place.bucket, "k", "abcd").await;
    let faulty = Faulty::new(place.bucket.clone(), |operation, number| match (operation, number) {
        (Operation::Read, 1) => Fault::Cut(3),
        (Operation::Read, 2) => Fault::Corrupt(0),
        (Operation::Open, 1) => Fault::Corrupt(3),
        _ => Fault::None,
    });
    let read = async || all(faulty.read(&key("k"), &etag, 0..4).await.unwrap()).await;
    assert!(read().await.is_err());
    assert_eq!(read().await.unwrap(), b"\x9ebcd");
    assert_eq!(read().await.unwrap(), b"abcd");
    let (_, opened) = faulty.open(&key("k")).await.unwrap().unwrap();
    assert_eq!(all(opened).await.unwrap(), b"abc\x9b");
}
