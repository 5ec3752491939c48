//! Uploads in parts.

use rhio_blobs::bucket::{BucketError, Condition, Labels, Part, Upload};

use crate::on_both;
use crate::setup::{Place, content, get, key, keys, labels, odd_content, pattern, put};

on_both!(
    parts_become_an_object,
    parts_come_in_any_order_and_twice,
    another_process_goes_on,
    a_part_that_fails_is_no_part,
    what_is_aborted_is_gone,
    uploads_are_found_by_key,
    an_upload_replaces_what_was_there,
    parts_that_are_not_there_as_confirmed_make_no_object,
);

const PART: usize = 5 << 20;

async fn put_part(place: &Place, upload: &Upload, number: u32, seed: u64) -> Part {
    let offset = u64::from(number - 1) * PART as u64;
    let written = place.bucket.put_part(upload, number, offset, content(pattern(PART, seed))).await.unwrap();
    assert!(written.checked, "part {number} has a checksum that agrees");
    written.what
}

async fn parts_become_an_object(place: &Place) {
    let labels = labels(true);
    let name = key("a b/+é");
    let upload = place.bucket.begin(&name, &labels).await.unwrap();
    let one = put_part(place, &upload, 1, 1).await;
    let two = place.bucket.put_part(&upload, 2, PART as u64, content("end")).await.unwrap().what;
    assert_eq!((one.number, one.size, two.number, two.size), (1, PART as u64, 2, 3));
    assert_eq!(place.bucket.head(&name).await.unwrap(), None);
    assert_eq!(keys(&*place.bucket).await, Vec::<String>::new());
    let written = place.bucket.complete(&upload, &[one, two], &Condition::Absent).await.unwrap();
    assert!(written.checked, "the parts' checksums together are the object's");
    let etag = written.what;
    let object = place.bucket.head(&name).await.unwrap().unwrap();
    assert_eq!((object.size, &object.etag), (PART as u64 + 3, &etag));
    assert_eq!((object.attributes, object.origin), (labels.attributes, labels.origin));
    let expected = [pattern(PART, 1).as_ref(), b"end"].concat();
    assert!(get(&*place.bucket, "a b/+é").await.unwrap() == expected);
    assert_eq!(place.bucket.uploads(&name).await.unwrap(), []);
    assert_eq!(keys(&*place.bucket).await, ["a b/+é"]);
    assert!(matches!(place.bucket.parts(&upload).await, Err(BucketError::NoUpload)));
}

async fn parts_come_in_any_order_and_twice(place: &Place) {
    let upload = place.bucket.begin(&key("k"), &Labels::default()).await.unwrap();
    put_part(place, &upload, 3, 3).await;
    put_part(place, &upload, 1, 9).await;
    put_part(place, &upload, 2, 2).await;
    let again = put_part(place, &upload, 1, 1).await;
    let mut parts = place.bucket.parts(&upload).await.unwrap();
    // Two that were written in the same second can't be told apart on SeaweedFS: then there is none to go on with.
    if place.weed.is_some() && parts.first().is_some_and(|part| part.number == 2) {
        parts.push(again.clone());
    }
    parts.sort_by_key(|part| part.number);
    assert_eq!(parts.iter().map(|part| part.number).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(parts[0], again);
    let backwards: Vec<_> = parts.into_iter().rev().collect();
    place.bucket.complete(&upload, &backwards, &Condition::None).await.unwrap();
    let expected = [pattern(PART, 1), pattern(PART, 2), pattern(PART, 3)].concat();
    assert!(get(&*place.bucket, "k").await.unwrap() == expected);
}

async fn another_process_goes_on(place: &Place) {
    let upload = place.bucket.begin(&key("k"), &Labels::default()).await.unwrap();
    let one = put_part(place, &upload, 1, 1).await;
    put_part(place, &upload, 3, 3).await;
    // All that is left is the bucket.
    let found = place.bucket.uploads(&key("k")).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].upload, upload);
    assert!(found[0].begun > 1_700_000_000_000);
    let parts = place.bucket.parts(&found[0].upload).await.unwrap();
    assert_eq!(
        parts.iter().map(|part| (part.number, part.size)).collect::<Vec<_>>(),
        [(1, PART as u64), (3, PART as u64)]
    );
    assert_eq!(parts[0], one);
    put_part(place, &upload, 2, 2).await;
    let parts = place.bucket.parts(&upload).await.unwrap();
    place.bucket.complete(&upload, &parts, &Condition::None).await.unwrap();
    assert_eq!(get(&*place.bucket, "k").await.unwrap().len(), 3 * PART);
}

async fn a_part_that_fails_is_no_part(place: &Place) {
    let upload = place.bucket.begin(&key("k"), &Labels::default()).await.unwrap();
    let bytes = pattern(PART, 1);
    let odd = odd_content(PART as u64, vec![Ok(&bytes[..PART / 2]), Err("torn")]);
    let failed = place.bucket.put_part(&upload, 1, 0, odd).await;
    assert!(matches!(failed, Err(BucketError::Body(_))), "{failed:?}");
    let odd = odd_content(PART as u64, vec![Ok(&bytes), Err("wrong hash")]);
    let failed = place.bucket.put_part(&upload, 2, PART as u64, odd).await;
    assert!(matches!(failed, Err(BucketError::Body(_))), "{failed:?}");
    assert_eq!(place.bucket.parts(&upload).await.unwrap(), []);
    for number in [0, 10_001] {
        let failed = place.bucket.put_part(&upload, number, 0, content("x")).await;
        assert!(matches!(failed, Err(BucketError::Unsuitable(_))), "{failed:?}");
    }
}

async fn parts_that_are_not_there_as_confirmed_make_no_object(place: &Place) {
    let upload = place.bucket.begin(&key("k"), &Labels::default()).await.unwrap();
    let one = put_part(place, &upload, 1, 1).await;
    let other = put_part(place, &upload, 2, 2).await;
    let never = Part { number: 3, ..one.clone() };
    let another = Part { etag: other.etag, ..one.clone() };
    for parts in [vec![one, never], vec![another]] {
        let done = place.bucket.complete(&upload, &parts, &Condition::None).await;
        assert!(matches!(done, Err(BucketError::NotKept(_))), "{done:?}");
    }
    assert_eq!(place.bucket.head(&key("k")).await.unwrap(), None);
}

async fn what_is_aborted_is_gone(place: &Place) {
    let upload = place.bucket.begin(&key("k"), &Labels::default()).await.unwrap();
    let part = put_part(place, &upload, 1, 1).await;
    place.bucket.abort(&upload).await.unwrap();
    place.bucket.abort(&upload).await.unwrap();
    assert!(matches!(place.bucket.parts(&upload).await, Err(BucketError::NoUpload)));
    assert_eq!(place.bucket.uploads(&key("k")).await.unwrap(), []);
    let late = place.bucket.put_part(&upload, 2, PART as u64, content("x")).await;
    assert!(matches!(late, Err(BucketError::NoUpload)), "{late:?}");
    let done = place.bucket.complete(&upload, &[part], &Condition::None).await;
    assert!(matches!(done, Err(BucketError::NoUpload)), "{done:?}");
    assert_eq!(place.bucket.head(&key("k")).await.unwrap(), None);
}

async fn uploads_are_found_by_key(place: &Place) {
    let mut begun = Vec::new();
    for name in ["a", "a", "ab", "a/b", "b", "a+ %", "a&amp; "] {
        begun.push(place.bucket.begin(&key(name), &Labels::default()).await.unwrap());
    }
    for (name, count) in [("a", 2), ("ab", 1), ("a/b", 1), ("b", 1), ("a+ %", 1), ("a&amp; ", 1), ("c", 0)] {
        let mut found: Vec<_> =
            place.bucket.uploads(&key(name)).await.unwrap().into_iter().map(|listed| listed.upload.id).collect();
        let mut wanted: Vec<_> =
            begun.iter().filter(|upload| upload.key == key(name)).map(|upload| upload.id.clone()).collect();
        found.sort();
        wanted.sort();
        assert_eq!(found, wanted, "{name}");
        assert_eq!(found.len(), count);
    }
}

async fn an_upload_replaces_what_was_there(place: &Place) {
    put(&*place.bucket, "k", "old").await;
    let upload = place.bucket.begin(&key("k"), &Labels::default()).await.unwrap();
    let part = place.bucket.put_part(&upload, 1, 0, content("new")).await.unwrap().what;
    assert_eq!(get(&*place.bucket, "k").await.unwrap(), b"old");
    place.bucket.complete(&upload, &[part], &Condition::None).await.unwrap();
    assert_eq!(get(&*place.bucket, "k").await.unwrap(), b"new");
}
