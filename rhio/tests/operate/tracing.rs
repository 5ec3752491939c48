//! Traces: a message's way through both nodes is one, and nothing depends on whether anybody takes them.

use std::time::Duration;

use common::collector::{Collector, Seen, find};
use common::{SOON, finish, publish, replicating_pair, start, wait_for_commits, wait_for_records};
use opentelemetry_proto::tonic::trace::v1::SpanFlags;
use testkit::Cluster;

/// Spans of a batch with one reader.
const EACH: usize = 7;

fn trace_to(cluster: &mut Cluster, endpoint: &str, more: &str) {
    cluster.rhio.rewrite_config(|config| config.extra = format!("tracing:\n  otlp_endpoint: \"{endpoint}\"\n{more}"));
}

fn named<'a>(spans: &'a [Seen], name: &str) -> &'a Seen {
    let mut found = spans.iter().filter(|seen| seen.span.name == name);
    let only = found.next().unwrap_or_else(|| panic!("no {name} in {spans:#?}"));
    assert!(found.next().is_none(), "{name} twice in {spans:#?}");
    only
}

#[tokio::test]
async fn a_messages_way_through_both_nodes_is_one_trace() {
    let (mut a, mut b) = replicating_pair().await;
    let collector = Collector::start().await;
    for cluster in [&mut a, &mut b] {
        trace_to(cluster, &collector.endpoint(), "  headers: {X-Key: geheim}\n");
    }
    start(&mut a, &mut b).await;
    let context = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    publish(&a, "s.one", &[("traceparent", context), ("N", "kopfzeile")], "nutzlast").await;
    wait_for_records(&b, "S", 1).await;
    let spans = collector.wait_for(EACH, SOON).await;
    assert_eq!(spans.len(), EACH, "{spans:#?}");

    let trace = &spans[0].span.trace_id;
    assert_eq!(trace.len(), 16);
    assert!(spans.iter().all(|seen| seen.span.trace_id == *trace), "{spans:#?}");
    let [batch, seal, send] = ["rhio.batch", "rhio.seal", "rhio.send"].map(|name| named(&spans, name));
    let names = ["rhio.receive", "rhio.verify", "rhio.apply", "rhio.commit"];
    let [receive, verify, apply, commit] = names.map(|name| named(&spans, name));
    let (author, subscriber) = (a.rhio.public_key(), b.rhio.public_key());
    assert!([batch, seal, send].iter().all(|seen| seen.node == author), "{spans:#?}");
    assert!([receive, verify, apply, commit].iter().all(|seen| seen.node == subscriber), "{spans:#?}");
    for (child, parent) in
        [(seal, batch), (send, batch), (receive, batch), (verify, receive), (apply, receive), (commit, receive)]
    {
        assert_eq!(child.span.parent_span_id, parent.span.span_id, "{} of {}", child.span.name, parent.span.name);
        let is_remote = child.span.flags & SpanFlags::ContextIsRemoteMask as u32 != 0;
        assert_eq!(is_remote, child.node != parent.node, "{}", child.span.name);
    }
    assert!(batch.span.parent_span_id.is_empty());

    // Both run on one clock here.
    let times = |seen: &Seen| (seen.span.start_time_unix_nano, seen.span.end_time_unix_nano);
    assert!(spans.iter().all(|seen| times(seen).0 <= times(seen).1), "{spans:#?}");
    assert!(times(batch).0 < times(seal).0 && times(batch).1 >= times(seal).1);
    assert!(times(seal).1 <= times(send).0 + 1_000_000, "it is sent after the state stream has it");
    assert!(times(send).0 < times(receive).0);
    assert!(times(receive).0 <= times(verify).0 + 1_000_000 && times(verify).1 <= times(apply).0 + 1_000_000);
    assert!(times(apply).1 <= times(commit).0 + 1_000_000 && times(commit).1 <= times(receive).1 + 1_000_000);

    let [link] = &batch.span.links[..] else { panic!("{batch:#?}") };
    assert_eq!(hex::encode(&link.trace_id), "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(hex::encode(&link.span_id), "b7ad6b7169203331");
    assert_eq!(batch.attribute("rhio.publication").as_deref(), Some("s.>"));
    assert_eq!(batch.attribute("rhio.stream").as_deref(), Some("S"));
    assert_eq!(send.attribute("rhio.peer"), Some(subscriber));
    assert_eq!(receive.attribute("rhio.author"), Some(author));
    for seen in [batch, send, receive] {
        assert_eq!(seen.attribute("rhio.operation").as_deref(), Some("0"));
        assert_eq!(seen.attribute("rhio.records").as_deref(), Some("1"));
        assert_eq!(seen.attribute("rhio.log"), batch.attribute("rhio.log"));
        assert_eq!(find(&seen.resource, "service.name").as_deref(), Some("rhio"));
        assert_eq!(find(&seen.resource, "service.version").as_deref(), Some(env!("CARGO_PKG_VERSION")));
    }
    for secret in ["nutzlast", "kopfzeile", "geheim"] {
        assert!(!collector.holds(secret.as_bytes()), "{secret} is in the spans");
    }
    for headers in collector.headers() {
        assert_eq!(headers["x-key"], "geheim");
        assert_eq!(headers["content-type"], "application/x-protobuf");
    }
    finish(a, b).await;
}

/// The traces that have a span of this name, one for each.
fn traces(spans: &[Seen], name: &str) -> Vec<Vec<u8>> {
    let found = spans.iter().filter(|seen| seen.span.name == name);
    let mut traces: Vec<_> = found.map(|seen| seen.span.trace_id.clone()).collect();
    traces.sort();
    traces
}

#[tokio::test]
async fn every_batch_is_a_trace_of_its_own() {
    let (mut a, mut b) = replicating_pair().await;
    let collector = Collector::start().await;
    for cluster in [&mut a, &mut b] {
        trace_to(cluster, &collector.endpoint(), "");
    }
    a.publisher(&["s.x"]).await.publish(500).await;
    start(&mut a, &mut b).await;
    for number in 0..20 {
        publish(&a, "s.y", &[], format!("{number}")).await;
    }
    let records = |name: &str| {
        let spans = collector.spans().into_iter().filter(|seen| seen.span.name == name);
        spans.map(|seen| seen.attribute("rhio.records").unwrap().parse::<u64>().unwrap()).sum::<u64>()
    };
    testkit::eventually!(SOON, "every message in a span", {
        records("rhio.batch") == 520 && records("rhio.send") == 520 && records("rhio.receive") == 520
    });
    finish(a, b).await;
    let spans = collector.spans();
    let batches = traces(&spans, "rhio.batch");
    assert!(batches.len() >= 2, "{batches:?}");
    assert!(batches.windows(2).all(|pair| pair[0] != pair[1]), "a trace for two batches");
    for name in ["rhio.seal", "rhio.send", "rhio.receive", "rhio.commit"] {
        assert_eq!(batches, traces(&spans, name), "{name}");
    }
}

#[tokio::test]
async fn the_last_spans_are_sent_before_the_end() {
    let (mut a, mut b) = replicating_pair().await;
    let collector = Collector::start().await;
    for cluster in [&mut a, &mut b] {
        trace_to(cluster, &collector.endpoint(), "");
    }
    start(&mut a, &mut b).await;
    publish(&a, "s.first", &[], "1").await;
    collector.wait_for(EACH, SOON).await;
    publish(&a, "s.last", &[], "2").await;
    // The end comes before the spans are sent by themselves: they wait longer than that for others to come along.
    wait_for_commits(&b, 2).await;
    finish(a, b).await;
    assert_eq!(collector.spans().len(), 2 * EACH, "{:#?}", collector.spans());
}

#[tokio::test]
async fn with_a_share_both_nodes_trace_the_same_batches() {
    let (mut a, mut b) = replicating_pair().await;
    let collector = Collector::start().await;
    for cluster in [&mut a, &mut b] {
        trace_to(cluster, &collector.endpoint(), "  sample: 0.5\n");
    }
    start(&mut a, &mut b).await;
    for number in 1..=60 {
        publish(&a, "s.y", &[], format!("{number}")).await;
    }
    wait_for_commits(&b, 60).await;
    finish(a, b).await;
    let spans = collector.spans();
    let batches = traces(&spans, "rhio.batch");
    assert!((1..60).contains(&batches.len()), "{} of 60", batches.len());
    assert_eq!(batches, traces(&spans, "rhio.receive"));
}

#[tokio::test]
async fn a_collector_that_is_away_or_never_answers_disturbs_nothing() {
    let (mut a, mut b) = replicating_pair().await;
    // Nobody listens, and somebody listens who never answers.
    let away = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mute = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    trace_to(&mut a, &format!("http://{away}"), "");
    trace_to(&mut b, &format!("http://{}", mute.local_addr().unwrap()), "");
    for cluster in [&mut a, &mut b] {
        cluster.rhio.allow_log("spans can't be sent");
    }
    start(&mut a, &mut b).await;
    publish(&a, "s.first", &[], "1").await;
    a.rhio.wait_for_log("spans can't be sent", SOON).await;
    a.publisher(&["s.more"]).await.publish(2000).await;
    wait_for_records(&b, "S", 2001).await;
    // Several attempts later there is still one line: what is looked for is that nothing happens in this time.
    tokio::time::sleep(Duration::from_secs(4)).await;
    let lines = a.rhio.logs().iter().filter(|line| line.raw.contains("spans")).count();
    assert_eq!(lines, 1, "{:#?}", a.rhio.logs());
    finish(a, b).await;
}

#[tokio::test]
async fn without_the_section_nothing_is_exported_whatever_the_environment_says() {
    let (mut a, mut b) = replicating_pair().await;
    let collector = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    for cluster in [&mut a, &mut b] {
        let endpoint = format!("http://{}", collector.local_addr().unwrap());
        cluster.rhio.set_env("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint);
        cluster.rhio.set_env("OTEL_TRACES_EXPORTER", "otlp");
    }
    start(&mut a, &mut b).await;
    publish(&a, "s.one", &[], "1").await;
    wait_for_records(&b, "S", 1).await;
    finish(a, b).await;
    let connection = tokio::time::timeout(Duration::from_millis(100), collector.accept()).await;
    assert!(connection.is_err(), "a connection was made");
}
