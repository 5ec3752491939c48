//! `/metrics`, read by a parser of Prometheus's format.

use std::collections::{BTreeMap, BTreeSet};

use prometheus_parse::{Sample, Scrape, Value};
use testkit::{Cluster, Rhio, eventually, link};

use common::{SOON, finish, publish, replicating_pair, start, wait_for_records};

async fn scrape(rhio: &Rhio) -> Scrape {
    let answer = rhio.get("/metrics").await;
    assert_eq!(answer.status, 200);
    assert!(answer.header("content-type").is_some_and(|kind| kind.starts_with("text/plain; version=0.0.4")));
    Scrape::parse(answer.body.lines().map(|line| Ok(line.to_owned()))).expect("Prometheus's format")
}

fn number(sample: &Sample) -> Option<f64> {
    match sample.value {
        Value::Counter(value) | Value::Gauge(value) | Value::Untyped(value) => Some(value),
        _ => None,
    }
}

fn sum(scrape: &Scrape, name: &str) -> f64 {
    scrape.samples.iter().filter(|sample| sample.metric == name).filter_map(number).sum()
}

#[tokio::test]
async fn what_is_sealed_sent_verified_and_applied_is_counted_on_both_sides() {
    let (mut a, mut b) = replicating_pair().await;
    start(&mut a, &mut b).await;
    a.publisher(&["s.x"]).await.size(1000).publish(300).await;
    wait_for_records(&b, "S", 300).await;
    let theirs = eventually!(SOON, "300 applied messages", {
        let theirs = scrape(&b.rhio).await;
        if sum(&theirs, "rhio_applied_messages_total") == 300.0 { Ok(theirs) } else { Err(theirs.samples.len()) }
    });
    let ours = scrape(&a.rhio).await;
    for (scrape, name) in [
        (&ours, "rhio_sealed_messages_total"),
        (&ours, "rhio_sent_messages_total"),
        (&theirs, "rhio_verified_messages_total"),
    ] {
        assert_eq!(sum(scrape, name), 300.0, "{name}");
    }
    for (scrape, name) in [
        (&ours, "rhio_sealed_bytes_total"),
        (&ours, "rhio_sent_bytes_total"),
        (&theirs, "rhio_verified_bytes_total"),
        (&theirs, "rhio_applied_bytes_total"),
    ] {
        assert!(sum(scrape, name) > 300_000.0, "{name}: {}", sum(scrape, name));
    }
    for (cluster, name, value) in [
        (&a, "rhio_ready", 1.0),
        (&a, "rhio_nats_connected", 1.0),
        (&a, "rhio_nats_connects_total", 1.0),
        (&a, "rhio_peers_known", 1.0),
        (&a, "rhio_peers_connected", 1.0),
        (&a, "rhio_publication_readers", 1.0),
        (&b, "rhio_refused_total", 0.0),
        (&b, "rhio_subscription_lag_messages", 0.0),
        (&b, "rhio_subscription_lag_known", 1.0),
    ] {
        eventually!(SOON, name, {
            let found = sum(&scrape(&cluster.rhio).await, name);
            if found == value { Ok(()) } else { Err(found) }
        });
    }
    for (scrape, name) in [
        (&ours, "rhio_seal_duration_seconds"),
        (&theirs, "rhio_apply_duration_seconds"),
        (&theirs, "rhio_replication_latency_seconds"),
    ] {
        let histogram = scrape.samples.iter().find_map(|sample| match &sample.value {
            Value::Histogram(buckets) if sample.metric == name => buckets.last(),
            _ => None,
        });
        assert!(histogram.is_some_and(|last| last.count > 0.0), "{name}");
    }
    assert!(sum(&ours, "rhio_process_resident_memory_bytes") > 1e6);
    finish(a, b).await;
}

#[tokio::test]
async fn every_metric_is_documented_and_every_documented_one_is_there() {
    let (mut a, mut b) = (Cluster::with_s3("a").await, Cluster::with_s3("b").await);
    link(&mut a, &mut b);
    for cluster in [&mut a, &mut b] {
        cluster.create_stream("S", &["s.>"]).await;
        cluster.create_stream("T", &["t.>"]).await;
        cluster.create_bucket("from").await;
        cluster.create_bucket("into").await;
        cluster.publish_bucket("from");
    }
    a.publish("s.>", "S");
    b.subscribe("s.>", "S", &a);
    b.publish("t.>", "T");
    b.subscribe_bucket("from", "into", &a);
    start(&mut a, &mut b).await;
    publish(&a, "s.x", &[], "1").await;
    publish(&b, "t.x", &[], "1").await;
    a.s3().bucket("from").put("k", b"v".to_vec()).await;
    let text = include_str!("../../../../docs/metrics.md");
    let documented: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("| `rhio_"))
        .filter_map(|line| line.split(['`', '{']).next())
        .collect();
    assert!(documented.len() > 50, "{}", documented.len());
    let named = eventually!(SOON, "every documented metric", {
        let body = b.rhio.get("/metrics").await.body;
        let named: BTreeMap<String, String> = body
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE rhio_")?.split_once(' '))
            .map(|(name, kind)| (name.to_owned(), kind.to_owned()))
            .collect();
        let missing: Vec<_> = documented.iter().filter(|name| !named.contains_key(**name)).collect();
        if missing.is_empty() { Ok(named) } else { Err(format!("{missing:?}")) }
    });
    for (name, kind) in &named {
        assert!(documented.contains(name.as_str()), "rhio_{name} is not documented");
        assert_eq!(kind == "counter", name.ends_with("_total"), "rhio_{name} is a {kind}");
        assert!(
            text.lines().any(|line| line.contains(&format!("`rhio_{name}")) && line.contains(kind.as_str())),
            "{name} is a {kind}"
        );
    }
    // Every sample has the labels that its metric is documented with, and no subject, key or address among their values.
    for sample in scrape(&b.rhio).await.samples {
        for (label, value) in sample.labels.iter() {
            assert!(
                text.contains(&format!("`{label}`"))
                    || text.contains(&format!("{{{label}"))
                    || text.contains(label.as_str()),
                "label {label}"
            );
            assert!(value != "s.x" && value != "k", "{}{{{label}={value}}}", sample.metric);
        }
    }
    finish(a, b).await;
}
