//! `rhio check` beside real servers: what it finds, what it says, and that it leaves nothing behind.

use std::net::UdpSocket;
use std::process::{Command, Output};

use async_nats::jetstream;
use common::peer::Peer;
use common::{SOON, expect_departures, pair};
use futures_util::TryStreamExt;
use serde_json::Value;
use testkit::{Cluster, NatsOptions, Node, PublishBucket, eventually, link};

/// Runs it with a cluster's configuration.
async fn check(cluster: &Cluster, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rhio"));
    command.arg("--config").arg(cluster.rhio.config_path()).arg("check").args(arguments);
    command.current_dir(cluster.rhio.folder()).env_clear();
    tokio::task::spawn_blocking(move || command.output().expect("rhio runs")).await.expect("it ends")
}

/// What it found, as JSON, with its exit status.
async fn findings(cluster: &Cluster) -> (Vec<Value>, Option<i32>) {
    let output = check(cluster, &["--json"]).await;
    let found: Vec<Value> = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stdout)));
    assert_eq!(output.stderr, b"", "{}", String::from_utf8_lossy(&output.stderr));
    (found, output.status.code())
}

/// The only finding of a kind.
fn of<'a>(found: &'a [Value], check: &str) -> &'a Value {
    let all: Vec<_> = found.iter().filter(|finding| finding["check"] == check).collect();
    assert_eq!(all.len(), 1, "{check} in {found:#?}");
    all[0]
}

/// Expects that a kind of check has this result, and that what it says holds these words.
fn expect(found: &[Value], check: &str, result: &str, words: &[&str]) {
    let finding = of(found, check);
    let said = format!("{} → {}", finding["detail"].as_str().unwrap_or_default(), finding["remedy"]);
    assert!(finding["result"] == result && words.iter().all(|words| said.contains(words)), "{finding:#}");
}

/// Expects that everything else is fine.
fn expect_only(found: &[Value], failing: &[&str]) {
    let others = found.iter().filter(|finding| !failing.contains(&finding["check"].as_str().expect("a name")));
    let bad: Vec<_> = others.filter(|finding| finding["result"] != "ok").collect();
    assert!(bad.is_empty(), "{bad:#?}");
}

/// Every stream with its consumers.
async fn streams(cluster: &Cluster) -> Vec<(String, usize)> {
    let context = jetstream::new(cluster.client().await);
    let infos: Vec<_> = context.streams().try_collect().await.expect("a list");
    let mut all: Vec<_> = infos.into_iter().map(|info| (info.config.name, info.state.consumer_count)).collect();
    all.sort();
    all
}

/// Two clusters that know each other, where what `a` publishes goes to `b`; `a` runs.
async fn author_running() -> (Cluster, Cluster) {
    let (mut a, mut b) = pair().await;
    a.publish("s.>", "S");
    b.subscribe("s.>", "S", &a);
    a.start().await;
    (a, b)
}

#[tokio::test]
async fn all_is_well_and_nothing_is_left_behind() {
    let (mut a, mut b) = tokio::join!(Cluster::with_s3("a"), Cluster::with_s3("b"));
    a.create_stream("S", &["s.>"]).await;
    b.create_stream("S", &["s.>"]).await;
    tokio::join!(a.create_bucket("out"), b.create_bucket("inbox"));
    link(&mut a, &mut b);
    a.publish("s.>", "S");
    a.publish_bucket("out");
    b.subscribe("s.>", "S", &a);
    b.subscribe_bucket("out", "inbox", &a);
    b.publish("s.b.>", "S");
    b.rhio.rewrite_config(|config| {
        config.import_dirs = vec![std::env::temp_dir().display().to_string()];
        config.s3.as_mut().expect("a section").events = Some("s3.events".into());
    });
    a.start().await;
    let before = streams(&b).await;
    let files = || std::fs::read_dir(b.rhio.folder()).expect("a folder").count();
    let files_before = files();

    let (found, code) = findings(&b).await;
    expect_only(&found, &[]);
    assert_eq!(code, Some(0));
    let kinds: Vec<_> = found.iter().map(|finding| finding["check"].as_str().expect("a name")).collect();
    assert_eq!(
        kinds,
        [
            "configuration",
            "private_key",
            "udp_port",
            "http_port",
            "nats",
            "jetstream",
            "state_stream",
            "publish_stream",
            "subscribe_stream",
            "subscribe_bucket",
            "s3_events",
            "blobs_dir",
            "import_dir",
            "node"
        ]
    );
    expect(&found, "private_key", "ok", &[&b.rhio.public_key()]);
    expect(&found, "udp_port", "ok", &["is free"]);
    expect(&found, "state_stream", "ok", &["will be created"]);
    expect(&found, "node", "ok", &[&a.rhio.endpoint(), "takes us"]);
    let text = String::from_utf8(check(&b, &[]).await.stdout).expect("UTF-8");
    assert_eq!(text.lines().count(), found.len() + 2, "a line each, and the number:\n{text}");
    assert!(text.contains("\nok   stream 'S' ") && text.ends_with("14 checks, none failed\n"), "{text}");
    assert!(!text.contains('\x1b'), "no colours without a terminal");

    assert_eq!(streams(&b).await, before, "no stream and no consumer");
    assert_eq!(files(), files_before, "no file");
    let secret = b.s3().secret_key();
    let key = b.rhio.signing_key().to_hex();
    assert!(!text.contains(secret) && !text.contains(&key), "no secret: {text}");

    // While the daemon runs its ports are its own, and it says who is connected.
    expect_departures(&mut b);
    b.start().await;
    let before = streams(&b).await;
    eventually!(SOON, "the daemon to be what is found", {
        let (found, code) = findings(&b).await;
        let fine = code == Some(0) && of(&found, "udp_port")["result"] == "ok";
        if fine { Ok(()) } else { Err(format!("{found:#?}")) }
    });
    eventually!(SOON, "readers come and go", streams(&b).await.len() == before.len());
    b.rhio.finish().await;
    a.rhio.finish().await;
}

#[tokio::test]
async fn nats_away_or_refusing() {
    let mut cluster = Cluster::with("a", NatsOptions::new().password("ann", "ge-heim"), |rhio| rhio).await;
    cluster.publish("s.>", "S");
    cluster.rhio.rewrite_config(|config| {
        config.nats_lines = config.nats_lines.replace("ge-heim", "fal-sch");
    });
    let (found, code) = findings(&cluster).await;
    assert_eq!(code, Some(1));
    expect(&found, "nats", "fail", &["refused our credentials", "nats.credentials"]);
    expect(&found, "publish_stream", "warn", &["no connection to NATS"]);
    let text = found.iter().map(Value::to_string).collect::<String>();
    assert!(!text.contains("fal-sch"), "{text}");

    cluster.nats.stop().await;
    let (found, code) = findings(&cluster).await;
    assert_eq!(code, Some(1));
    expect(&found, "nats", "fail", &["cannot be reached", "is the server running"]);
    for kind in ["jetstream", "state_stream", "publish_stream"] {
        expect(&found, kind, "warn", &["no connection to NATS"]);
    }
}

#[tokio::test]
async fn streams_that_are_not_as_they_should_be() {
    let mut cluster = Cluster::new("a").await;
    let author = Peer::beside(&cluster).await;
    cluster.create_stream("OTHER", &["other.>"]).await;
    cluster.create_stream("PART", &["part.a"]).await;
    cluster.publish("s.>", "MISSING");
    cluster.publish("s.>", "OTHER");
    for (subject, stream) in [("s.>", "MISSING"), ("t.>", "OTHER"), ("part.*", "PART")] {
        cluster.rhio.rewrite_config(|config| {
            let (subject, stream) = (subject.into(), stream.into());
            config.subscribe.push(testkit::Subscribe { subject, stream, public_key: author.public_key() });
        });
    }
    let before = streams(&cluster).await;
    let (found, code) = findings(&cluster).await;
    assert_eq!(code, Some(1));
    let said: Vec<_> = found
        .iter()
        .filter(|finding| finding["check"] == "publish_stream" || finding["check"] == "subscribe_stream")
        .map(|finding| format!("{} {} → {}", finding["result"], finding["detail"], finding["remedy"]))
        .collect();
    let wanted = [
        ["\"fail\"", "does not exist", "nats stream add 'MISSING' --subjects 's.>' --defaults"],
        ["\"fail\"", "(it has other.>)", "nats stream edit 'OTHER' --subjects 'other.>,s.>'"],
        ["\"fail\"", "does not exist", "nats stream add 'MISSING'"],
        ["\"fail\"", "(it has other.>)", "nats stream edit 'OTHER' --subjects 'other.>,t.>'"],
        ["\"warn\"", "only a part", "nats stream edit 'PART' --subjects 'part.*'"],
    ];
    assert_eq!(said.len(), wanted.len(), "{said:#?}");
    for (said, wanted) in said.iter().zip(wanted) {
        assert!(wanted.iter().all(|words| said.contains(words)), "{wanted:?} in {said}");
    }
    // The two publications of one subject from two streams, too.
    expect(&found, "overlap", "warn", &["'MISSING'", "'OTHER'"]);
    // The author is not in 'nodes'.
    expect(&found, "node", "warn", &["no address of it is configured"]);
    assert_eq!(streams(&cluster).await, before, "nothing was created");
}

#[tokio::test]
async fn buckets_missing_and_servers_away() {
    let mut cluster = Cluster::with_s3("a").await;
    cluster.publish_bucket("missing");
    let (found, code) = findings(&cluster).await;
    assert_eq!(code, Some(1));
    expect_only(&found, &["publish_bucket"]);
    expect(&found, "publish_bucket", "fail", &["does not exist", "s3 mb 's3://missing'"]);

    cluster.create_bucket("there").await;
    cluster.rhio.rewrite_config(|config| {
        config.publish_buckets = vec![PublishBucket { bucket: "there".into(), allow: None }];
        config.s3.as_mut().expect("a section").credentials = Some(("rhio-test".into(), "wrong-secret".into()));
    });
    let (found, code) = findings(&cluster).await;
    assert_eq!(code, Some(1));
    expect(
        &found,
        "publish_bucket",
        "fail",
        &["the S3 credentials are wrong", "SignatureDoesNotMatch", "s3.credentials"],
    );
    cluster.rhio.rewrite_config(|config| {
        config.s3.as_mut().expect("a section").credentials = Some(("nobody".into(), "wrong-secret".into()));
    });
    let (found, _) = findings(&cluster).await;
    expect(&found, "publish_bucket", "fail", &["the S3 credentials are wrong", "InvalidAccessKeyId", "s3.credentials"]);
    assert!(!format!("{found:?}").contains("wrong-secret"));

    cluster.s3_mut().stop().await;
    let (found, code) = findings(&cluster).await;
    assert_eq!(code, Some(1));
    expect(&found, "publish_bucket", "fail", &["is the S3 server running"]);
}

#[tokio::test]
async fn a_node_that_does_not_answer() {
    let (a, b) = {
        let (mut a, mut b) = pair().await;
        a.publish("s.>", "S");
        b.subscribe("s.>", "S", &a);
        (a, b)
    };
    let (found, code) = findings(&b).await;
    assert_eq!(code, Some(1));
    expect_only(&found, &["node"]);
    expect(&found, "node", "fail", &["no answer", &a.rhio.endpoint(), "firewall"]);
}

#[tokio::test]
async fn a_node_that_does_not_know_us() {
    let (mut a, b) = author_running().await;
    a.rhio.allow_log("refused a connection");
    a.rhio.rewrite_config(|config| config.nodes.clear());
    a.rhio.reload();
    a.rhio.wait_for_log("reloaded", SOON).await;
    let (found, code) = findings(&b).await;
    assert_eq!(code, Some(1));
    expect_only(&found, &["node"]);
    expect(&found, "node", "fail", &["refuses us", "add our public key", &b.rhio.public_key()]);
    a.rhio.finish().await;
}

#[tokio::test]
async fn another_key_or_another_network_at_a_nodes_address() {
    let (a, mut b) = author_running().await;
    let other = Peer::beside(&a).await;
    b.rhio.rewrite_config(|config| {
        config.nodes = vec![Node { public_key: other.public_key(), endpoints: vec![a.rhio.endpoint()] }];
    });
    let (found, code) = findings(&b).await;
    assert_eq!(code, Some(1));
    let said = found.iter().filter(|finding| finding["check"] == "node").map(|finding| finding.to_string());
    let said: Vec<_> = said.collect();
    assert!(said[0].contains("public key"), "{said:?}");

    let node = a.rhio.as_node();
    b.rhio.rewrite_config(|config| {
        config.nodes = vec![node];
        config.network_id = "another-network".into();
    });
    let (found, _) = findings(&b).await;
    expect(&found, "node", "fail", &["network 'another-network'", "network_id"]);

    b.rhio.rewrite_config(|config| {
        config.nodes[0].endpoints = vec!["no-such-host.invalid".into()];
    });
    let (found, _) = findings(&b).await;
    expect(&found, "node", "fail", &["none of its names can be resolved", "no-such-host.invalid:9102"]);
    a.rhio.finish().await;
}

#[tokio::test]
async fn ports_that_strangers_have() {
    let mut cluster = Cluster::new("a").await;
    let _udp = UdpSocket::bind(("0.0.0.0", cluster.rhio.port())).expect("it is ours");
    let tcp = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = tcp.local_addr().expect("an address").port();
    cluster.rhio.rewrite_config(|config| config.http_bind_port = port);
    let (found, code) = findings(&cluster).await;
    assert_eq!(code, Some(1));
    expect(&found, "udp_port", "fail", &["is taken", "bind_port"]);
    expect(&found, "http_port", "fail", &["is taken", "http_bind_port"]);
}

#[tokio::test]
async fn a_key_that_is_missing_is_not_made() {
    let (a, mut b) = author_running().await;
    std::fs::remove_file(b.rhio.key_path()).expect("it was there");
    let (found, code) = findings(&b).await;
    expect(&found, "private_key", "ok", &["the first start makes one", "rhio keygen"]);
    expect(&found, "node", "warn", &["not dialled"]);
    assert_eq!(code, Some(0));
    assert!(!b.rhio.key_path().exists());
    std::fs::write(b.rhio.key_path(), "rubbish").expect("it can be written");
    let (found, code) = findings(&b).await;
    expect(&found, "private_key", "fail", &["expected 64 hex digits"]);
    assert!(!format!("{found:?}").contains("rubbish"));
    assert_eq!(code, Some(1));
    b.rhio.rewrite_config(|config| config.bind_port = 0);
    a.rhio.finish().await;
}

#[tokio::test]
async fn a_wrong_configuration_is_exit_2() {
    let mut cluster = Cluster::new("a").await;
    cluster.rhio.write_config_text("bind_prt: 1\n");
    let output = check(&cluster, &["--json"]).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("bind_prt"), "{output:?}");
    assert_eq!(output.stdout, b"");
}
