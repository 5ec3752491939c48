//! What only folders do.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use futures_util::FutureExt as _;
use rhio_blobs::bucket::folder::FolderRoot;
use rhio_blobs::bucket::{Bucket as _, BucketError, Condition, Labels};

use crate::setup::{Place, all, content, get, key, keys, labels, on_folder, pattern, put};

fn path(place: &Place, name: &str) -> PathBuf {
    place.folder.as_ref().unwrap().path().join(name)
}

#[tokio::test]
async fn files_are_objects_and_objects_are_files() {
    let place = on_folder().await;
    fs::create_dir_all(path(&place, "bucket/2024")).unwrap();
    fs::write(path(&place, "bucket/2024/May.csv"), "a,b").unwrap();
    assert_eq!(get(&*place.bucket, "2024/May.csv").await.unwrap(), b"a,b");
    put(&*place.bucket, "2025/June.csv", "c").await;
    assert_eq!(fs::read(path(&place, "bucket/2025/June.csv")).unwrap(), b"c");
    assert_eq!(keys(&*place.bucket).await, ["2024/May.csv", "2025/June.csv"]);
    // Nothing else is in the bucket, and nothing is left beside it.
    assert_eq!(fs::read_dir(path(&place, "bucket")).unwrap().count(), 2);
    assert_eq!(fs::read_dir(path(&place, ".rhio/tmp")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_file_that_somebody_replaces_loses_its_notes() {
    let place = on_folder().await;
    place.bucket.put(&key("k"), content("ours"), &labels(true), &Condition::None).await.unwrap();
    fs::write(path(&place, "bucket/k"), "theirs").unwrap();
    let object = place.bucket.head(&key("k")).await.unwrap().unwrap();
    assert_eq!((object.origin, object.attributes.iter().count()), (None, 0));
}

#[tokio::test]
async fn folders_that_are_empty_go_with_their_last_object() {
    let place = on_folder().await;
    put(&*place.bucket, "a/b/c", "1").await;
    put(&*place.bucket, "a/d", "1").await;
    place.bucket.delete(&key("a/b/c")).await.unwrap();
    assert!(!path(&place, "bucket/a/b").exists() && path(&place, "bucket/a/d").exists());
    place.bucket.delete(&key("a/d")).await.unwrap();
    assert!(!path(&place, "bucket/a").exists() && path(&place, "bucket").is_dir());
}

#[tokio::test]
async fn a_file_is_no_folder_and_a_folder_no_file() {
    let place = on_folder().await;
    put(&*place.bucket, "a", "1").await;
    put(&*place.bucket, "b/c", "1").await;
    for name in ["a/b", "a/", "b", "a/b/c/d"] {
        let written = place.bucket.put(&key(name), content("x"), &labels(true), &Condition::None).await;
        assert!(matches!(written, Err(BucketError::Unsuitable(_))), "{name} {written:?}");
        assert_eq!(place.bucket.head(&key(name)).await.unwrap(), None);
    }
    assert_eq!(keys(&*place.bucket).await, ["a", "b/c"]);
}

#[tokio::test]
async fn links_lead_nowhere() {
    let place = on_folder().await;
    fs::create_dir(path(&place, "outside")).unwrap();
    fs::write(path(&place, "outside/secret"), "secret").unwrap();
    symlink(path(&place, "outside"), path(&place, "bucket/folder")).unwrap();
    symlink(path(&place, "outside/secret"), path(&place, "bucket/file")).unwrap();
    put(&*place.bucket, "real", "1").await;
    assert_eq!(keys(&*place.bucket).await, ["real"]);
    for name in ["file", "folder/secret", "folder"] {
        assert_eq!(place.bucket.head(&key(name)).await.unwrap(), None, "{name}");
        place.bucket.delete(&key(name)).await.unwrap();
        let written = place.bucket.put(&key(name), content("x"), &Labels::default(), &Condition::None).await;
        assert!(matches!(written, Err(BucketError::Unsuitable(_))), "{name} {written:?}");
    }
    let written = place.bucket.put(&key("folder/new"), content("x"), &Labels::default(), &Condition::None).await;
    assert!(matches!(written, Err(BucketError::Unsuitable(_))), "{written:?}");
    assert_eq!(fs::read(path(&place, "outside/secret")).unwrap(), b"secret");
    assert_eq!(fs::read_dir(path(&place, "outside")).unwrap().count(), 1);
}

#[tokio::test]
async fn a_file_that_is_written_while_it_is_read_fails() {
    let place = on_folder().await;
    let old = pattern(8 << 20, 1);
    let etag = put(&*place.bucket, "k", old.clone()).await;
    let reading = place.bucket.read(&key("k"), &etag, 0..old.len() as u64).await.unwrap();
    fs::write(path(&place, "bucket/k"), pattern(8 << 20, 2)).unwrap();
    assert!(all(reading).await.is_err());
    // One that is replaced as a whole can still be read to its end.
    let object = place.bucket.head(&key("k")).await.unwrap().unwrap();
    let reading = place.bucket.read(&key("k"), &object.etag, 0..object.size).await.unwrap();
    put(&*place.bucket, "k", old).await;
    assert!(all(reading).await.unwrap() == pattern(8 << 20, 2));
}

#[tokio::test]
async fn a_missing_bucket_is_missing_and_is_never_created() {
    let place = on_folder().await;
    let root = FolderRoot::open(path(&place, "")).unwrap();
    let bucket = root.bucket("none").unwrap();
    let missing =
        |error: Option<BucketError>| assert!(matches!(error, Some(BucketError::Missing(name)) if name == "none"));
    missing(bucket.list(None).await.err());
    missing(bucket.head(&key("k")).await.err());
    missing(bucket.delete(&key("k")).await.err());
    missing(bucket.begin(&key("k"), &Labels::default()).await.err());
    missing(bucket.uploads(&key("k")).await.err());
    missing(bucket.put(&key("a/k"), content("x"), &labels(true), &Condition::None).await.err());
    assert!(!path(&place, "none").exists());
    for name in ["", ".", "..", ".rhio", "a/b"] {
        assert!(root.bucket(name).is_err(), "{name}");
    }
    assert!(FolderRoot::open(path(&place, "nowhere")).is_err());
}

#[tokio::test]
async fn a_listing_that_misses_something_is_none() {
    let place = on_folder().await;
    for n in 0..1_200 {
        fs::write(path(&place, &format!("bucket/{n}")), "").unwrap();
    }
    let first = place.bucket.list(None).await.unwrap();
    // The bucket goes away in the middle, and an empty one takes its place.
    fs::rename(path(&place, "bucket"), path(&place, "moved")).unwrap();
    assert!(matches!(place.bucket.list(None).await, Err(BucketError::Missing(_))));
    fs::create_dir(path(&place, "bucket")).unwrap();
    assert!(place.bucket.list(first.next.as_deref()).await.is_err());
    assert!(place.bucket.list(Some("unknown")).await.is_err());
    assert!(place.bucket.list(None).await.unwrap().objects.is_empty());
}

#[tokio::test]
async fn names_that_are_no_keys_are_told() {
    use std::os::unix::ffi::OsStrExt as _;
    let place = on_folder().await;
    let bad = std::ffi::OsStr::from_bytes(b"not-\xff-utf8");
    fs::write(path(&place, "bucket").join(bad), "").unwrap();
    fs::write(path(&place, "bucket/.rhio~plain"), "").unwrap();
    fs::write(path(&place, "bucket/good"), "").unwrap();
    let page = place.bucket.list(None).await.unwrap();
    assert_eq!(page.objects.len(), 1);
    assert_eq!(page.skipped.len(), 2);
}

/// Also when the file is only about to be made: that goes on without whoever wanted it.
#[test]
fn a_write_that_is_given_up_at_once_leaves_nothing_behind() {
    // With one thread, what is to be done there is done one after the other.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build().unwrap();
    runtime.block_on(async {
        let place = on_folder().await;
        for _ in 0..100 {
            let (key, labels) = (key("k"), labels(true));
            let put = place.bucket.put(&key, content("never wanted"), &labels, &Condition::None);
            assert!(put.now_or_never().is_none());
        }
        tokio::task::spawn_blocking(|| ()).await.unwrap();
        assert_eq!(fs::read_dir(path(&place, ".rhio/tmp")).unwrap().count(), 0);
        assert!(!path(&place, "bucket/k").exists());
    });
}
