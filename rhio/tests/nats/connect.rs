//! Every way to log in at a real NATS server, what is said when it does not work, and reconnecting.

use std::time::Duration;

use common::SOON;
use common::login::{Certificates, client_tls, creds, operator_mode};
use nkeys::KeyPair;
use rhio::config::{self, Credentials, Nats, Secret, Tls};
use rhio_nats::connect::{ConnectError, ConnectSettings, connect};
use testkit::{NatsOptions, NatsServer};

/// What the configuration says about this server: its address, and whatever else is given.
fn nats(server: &NatsServer, credentials: Option<Credentials>) -> Nats {
    nats_at(&server.address(), credentials)
}

fn nats_at(endpoint: &str, credentials: Option<Credentials>) -> Nats {
    let text = format!("nats: {{ endpoint: \"{endpoint}\" }}\n");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.yaml"), text).unwrap();
    let loaded = config::load_from(&Default::default(), &Default::default(), folder.path()).unwrap();
    Nats { credentials, ..loaded.config.nats }
}

/// Connects, and sees a message of its own come back.
async fn assert_works(config: &Nats) {
    let client = connect(config, "test", ConnectSettings::default()).await.unwrap_or_else(|error| panic!("{error}"));
    assert_echo(&client).await;
}

async fn assert_echo(client: &rhio_nats::client::Client) {
    use futures_util::StreamExt;
    let mut inbox = client.subscribe("echo").await.unwrap();
    client.publish("echo", "hello".into()).await.unwrap();
    let message = tokio::time::timeout(Duration::from_secs(10), inbox.next()).await.expect("in time");
    assert_eq!(message.unwrap().payload, "hello");
}

async fn refusal(config: &Nats) -> ConnectError {
    connect(config, "test", ConnectSettings::default()).await.expect_err("an error")
}

#[track_caller]
fn assert_refused(error: &ConnectError, address: &str) {
    let text = error.to_string();
    assert!(matches!(error, ConnectError::Refused { .. }), "{error:?}");
    assert!(text.starts_with(&format!("NATS at {address} refused our credentials: ")), "{text}");
}

fn secret(text: &str) -> Secret {
    Secret::new(text)
}

#[tokio::test]
async fn without_credentials() {
    let server = NatsServer::start(NatsOptions::new()).await;
    let config = nats(&server, None);
    let client = connect(&config, "seal", ConnectSettings::default()).await.unwrap();
    assert_echo(&client).await;
    assert_eq!(client.server_info().port, server.port());
}

#[tokio::test]
async fn with_user_and_password() {
    let server = NatsServer::start(NatsOptions::new().password("me", "geheim")).await;
    let user = |password: &str| Credentials::UserPassword { username: "me".into(), password: secret(password) };
    assert_works(&nats(&server, Some(user("geheim")))).await;
    let error = refusal(&nats(&server, Some(user("wrong-one")))).await;
    assert_refused(&error, &server.address());
    assert!(!format!("{error:?}").contains("wrong-one"), "{error:?}");
    assert_refused(&refusal(&nats(&server, None)).await, &server.address());
}

#[tokio::test]
async fn with_a_token() {
    let server = NatsServer::start(NatsOptions::new().token("geheim")).await;
    assert_works(&nats(&server, Some(Credentials::Token(secret("geheim"))))).await;
    assert_refused(&refusal(&nats(&server, Some(Credentials::Token(secret("x"))))).await, &server.address());
}

#[tokio::test]
async fn with_an_nkey() {
    let (key, other) = (KeyPair::new_user(), KeyPair::new_user());
    let server = NatsServer::start(NatsOptions::new().nkey(&key.seed().unwrap(), &key.public_key())).await;
    assert_works(&nats(&server, Some(Credentials::Nkey(secret(&key.seed().unwrap()))))).await;
    let error = refusal(&nats(&server, Some(Credentials::Nkey(secret(&other.seed().unwrap()))))).await;
    assert_refused(&error, &server.address());
}

#[tokio::test]
async fn with_a_creds_file_which_is_read_again_on_every_connect() {
    let (operator, system, account) = (KeyPair::new_operator(), KeyPair::new_account(), KeyPair::new_account());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("user.creds");
    std::fs::write(&path, creds(&account, &KeyPair::new_user())).unwrap();
    let resolver = operator_mode(&operator, &system, &account);
    let mut server = NatsServer::start(NatsOptions::new().config(&resolver).creds_file(&path)).await;
    let config = nats(&server, Some(Credentials::CredsFile(path.clone())));
    let client = connect(&config, "test", ConnectSettings::default()).await.unwrap();
    assert_echo(&client).await;

    // Another user's file in its place: the running client logs in with that one when it reconnects.
    std::fs::write(&path, creds(&account, &KeyPair::new_user())).unwrap();
    server.restart().await;
    assert_echo_soon(&client).await;

    // Signed by an account that the server does not know.
    std::fs::write(&path, creds(&KeyPair::new_account(), &KeyPair::new_user())).unwrap();
    assert_refused(&refusal(&config).await, &server.address());

    for (content, reason) in [("", "holds no user JWT"), ("-----BEGIN NATS USER JWT-----\nx\n", "holds no user nkey")] {
        std::fs::write(&path, content).unwrap();
        let error = refusal(&config).await.to_string();
        assert!(error.starts_with("nats.credentials.creds_file: ") && error.contains(reason), "{error}");
    }
    std::fs::remove_file(&path).unwrap();
    assert!(refusal(&config).await.to_string().contains("cannot be read"));
}

#[tokio::test]
async fn with_tls_and_a_ca_of_our_own() {
    let certificates = Certificates::new();
    let server = NatsServer::start(NatsOptions::new().config(&certificates.server_config(false))).await;
    let mut config = nats(&server, None);
    config.tls = Some(client_tls(&certificates, false));
    assert_works(&config).await;

    // The server's certificate is not from this CA.
    let foreign = Certificates::new();
    config.tls = Some(client_tls(&foreign, false));
    let error = refusal(&config).await;
    assert!(matches!(error, ConnectError::Tls { .. }), "{error:?}");
    assert!(error.to_string().contains(&server.address()) && error.to_string().contains("certificate"), "{error}");

    // Nor is it from one that the system knows.
    config.tls = None;
    assert!(matches!(refusal(&config).await, ConnectError::Tls { .. }));
}

#[tokio::test]
async fn with_a_client_certificate() {
    let certificates = Certificates::new();
    let server = NatsServer::start(NatsOptions::new().config(&certificates.server_config(true))).await;
    let mut config = nats(&server, None);
    config.tls = Some(client_tls(&certificates, true));
    assert_works(&config).await;
    config.tls = Some(client_tls(&certificates, false));
    let error = refusal(&config).await;
    assert!(matches!(error, ConnectError::Tls { .. }), "{error:?}");
}

#[tokio::test]
async fn tls_is_never_given_up_for_a_server_without_it() {
    let certificates = Certificates::new();
    let server = NatsServer::start(NatsOptions::new()).await;
    let mut config = nats(&server, Some(Credentials::Token(secret("geheim"))));
    config.tls = Some(client_tls(&certificates, false));
    refusal(&config).await;
    let config = nats_at(&format!("tls://{}", server.address()), None);
    refusal(&config).await;
}

#[tokio::test]
async fn files_that_are_of_no_use_are_named() {
    let certificates = Certificates::new();
    let config = |tls: Tls| Nats { tls: Some(tls), ..nats_at("localhost:1", None) };
    let error = refusal(&config(Tls { ca: Some("/nowhere/ca.pem".into()), client: None })).await.to_string();
    assert!(error.starts_with("nats.tls.ca: /nowhere/ca.pem cannot be read: "), "{error}");
    let swapped =
        config::ClientCert { cert: certificates.file("client-key.pem"), key: certificates.file("client.pem") };
    let error = refusal(&config(Tls { ca: None, client: Some(swapped) })).await.to_string();
    assert!(error.starts_with("nats.tls.cert: ") && error.contains("holds no certificate"), "{error}");
}

#[tokio::test]
async fn of_several_servers_one_is_enough() {
    let server = NatsServer::start(NatsOptions::new()).await;
    let config = nats_at(&format!("127.0.0.1:{},{}", free_port(), server.address()), None);
    for _ in 0..5 {
        assert_works(&config).await;
    }
}

#[tokio::test]
async fn nobody_there_is_said_clearly() {
    let config = nats_at(&format!("127.0.0.1:{}", free_port()), None);
    let error = refusal(&config).await;
    assert!(matches!(error, ConnectError::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().contains("refused"), "{error}");
    let error = refusal(&nats_at("no-such-host.invalid:4222", None)).await;
    assert!(error.to_string().starts_with("NATS at no-such-host.invalid:4222 cannot be reached: "), "{error}");
}

#[tokio::test]
async fn a_client_finds_its_server_again() {
    let mut server = NatsServer::start(NatsOptions::new()).await;
    let client = connect(&nats(&server, None), "test", ConnectSettings::default()).await.unwrap();
    assert_echo(&client).await;
    server.kill();
    // Away for longer than the first attempts to find it again take.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    server.restart().await;
    assert_echo_soon(&client).await;
}

#[tokio::test]
async fn the_first_connection_may_come_later() {
    let mut server = NatsServer::start(NatsOptions::new()).await;
    server.stop().await;
    let settings = ConnectSettings { retry_on_initial_connect: true, ..ConnectSettings::default() };
    let client = connect(&nats(&server, None), "test", settings).await.expect("no error, but patience");
    // Away for the first attempts.
    tokio::time::sleep(Duration::from_millis(300)).await;
    server.restart().await;
    assert_echo_soon(&client).await;
}

#[tokio::test]
async fn a_subscription_drops_messages_only_beyond_its_capacity() {
    use futures_util::{FutureExt, StreamExt};
    let server = NatsServer::start(NatsOptions::new()).await;
    let settings = ConnectSettings { subscription_capacity: 8, ..ConnectSettings::default() };
    let client = connect(&nats(&server, None), "test", settings).await.unwrap();
    let mut slow = client.subscribe("x").await.unwrap();
    let mut end = client.subscribe("end").await.unwrap();
    // What comes back tells that the server has read the subscriptions before it.
    client.publish("end", "".into()).await.unwrap();
    tokio::time::timeout(SOON, end.next()).await.expect("in time").unwrap();
    let sender = connect(&nats(&server, None), "sender", ConnectSettings::default()).await.unwrap();
    for _ in 0..20 {
        sender.publish("x", "y".into()).await.unwrap();
    }
    // It comes behind everything that was sent before it.
    sender.publish("end", "".into()).await.unwrap();
    tokio::time::timeout(SOON, end.next()).await.expect("in time").unwrap();
    let kept = std::iter::from_fn(|| slow.next().now_or_never().flatten()).count();
    assert!((8..20).contains(&kept), "{kept}");
}

/// A publish that gets an answer, tried until the client is connected again.
async fn assert_echo_soon(client: &rhio_nats::client::Client) {
    let connected = async {
        while client.flush().await.is_err() || !client.is_connected() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(15), connected).await.expect("connected again in time");
    assert_echo(client).await;
}

/// A port that nobody listens on.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Log lines of this test's thread, where all of its tasks run.
#[derive(Clone, Default)]
struct Lines(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Lines {
    /// From now on until the guard goes.
    fn catch(&self, level: &str) -> tracing::subscriber::DefaultGuard {
        use tracing_subscriber::layer::SubscriberExt;
        let filter = rhio::logging::LogFilter::parse(level).unwrap().to_string();
        let lines = self.clone();
        let layer = tracing_subscriber::fmt::layer().with_ansi(false).without_time().with_writer(move || lines.clone());
        let registry = tracing_subscriber::registry().with(tracing_subscriber::EnvFilter::new(filter));
        tracing::subscriber::set_default(registry.with(layer))
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    async fn wait_for(&self, part: &str) {
        let found = async {
            while self.count(part) == 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(15), found)
            .await
            .unwrap_or_else(|_| panic!("{part}:\n{}", self.text()));
    }

    fn count(&self, part: &str) -> usize {
        self.text().lines().filter(|line| line.contains(part)).count()
    }
}

#[tokio::test]
async fn what_happens_to_a_connection_is_logged_once_and_without_secrets() {
    let lines = Lines::default();
    let _guard = lines.catch("DEBUG");
    let mut server = NatsServer::start(NatsOptions::new().password("me", "geheim")).await;
    let user = Credentials::UserPassword { username: "me".into(), password: secret("geheim") };
    let config = nats(&server, Some(user));
    let client = connect(&config, "test", ConnectSettings::default()).await.unwrap();
    assert_echo(&client).await;
    server.stop().await;
    lines.wait_for("Connection refused").await;
    server.configure(|options| options.password("me", "another"));
    server.restart().await;
    lines.wait_for("refuses our credentials").await;
    server.configure(|options| options.password("me", "geheim"));
    server.restart().await;
    assert_echo_soon(&client).await;
    // Said by a task of its own, a moment after the connection works.
    lines.wait_for("connected to NATS again after ").await;

    let text = lines.text();
    let address = server.address();
    for part in [
        "connected to NATS servers",
        "lost the connection to NATS, reconnecting",
        &format!("trying again and again: {address}: IO error: Connection refused"),
        &format!("NATS refuses our credentials, trying again and again: {address}: "),
        "connected to NATS again after ",
    ] {
        assert!(lines.count(part) >= 1, "{part}\n{text}");
    }
    // It was down twice. Nothing is repeated with every attempt, of which there were many.
    assert!(lines.count("WARN") + lines.count("ERROR") <= 5, "{text}");
    assert!(!text.contains("geheim"), "{text}");
}

/// The library logs what it sends, at the finest level. It leaves out what is secret; should that ever change, this fails.
#[tokio::test]
async fn no_level_shows_a_secret() {
    let lines = Lines::default();
    let _guard = lines.catch("=TRACE");
    let server = NatsServer::start(NatsOptions::new().password("me", "geheim")).await;
    let user = Credentials::UserPassword { username: "me".into(), password: secret("geheim") };
    assert_works(&nats(&server, Some(user))).await;
    let server = NatsServer::start(NatsOptions::new().token("geheim")).await;
    assert_works(&nats(&server, Some(Credentials::Token(secret("geheim"))))).await;
    let text = lines.text();
    assert!(text.contains("CONNECT") && !text.contains("geheim"), "{text}");
}
