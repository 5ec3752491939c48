//! Any bytes that NATS carries, at a real server: in, stored, and out again.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use rhio_nats::raw::connect::connect;
use rhio_nats::raw::connection::{Incoming, Operation, Reader, Writer};
use rhio_nats::raw::encode::Publish;
use rhio_nats::raw::js::{ACK, Api, GetRequest, Pull, PullRequest, Pulled, Refusal, Single, Stored, inbox, mark};
use rhio_nats::settings::Nats;
use serde_json::json;
use testkit::{NatsOptions, NatsServer, create_stream};

use super::{message, next, settings};

/// Subject, block of headers, payload.
type Sent = (&'static [u8], &'static [u8], &'static [u8]);

const ODD: [Sent; 8] = [
    (b"s.plain", b"", b"plain"),
    (b"s.\xFF", b"", b"no UTF-8 in the subject"),
    (b"s.value", b"NATS/1.0\r\nA: \xE9\r\n\r\n", b"\xE9"),
    (b"s.name", b"NATS/1.0\r\ntest header: 1\r\n\r\n", b""),
    (b"s.repeated", b"NATS/1.0\r\nmany: one\r\nMany: two\r\nmany:   three \r\nmany: one\r\n\r\n", b"x"),
    (b"s.status", b"NATS/1.0 408 Request Timeout\r\nNats-Pending-Messages: 1\r\n\r\n", b""),
    (b"s.heartbeat", b"NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: 1\r\n\r\n", b""),
    (b"s.nothing", b"NATS/1.0 503\r\n\r\n", b""),
];

/// What a stream holds of a block, with every server: newer ones take the status out of the first line, and a block
/// away that has nothing else.
fn kept(block: &[u8]) -> Vec<u8> {
    let rest = block.windows(2).position(|window| window == b"\r\n").map_or(block, |at| &block[at..]);
    if rest.len() <= 4 { Vec::new() } else { [b"NATS/1.0", rest].concat() }
}

/// Sends messages to a stream and waits until it has stored all of them.
async fn store(writer: &Writer, reader: &mut Reader, settings: &Nats, messages: &[Sent]) -> BTreeMap<u64, u64> {
    let inbox = inbox(settings);
    writer.subscribe(format!("{inbox}.*").as_bytes(), 900).await.unwrap();
    for (number, (subject, headers, payload)) in messages.iter().enumerate() {
        let reply = format!("{inbox}.{number}");
        let (reply, payload) = (Some(reply.as_bytes()), Bytes::from_static(payload));
        writer.publish(&Publish { subject, reply, headers: &[headers], payload: &payload }).await.unwrap();
    }
    let mut stored = BTreeMap::new();
    while stored.len() < messages.len() {
        let answer = message(reader).await;
        let number = mark(answer.subject()).expect("a number");
        stored.insert(number, Stored::read(&answer).expect("it is stored").seq);
    }
    stored
}

async fn consumer(server: &NatsServer, settings: &Nats, name: &str, ack: &str) -> PullRequest {
    let config = json!({ "stream_name": "S", "config": { "name": name, "ack_policy": ack, "deliver_policy": "all" } });
    let subject = Api::new(settings).subject(&format!("CONSUMER.CREATE.S.{name}"));
    let answer = server.client().await.request(subject, config.to_string().into()).await.unwrap();
    assert!(!answer.payload.windows(7).any(|window| window == b"\"error\""), "{answer:?}");
    let (expires, idle_heartbeat) = (Duration::from_secs(2), Duration::from_secs(1));
    PullRequest { batch: 1000, max_bytes: 1024 * 1024, expires, idle_heartbeat }
}

async fn ask(writer: &Writer, subject: &str, inbox: &str, request: Vec<u8>) {
    let payload = Bytes::from(request);
    let (subject, reply) = (subject.as_bytes(), Some(inbox.as_bytes()));
    writer.publish(&Publish { subject, reply, headers: &[], payload: &payload }).await.unwrap();
}

#[tokio::test]
async fn odd_messages_are_stored_and_delivered_as_they_are() {
    let server = NatsServer::start(NatsOptions::new()).await;
    create_stream(&server.client().await, "S", &["s.>"], json!({})).await.unwrap();
    let settings = settings(&server.address());
    let (writer, mut reader) = connect(&settings, "test").await.unwrap();
    let stored = store(&writer, &mut reader, &settings, &ODD).await;
    assert!(stored.into_iter().eq((0..ODD.len() as u64).map(|number| (number, number + 1))));

    let request = consumer(&server, &settings, "c", "none").await;
    let inbox = inbox(&settings);
    writer.subscribe(inbox.as_bytes(), 1).await.unwrap();
    ask(&writer, &Api::new(&settings).next("S", "c"), &inbox, request.json()).await;
    for (number, (subject, headers, payload)) in (1..).zip(ODD) {
        let message = message(&mut reader).await;
        let Pulled::Delivered(delivery) = Pulled::read(&message, inbox.as_bytes(), b"S", b"c") else {
            panic!("{message:?}")
        };
        assert_eq!((delivery.stream_seq, delivery.consumer_seq, delivery.times), (number, number, 1));
        assert_eq!(delivery.pending, ODD.len() as u64 - number);
        assert!(delivery.time > 1_700_000_000_000_000_000);
        assert_eq!((message.subject(), message.payload()), (subject, payload));
        assert_eq!(kept(message.headers()), kept(headers));
    }
    // The rest of the request is the server's own word.
    let mut heartbeats = 0;
    loop {
        let message = message(&mut reader).await;
        match Pulled::read(&message, inbox.as_bytes(), b"S", b"c") {
            Pulled::Status(Pull::Heartbeat) => heartbeats += 1,
            Pulled::Status(Pull::Over(left)) => {
                assert_eq!((left.messages, heartbeats), (1000 - ODD.len() as u64, 1));
                break;
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn single_messages_are_read_as_they_are_but_for_subjects_that_json_cannot_hold() {
    let server = NatsServer::start(NatsOptions::new()).await;
    create_stream(&server.client().await, "S", &["s.>"], json!({})).await.unwrap();
    let settings = settings(&server.address());
    let (writer, mut reader) = connect(&settings, "test").await.unwrap();
    store(&writer, &mut reader, &settings, &ODD).await;
    let (inbox, api) = (inbox(&settings), Api::new(&settings));
    writer.subscribe(inbox.as_bytes(), 1).await.unwrap();
    for (seq, (subject, headers, payload)) in (1..).zip(ODD) {
        ask(&writer, &api.get("S"), &inbox, GetRequest { seq, filter: None }.json()).await;
        let single = Single::read(&message(&mut reader).await).unwrap().expect("it is there");
        let expected = std::str::from_utf8(subject).ok().map(|text| text.as_bytes().to_vec());
        assert_eq!((single.seq, single.subject), (seq, expected));
        assert_eq!((kept(&single.headers), &single.payload[..]), (kept(headers), payload));
    }
    ask(&writer, &api.get("S"), &inbox, GetRequest { seq: 100, filter: None }.json()).await;
    assert_eq!(Single::read(&message(&mut reader).await), Ok(None));
    ask(&writer, &api.get("NONE"), &inbox, GetRequest { seq: 1, filter: None }.json()).await;
    assert!(matches!(Single::read(&message(&mut reader).await), Err(Refusal::Server { code: 404, .. })));
}

#[tokio::test]
async fn single_messages_are_read_directly_as_they_are() {
    let server = NatsServer::start(NatsOptions::new()).await;
    create_stream(&server.client().await, "S", &["s.>"], json!({ "allow_direct": true })).await.unwrap();
    let settings = settings(&server.address());
    let (writer, mut reader) = connect(&settings, "test").await.unwrap();
    store(&writer, &mut reader, &settings, &ODD).await;
    let (inbox, api) = (inbox(&settings), Api::new(&settings));
    writer.subscribe(inbox.as_bytes(), 1).await.unwrap();
    for (seq, (subject, headers, payload)) in (1..).zip(ODD) {
        let mut read = async |direct: bool| {
            let place = if direct { api.direct_get("S") } else { api.get("S") };
            ask(&writer, &place, &inbox, GetRequest { seq, filter: None }.json()).await;
            let answer = message(&mut reader).await;
            if direct { Single::read_direct(&answer) } else { Single::read(&answer) }
        };
        let single = read(true).await.unwrap().expect("it is there");
        assert_eq!((single.subject.as_deref(), &single.payload[..]), (Some(subject), payload));
        assert_eq!(kept(&single.headers), kept(headers));
        // Both ways of reading give the same.
        let other = read(false).await.unwrap().expect("it is there");
        assert_eq!((single.seq, single.time, single.headers), (other.seq, other.time, other.headers));
    }
    ask(&writer, &api.direct_get("S"), &inbox, GetRequest { seq: 100, filter: None }.json()).await;
    assert_eq!(Single::read_direct(&message(&mut reader).await), Ok(None));
    ask(&writer, &api.direct_get("NONE"), &inbox, GetRequest { seq: 1, filter: None }.json()).await;
    assert_eq!(Single::read_direct(&message(&mut reader).await), Err(Refusal::Nobody));
}

#[tokio::test]
async fn a_work_queue_drops_what_is_acknowledged() {
    let server = NatsServer::start(NatsOptions::new()).await;
    let client = server.client().await;
    create_stream(&client, "S", &["s.>"], json!({ "retention": "workqueue" })).await.unwrap();
    let settings = settings(&server.address());
    let (writer, mut reader) = connect(&settings, "test").await.unwrap();
    store(&writer, &mut reader, &settings, &ODD).await;
    let request = consumer(&server, &settings, "c", "explicit").await;
    let inbox = inbox(&settings);
    writer.subscribe(inbox.as_bytes(), 1).await.unwrap();
    ask(&writer, &Api::new(&settings).next("S", "c"), &inbox, request.json()).await;
    let payload = Bytes::from_static(ACK);
    for _ in ODD {
        let message = message(&mut reader).await;
        let subject = message.reply().expect("a place to acknowledge it");
        writer.publish(&Publish { subject, reply: None, headers: &[], payload: &payload }).await.unwrap();
    }
    writer.round_trip().await.unwrap();
    let stream = async_nats::jetstream::new(client).get_stream("S").await.unwrap();
    testkit::eventually!(super::SOON, "an empty stream", {
        stream.get_info().await.is_ok_and(|info| info.state.messages == 0)
    });
}

#[tokio::test]
async fn what_is_not_stored_is_told() {
    let server = NatsServer::start(NatsOptions::new()).await;
    let limit = json!({ "max_msgs": 1, "discard": "new" });
    create_stream(&server.client().await, "S", &["s.>"], limit).await.unwrap();
    let settings = settings(&server.address());
    let (writer, mut reader) = connect(&settings, "test").await.unwrap();
    let inbox = inbox(&settings);
    writer.subscribe(inbox.as_bytes(), 1).await.unwrap();
    let mut answer = async |subject: &str| {
        ask(&writer, subject, &inbox, b"x".to_vec()).await;
        let message = message(&mut reader).await;
        Stored::read(&message).map(|stored| stored.seq)
    };
    assert_eq!(answer("s.1").await, Ok(1));
    let full = answer("s.2").await.unwrap_err();
    assert!(matches!(&full, Refusal::Server { description, .. } if description.contains("maximum messages")), "{full}");
    assert_eq!(answer("elsewhere").await, Err(Refusal::Nobody));
}

#[tokio::test]
async fn what_a_user_may_not_do_is_told_with_its_subject() {
    let rules = "authorization { users: [ { user: me, password: pw, permissions: {
        publish: { deny: [\"s.secret.>\"] }, subscribe: { deny: \"hidden\" } } } ] }";
    let server = NatsServer::start(NatsOptions::new().config(rules)).await;
    let mut settings = settings(&server.address());
    let password = rhio_core::secret::Secret::new("pw");
    settings.credentials = Some(rhio_nats::settings::Credentials::UserPassword { username: "me".into(), password });
    let (writer, mut reader) = connect(&settings, "test").await.unwrap();
    let payload = Bytes::new();
    let secret = Publish { subject: b"s.secret.\xFFx", reply: None, headers: &[], payload: &payload };
    writer.publish(&secret).await.unwrap();
    writer.subscribe(b"hidden", 1).await.unwrap();
    writer.subscribe(b"s.open", 2).await.unwrap();
    writer.publish(&Publish { subject: b"s.open", ..secret }).await.unwrap();
    let mut denied = Vec::new();
    loop {
        match next(&mut reader).await {
            Incoming::Denied(found) => denied.push((found.operation, found.subject)),
            Incoming::Message(message) => {
                assert_eq!(message.subject(), b"s.open");
                break;
            }
            Incoming::Info(_) => {}
        }
    }
    let expected = [(Operation::Publish, b"s.secret.\xFFx".to_vec()), (Operation::Subscribe, b"hidden".to_vec())];
    assert_eq!(denied, expected);
}

#[tokio::test]
async fn messages_as_large_as_servers_allow() {
    let max = 8 * 1024 * 1024;
    let server = NatsServer::start(NatsOptions::new().max_payload(max)).await;
    let (writer, mut reader) = connect(&settings(&server.address()), "test").await.unwrap();
    writer.subscribe(b"large", 1).await.unwrap();
    let headers: &[u8] = b"NATS/1.0\r\nA: 1\r\n\r\n";
    let payload: Bytes = (0..max - headers.len()).map(|at| at as u8).collect();
    let sent = Publish { subject: b"large", reply: None, headers: &[headers], payload: &payload };
    for _ in 0..5 {
        writer.publish(&sent).await.unwrap();
    }
    for _ in 0..5 {
        let message = message(&mut reader).await;
        assert!(message.payload() == payload && message.headers() == headers);
    }
    let larger = Bytes::from(vec![0; max + 1]);
    assert!(writer.publish(&Publish { headers: &[], payload: &larger, ..sent }).await.is_err());
    writer.round_trip().await.unwrap();
}

#[tokio::test]
async fn a_server_that_stands_still_and_goes_on_is_left_and_one_that_ends_says_so() {
    let mut server = NatsServer::start(NatsOptions::new()).await;
    let (_writer, mut reader) = connect(&settings(&server.address()), "test").await.unwrap();
    server.stop().await;
    let lost = loop {
        if let Err(lost) = tokio::time::timeout(super::SOON, reader.next()).await.expect("in time") {
            break lost;
        }
    };
    assert!(!lost.to_string().is_empty());
    server.restart().await;
    let (_writer, mut reader) = connect(&settings(&server.address()), "test").await.unwrap();
    server.pause();
    let lost = tokio::time::timeout(super::SOON, async { while reader.next().await.is_ok() {} }).await;
    server.resume();
    assert!(lost.is_ok(), "within ten seconds");
}
