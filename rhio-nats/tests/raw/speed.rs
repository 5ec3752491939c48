//! How fast messages are read and written, beside the library that the rest of rhio uses. Run by hand, in release mode:
//! `cargo test --release -p rhio-nats --test raw speed -- --ignored --nocapture --test-threads 1`.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt;
use rhio_nats::raw::connect::connect;
use rhio_nats::raw::connection::{Reader, Writer};
use rhio_nats::raw::encode::Publish;
use rhio_nats::raw::js::{Api, Pull, PullRequest, Pulled, Stored, inbox};
use rhio_nats::settings::Nats;
use serde_json::json;
use testkit::{NatsOptions, NatsServer, create_stream};

use super::{message, settings};

const MESSAGES: u64 = 400_000;
const SIZE: usize = 256;
/// Messages that are asked for at once.
const BATCH: u32 = 2048;
/// Every so manyth message asks for an answer.
const MARK: u64 = 100;

/// What this process has used of the processor, in seconds.
fn used() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap();
    let rest = text.rsplit_once(')').unwrap().1;
    let ticks: f64 = rest.split_whitespace().skip(11).take(2).map(|word| word.parse::<f64>().unwrap()).sum();
    ticks / 100.0
}

struct Measure {
    what: &'static str,
    begun: Instant,
    used: f64,
}

impl Measure {
    fn begin(what: &'static str) -> Self {
        Self { what, begun: Instant::now(), used: used() }
    }

    fn end(self) {
        let (took, used) = (self.begun.elapsed().as_secs_f64(), used() - self.used);
        let million = 1e6 / MESSAGES as f64;
        let rate = MESSAGES as f64 / took;
        println!("{:26} {rate:9.0} messages/s, {:.2} CPU s per million", self.what, used * million);
    }
}

async fn write(writer: &Writer, reader: &mut Reader, settings: &Nats) {
    let inbox = inbox(settings);
    writer.subscribe(format!("{inbox}.*").as_bytes(), 1).await.unwrap();
    let payload = Bytes::from(vec![b'x'; SIZE]);
    let headers: [&[u8]; 2] = [b"NATS/1.0\r\nrhio-operation: 0123456789abcdef\r\n", b"A: 1\r\n\r\n"];
    let mut answers = 0;
    let mut wanted = 0;
    for number in 1..=MESSAGES {
        let reply = (number % MARK == 0).then(|| format!("{inbox}.{number}").into_bytes());
        wanted += u64::from(reply.is_some());
        let message = Publish { subject: b"s.a", reply: reply.as_deref(), headers: &headers, payload: &payload };
        writer.publish(&message).await.unwrap();
        while wanted - answers > 100 {
            Stored::read(&message_of(reader).await).unwrap();
            answers += 1;
        }
    }
    while answers < wanted {
        Stored::read(&message_of(reader).await).unwrap();
        answers += 1;
    }
}

async fn message_of(reader: &mut Reader) -> rhio_nats::raw::parse::Message {
    message(reader).await
}

async fn read(writer: &Writer, reader: &mut Reader, settings: &Nats) {
    let (inbox, subject) = (inbox(settings), Api::new(settings).next("S", "raw"));
    let (expires, idle_heartbeat) = (Duration::from_secs(30), Duration::from_secs(5));
    let request = PullRequest { batch: BATCH, max_bytes: 0, expires, idle_heartbeat }.json().into();
    let ask = Publish { subject: subject.as_bytes(), reply: Some(inbox.as_bytes()), headers: &[], payload: &request };
    writer.subscribe(inbox.as_bytes(), 2).await.unwrap();
    writer.publish(&ask).await.unwrap();
    let (mut seen, mut asked) = (0, u64::from(BATCH));
    while seen < MESSAGES {
        if asked - seen < u64::from(BATCH) / 2 {
            writer.publish(&ask).await.unwrap();
            asked += u64::from(BATCH);
        }
        let message = message(reader).await;
        match Pulled::read(&message, inbox.as_bytes(), b"S", b"raw") {
            Pulled::Delivered(delivery) => {
                seen += 1;
                assert_eq!((delivery.consumer_seq, message.payload().len()), (seen, SIZE));
            }
            Pulled::Status(Pull::Heartbeat | Pull::Over(_)) => {}
            other => panic!("{other:?}"),
        }
    }
}

async fn read_with_library(client: &async_nats::Client) {
    let stream = async_nats::jetstream::new(client.clone()).get_stream("S").await.unwrap();
    let config = async_nats::jetstream::consumer::pull::Config {
        ack_policy: async_nats::jetstream::consumer::AckPolicy::None,
        ..Default::default()
    };
    let consumer = stream.create_consumer(config).await.unwrap();
    let messages = consumer.stream().max_messages_per_batch(BATCH as usize).heartbeat(Duration::from_secs(5));
    let mut messages = messages.messages().await.unwrap();
    for seen in 1..=MESSAGES {
        let message = messages.next().await.unwrap().unwrap();
        assert_eq!((message.info().unwrap().consumer_sequence, message.payload.len()), (seen, SIZE));
    }
}

async fn write_with_library(client: &async_nats::Client) {
    let inbox = client.new_inbox();
    let mut acks = client.subscribe(format!("{inbox}.*")).await.unwrap();
    let payload = Bytes::from(vec![b'x'; SIZE]);
    let (mut answers, mut wanted) = (0, 0);
    for number in 1..=MESSAGES {
        let mut headers = async_nats::HeaderMap::new();
        headers.insert("rhio-operation", "0123456789abcdef");
        headers.insert("A", "1");
        if number % MARK == 0 {
            let reply = format!("{inbox}.{number}");
            client.publish_with_reply_and_headers("s.a", reply, headers, payload.clone()).await.unwrap();
            wanted += 1;
        } else {
            client.publish_with_headers("s.a", headers, payload.clone()).await.unwrap();
        }
        while wanted - answers > 100 {
            acks.next().await.unwrap();
            answers += 1;
        }
    }
    while answers < wanted {
        acks.next().await.unwrap();
        answers += 1;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn speed() {
    let server = NatsServer::start(NatsOptions::new()).await;
    let client = server.client().await;
    create_stream(&client, "S", &["s.>"], json!({})).await.unwrap();
    let settings = settings(&server.address());
    let (writer, mut reader) = connect(&settings, "test").await.unwrap();

    let measure = Measure::begin("written");
    write(&writer, &mut reader, &settings).await;
    measure.end();
    let config = json!({ "stream_name": "S", "config": { "name": "raw", "ack_policy": "none", "mem_storage": true } });
    client.request("$JS.API.CONSUMER.CREATE.S.raw", config.to_string().into()).await.unwrap();
    let measure = Measure::begin("read");
    read(&writer, &mut reader, &settings).await;
    measure.end();

    let measure = Measure::begin("read with the library");
    read_with_library(&client).await;
    measure.end();
    let measure = Measure::begin("written with the library");
    write_with_library(&client).await;
    measure.end();
}
