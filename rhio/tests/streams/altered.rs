//! A source stream that has another message than its author signed: it is not sent, and said.

use common::peer::Log;
use common::{SOON, finish, publish, replicating_pair, start, stream, texts, wait_for_records, waits_with};
use rhio_core::id::SourceSeq;
use rhio_core::log::commit::Commit;
use rhio_core::log::descriptor::{LogDescriptor, Source};
use rhio_core::record::{CanonicalRecord, SourceRecord};
use rhio_core::seal::Tail;
use rhio_core::subject::Filter;
use rhio_nats::client::Client;
use rhio_nats::connect::{ConnectSettings, connect};
use rhio_nats::settings::{Endpoint, Nats};
use rhio_nats::source::SourceStream;
use rhio_nats::state::StateStore;
use testkit::{Cluster, eventually};

async fn client(cluster: &Cluster) -> (Client, Nats) {
    let endpoint = Endpoint { host: "127.0.0.1".into(), port: cluster.nats.port(), ..Endpoint::default() };
    let settings = Nats { endpoint: vec![endpoint], ..Nats::default() };
    (connect(&settings, "test", ConnectSettings::default()).await.expect("a connection"), settings)
}

/// Writes the log that the author's rhio will go on with: of every message in its stream S an operation, which says of
/// message 2 that it was another one.
async fn sign_another(author: &Cluster) {
    let (client, settings) = client(author).await;
    let filter = Filter::parse("s.>").expect("a filter");
    let source = SourceStream::open(&client, "S", &filter).await.expect("a stream");
    let key = author.rhio.signing_key().clone();
    let about = Source { stream: "S".into(), created: source.created(), filter };
    let descriptor = LogDescriptor::messages(key.verifying_key().into(), 1_700_000_000_000, about);
    let state = StateStore::open(&client, &settings.state, descriptor.author).await.expect("the state stream");
    state.put_descriptor(&descriptor).await.expect("it is stored");
    let mut log = Log { key, descriptor, tail: Tail::default() };
    let (subject, mut last) = (state.own(log.descriptor.id()), 0);
    for seq in 1..=3 {
        let mut record = source.message(SourceSeq(seq)).await.expect("an answer").expect("a message");
        if seq == 2 {
            let another = CanonicalRecord::encode("s.x", b"", b"another").expect("a record");
            record = SourceRecord { record: another, ..record };
        }
        let operation = log.sign(&record);
        last = state.append(&subject, &Commit::own(operation.raw().clone()), last).await.expect("it is stored");
    }
    let server = client.server_info().server_id;
    state.note_server(log.descriptor.id(), &server, log.tail.through).await.expect("it is stored");
}

#[tokio::test]
async fn a_message_that_is_not_what_was_signed_is_not_sent_and_goes_on_without_it_once_it_is_deleted() {
    let (mut a, mut b) = replicating_pair().await;
    for text in ["one", "two", "three"] {
        publish(&a, "s.x", &[], text).await;
    }
    sign_another(&a).await;
    a.rhio.allow_log("is not what it was when it was signed");
    b.rhio.allow_log("waiting: ");
    start(&mut a, &mut b).await;

    let line = a.rhio.wait_for_log("is not what it was when it was signed", SOON).await;
    assert!(line.message.contains("message 2 of stream 'S'"), "{}", line.message);
    let entry = eventually!(SOON, "the author's status to tell of it", {
        let status = a.rhio.get("/api/v1/status").await.json();
        let entry = status["publications"][0].clone();
        if entry["last_error_code"] == "stream-altered" { Ok(entry) } else { Err(entry.to_string()) }
    });
    assert!(entry["last_error_remedy"].as_str().is_some_and(|said| said.contains("nats stream rmm")), "{entry}");
    assert!(entry["troubles"]["stream-altered"].as_u64().is_some_and(|count| count > 0), "{entry}");
    // What comes before it is there, nothing else is, and the subscriber says where to look.
    waits_with(&b, "peer-unavailable", "other node's status").await;
    assert_eq!(texts(&wait_for_records(&b, "S", 1).await), ["one"]);

    // Only its owner decides that it is gone.
    stream(&a, "S").await.delete_message(2).await.expect("it is deleted");
    assert_eq!(texts(&wait_for_records(&b, "S", 2).await), ["one", "three"]);
    finish(a, b).await;
}
