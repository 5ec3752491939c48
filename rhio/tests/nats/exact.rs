//! Messages arrive byte for byte, whatever an app has sent, and none of them holds up the others.

use bytes::Bytes;
use common::{SOON, expect_departures, finish, start};
use rhio_core::headers::restore;
use rhio_nats::raw::encode::Publish;
use rhio_nats::raw::exchange::Exchange;
use rhio_nats::raw::js::{Api, GetRequest, Single, Stored};
use rhio_nats::reader::single::get_over;
use rhio_nats::settings::{Endpoint, Nats};
use serde_json::json;
use testkit::{Cluster, eventually, link};

/// What an app sends: subject, block of headers, payload.
type Sent = (&'static [u8], &'static [u8], &'static [u8]);

/// Everything odd that NATS carries, with plain messages between.
const ODD: [Sent; 17] = [
    (b"s.plain", b"", b"first"),
    (b"s.\xFF", b"", b"a subject that is no text"),
    (b"s.e\xCC\x81.\x01", b"", b"control characters, and letters in two pieces"),
    (b"s.h", b"NATS/1.0\r\nA: \xE9\r\n\r\n", b"a value that is no text"),
    (b"s.h", b"NATS/1.0\r\ntest header: 1\r\n\r\n", b"a space in a name"),
    (b"s.h", b"NATS/1.0\r\nb:2\r\nA:  1 \r\nb: 1\r\nB: 3\r\n\r\n", b"order, spelling, spaces, repeats"),
    (b"s.h", b"NATS/1.0\r\nmany: one\r\nmany: two\r\n\r\n", b"two values"),
    (b"s.h", b"NATS/1.0\r\n\r\n", b"no header in a block"),
    (b"s.h", b"NATS/1.0 503 No Responders\r\n\r\n", b"a status line"),
    (b"s.h", b"NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: 1\r\n\r\n", b""),
    (b"s.h", b"NATS/1.0\r\nno colon\r\n:no name\r\n\r\n", b"lines that are no headers"),
    (b"s.h", b"NATS/1.0\r\nX-Rhio-Source: mine\r\nx-rhio-Msg-Id: mine\r\n\r\n", b"headers like ours"),
    (b"s.h", b"NATS/1.0\r\nnats-msg-id: 1\r\nNats-Msg-Id: 2\r\nNats-Subject: s.x\r\n\r\n", b"headers of NATS"),
    (b"s.h", b"NATS/1.0\r\nA: 1\r\n\r\nNats-Expected-Stream: S\r\n", b"something behind the end"),
    (b"s.h", b"whatever", b"a block that is none"),
    (b"s.*.>", b"", b"wildcards are letters here"),
    (b"s.plain", b"", b"last"),
];

async fn exchange(cluster: &Cluster) -> Exchange {
    let endpoint = Endpoint { tls: false, host: "127.0.0.1".into(), port: cluster.nats.port() };
    let settings = Nats { endpoint: vec![endpoint], ..Nats::default() };
    Exchange::open(&settings, "test").await.expect("a connection")
}

/// Sends these, and gives what became of each: a number in the stream, or the server's refusal.
async fn send(cluster: &Cluster, messages: &[Sent]) -> Vec<bool> {
    let mut exchange = exchange(cluster).await;
    let mut stored = Vec::new();
    for (mark, (subject, headers, payload)) in (1000..).zip(messages) {
        let reply = exchange.answer_subject(mark);
        let payload = Bytes::from_static(payload);
        let message = Publish { subject, reply: Some(reply.as_bytes()), headers: &[headers], payload: &payload };
        exchange.writer.publish(&message).await.expect("it is sent");
        let answer = loop {
            let next = tokio::time::timeout(SOON, exchange.reader.next()).await.expect("an answer").expect("an answer");
            if let rhio_nats::raw::connection::Incoming::Message(message) = next {
                break message;
            }
        };
        stored.push(Stored::read(&answer).is_ok());
    }
    stored
}

/// Everything that a stream holds, as bytes.
async fn held(cluster: &Cluster, stream: &str) -> Vec<Single> {
    let (mut exchange, api) = (exchange(cluster).await, Api::new(&Nats::default()));
    let mut found = Vec::new();
    let mut seq = 1;
    loop {
        let question = GetRequest { seq, filter: Some(">") };
        let answer = get_over(&mut exchange, &api, stream, &[question]).await.expect("the stream can be read");
        let Some(single) = answer.into_iter().flatten().next() else { return found };
        seq = single.seq + 1;
        found.push(single);
    }
}

/// What the source must have been, by what arrived.
fn restored(single: &Single) -> (Vec<u8>, Vec<u8>, Vec<u8>) {
    let (headers, _) = restore(&single.headers).expect("rhio's headers");
    (single.subject.clone().unwrap_or_default(), headers, single.payload.clone())
}

/// What the source stream has: the server takes the status out of a first line, and changes nothing else.
async fn at_source(cluster: &Cluster) -> Vec<(Vec<u8>, Vec<u8>, Vec<u8>)> {
    let held: Vec<_> = held(cluster, "S").await;
    let all = held.into_iter().map(|single| (single.subject.unwrap_or_default(), single.headers, single.payload));
    let all: Vec<_> = all.collect();
    for ((subject, headers, payload), (sent_subject, sent_headers, sent_payload)) in all.iter().zip(ODD) {
        assert_eq!((&subject[..], &payload[..]), (sent_subject, sent_payload));
        assert!(headers == sent_headers || sent_headers.starts_with(b"NATS/1.0 "));
    }
    all
}

async fn arrived(cluster: &Cluster, stream: &str, count: usize) -> Vec<Single> {
    eventually!(SOON, format!("{count} messages in {stream}"), {
        let held = held(cluster, stream).await;
        if held.len() == count { Ok(held) } else { Err(format!("there are {}", held.len())) }
    })
}

async fn odd_pair(settings: serde_json::Value) -> (Cluster, Cluster) {
    let (mut a, mut b) = tokio::join!(Cluster::new("a"), Cluster::new("b"));
    let mut settings = settings;
    settings["allow_direct"] = json!(true);
    a.create_stream_with("S", &["s.>"], settings).await;
    b.create_stream_with("S", &["s.>"], json!({"allow_direct": true})).await;
    link(&mut a, &mut b);
    a.publish("s.>", "S");
    b.subscribe("s.>", "S", &a);
    expect_departures(&mut b);
    (a, b)
}

#[tokio::test]
async fn whatever_nats_carries_arrives_byte_for_byte_live_and_later() {
    for live in [true, false] {
        let (mut a, mut b) = odd_pair(json!({})).await;
        if live {
            start(&mut a, &mut b).await;
        }
        assert_eq!(send(&a, &ODD).await, [true; ODD.len()], "the source takes all of it");
        if !live {
            start(&mut a, &mut b).await;
        }
        let found = arrived(&b, "S", ODD.len()).await;
        let found: Vec<_> = found.iter().map(restored).collect();
        assert!(found == at_source(&a).await, "live: {live}");
        finish(a, b).await;
    }
}

#[tokio::test]
async fn whatever_a_work_queue_has_arrives_byte_for_byte_also_when_it_is_read_again() {
    let (mut a, mut b) = odd_pair(json!({"retention": "workqueue"})).await;
    a.rhio.set_env("RHIO_TEST_ACK_WAIT_SECONDS", "2");
    a.rhio.start().await;
    assert_eq!(send(&a, &ODD).await, [true; ODD.len()]);
    // Delivered, and not acknowledged: the next run must read them in another way.
    eventually!(SOON, "all of it to be sealed", {
        common::counted(&a, "rhio_sealed_messages_total").await >= ODD.len() as f64
    });
    let expected = at_source(&a).await;
    a.rhio.restart().await;
    b.rhio.start().await;
    let found = arrived(&b, "S", ODD.len()).await;
    let found: Vec<_> = found.iter().map(restored).collect();
    assert!(found == expected);
    eventually!(SOON, "the queue to be empty", a.stream_len("S").await == 0);
    finish(a, b).await;
}

#[tokio::test]
async fn an_odd_message_holds_up_no_other_publication() {
    let (mut a, mut b) = odd_pair(json!({})).await;
    for cluster in [&a, &b] {
        cluster.create_stream("T", &["t.>"]).await;
    }
    a.publish("t.>", "T");
    b.subscribe("t.>", "T", &a);
    start(&mut a, &mut b).await;
    send(&a, &ODD).await;
    common::publish(&a, "t.x", &[], "there").await;
    common::wait_for_records(&b, "T", 1).await;
    arrived(&b, "S", ODD.len()).await;
    finish(a, b).await;
}
