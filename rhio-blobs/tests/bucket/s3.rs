//! What only a server does.

use std::time::Duration;

use rhio_blobs::bucket::s3::{S3Config, S3Credentials, S3Error, S3Server};
use rhio_blobs::bucket::{Bucket, BucketError, Condition, Content, Denied, Labels};
use testkit::{VersityServer, WeedServer};

use crate::setup::{all, config, content, get, key, keys, listed, new_name, on_s3, pattern, put, s3_bucket};

#[tokio::test]
async fn a_missing_bucket_is_missing_for_everything() {
    let place = on_s3().await;
    let bucket = s3_bucket(place.weed.as_ref().unwrap(), &new_name());
    every_call_fails(&*bucket, |e| matches!(e, BucketError::Missing(name) if name == bucket.name())).await;
    // SeaweedFS looks at conditions first; that the version is not there is true as well.
    let read = bucket.read(&key("k"), &rhio_blobs::bucket::Etag("e".into()), 0..1).await;
    assert!(matches!(read, Err(BucketError::Missing(_) | BucketError::Changed)), "{read:?}");
}

#[tokio::test]
async fn wrong_credentials_are_refused_with_the_servers_words_and_without_the_secret() {
    let place = on_s3().await;
    let server = place.weed.as_ref().unwrap();
    let put_before = put(&*place.bucket, "k", "v").await;
    let wrong_secret = S3Credentials {
        access_key: server.access_key().into(),
        secret_key: "s3cr3t-that-is-wrong".into(),
        session_token: None,
    };
    let unknown =
        S3Credentials { access_key: "nobody".into(), secret_key: "s3cr3t-that-is-wrong".into(), session_token: None };
    for (credentials, code, why) in [
        (Some(wrong_secret), "SignatureDoesNotMatch", Denied::Credentials),
        (Some(unknown), "InvalidAccessKeyId", Denied::Credentials),
        (None, "AccessDenied", Denied::Permission),
    ] {
        let refused = S3Server::connect(S3Config { credentials, ..config(server) }).unwrap();
        assert!(!format!("{refused:?}").contains("s3cr3t"));
        let bucket = refused.bucket(place.bucket.name()).unwrap();
        every_call_fails(&bucket, |e| {
            let text = e.to_string();
            assert!(!text.contains("s3cr3t") && !text.contains("X-Amz") && !text.contains("://"), "{text}");
            matches!(e, BucketError::Forbidden { why: said, .. } if *said == why) && text.contains(code)
        })
        .await;
    }
    assert_eq!(place.bucket.head(&key("k")).await.unwrap().unwrap().etag, put_before);
}

/// Does everything that can be done with a bucket.
async fn every_call_fails(bucket: &dyn Bucket, expected: impl Fn(&BucketError) -> bool) {
    let key = key("k");
    let labels = Labels::default();
    let etag = rhio_blobs::bucket::Etag("e".into());
    let upload = rhio_blobs::bucket::Upload { key: key.clone(), id: "0123".into() };
    let check = |what: &str, error: Option<BucketError>| {
        let error = error.unwrap_or_else(|| panic!("{what} worked"));
        assert!(expected(&error), "{what}: {error:?}");
    };
    check("list", bucket.list(None).await.err());
    check("head", bucket.head(&key).await.err());
    check("open", bucket.open(&key).await.err());
    check("read nothing", bucket.read(&key, &etag, 0..0).await.err());
    check("put", bucket.put(&key, content("v"), &labels, &Condition::None).await.err());
    check("put if absent", bucket.put(&key, content("v"), &labels, &Condition::Absent).await.err());
    check("copy", bucket.copy((&key, &etag), &key, &labels, &Condition::None).await.err());
    check("delete", bucket.delete(&key).await.err());
    check("begin", bucket.begin(&key, &labels).await.err());
    check("put_part", bucket.put_part(&upload, 1, 0, content("v")).await.err());
    check("parts", bucket.parts(&upload).await.err());
    check("uploads", bucket.uploads(&key).await.err());
}

#[tokio::test]
async fn a_server_that_is_down_is_unavailable_and_comes_back() {
    let mut server = WeedServer::start().await;
    let name = new_name();
    server.create_bucket(&name).await;
    let bucket = s3_bucket(&server, &name);
    put(&*bucket, "k", "v").await;
    server.kill();
    every_call_fails(&*bucket, |e| {
        let text = e.to_string();
        assert!(!text.contains("X-Amz") && !text.contains("://"), "{text}");
        matches!(e, BucketError::Unavailable { .. }) && text.contains("Connection refused")
    })
    .await;
    server.restart().await;
    assert_eq!(get(&*bucket, "k").await.unwrap(), b"v");
    // Connections that the server closed when it ended in order are not noticed by requests.
    server.restart().await;
    for _ in 0..3 {
        assert_eq!(keys(&*bucket).await, ["k"]);
    }
}

#[tokio::test]
async fn a_server_that_ends_in_the_middle_ends_what_is_read_and_written() {
    let mut server = WeedServer::start().await;
    let name = new_name();
    server.create_bucket(&name).await;
    let bucket = s3_bucket(&server, &name);
    let bytes = pattern(32 << 20, 1);
    let etag = put(&*bucket, "k", bytes.clone()).await;
    let reading = bucket.read(&key("k"), &etag, 0..bytes.len() as u64).await.unwrap();
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let body =
        futures_util::stream::unfold(receiver, |mut receiver: tokio::sync::mpsc::Receiver<bytes::Bytes>| async {
            receiver.recv().await.map(|chunk| (Ok(chunk), receiver))
        });
    let writing = {
        let bucket = bucket.clone();
        let content = Content { len: 8 << 20, body: Box::pin(body) };
        tokio::spawn(async move { bucket.put(&key("new"), content, &Labels::default(), &Condition::None).await })
    };
    sender.send(bytes.slice(..4 << 20)).await.unwrap();
    server.kill();
    let _ = sender.send(bytes.slice(..4 << 20)).await;
    drop(sender);
    let written = writing.await.unwrap();
    assert!(matches!(written, Err(BucketError::Unavailable { .. })), "{written:?}");
    assert!(all(reading).await.is_err());
    server.restart().await;
    assert_eq!(keys(&*bucket).await, ["k"]);
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_not_waited_for() {
    let mut server = WeedServer::start().await;
    let name = new_name();
    server.create_bucket(&name).await;
    let stall = testkit::patience(Duration::from_secs(1));
    let connected = S3Server::connect(S3Config { stall, ..config(&server) }).unwrap();
    let bucket = connected.bucket(&name).unwrap();
    let bytes = pattern(32 << 20, 1);
    let etag = put(&*s3_bucket(&server, &name), "kept", bytes.clone()).await;
    let reading = bucket.read(&key("kept"), &etag, 0..bytes.len() as u64).await.unwrap();
    server.pause();
    every_call_fails(&bucket, |e| matches!(e, BucketError::Unavailable { reason, .. } if reason.contains("no byte")))
        .await;
    let big = bucket.put(&key("big"), content(bytes.clone()), &Labels::default(), &Condition::None).await;
    assert!(matches!(&big, Err(BucketError::Unavailable { reason, .. }) if reason.contains("no byte")), "{big:?}");
    let error = all(reading).await.unwrap_err();
    assert!(error.0.contains("sent nothing"), "{error}");
    server.resume();
    testkit::eventually!(Duration::from_secs(10), "the server to answer", listed(&bucket).await);
    assert!(get(&*s3_bucket(&server, &name), "kept").await.unwrap() == bytes);
    // What was cut off was either done as a whole or not at all.
    let objects = listed(&bucket).await.unwrap();
    assert!(objects.iter().all(|object| object.key != key("big") || object.size == bytes.len() as u64), "{objects:?}");
}

#[tokio::test]
async fn an_object_that_is_replaced_while_it_is_read_is_never_mixed() {
    let place = on_s3().await;
    let (old, new) = (pattern(24 << 20, 1), pattern(24 << 20, 2));
    let etag = put(&*place.bucket, "k", old.clone()).await;
    let reading = place.bucket.read(&key("k"), &etag, 0..old.len() as u64).await.unwrap();
    put(&*place.bucket, "k", new).await;
    // All of the old one, or an error.
    if let Ok(bytes) = all(reading).await {
        assert!(bytes == old);
    }
    assert!(matches!(place.bucket.read(&key("k"), &etag, 0..1).await, Err(BucketError::Changed)));
}

#[tokio::test]
async fn others_find_what_was_written_and_the_other_way_round() {
    let place = on_s3().await;
    let theirs = place.weed.as_ref().unwrap().bucket(place.bucket.name());
    let labels = crate::setup::labels(true);
    place.bucket.put(&key("ours é"), content("1"), &labels, &Condition::None).await.unwrap();
    let (headers, size) = theirs.head("ours é").await.unwrap();
    assert_eq!(size, 1);
    assert_eq!(headers["x-amz-meta-rhio-hash"], "ab".repeat(32));
    assert_eq!(headers["x-amz-meta-colour"], "deep  red");
    theirs.put_with("theirs", "22", &[("x-amz-meta-rhio-hash", "no hash"), ("x-amz-meta-a", "é")]).await;
    let object = place.bucket.head(&key("theirs")).await.unwrap().unwrap();
    assert_eq!((object.size, object.origin), (2, None));
    assert_eq!(object.attributes.get("x-amz-meta-a"), Some("é"));
}

#[tokio::test]
async fn what_a_server_calls_an_object_may_prove_nothing() {
    for (options, checked) in [(&[][..], true), (&["--data-integrity-etag"][..], false)] {
        let server = VersityServer::start(options).await;
        server.create_bucket("bucket").await;
        let weed = on_s3().await;
        let (endpoint, region) = (server.endpoint(), "eu-central-1".into());
        let config = S3Config { endpoint, region, ..config(weed.weed.as_ref().unwrap()) };
        let bucket = S3Server::connect(config).unwrap().bucket("bucket").unwrap();
        let labels = Labels::default();
        let written = bucket.put(&key("small"), content("v"), &labels, &Condition::None).await.unwrap();
        assert_eq!(written.checked, checked, "{written:?}");
        let upload = bucket.begin(&key("large"), &labels).await.unwrap();
        // Held in memory with its checksum before it; and summed while it passes.
        for (number, len) in [(1, 5 << 20), (2, 17 << 20)] {
            let part = bucket.put_part(&upload, number, 0, content(pattern(len, number.into()))).await.unwrap();
            assert_eq!(part.checked, checked, "{part:?}");
        }
        let parts = bucket.parts(&upload).await.unwrap();
        let written = bucket.complete(&upload, &parts, &Condition::None).await.unwrap();
        assert_eq!(written.checked, checked, "{written:?}");
        let expected = [pattern(5 << 20, 1), pattern(17 << 20, 2)].concat();
        assert!(get(&bucket, "large").await.unwrap() == expected);
    }
}

#[test]
fn endpoints_and_names_that_make_no_sense_are_refused() {
    for endpoint in ["", "localhost:9000", "ftp://host", "http://", "http://user:pw@host", "http://host/?a=b"] {
        let server = S3Server::connect(S3Config::new(endpoint, "r"));
        assert!(matches!(server, Err(S3Error::Endpoint)), "{endpoint}");
    }
    let server = S3Server::connect(S3Config::new("http://localhost:9000/", "r")).unwrap();
    for name in ["", ".", "..", "a/b", "a?b", "é"] {
        assert!(server.bucket(name).is_err(), "{name}");
    }
    let pem = S3Config {
        ca_pem: Some(b"-----BEGIN CERTIFICATE-----\nno\n-----END CERTIFICATE-----".into()),
        ..S3Config::new("https://h", "r")
    };
    assert!(matches!(S3Server::connect(pem), Err(S3Error::Tls(_))));
}
