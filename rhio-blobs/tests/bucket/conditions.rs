//! Writes that happen only if something holds.

use rhio_blobs::bucket::{BucketError, Condition, Etag, Labels};

use crate::on_both;
use crate::setup::{Place, content, get, key, put};

on_both!(
    absent_means_that_nothing_is_there,
    a_version_must_be_the_one_there,
    one_of_many_writers_is_first,
    completing_has_conditions_too,
);

async fn put_if(place: &Place, name: &str, bytes: &'static str, condition: &Condition) -> Result<Etag, BucketError> {
    let written = place.bucket.put(&key(name), content(bytes), &Labels::default(), condition).await;
    written.map(|written| written.what)
}

async fn absent_means_that_nothing_is_there(place: &Place) {
    put_if(place, "a/k", "one", &Condition::Absent).await.unwrap();
    let second = put_if(place, "a/k", "two", &Condition::Absent).await;
    assert!(matches!(second, Err(BucketError::Conflict)), "{second:?}");
    assert_eq!(get(&*place.bucket, "a/k").await.unwrap(), b"one");
    place.bucket.delete(&key("a/k")).await.unwrap();
    put_if(place, "a/k", "three", &Condition::Absent).await.unwrap();
}

async fn a_version_must_be_the_one_there(place: &Place) {
    let one = put(&*place.bucket, "k", "one").await;
    let two = put_if(place, "k", "two", &Condition::Is(one.clone())).await.unwrap();
    let again = put_if(place, "k", "three", &Condition::Is(one)).await;
    assert!(matches!(again, Err(BucketError::Conflict)), "{again:?}");
    assert_eq!(get(&*place.bucket, "k").await.unwrap(), b"two");
    place.bucket.delete(&key("k")).await.unwrap();
    let gone = put_if(place, "k", "four", &Condition::Is(two)).await;
    assert!(matches!(gone, Err(BucketError::Conflict)), "{gone:?}");
    assert_eq!(get(&*place.bucket, "k").await, None);
}

async fn one_of_many_writers_is_first(place: &Place) {
    let writers = ["a", "b", "c", "d", "e", "f"].map(|bytes| put_if(place, "k", bytes, &Condition::Absent));
    let results = futures_util::future::join_all(writers).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1, "{results:?}");
    for result in results.into_iter().filter_map(Result::err) {
        assert!(matches!(result, BucketError::Conflict), "{result:?}");
    }
}

async fn completing_has_conditions_too(place: &Place) {
    let etag = put(&*place.bucket, "k", "there").await;
    let upload = place.bucket.begin(&key("k"), &Labels::default()).await.unwrap();
    let part = place.bucket.put_part(&upload, 1, 0, content("part")).await.unwrap().what;
    let parts = std::slice::from_ref(&part);
    for condition in [Condition::Absent, Condition::Is(Etag("other".into()))] {
        let done = place.bucket.complete(&upload, parts, &condition).await;
        assert!(matches!(done, Err(BucketError::Conflict)), "{condition:?} {done:?}");
        assert_eq!(get(&*place.bucket, "k").await.unwrap(), b"there");
    }
    // Nothing of the upload is lost by it.
    place.bucket.complete(&upload, parts, &Condition::Is(etag)).await.unwrap();
    assert_eq!(get(&*place.bucket, "k").await.unwrap(), b"part");
}
