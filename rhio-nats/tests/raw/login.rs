//! Every way to log in, and what is said when it does not work.

use std::time::{Duration, Instant};

use bytes::Bytes;
use nkeys::KeyPair;
use rhio_core::secret::Secret;
use rhio_nats::raw::connect::{ConnectError, connect};
use rhio_nats::raw::connection::{Reader, Writer};
use rhio_nats::raw::encode::Publish;
use rhio_nats::settings::{ClientCert, Credentials, Nats, Tls};
use testkit::login::{Certificates, creds, operator_mode};
use testkit::{NatsOptions, NatsServer};

use super::{endpoint, message, settings};

fn with(server: &NatsServer, credentials: Option<Credentials>) -> Nats {
    Nats { credentials, ..settings(&server.address()) }
}

async fn works(settings: &Nats) -> (Writer, Reader) {
    let (writer, mut reader) = connect(settings, "test").await.unwrap_or_else(|error| panic!("{error}"));
    let payload = Bytes::from_static(b"hello");
    writer.subscribe(b"echo", 1).await.unwrap();
    writer.publish(&Publish { subject: b"echo", reply: None, headers: &[], payload: &payload }).await.unwrap();
    assert_eq!(message(&mut reader).await.payload(), b"hello");
    writer.round_trip().await.unwrap();
    (writer, reader)
}

async fn refusal(settings: &Nats) -> ConnectError {
    connect(settings, "test").await.expect_err("an error")
}

#[track_caller]
fn assert_refused(error: &ConnectError, address: &str) {
    let text = error.to_string();
    assert!(matches!(error, ConnectError::Refused { .. }), "{error:?}");
    assert!(text.starts_with(&format!("NATS at {address} refused our credentials: ")), "{text}");
}

#[tokio::test]
async fn without_credentials_under_our_name() {
    let server = NatsServer::start(NatsOptions::new().config("http: \"127.0.0.1:-1\"")).await;
    let (writer, _reader) = works(&with(&server, None)).await;
    let info = writer.info();
    assert!(!info.server_id.is_empty() && info.headers && info.jetstream && info.max_payload == 1024 * 1024);
}

#[tokio::test]
async fn with_user_and_password() {
    let server = NatsServer::start(NatsOptions::new().password("me", "geheim")).await;
    let user = |password| Credentials::UserPassword { username: "me".into(), password: Secret::new(password) };
    works(&with(&server, Some(user("geheim")))).await;
    let error = refusal(&with(&server, Some(user("wrong-one")))).await;
    assert_refused(&error, &server.address());
    assert!(!format!("{error:?}").contains("wrong-one"), "{error:?}");
    assert_refused(&refusal(&with(&server, None)).await, &server.address());
}

#[tokio::test]
async fn with_a_token() {
    let server = NatsServer::start(NatsOptions::new().token("geheim")).await;
    works(&with(&server, Some(Credentials::Token(Secret::new("geheim"))))).await;
    assert_refused(&refusal(&with(&server, Some(Credentials::Token(Secret::new("x"))))).await, &server.address());
}

#[tokio::test]
async fn with_an_nkey() {
    let (key, other) = (KeyPair::new_user(), KeyPair::new_user());
    let server = NatsServer::start(NatsOptions::new().nkey(&key.seed().unwrap(), &key.public_key())).await;
    works(&with(&server, Some(Credentials::Nkey(Secret::new(key.seed().unwrap()))))).await;
    let error = refusal(&with(&server, Some(Credentials::Nkey(Secret::new(other.seed().unwrap()))))).await;
    assert_refused(&error, &server.address());
}

#[tokio::test]
async fn with_a_creds_file_which_is_read_for_every_connection() {
    let (operator, system, account) = (KeyPair::new_operator(), KeyPair::new_account(), KeyPair::new_account());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("user.creds");
    std::fs::write(&path, creds(&account, &KeyPair::new_user())).unwrap();
    let resolver = operator_mode(&operator, &system, &account);
    let server = NatsServer::start(NatsOptions::new().config(&resolver).creds_file(&path)).await;
    let settings = with(&server, Some(Credentials::CredsFile(path.clone())));
    works(&settings).await;
    // Signed by an account that the server does not know.
    std::fs::write(&path, creds(&KeyPair::new_account(), &KeyPair::new_user())).unwrap();
    assert_refused(&refusal(&settings).await, &server.address());

    for (content, reason) in [("", "holds no user JWT"), ("-----BEGIN NATS USER JWT-----\nx\n", "holds no user nkey")] {
        std::fs::write(&path, content).unwrap();
        let error = refusal(&settings).await.to_string();
        assert!(error.starts_with("nats.credentials.creds_file: ") && error.contains(reason), "{error}");
    }
    std::fs::remove_file(&path).unwrap();
    assert!(refusal(&settings).await.to_string().contains("cannot be read"));
}

fn client(certificates: &Certificates, with_certificate: bool) -> Option<Tls> {
    let (cert, key) = (certificates.file("client.pem"), certificates.file("client-key.pem"));
    let client = with_certificate.then_some(ClientCert { cert, key });
    Some(Tls { ca: Some(certificates.file("ca.pem")), client })
}

#[tokio::test]
async fn with_tls_and_a_ca_of_our_own() {
    let certificates = Certificates::new();
    let server = NatsServer::start(NatsOptions::new().config(&certificates.server_config(false))).await;
    let at = |tls| Nats { tls, ..settings(&server.address()) };
    works(&at(client(&certificates, false))).await;

    // The server's certificate is not from this CA.
    let error = refusal(&at(client(&Certificates::new(), false))).await;
    assert!(matches!(error, ConnectError::Tls { .. }), "{error:?}");
    assert!(error.to_string().contains(&server.address()) && error.to_string().contains("certificate"), "{error}");

    // Nor is it from one that the system knows. (There may be none.)
    let error = refusal(&at(None)).await;
    assert!(matches!(error, ConnectError::Tls { .. } | ConnectError::Auth(_)), "{error:?}");
}

#[tokio::test]
async fn with_a_client_certificate() {
    let certificates = Certificates::new();
    let server = NatsServer::start(NatsOptions::new().config(&certificates.server_config(true))).await;
    let at = |tls| Nats { tls, ..settings(&server.address()) };
    works(&at(client(&certificates, true))).await;
    let error = refusal(&at(client(&certificates, false))).await;
    assert!(matches!(error, ConnectError::Tls { .. }), "{error:?}");
}

#[tokio::test]
async fn with_tls_and_a_password() {
    let certificates = Certificates::new();
    let options = NatsOptions::new().password("me", "geheim").config(&certificates.server_config(false));
    let server = NatsServer::start(options).await;
    let credentials = Some(Credentials::UserPassword { username: "me".into(), password: Secret::new("geheim") });
    works(&Nats { tls: client(&certificates, false), ..with(&server, credentials) }).await;
}

#[tokio::test]
async fn tls_is_never_given_up_for_a_server_without_it() {
    let certificates = Certificates::new();
    let server = NatsServer::start(NatsOptions::new()).await;
    let error = refusal(&Nats { tls: client(&certificates, false), ..with(&server, None) }).await;
    assert!(matches!(error, ConnectError::Tls { .. }), "{error:?}");
    let mut settings = with(&server, Some(Credentials::Token(Secret::new("geheim"))));
    settings.endpoint[0].tls = true;
    assert!(matches!(refusal(&settings).await, ConnectError::Tls { .. }));
}

#[tokio::test]
async fn files_that_are_of_no_use_are_named() {
    let certificates = Certificates::new();
    let with = |tls: Tls| Nats { tls: Some(tls), ..settings("localhost:1") };
    let error = refusal(&with(Tls { ca: Some("/nowhere/ca.pem".into()), client: None })).await.to_string();
    assert!(error.starts_with("nats.tls.ca: /nowhere/ca.pem cannot be read: "), "{error}");
    let swapped = ClientCert { cert: certificates.file("client-key.pem"), key: certificates.file("client.pem") };
    let ca = Some(certificates.file("ca.pem"));
    let error = refusal(&with(Tls { ca: ca.clone(), client: Some(swapped) })).await.to_string();
    assert!(error.starts_with("nats.tls.cert: ") && error.contains("holds no certificate"), "{error}");
    let twice = ClientCert { cert: certificates.file("client.pem"), key: certificates.file("client.pem") };
    let error = refusal(&with(Tls { ca, client: Some(twice) })).await.to_string();
    assert!(error.starts_with("nats.tls.key: ") && error.contains("holds no private key"), "{error}");
}

/// A port that nobody listens on.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn of_several_servers_one_is_enough() {
    let server = NatsServer::start(NatsOptions::new()).await;
    let mut settings = settings(&server.address());
    settings.endpoint.push(endpoint(&format!("127.0.0.1:{}", free_port())));
    settings.endpoint.push(endpoint("no-such-host.invalid:4222"));
    for _ in 0..8 {
        works(&settings).await;
    }
}

#[tokio::test]
async fn one_that_takes_connections_and_says_nothing_does_not_hold_up_the_others() {
    let server = NatsServer::start(NatsOptions::new()).await;
    let mut paused = NatsServer::start(NatsOptions::new()).await;
    paused.pause();
    let begun = Instant::now();
    let mut settings = settings(&server.address());
    settings.endpoint.push(endpoint(&paused.address()));
    for _ in 0..3 {
        works(&settings).await;
    }
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    settings.endpoint.remove(0);
    let error = refusal(&settings).await;
    assert!(matches!(&error, ConnectError::Unreachable { reason, .. } if reason.contains("within 5 s")), "{error}");
}

#[tokio::test]
async fn nobody_there_is_said_clearly() {
    let error = refusal(&settings(&format!("127.0.0.1:{}", free_port()))).await;
    assert!(matches!(error, ConnectError::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().contains("refused"), "{error}");
    let error = refusal(&settings("no-such-host.invalid:4222")).await;
    assert!(error.to_string().starts_with("NATS at no-such-host.invalid:4222 cannot be reached: "), "{error}");
}
