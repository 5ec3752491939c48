//! Every way to log in at NATS, for a daemon at work: what it reads with and what it writes with. And no log, at any
//! level, holds a secret.

use async_nats::{Client, ConnectOptions, jetstream};
use common::login::{Certificates, creds, operator_mode};
use common::{SOON, expect_departures};
use nkeys::KeyPair;
use testkit::{Cluster, NatsOptions, create_stream, eventually, link};

/// Sends a message from one cluster whose NATS wants this login to another, and looks for the secrets in the logs.
async fn replicates(server: NatsOptions, extra: &str, login: impl Fn() -> Option<ConnectOptions>, secrets: &[&str]) {
    let rhio = |name: &'static str| {
        let extra = extra.to_owned();
        Cluster::with(name, server.clone(), move |builder| {
            builder.configure(|config| {
                config.log_level = Some("=TRACE".into());
                config.nats_lines.push_str(&extra);
            })
        })
    };
    let (mut a, mut b) = tokio::join!(rhio("a"), rhio("b"));
    let client = async |cluster: &Cluster| -> Client {
        match login() {
            Some(options) => cluster.nats.client_with(options).await,
            None => cluster.nats.client().await,
        }
    };
    let (from, to) = (client(&a).await, client(&b).await);
    for client in [&from, &to] {
        create_stream(client, "S", &["s.>"], serde_json::json!({})).await.expect("the stream is created");
    }
    link(&mut a, &mut b);
    a.publish("s.>", "S");
    b.subscribe("s.>", "S", &a);
    for cluster in [&mut a, &mut b] {
        expect_departures(cluster);
        // At this level, libraries say what only they understand.
        for target in ["\"target\":\"iroh", "\"target\":\"noq", "\"target\":\"netwatch", "\"target\":\"async_nats"] {
            cluster.rhio.allow_log(target);
        }
    }
    tokio::join!(a.start(), b.start());
    let context = jetstream::new(from);
    context.publish("s.x", "hello".into()).await.expect("it is sent").await.expect("it is stored");
    eventually!(SOON, "the message", {
        let records = testkit::checker::read_stream(&to, "S", ">").await.expect("it can be read");
        records.first().is_some_and(|record| record.payload == "hello")
    });
    for cluster in [&mut a, &mut b] {
        // At this level the network library warns of a dial that the shutdown of the other side cuts short.
        cluster.rhio.allow_log("connection establishment failed");
        cluster.rhio.terminate().await;
        let log = std::fs::read_to_string(cluster.rhio.log_path()).expect("there is a log");
        assert!(log.contains("\"level\":\"TRACE\""), "it says everything");
        let key = cluster.rhio.signing_key().to_hex();
        for secret in secrets.iter().copied().chain([key.as_str()]) {
            let line = log.lines().find(|line| line.contains(secret));
            assert!(line.is_none(), "a secret in the log: {line:?}");
        }
    }
}

#[tokio::test]
async fn user_and_password() {
    replicates(NatsOptions::new().password("ann", "ge-heim-1"), "", || None, &["ge-heim-1"]).await;
}

#[tokio::test]
async fn a_token() {
    replicates(NatsOptions::new().token("ge-heim-2"), "", || None, &["ge-heim-2"]).await;
}

#[tokio::test]
async fn an_nkey() {
    let key = KeyPair::new_user();
    let seed = key.seed().expect("a seed");
    replicates(NatsOptions::new().nkey(&seed, &key.public_key()), "", || None, &[&seed]).await;
}

#[tokio::test]
async fn a_creds_file() {
    let (operator, system, account) = (KeyPair::new_operator(), KeyPair::new_account(), KeyPair::new_account());
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("user.creds");
    let user = KeyPair::new_user();
    std::fs::write(&path, creds(&account, &user)).expect("it is written");
    let server = NatsOptions::new().config(&operator_mode(&operator, &system, &account)).creds_file(&path);
    replicates(server, "", || None, &[&user.seed().expect("a seed")]).await;
}

#[tokio::test]
async fn a_client_certificate() {
    let certificates = Certificates::new();
    let file = |name: &str| certificates.file(name).display().to_string();
    let (ca, cert, key) = (file("ca.pem"), file("client.pem"), file("client-key.pem"));
    let lines = format!("  tls: {{ ca: \"{ca}\", cert: \"{cert}\", key: \"{key}\" }}\n");
    let server = NatsOptions::new().config(&certificates.server_config(true));
    let login = || {
        let options = ConnectOptions::new().require_tls(true).add_root_certificates(certificates.file("ca.pem"));
        Some(options.add_client_certificate(certificates.file("client.pem"), certificates.file("client-key.pem")))
    };
    let pem = std::fs::read_to_string(certificates.file("client-key.pem")).expect("it can be read");
    replicates(server, &lines, login, &[pem.lines().nth(1).expect("the key")]).await;
}
