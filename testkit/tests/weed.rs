//! The S3 server that other tests stand on.

use std::io::{Seek as _, SeekFrom, Write as _};
use std::time::{Duration, Instant};

use testkit::WeedServer;

#[tokio::test]
async fn objects_come_back_as_they_were_put() {
    let server = WeedServer::start().await;
    let bucket = server.create_bucket("plain").await;
    bucket.create().await;
    for key in ["a", "a b+c%20", "deep/er/é", "x:y?z#"] {
        bucket.put_with(key, key.as_bytes().to_vec(), &[("content-type", "text/x"), ("x-amz-meta-n", "1 2")]).await;
        assert_eq!(bucket.get(key).await.as_deref(), Some(key.as_bytes()), "{key}");
        let (headers, size) = bucket.head(key).await.expect("the object is there");
        assert_eq!(size, key.len() as u64);
        assert_eq!(headers["content-type"], "text/x");
        assert_eq!(headers["x-amz-meta-n"], "1 2");
    }
    assert_eq!(bucket.keys().await, ["a", "a b+c%20", "deep/er/é", "x:y?z#"]);
    bucket.delete("a").await;
    bucket.delete("a").await;
    assert_eq!(bucket.get("a").await, None);
    assert_eq!(bucket.head("a").await, None);
    bucket.remove().await;
}

#[tokio::test]
async fn listings_have_as_many_pages_as_it_takes() {
    let server = WeedServer::start().await;
    let bucket = server.create_bucket("many").await;
    let mut keys: Vec<String> = (0..1_100).map(|n| format!("{n:04}")).collect();
    let some = keys.clone();
    for chunk in some.chunks(50) {
        futures_util::future::join_all(chunk.iter().map(|key| bucket.put(key, Vec::new()))).await;
    }
    keys.sort();
    assert_eq!(bucket.keys().await, keys);
}

#[tokio::test]
async fn a_large_file_goes_up_in_parts() {
    let server = WeedServer::start().await;
    let bucket = server.create_bucket("large").await;
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(b"begin").expect("it can be written");
    file.seek(SeekFrom::Start(40 << 20)).expect("it can be longer");
    file.write_all(b"end").expect("it can be written");
    bucket.put_file("file", file.path()).await;
    let content = bucket.get("file").await.expect("it is there");
    assert!(content == std::fs::read(file.path()).expect("the file can be read"));
    assert_eq!(bucket.uploads().await, []);
}

#[tokio::test]
async fn it_starts_soon_and_beside_others() {
    let begun = Instant::now();
    let (one, two) = tokio::join!(WeedServer::start(), WeedServer::start());
    let allowed = testkit::patience(Duration::from_secs(15));
    assert!(begun.elapsed() < allowed, "two starts took {:?}", begun.elapsed());
    eprintln!("two starts took {:?}", begun.elapsed());
    let (a, b) = tokio::join!(one.create_bucket("bucket"), two.create_bucket("bucket"));
    a.put("k", "one").await;
    assert_eq!(b.get("k").await, None);
}

#[tokio::test]
async fn data_and_address_survive_a_crash() {
    let mut server = WeedServer::start().await;
    let endpoint = server.endpoint();
    let bucket = server.create_bucket("bucket").await;
    bucket.put("k", "v").await;
    server.kill();
    assert!(!server.is_running());
    let begun = Instant::now();
    server.restart().await;
    eprintln!("a restart took {:?}", begun.elapsed());
    assert_eq!(server.endpoint(), endpoint);
    assert_eq!(bucket.get("k").await.as_deref(), Some(&b"v"[..]));
    bucket.put("k2", "v2").await;
    let ended = server.stop().await.expect("it ran");
    eprintln!("an end took {:?}", ended.took);
    server.restart().await;
    assert_eq!(bucket.keys().await, ["k", "k2"]);
}

#[tokio::test]
async fn a_paused_server_answers_when_it_goes_on() {
    let mut server = WeedServer::start().await;
    let bucket = server.create_bucket("bucket").await;
    server.pause();
    let mut keys = std::pin::pin!(bucket.keys());
    let answer = tokio::time::timeout(Duration::from_millis(300), &mut keys).await;
    assert!(answer.is_err(), "a paused server answered");
    server.resume();
    let keys = tokio::time::timeout(testkit::patience(Duration::from_secs(20)), keys).await;
    assert_eq!(keys.expect("an answer"), Vec::<String>::new());
}
