//! What the integration tests share.

pub mod bad_author;
pub mod blob_peer;
pub mod buckets;
pub mod collector;
pub mod login;
pub mod peer;
pub mod s3_proxy;

use std::time::Duration;

use async_nats::jetstream;
use testkit::checker::Record;
use testkit::{Cluster, eventually};

/// How long anything may take that should happen soon.
pub const SOON: Duration = Duration::from_secs(30);

/// Two clusters that know each other and do not run yet. `a` is the author, `b` the subscriber in most tests; each
/// has a stream S for `s.>`.
pub async fn pair() -> (Cluster, Cluster) {
    let (mut a, mut b) = tokio::join!(Cluster::new("a"), Cluster::new("b"));
    a.create_stream("S", &["s.>"]).await;
    b.create_stream("S", &["s.>"]).await;
    testkit::link(&mut a, &mut b);
    (a, b)
}

/// The same, and what `a` publishes under `s.>` goes to `b`.
pub async fn replicating_pair() -> (Cluster, Cluster) {
    let (mut a, mut b) = pair().await;
    a.publish("s.>", "S");
    b.subscribe("s.>", "S", &a);
    (a, b)
}

/// Starts both at once.
pub async fn start(a: &mut Cluster, b: &mut Cluster) {
    tokio::join!(a.start(), b.start());
}

/// Ends both in order, and fails the test when a log is not quiet.
pub async fn finish(a: Cluster, b: Cluster) {
    tokio::join!(a.rhio.finish(), b.rhio.finish());
}

/// Stops what the author's going away first makes a subscriber say from counting.
pub fn expect_departures(cluster: &mut Cluster) {
    for words in ["can't reach node", "not connected to"] {
        cluster.rhio.allow_log(words);
    }
}

/// Stops what a rhio says while its NATS is away from counting: whatever it was asking may time out.
pub fn expect_outages(cluster: &mut Cluster) {
    expect_departures(cluster);
    for words in [
        "lost the connection to NATS",
        "no connection to NATS",
        "cannot be reached",
        "connection to the local NATS was lost",
        "did not acknowledge a message",
        "subscription to '",
        "publication of '",
        "NATS says",
    ] {
        cluster.rhio.allow_log(words);
    }
}

/// Publishes one message and waits for JetStream's acknowledgement.
pub async fn publish(cluster: &Cluster, subject: &str, headers: &[(&str, &str)], payload: impl Into<bytes::Bytes>) {
    let mut map = async_nats::HeaderMap::new();
    headers.iter().for_each(|(name, value)| map.append(*name, *value));
    let context = jetstream::new(cluster.client().await);
    let sent = context.publish_with_headers(subject.to_owned(), map, payload.into()).await;
    sent.expect("it is sent").await.expect("it is stored");
}

/// Everything that a stream holds.
pub async fn records(cluster: &Cluster, stream: &str) -> Vec<Record> {
    testkit::checker::read_stream(&cluster.client().await, stream, ">").await.unwrap_or_else(|e| panic!("{e:#}"))
}

/// Waits until a stream holds so many messages, and gives them.
pub async fn wait_for_records(cluster: &Cluster, stream: &str, count: usize) -> Vec<Record> {
    let what = format!("{count} messages in {stream} of {}", cluster.rhio.name());
    eventually!(SOON, what, {
        let records = records(cluster, stream).await;
        if records.len() == count { Ok(records) } else { Err(format!("there are {}", records.len())) }
    })
}

/// The sum of a counter over all its labels, as `/metrics` has it now.
pub async fn counted(cluster: &Cluster, name: &str) -> f64 {
    let body = cluster.rhio.get("/metrics").await.body;
    let of_this = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
    body.lines().filter(of_this).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// Waits until so many messages or objects are not only stored here, but committed, too.
pub async fn wait_for_commits(cluster: &Cluster, count: u32) {
    eventually!(SOON, format!("{count} to be committed"), {
        let applied = counted(cluster, "rhio_applied_messages_total").await;
        if applied >= f64::from(count) { Ok(()) } else { Err(format!("there are {applied}")) }
    });
}

/// Waits until the status lists an entry that waits for a reason with this code, and sees that it says what to do.
pub async fn waits_with(cluster: &Cluster, code: &str, remedy: &str) -> serde_json::Value {
    let entry = eventually!(SOON, format!("an entry that waits with '{code}'"), {
        let status = cluster.rhio.get("/api/v1/status").await.json();
        let lists = [&status["publications"], &status["subscriptions"]];
        let mut entries = lists.into_iter().filter_map(|list| list.as_array()).flatten();
        match entries.find(|entry| entry["code"] == code) {
            Some(entry) => Ok(entry.clone()),
            None => Err(status.to_string()),
        }
    });
    assert_eq!(entry["state"], "waiting", "{entry}");
    assert!(entry["remedy"].as_str().is_some_and(|said| said.contains(remedy)), "{entry}");
    assert!(entry["troubles"][code].as_u64().is_some_and(|count| count > 0), "{entry}");
    assert!(entry["last_error_code"].is_string() && entry["last_error_remedy"].is_string(), "{entry}");
    entry
}

/// The subjects, in the stream's order.
pub fn subjects(records: &[Record]) -> Vec<&str> {
    records.iter().map(|record| record.subject.as_str()).collect()
}

/// The payloads as text, in the stream's order.
pub fn texts(records: &[Record]) -> Vec<String> {
    records.iter().map(|record| String::from_utf8_lossy(&record.payload).into_owned()).collect()
}

/// A stream as JetStream's API sees it.
pub async fn stream(cluster: &Cluster, name: &str) -> jetstream::stream::Stream {
    let context = jetstream::new(cluster.client().await);
    context.get_stream(name).await.unwrap_or_else(|e| panic!("cannot find stream {name}: {e}"))
}

/// Deletes a stream.
pub async fn delete_stream(cluster: &Cluster, name: &str) {
    let context = jetstream::new(cluster.client().await);
    context.delete_stream(name).await.unwrap_or_else(|e| panic!("cannot delete stream {name}: {e}"));
}

/// Changes a stream's settings, as JetStream's API names them.
pub async fn update_stream(cluster: &Cluster, name: &str, settings: serde_json::Value) {
    let client = cluster.client().await;
    let ask = async |what: &str, body: String| {
        let answer = client.request(format!("$JS.API.STREAM.{what}.{name}"), body.into()).await.expect("an answer");
        let answer: serde_json::Value = serde_json::from_slice(&answer.payload).expect("JSON");
        assert!(answer.get("error").is_none(), "{what} of stream {name}: {answer}");
        answer
    };
    let mut config = ask("INFO", String::new()).await["config"].clone();
    for (key, value) in settings.as_object().expect("an object") {
        config[key] = value.clone();
    }
    ask("UPDATE", config.to_string()).await;
}
