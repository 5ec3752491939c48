//! The process runner, with a shell script in rhio's place.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;
use testkit::{NatsOptions, NatsServer, Rhio, RhioBuilder};

const SOON: Duration = Duration::from_secs(10);

/// Says that it is ready, answers SIGHUP and SIGTERM, and shows what it was started with.
const SCRIPT: &str = r#"
say() { printf '{"level":"%s","target":"fake","fields":{"message":"%s"}}\n' "$1" "$2"; }
trap 'say INFO "reloaded"' HUP
trap 'say INFO "bye"; exit 0' TERM
say INFO "started with $* and $(env | grep -c ^RHIO_) variables: $RHIO_FAILPOINTS"
if [ -n "$FAKE_WARNING" ]; then say WARN "$FAKE_WARNING"; fi
if [ -n "$FAKE_EXIT" ]; then echo "cannot start" >&2; exit "$FAKE_EXIT"; fi
say INFO "rhio is running"
while :; do sleep 0.05; done
"#;

fn script() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("rhio");
    fs::write(&path, format!("#!/bin/sh\n{SCRIPT}")).expect("the script is written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it becomes executable");
    (folder, path)
}

fn fake(name: &str) -> (TempDir, RhioBuilder) {
    let (folder, path) = script();
    (folder, Rhio::builder(name).binary(path))
}

#[tokio::test]
async fn a_rhio_starts_reloads_restarts_and_ends() {
    let (_folder, builder) = fake("a");
    let mut rhio = builder.env("RHIO_FAILPOINTS", "x=1").argument("--flag").start().await;
    let line = rhio.wait_for_log("started with", SOON).await;
    assert!(line.message.starts_with("started with --config ") && line.message.contains("config.yaml --flag"));
    assert!(line.message.ends_with("1 variables: x=1"), "{}", line.message);
    assert!(rhio.rss_peak_bytes() > 0);

    let (port, key, mark) = (rhio.port(), rhio.public_key(), rhio.log_mark());
    rhio.reload();
    rhio.wait_for_log_after(mark, "reloaded", SOON).await;
    let ended = rhio.terminate().await;
    assert_eq!(ended.code(), Some(0));
    assert!(!rhio.is_running());
    rhio.restart().await;
    assert_eq!((rhio.port(), rhio.public_key()), (port, key));
    rhio.kill();
    rhio.start().await;
    assert_eq!(rhio.logs().iter().filter(|line| line.message == "rhio is running").count(), 3);
    rhio.finish().await;
}

#[tokio::test]
async fn key_and_configuration_are_written_before_the_start() {
    let (_folder, builder) = fake("a");
    let server = NatsServer::start(NatsOptions::new().password("ann", "a: #b")).await;
    let (_other_folder, other) = fake("b");
    let other = other.seed(7).build();
    let builder = builder.seed(7).nats(&server).node(other.as_node()).publish("x.>", "X");
    let rhio = builder.subscribe("y.*", "Y", &other.public_key()).build();
    assert_eq!(rhio.public_key(), other.public_key(), "a seed is a key");
    assert_ne!(rhio.port(), other.port());

    let mode = fs::metadata(rhio.key_path()).expect("the key file is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(fs::read_to_string(rhio.key_path()).expect("it can be read").trim(), rhio.signing_key().to_hex());
    let text = fs::read_to_string(rhio.config_path()).expect("the configuration is there");
    let key = rhio.public_key();
    for line in [
        &format!("bind_port: {}\n", rhio.port()),
        &format!("http_bind_port: {}\n", rhio.port()),
        &format!("nats:\n  endpoint: \"{}\"\n", server.address()),
        "  credentials: { username: \"ann\", password: \"a: #b\" }\n",
        &format!("nodes:\n  - public_key: \"{key}\"\n    endpoints: [\"{}\"]\n", other.endpoint()),
        "publish:\n  nats_subjects:\n    - { subject: \"x.>\", stream: \"X\" }\n",
        "subscribe:\n  nats_subjects:\n    - subject: \"y.*\"\n      stream: \"Y\"\n",
    ] {
        assert!(text.contains(line), "{line} in\n{text}");
    }
}

#[tokio::test]
async fn a_rhio_that_ends_at_its_start_is_an_error_with_its_words() {
    let (_folder, builder) = fake("a");
    let mut rhio = builder.env("FAKE_EXIT", "2").build();
    let error = rhio.try_start().await.expect_err("it fails").to_string();
    assert!(error.contains("exit status: 2") && error.contains("cannot start"), "{error}");

    rhio.spawn().expect("it starts");
    assert_eq!(rhio.wait_exit(SOON).await.expect("it ends").code(), Some(2));
}

#[tokio::test]
async fn warnings_that_are_allowed_are_fine() {
    let (_folder, builder) = fake("a");
    let rhio = builder.env("FAKE_WARNING", "the disk is slow").allow_log("disk is").start().await;
    assert!(rhio.loud_lines().is_empty());
    rhio.finish().await;
}

#[tokio::test]
#[should_panic(expected = "rhio a logged 1 warnings or errors that the test does not allow")]
async fn warnings_that_are_not_allowed_fail_the_test() {
    let (_folder, builder) = fake("a");
    builder.env("FAKE_WARNING", "the disk is slow").start().await;
}
