//! What the server forbids is told in its own words, and mended as soon as it is allowed.

use common::{SOON, expect_outages, finish, publish, start, wait_for_records, waits_with};
use testkit::{Cluster, NatsOptions, eventually, link};

/// A server on which rhio may not do something, and every app may do everything.
fn server(forbidden: &str) -> NatsOptions {
    NatsOptions::new().config(&format!(
        "no_auth_user: app\nauthorization {{ users: [\n  {{ user: app, password: app }}\n  \
         {{ user: rhio, password: rhio, permissions: {{ {forbidden} }} }}\n] }}"
    ))
}

async fn cluster(name: &str, server: NatsOptions) -> Cluster {
    let cluster = Cluster::with(name, server, |rhio| {
        rhio.configure(|config| config.nats_lines.push_str("  credentials: { username: rhio, password: rhio }\n"))
    });
    let mut cluster = cluster.await;
    cluster.create_stream("S", &["s.>"]).await;
    expect_outages(&mut cluster);
    cluster
}

#[tokio::test]
async fn a_subject_that_may_not_be_published_is_named_with_the_servers_words() {
    let forbids = r#"publish: { deny: ["s.secret.>"] }"#;
    let (mut a, mut b) = tokio::join!(cluster("a", server("")), cluster("b", server(forbids)));
    link(&mut a, &mut b);
    a.publish("s.>", "S");
    b.subscribe("s.>", "S", &a);
    b.rhio.allow_log("forbids it");
    start(&mut a, &mut b).await;
    publish(&a, "s.open", &[], "first").await;
    wait_for_records(&b, "S", 1).await;
    publish(&a, "s.secret.x", &[], "second").await;
    let entry = waits_with(&b, "nats-permission", "permission").await;
    let said = entry["error"].as_str().or(entry["last_error"].as_str()).unwrap_or_default().to_owned();
    assert!(said.contains("s.secret.x") && said.contains("Permissions Violation"), "{entry}");

    b.nats.configure(|_| server("").name("allowed"));
    b.nats.restart().await;
    wait_for_records(&b, "S", 2).await;
    eventually!(SOON, "it to be active again", {
        let status = b.rhio.get("/api/v1/status").await.json();
        status["subscriptions"][0]["state"] == "active"
    });
    finish(a, b).await;
}

#[tokio::test]
async fn a_consumer_that_may_not_be_asked_is_named_with_the_servers_words() {
    let forbids = r#"publish: { deny: ["$JS.API.CONSUMER.MSG.NEXT.S.>"] }"#;
    let (mut a, mut b) = tokio::join!(cluster("a", server(forbids)), cluster("b", server("")));
    link(&mut a, &mut b);
    a.publish("s.>", "S");
    b.subscribe("s.>", "S", &a);
    a.rhio.allow_log("forbids it");
    start(&mut a, &mut b).await;
    publish(&a, "s.open", &[], "first").await;
    let entry = waits_with(&a, "nats-permission", "permission").await;
    assert!(entry.to_string().contains("CONSUMER.MSG.NEXT"), "{entry}");
    finish(a, b).await;
}

#[tokio::test]
async fn the_permissions_of_the_readme_are_enough_also_with_a_prefix_for_answers() {
    for prefix in ["_INBOX", "_INBOX_rhio"] {
        let server = |name: &str| {
            // The key is not known before the cluster is there, so the state stream's subjects are open.
            let publish = README_PUBLISH.map(|subject| format!("\"{}\"", subject.replace("_INBOX", prefix))).join(", ");
            let listen =
                README_SUBSCRIBE.map(|subject| format!("\"{}\"", subject.replace("_INBOX", prefix))).join(", ");
            server(&format!("publish: {{ allow: [{publish}] }}, subscribe: {{ allow: [{listen}] }}")).name(name)
        };
        let (mut a, mut b) = tokio::join!(cluster("a", server("a")), cluster("b", server("b")));
        link(&mut a, &mut b);
        a.publish("s.>", "S");
        b.subscribe("s.>", "S", &a);
        for cluster in [&mut a, &mut b] {
            cluster.rhio.rewrite_config(|config| config.nats_lines.push_str(&format!("  inbox_prefix: {prefix}\n")));
        }
        start(&mut a, &mut b).await;
        publish(&a, "s.x", &[], "first").await;
        wait_for_records(&b, "S", 1).await;
        b.rhio.restart().await;
        a.rhio.restart().await;
        publish(&a, "s.x", &[], "second").await;
        wait_for_records(&b, "S", 2).await;
        for cluster in [&a, &b] {
            assert!(!cluster.rhio.has_logged("ermissions Violation"), "{prefix}: something is forbidden");
        }
        finish(a, b).await;
    }
}

/// What the README lists, for streams called S.
const README_PUBLISH: [&str; 16] = [
    "$JS.API.STREAM.INFO.*",
    "$JS.API.STREAM.CREATE.RHIO",
    "$JS.API.STREAM.UPDATE.RHIO",
    "$JS.API.STREAM.PURGE.RHIO",
    "$JS.API.STREAM.MSG.GET.*",
    "$JS.API.STREAM.MSG.DELETE.S",
    "$JS.API.DIRECT.GET.S",
    "$JS.API.CONSUMER.CREATE.>",
    "$JS.API.CONSUMER.MSG.NEXT.*.*",
    "$JS.API.CONSUMER.INFO.*.*",
    "$JS.API.CONSUMER.DELETE.*.*",
    "$JS.ACK.>",
    "$RHIO.>",
    "s.>",
    "rhio.events.object",
    "_INBOX.>",
];
const README_SUBSCRIBE: [&str; 5] = ["_INBOX.>", "rhio.import", "rhio.deletes", "rhio.status", "$SRV.>"];

#[tokio::test]
async fn an_account_that_wants_a_limit_of_every_stream_gets_one() {
    let server = || {
        NatsOptions::new().config(
            "no_auth_user: app\naccounts { A { users: [{ user: app, password: app }], \
             jetstream: { max_mem: -1, max_file: -1, max_bytes_required: true } } }",
        )
    };
    let (mut a, mut b) =
        tokio::join!(Cluster::with("a", server(), |rhio| rhio), Cluster::with("b", server(), |rhio| rhio));
    for cluster in [&mut a, &mut b] {
        cluster.create_stream_with("S", &["s.>"], serde_json::json!({"max_bytes": 10_000_000})).await;
        cluster.rhio.rewrite_config(|config| config.nats_lines.push_str("  state: { max_bytes: 64MiB }\n"));
    }
    link(&mut a, &mut b);
    a.publish("s.>", "S");
    b.subscribe("s.>", "S", &a);
    start(&mut a, &mut b).await;
    publish(&a, "s.x", &[], "first").await;
    wait_for_records(&b, "S", 1).await;
    finish(a, b).await;
}
