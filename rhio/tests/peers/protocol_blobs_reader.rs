//! A reader that misbehaves about buckets gets nothing that it may not have, and costs nobody else anything.

use common::SOON;
use common::blob_peer::{all, ask, request};
use common::buckets::{Kind, bucket_pair, content, lines_with, put, wait_for_keys, wait_for_object};
use common::peer::{Peer, closed_with};
use iroh::endpoint::{ReadError, ReadToEndError};
use rhio_core::id::{BlobHash, OpHash, OpSeq};
use rhio_core::log::descriptor::LogDescriptor;
use rhio_core::wire::{CloseCode, Frame, Interest, Pull, Want};
use rhio_net::connection::Connection;
use rhio_net::stream::{self, StreamError};
use testkit::{Cluster, PublishBucket, eventually};

const ASKED: &str = "a node asked for content in a way that is not allowed";
const BROKE: &str = "a node broke the protocol";

/// Requests of one node that are answered at once.
const MAX_SERVED_PER_PEER: usize = 32;

/// An author `a` with a good reader `b` and a bad one, which may read bucket `out` and not bucket `private`.
async fn with_bad_reader() -> (Cluster, Cluster, Peer) {
    let (mut a, mut b) = bucket_pair(Kind::Folder).await;
    a.create_bucket("private").await;
    let bad = Peer::beside(&a).await;
    let mut node = bad.as_node();
    node.endpoints.clear();
    let allow = Some(vec![b.rhio.public_key()]);
    a.rhio.rewrite_config(|config| {
        config.nodes.push(node);
        config.publish_buckets.push(PublishBucket { bucket: "private".into(), allow });
    });
    b.create_bucket("copy").await;
    b.subscribe_bucket("private", "copy", &a);
    common::start(&mut a, &mut b).await;
    (a, b, bad)
}

fn hash(bytes: &[u8]) -> BlobHash {
    BlobHash::from_bytes(*blake3::hash(bytes).as_bytes())
}

async fn assert_unharmed(a: Cluster, b: Cluster) {
    put(&a, "out", "last", "last").await;
    wait_for_object(&b, "inbox", "last", b"last").await;
    common::finish(a, b).await;
}

fn code_of(error: ReadToEndError) -> CloseCode {
    match error {
        ReadToEndError::Read(ReadError::Reset(code)) => CloseCode::from_code(code.into_inner()),
        other => panic!("instead of a reset: {other}"),
    }
}

#[tokio::test]
async fn requests_that_are_not_allowed_close_the_connection() {
    let (mut a, b, bad) = with_bad_reader().await;
    a.rhio.allow_log(ASKED);
    put(&a, "out", "k", "v").await;
    wait_for_object(&b, "inbox", "k", b"v").await;
    let known = hash(b"v");
    let mut collection = request(known, &[0, 1]);
    // Not one blob, but everything that it may list.
    collection[33] = 1;
    let cases: [(&str, Vec<u8>); 7] = [
        ("malformed", Vec::new()),
        ("malformed", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        ("malformed", [request(known, &[0, 1]), vec![0]].concat()),
        ("longer than", vec![0; 70_000]),
        ("more than 256 ranges", request(known, &vec![1; 4000])),
        ("asks for nothing", request(known, &[])),
        ("collections", collection),
    ];
    for (reason, bytes) in cases {
        let mark = a.rhio.log_mark();
        let connection = bad.dial(&a).await;
        let _streams = ask(&connection, &bytes).await;
        assert_eq!(closed_with(&connection).await, CloseCode::Protocol, "{reason}");
        let line = a.rhio.wait_for_log_after(mark, ASKED, SOON).await;
        assert!(line.raw.contains(reason), "{reason} in {}", line.raw);
        assert_eq!(line.field("peer").and_then(|peer| peer.as_str()), Some(bad.public_key().as_str()));
    }
    assert_unharmed(a, b).await;
}

#[tokio::test]
async fn content_of_a_bucket_that_a_node_may_not_read_is_not_sent_to_it() {
    let (a, b, bad) = with_bad_reader().await;
    let (open, secret) = (content(1, 50_000), content(2, 50_000));
    put(&a, "out", "open", open.clone()).await;
    put(&a, "private", "secret", secret.clone()).await;
    // Published in both, it may be read by whoever may read one of them.
    put(&a, "private", "open", open.clone()).await;
    wait_for_object(&b, "inbox", "open", &open).await;
    wait_for_object(&b, "copy", "secret", &secret).await;
    let connection = bad.dial(&a).await;
    for unreadable in [hash(&secret), hash(b"nobody has this")] {
        let (_send, mut recv) = ask(&connection, &request(unreadable, &[0, 49])).await;
        let refused = all(&mut recv).await.expect_err("it is not sent");
        // Whether it is there is not told either.
        assert_eq!(code_of(refused), CloseCode::Refused);
    }
    let (_send, mut recv) = ask(&connection, &request(hash(&open), &[0, 49])).await;
    let sent = all(&mut recv).await.expect("it is sent");
    assert!(sent.len() > open.len() && sent.ends_with(&open[49_152..]));
    // What is behind the end only gets the proof of the size, wherever that is.
    for spans in [&[1 << 40, 1][..], &[1 << 40], &[u64::MAX], &[u64::MAX - 1, 1], &[49, u64::MAX - 49]] {
        let (_send, mut recv) = ask(&connection, &request(hash(&open), spans)).await;
        let proof = all(&mut recv).await.expect("the proof");
        assert_eq!(proof[..8], 50_000u64.to_le_bytes());
        assert!(proof.len() < 20_000, "{spans:?}: {} bytes", proof.len());
    }
    let (_send, mut recv) = ask(&connection, &request(hash(&open), &[0, u64::MAX])).await;
    assert_eq!(all(&mut recv).await.expect("all of it"), sent);
    assert_unharmed(a, b).await;
}

#[tokio::test]
async fn many_requests_at_once_are_all_answered() {
    let (a, b, bad) = with_bad_reader().await;
    let small = content(1, 100_000);
    put(&a, "out", "small", small.clone()).await;
    wait_for_object(&b, "inbox", "small", &small).await;
    let connection = bad.dial(&a).await;
    let wanted = request(hash(&small), &[0, 98]);
    let answers = futures_util::future::join_all((0..300).map(async |_| {
        let (_send, mut recv) = ask(&connection, &wanted).await;
        all(&mut recv).await.expect("an answer").len()
    }));
    let answers = answers.await;
    assert!(answers.iter().all(|len| *len == answers[0] && *len > small.len()), "{answers:?}");
    assert_unharmed(a, b).await;
}

#[tokio::test]
async fn a_reader_that_takes_nothing_is_served_a_few_requests_at_once_and_others_all_the_same() {
    let (a, b, bad) = with_bad_reader().await;
    // Longer than what may be under way on a stream.
    let large = content(1, 20 << 20);
    put(&a, "out", "large", large.clone()).await;
    wait_for_object(&b, "inbox", "large", &large).await;
    let before = a.rhio.rss_bytes();
    let connection = bad.dial(&a).await;
    let wanted = request(hash(&large), &[0, 20 << 10]);
    let mut open = Vec::new();
    for _ in 0..300 {
        open.push(ask(&connection, &wanted).await);
    }
    // A few are answered, the others wait.
    let object = a.folder().join("out/large").canonicalize().expect("a file");
    let reading = || {
        let files = std::fs::read_dir(format!("/proc/{}/fd", a.rhio.process_id())).expect("its open files");
        files.flatten().filter(|file| std::fs::read_link(file.path()).is_ok_and(|to| to == object)).count()
    };
    eventually!(SOON, "as many as may be answered at once", reading() == MAX_SERVED_PER_PEER);
    // While it reads nothing, others are served.
    let other = content(2, 9 << 20);
    put(&a, "out", "other", other.clone()).await;
    wait_for_object(&b, "inbox", "other", &other).await;
    assert_eq!(reading(), MAX_SERVED_PER_PEER);
    let grown = a.rhio.rss_peak_bytes().saturating_sub(before);
    assert!(grown < 160 << 20, "the author's memory grew by {} MiB", grown >> 20);
    // Once it goes on, the next ones are begun: none was lost.
    let mut last = open.pop().expect("a stream");
    drop(open);
    let sent = all(&mut last.1).await.expect("an answer");
    assert!(sent.ends_with(&large[large.len() - 100..]));
    assert_unharmed(a, b).await;
}

async fn ask_for(connection: &Connection, frame: Frame) -> (stream::FrameWriter, stream::FrameReader) {
    let (mut writer, reader) = stream::open(connection).await.expect("a stream");
    writer.send(&frame).await.expect("it is sent");
    (writer, reader)
}

async fn watch(connection: &Connection, bucket: &str) -> (stream::FrameWriter, stream::FrameReader) {
    ask_for(connection, Frame::Watch(Interest::Bucket(bucket.into()))).await
}

/// The log of bucket `out`, as soon as there is one.
async fn known(connection: &Connection) -> LogDescriptor {
    let (_writer, mut reader) = watch(connection, "out").await;
    loop {
        match reader.next().await {
            Ok(Some(Frame::Logs(logs))) if logs.is_empty() => {}
            Ok(Some(Frame::Logs(mut logs))) => return logs.remove(0).descriptor,
            other => panic!("instead of a log: {other:?}"),
        }
    }
}

#[tokio::test]
async fn catalogs_are_for_those_who_may_read_them() {
    let (mut a, b, bad) = with_bad_reader().await;
    a.rhio.allow_log("refused a subscription");
    a.rhio.allow_log(BROKE);
    put(&a, "private", "secret", "v").await;
    wait_for_object(&b, "copy", "secret", b"v").await;
    let connection = bad.dial(&a).await;
    for bucket in ["private", "nowhere", "../out", "OUT"] {
        let (_writer, mut reader) = watch(&connection, bucket).await;
        match reader.next().await.expect("an answer") {
            Some(Frame::Refused { code: CloseCode::Refused, reason }) => {
                assert!(reason.contains(&bad.public_key()), "{reason}");
            }
            other => panic!("instead of a refusal: {other:?}"),
        }
    }
    // A session that hears something else than it should ends, with its connection.
    let (mut writer, mut reader) = watch(&connection, "out").await;
    assert!(matches!(reader.next().await, Ok(Some(Frame::Logs(_)))));
    writer.send(&Frame::Blob).await.expect("it is sent");
    assert_eq!(closed_with(&connection).await, CloseCode::Protocol);
    assert_unharmed(a, b).await;
}

#[tokio::test]
async fn whoever_claims_to_hold_more_than_the_author_gets_a_new_epoch_and_nobody_disagrees() {
    let (mut a, b, bad) = with_bad_reader().await;
    a.rhio.allow_log("a subscriber holds more of the catalog than this node");
    for (key, value) in [("one", "1"), ("two", "2")] {
        put(&a, "out", key, value).await;
        wait_for_object(&b, "inbox", key, value.as_bytes()).await;
    }
    let connection = bad.dial(&a).await;
    let before = known(&connection).await;
    // Behind the end; at the end with another hash; in the middle with none.
    let some = Some(OpHash::from_bytes([7; 32]));
    for (next, hash) in [(1000, some), (1, some), (u64::MAX, None)] {
        let begun = lines_with(&a, "begins catalog");
        let log = known(&connection).await.id();
        let pull = Pull { log, next: OpSeq(next), held: hash, want: Want::Bucket };
        let (_writer, mut reader) = ask_for(&connection, Frame::Pull(pull)).await;
        let answer = reader.next().await;
        assert!(matches!(answer, Err(StreamError::Closed(CloseCode::Unavailable))), "{answer:?}");
        eventually!(SOON, "a new epoch", lines_with(&a, "begins catalog") > begun);
    }
    eventually!(SOON, "the newest epoch", known(&connection).await.epoch > before.epoch);
    // The subscriber follows, has what it had, and hears what is new.
    put(&a, "out", "three", "3").await;
    wait_for_object(&b, "inbox", "three", b"3").await;
    wait_for_keys(&b, "inbox", &["one", "three", "two"]).await;
    std::fs::remove_file(a.folder().join("out/one")).expect("it can be deleted");
    assert_unharmed(a, b).await;
}
