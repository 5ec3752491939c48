//! A reader that sends what it must not, or takes nothing: its connection is closed where it must be, it is named in the
//! log, and everybody else is served.

use bytes::Bytes;
use common::peer::{Peer, closed_with, next_request, pull, watch};
use common::{SOON, publish, wait_for_records};
use rhio_core::id::{LogId, OpHash, OpSeq};
use rhio_core::log::operation::Head;
use rhio_core::wire::{Batch, CloseCode, Frame, Pull, VERSION, Want};
use rhio_net::stream;
use testkit::{Cluster, eventually};

const BROKE: &str = "a node broke the protocol";

/// An author `a` with a good reader `b` and a bad one.
async fn scene() -> (Cluster, Cluster, Peer) {
    let (mut a, mut b) = common::replicating_pair().await;
    let bad = Peer::beside(&a).await;
    let mut node = bad.as_node();
    node.endpoints.clear();
    a.rhio.rewrite_config(|config| config.nodes.push(node));
    common::start(&mut a, &mut b).await;
    publish(&a, "s.x", &[], "first").await;
    wait_for_records(&b, "S", 1).await;
    (a, b, bad)
}

async fn assert_unharmed(a: Cluster, b: Cluster) {
    publish(&a, "s.x", &[], "last").await;
    a.check("S", ">", &b, "S").await.until_clean(SOON).await.assert_clean();
    common::finish(a, b).await;
}

#[tokio::test]
async fn whoever_breaks_the_protocol_is_named_and_its_connection_closed() {
    let (mut a, b, bad) = scene().await;
    a.rhio.allow_log(BROKE);
    for (bytes, reason) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], "version 71"),
        (&[VERSION, 99, 0, 0, 0, 0], "frame kind"),
        (&[VERSION, 3, 0xff, 0xff, 0xff, 0xff], "frame length is 4294967295"),
        (&[VERSION, 1, 0, 0, 0, 4, 1, 0, 1, b' '], "filter"),
        (&[VERSION, 7, 0, 0, 0, 0], "unexpected frame"),
        (&[VERSION, 4, 0, 0, 0, 4, 0, 0, 0, 0], "unexpected frame"),
    ] {
        let mark = a.rhio.log_mark();
        let connection = bad.dial(&a).await;
        let (mut writer, _reader) = stream::open(&connection).await.expect("a stream");
        writer.send_bytes(Bytes::copy_from_slice(bytes)).await.expect("it is sent");
        assert_eq!(closed_with(&connection).await, CloseCode::Protocol);
        let line = a.rhio.wait_for_log_after(mark, BROKE, SOON).await;
        assert!(line.raw.contains(reason), "{reason} in {}", line.raw);
        assert_eq!(line.field("peer").and_then(|peer| peer.as_str()), Some(bad.public_key().as_str()));
    }
    assert_unharmed(a, b).await;
}

#[tokio::test]
async fn a_stream_that_ends_in_the_middle_of_a_frame_breaks_the_protocol() {
    let (mut a, b, bad) = scene().await;
    a.rhio.allow_log(BROKE);
    let connection = bad.dial(&a).await;
    let (mut writer, _reader) = stream::open(&connection).await.expect("a stream");
    writer.send_bytes(Bytes::from_static(&[VERSION, 1, 0, 0, 0, 9, 1, 0, 7, b's'])).await.expect("it is sent");
    writer.finish().await;
    assert_eq!(closed_with(&connection).await, CloseCode::Protocol);
    let line = a.rhio.wait_for_log(BROKE, SOON).await;
    assert!(line.raw.contains("ended in the middle of a frame"), "{}", line.raw);
    assert_unharmed(a, b).await;
}

#[tokio::test]
async fn a_session_that_hears_something_else_than_it_should_is_closed() {
    let (mut a, b, bad) = scene().await;
    a.rhio.allow_log(BROKE);
    let connection = bad.dial(&a).await;
    let (_watch_writer, _watch_reader, logs) = watch(&connection, "s.>").await;
    let (mut writer, mut reader) = stream::open(&connection).await.expect("a stream");
    writer.send(&pull(&logs[0])).await.expect("it is sent");
    reader.next().await.expect("a batch");
    writer.send(&Frame::End).await.expect("it is sent");
    assert_eq!(closed_with(&connection).await, CloseCode::Protocol);
    a.rhio.wait_for_log(BROKE, SOON).await;
    assert_unharmed(a, b).await;
}

#[tokio::test]
async fn whoever_says_it_has_what_was_never_sent_is_not_believed() {
    let (mut a, mut b) = common::pair().await;
    a.create_stream_with("Q", &["q.>"], serde_json::json!({"retention": "workqueue"})).await;
    a.publish("q.>", "Q");
    b.create_stream("Q", &["q.>"]).await;
    b.subscribe("q.>", "Q", &a);
    let bad = Peer::beside(&a).await;
    let mut node = bad.as_node();
    node.endpoints.clear();
    a.rhio.rewrite_config(|config| config.nodes.push(node));
    a.rhio.allow_log(BROKE);
    a.start().await;
    publish(&a, "q.x", &[], "kept").await;
    let connection = bad.dial(&a).await;
    let (_watch_writer, _watch_reader, logs) = watch(&connection, "q.>").await;
    for seq in [7, u64::MAX] {
        let (mut writer, mut reader) = stream::open(&connection).await.expect("a stream");
        writer.send(&pull(&logs[0])).await.expect("it is sent");
        let head = Head { seq: OpSeq(seq), hash: OpHash::from_bytes([7; 32]) };
        writer.send(&Frame::Applied(head)).await.expect("it is sent");
        // The session ends, after what was on its way.
        while let Ok(Some(_)) = reader.next().await {}
        assert_eq!(a.stream_len("Q").await, 1);
    }
    common::expect_departures(&mut b);
    b.start().await;
    wait_for_records(&b, "Q", 1).await;
    eventually!(SOON, "the queue to be empty", a.stream_len("Q").await == 0);
    common::finish(a, b).await;
}

#[tokio::test]
async fn a_log_that_nobody_has_is_not_served() {
    let (a, b, bad) = scene().await;
    let connection = bad.dial(&a).await;
    let (mut writer, mut reader) = stream::open(&connection).await.expect("a stream");
    let filter = rhio_core::subject::Filter::parse("s.>").expect("a filter");
    let log = LogId::from_bytes([3; 32]);
    let want = Want::Messages { filter, floors: Vec::new() };
    let pull = Pull { log, next: OpSeq(0), held: None, want };
    writer.send(&Frame::Pull(pull)).await.expect("it is sent");
    let answer = reader.next().await;
    assert!(matches!(answer, Err(stream::StreamError::Closed(CloseCode::Unavailable))), "{answer:?}");
    assert_unharmed(a, b).await;
}

#[tokio::test]
async fn whoever_claims_to_hold_more_than_the_author_is_asked_for_it_and_costs_nobody_anything() {
    let (mut a, b, bad) = scene().await;
    for words in ["holds more than this node", "holds another log", "did not sign", "do not continue"] {
        a.rhio.allow_log(words);
    }
    let connection = bad.dial(&a).await;
    let (_watch_writer, _watch_reader, logs) = watch(&connection, "s.>").await;
    let (mut writer, _reader) = stream::open(&connection).await.expect("a stream");
    let Frame::Pull(mut claim) = pull(&logs[0]) else { panic!("a pull") };
    (claim.next, claim.held) = (OpSeq(1000), Some(OpHash::from_bytes([7; 32])));
    writer.send(&Frame::Pull(claim)).await.expect("it is sent");
    // The author asks for what it may have forgotten, and gets rubbish.
    let asked = tokio::time::timeout(SOON, async {
        loop {
            let (writer, _reader, frame) = next_request(&connection).await.expect("a request");
            if let Frame::Pull(Pull { want: Want::Settle, .. }) = frame {
                return writer;
            }
        }
    });
    let mut answer = asked.await.expect("it is asked");
    answer.send(&Frame::Batch(Batch::bare(Bytes::from_static(b"rubbish")))).await.expect("it is sent");
    answer.send(&Frame::End).await.expect("it is sent");
    assert_unharmed(a, b).await;
}

#[tokio::test]
async fn many_streams_with_half_a_frame_cost_little_and_nobody_waits() {
    let (a, b, bad) = scene().await;
    let before = a.rhio.rss_bytes();
    let connection = bad.dial(&a).await;
    let mut open = Vec::new();
    for _ in 0..400 {
        let (mut writer, reader) = stream::open(&connection).await.expect("a stream");
        // It promises half a mebibyte.
        writer.send_bytes(Bytes::from_static(&[VERSION, 4, 0, 8, 0, 0, 1])).await.expect("it is sent");
        open.push((writer, reader));
    }
    a.publisher(&["s.x"]).await.publish(500).await;
    a.check("S", ">", &b, "S").await.until_clean(SOON).await.assert_clean();
    let grown = a.rhio.rss_bytes().saturating_sub(before);
    assert!(grown < 32 << 20, "the author's memory grew by {} MiB", grown >> 20);
    assert_unharmed(a, b).await;
}

#[tokio::test]
async fn many_connections_of_one_node_take_each_others_place() {
    let (a, b, bad) = scene().await;
    let mut all = Vec::new();
    for _ in 0..12 {
        all.push(bad.dial(&a).await);
    }
    eventually!(SOON, "the oldest to be closed", {
        all.iter().filter(|connection| connection.close_reason().is_none()).count() <= 4
    });
    assert_eq!(closed_with(&all[0]).await, CloseCode::Superseded);
    assert_unharmed(a, b).await;
}

#[tokio::test]
async fn a_reader_that_never_reads_costs_the_author_and_the_others_nothing() {
    let (a, b, bad) = scene().await;
    let connection = bad.dial(&a).await;
    let (_watch_writer, _watch_reader, logs) = watch(&connection, "s.>").await;
    let mut open = Vec::new();
    for _ in 0..4 {
        let (mut writer, reader) = stream::open(&connection).await.expect("a stream");
        writer.send(&pull(&logs[0])).await.expect("it is sent");
        open.push((writer, reader));
    }
    let before = a.rhio.rss_bytes();
    a.publisher(&["s.x"]).await.size(32 * 1024).publish(2000).await;
    let report = a.check("S", "s.>", &b, "S").await.until_clean(SOON).await;
    assert_eq!(report.arrived, 2001);
    let grown = a.rhio.rss_peak_bytes().saturating_sub(before);
    assert!(grown < 128 << 20, "the author's memory grew by {} MiB", grown >> 20);
    drop(open);
    assert_unharmed(a, b).await;
}
