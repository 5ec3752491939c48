//! Objects that are written, looked at, read, listed, copied and deleted.

use futures_util::StreamExt as _;
use futures_util::stream;
use rhio_blobs::bucket::{BucketError, Condition, Etag, Labels};

use crate::on_both;
use crate::setup::{Chunks, Place, all, content, get, key, keys, labels, listed, odd_content, pattern, put};

on_both!(
    an_object_comes_back,
    an_empty_object_is_an_object,
    labels_come_back,
    ranges_are_what_was_asked_for,
    another_version_is_not_read,
    a_replaced_object_has_another_version,
    content_that_fails_stores_nothing,
    content_that_fails_leaves_what_was_there,
    long_listings_have_pages,
    listings_and_heads_agree,
    copies_have_the_content_and_other_labels,
    only_the_version_that_is_meant_is_copied,
    what_is_deleted_is_gone,
    what_is_not_there_is_not_there,
);

async fn an_object_comes_back(place: &Place) {
    let bytes = pattern(9 << 20, 1);
    let etag = put(&*place.bucket, "a/b", bytes.clone()).await;
    let object = place.bucket.head(&key("a/b")).await.unwrap().unwrap();
    assert_eq!((object.size, &object.etag), (9 << 20, &etag));
    assert_eq!(object.origin, None);
    assert!(object.modified > 1_700_000_000_000);
    assert!(get(&*place.bucket, "a/b").await.unwrap() == bytes);
    let (opened, content) = place.bucket.open(&key("a/b")).await.unwrap().unwrap();
    assert_eq!(opened, object);
    assert!(all(content).await.unwrap() == bytes);
}

async fn an_empty_object_is_an_object(place: &Place) {
    let etag = put(&*place.bucket, "empty", "").await;
    let object = place.bucket.head(&key("empty")).await.unwrap().unwrap();
    assert_eq!((object.size, &object.etag), (0, &etag));
    assert_eq!(get(&*place.bucket, "empty").await, Some(vec![]));
    assert!(place.bucket.open(&key("empty")).await.unwrap().is_some());
    let other = place.bucket.read(&key("empty"), &Etag("other".into()), 0..0).await;
    assert!(matches!(other, Err(BucketError::Changed)));
    assert_eq!(keys(&*place.bucket).await, ["empty"]);
}

async fn labels_come_back(place: &Place) {
    for origin in [true, false] {
        let labels = labels(origin);
        place.bucket.put(&key("k"), content("v"), &labels, &Condition::None).await.unwrap();
        let object = place.bucket.head(&key("k")).await.unwrap().unwrap();
        assert_eq!(object.attributes, labels.attributes);
        assert_eq!(object.origin, labels.origin);
        let (object, _) = place.bucket.open(&key("k")).await.unwrap().unwrap();
        assert_eq!((object.attributes, object.origin), (labels.attributes, labels.origin));
    }
    put(&*place.bucket, "k", "v").await;
    let object = place.bucket.head(&key("k")).await.unwrap().unwrap();
    assert_eq!((object.attributes.get("x-amz-meta-colour"), object.origin), (None, None));
}

async fn ranges_are_what_was_asked_for(place: &Place) {
    let bytes = pattern(5 << 20, 2);
    let etag = put(&*place.bucket, "k", bytes.clone()).await;
    let end = bytes.len() as u64;
    for range in [0..1, 0..end, 1..end, end - 1..end, 4_194_300..4_194_310, 7..7, end..end, 0..0] {
        let content = place.bucket.read(&key("k"), &etag, range.clone()).await.unwrap();
        assert_eq!(content.len, range.end - range.start);
        let wanted = &bytes[range.start as usize..range.end as usize];
        assert!(all(content).await.unwrap() == wanted, "{range:?}");
    }
    assert!(matches!(place.bucket.read(&key("k"), &etag, end..end + 1).await, Err(BucketError::Changed)));
    assert!(place.bucket.read(&key("k"), &etag, end - 1..end + 1).await.is_err());
}

async fn another_version_is_not_read(place: &Place) {
    let old = put(&*place.bucket, "k", "first").await;
    let new = put(&*place.bucket, "k", "other").await;
    assert!(matches!(place.bucket.read(&key("k"), &old, 0..5).await, Err(BucketError::Changed)));
    assert_eq!(all(place.bucket.read(&key("k"), &new, 0..5).await.unwrap()).await.unwrap(), b"other");
    place.bucket.delete(&key("k")).await.unwrap();
    assert!(matches!(place.bucket.read(&key("k"), &new, 0..5).await, Err(BucketError::Changed)));
}

async fn a_replaced_object_has_another_version(place: &Place) {
    let one = put(&*place.bucket, "k", "one").await;
    let two = put(&*place.bucket, "k", "two").await;
    assert_ne!(one, two);
    assert_eq!(get(&*place.bucket, "k").await.unwrap(), b"two");
}

async fn content_that_fails_stores_nothing(place: &Place) {
    let mebibyte = pattern(1 << 20, 3);
    let odd: Vec<(u64, Chunks<'_>)> = vec![
        (3 << 20, vec![Ok(&mebibyte), Ok(&mebibyte), Err("torn")]),
        (2 << 20, vec![Ok(&mebibyte), Ok(&mebibyte), Err("wrong hash")]),
        (2 << 20, vec![Ok(&mebibyte)]),
        (1 << 20, vec![Ok(&mebibyte), Ok(b"x")]),
        (0, vec![Ok(b"x")]),
        (0, vec![Err("torn")]),
        (5, vec![]),
    ];
    for (number, (len, chunks)) in odd.into_iter().enumerate() {
        let name = format!("k{number}");
        let what = odd_content(len, chunks);
        let written = place.bucket.put(&key(&name), what, &Labels::default(), &Condition::None).await;
        assert!(matches!(written, Err(BucketError::Body(_))), "{number}: {written:?}");
        assert_eq!(place.bucket.head(&key(&name)).await.unwrap(), None, "{number}");
    }
    assert_eq!(keys(&*place.bucket).await, Vec::<String>::new());
}

async fn content_that_fails_leaves_what_was_there(place: &Place) {
    let etag = put(&*place.bucket, "k", "good").await;
    let what = odd_content(6, vec![Ok(b"bad"), Err("torn")]);
    let written = place.bucket.put(&key("k"), what, &Labels::default(), &Condition::None).await;
    assert!(matches!(written, Err(BucketError::Body(reason)) if reason == "torn"));
    assert_eq!(place.bucket.head(&key("k")).await.unwrap().unwrap().etag, etag);
    // A writer that gives up in the middle stores nothing either.
    let endless = rhio_blobs::bucket::Content { len: 10, body: Box::pin(stream::once(std::future::pending())) };
    let labels = Labels::default();
    let name = key("k");
    let giving_up = place.bucket.put(&name, endless, &labels, &Condition::None);
    assert!(tokio::time::timeout(std::time::Duration::from_millis(200), giving_up).await.is_err());
    assert_eq!(get(&*place.bucket, "k").await.unwrap(), b"good");
}

async fn long_listings_have_pages(place: &Place) {
    let names: Vec<String> = (0..2_500).map(|n| format!("d{}/{n:05}", n % 3)).collect();
    let puts = names.iter().map(|name| put(&*place.bucket, name, ""));
    stream::iter(puts).buffer_unordered(16).collect::<Vec<_>>().await;
    let mut names = names.clone();
    names.sort();
    assert_eq!(keys(&*place.bucket).await, names);
    let first = place.bucket.list(None).await.unwrap();
    assert!(first.next.is_some() && !first.objects.is_empty());
}

async fn listings_and_heads_agree(place: &Place) {
    put(&*place.bucket, "a", "1").await;
    put(&*place.bucket, "b/c", "22").await;
    let objects = listed(&*place.bucket).await.unwrap();
    assert_eq!(objects.len(), 2);
    for object in objects {
        let head = place.bucket.head(&object.key).await.unwrap().unwrap();
        assert_eq!((head.size, &head.etag), (object.size, &object.etag));
        // Heads of S3 tell whole seconds.
        assert_eq!(head.modified / 1000, object.modified / 1000);
    }
}

async fn copies_have_the_content_and_other_labels(place: &Place) {
    let bytes = pattern(6 << 20, 4);
    let etag =
        place.bucket.put(&key("from"), content(bytes.clone()), &labels(false), &Condition::None).await.unwrap().what;
    let other = Labels { origin: labels(true).origin, attributes: Default::default() };
    for name in ["to", "deep/er to +%", "from"] {
        let copied = place.bucket.copy((&key("from"), &etag), &key(name), &other, &Condition::None).await.unwrap().what;
        let object = place.bucket.head(&key(name)).await.unwrap().unwrap();
        assert_eq!((&object.etag, &object.origin), (&copied, &other.origin), "{name}");
        assert_eq!(object.attributes.get("x-amz-meta-colour"), None);
        assert!(get(&*place.bucket, name).await.unwrap() == bytes, "{name}");
    }
}

async fn only_the_version_that_is_meant_is_copied(place: &Place) {
    let old = put(&*place.bucket, "from", "old").await;
    let new = put(&*place.bucket, "from", "new").await;
    let labels = Labels::default();
    let copy = |etag, condition| {
        let (bucket, labels) = (&place.bucket, &labels);
        async move { bucket.copy((&key("from"), etag), &key("to"), labels, &condition).await }
    };
    assert!(matches!(copy(&old, Condition::None).await, Err(BucketError::Changed)));
    assert_eq!(place.bucket.head(&key("to")).await.unwrap(), None);
    copy(&new, Condition::None).await.unwrap();
    let absent = place.bucket.copy((&key("none"), &new), &key("to"), &labels, &Condition::None).await;
    assert!(matches!(absent, Err(BucketError::Changed)), "{absent:?}");
    assert_eq!(get(&*place.bucket, "to").await.unwrap(), b"new");
}

async fn what_is_deleted_is_gone(place: &Place) {
    put(&*place.bucket, "a/b", "1").await;
    put(&*place.bucket, "a/c", "1").await;
    place.bucket.delete(&key("a/b")).await.unwrap();
    place.bucket.delete(&key("a/b")).await.unwrap();
    assert_eq!(keys(&*place.bucket).await, ["a/c"]);
    assert_eq!(place.bucket.head(&key("a/b")).await.unwrap(), None);
    // A folder or a beginning is no object.
    place.bucket.delete(&key("a")).await.unwrap();
    assert_eq!(keys(&*place.bucket).await, ["a/c"]);
}

async fn what_is_not_there_is_not_there(place: &Place) {
    put(&*place.bucket, "a/b", "1").await;
    // SeaweedFS takes "a/" for an empty object: the folder that its "a/b" is in.
    let folder = place.weed.is_none().then_some("a/");
    for name in ["none", "a", "a/b/c", "a/c", "A/b"].into_iter().chain(folder) {
        assert_eq!(place.bucket.head(&key(name)).await.unwrap(), None, "{name}");
        assert!(place.bucket.open(&key(name)).await.unwrap().is_none(), "{name}");
    }
}
