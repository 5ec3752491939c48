//! The configuration as an operator meets it: sources, precedence, every key, and errors that name place and key.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rhio::config::{self, *};
use rhio_router::telemetry::Sample;

const KEY_A: &str = "ea4a6c63e29c520abef5507b132ec5f9954776aebebe7b92421eea691446d22c";
const KEY_B: &str = "197f6b23e16c8532c6abc838facd5ea789be0c76b2920334039bfa8b3d368d61";

fn environment(variables: &[(&str, &str)]) -> Environment {
    variables.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

/// Loads a `config.yaml` with this text, and an environment.
fn load_with(text: &str, variables: &[(&str, &str)]) -> Result<Loaded, ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.yaml"), text).unwrap();
    config::load_from(&Overrides::default(), &environment(variables), folder.path())
}

fn load(text: &str) -> Config {
    load_with(text, &[]).unwrap_or_else(|error| panic!("{error}")).config
}

/// The problems of a configuration, from the file's name on.
fn problems_with(text: &str, variables: &[(&str, &str)]) -> Vec<String> {
    let error = load_with(text, variables).expect_err("an error");
    error
        .problems()
        .iter()
        .map(|problem| problem.to_string())
        .map(|text| match text.find("config.yaml:") {
            Some(start) => text[start..].to_owned(),
            None => text,
        })
        .collect()
}

/// The only problem of a configuration.
fn problem(text: &str) -> String {
    let problems = problems_with(text, &[]);
    assert_eq!(problems.len(), 1, "{problems:#?}");
    problems.into_iter().next().unwrap()
}

#[track_caller]
fn assert_problem(text: &str, start: &str, also: &[&str]) {
    let problem = problem(text);
    assert!(problem.starts_with(start), "expected {start}\n     got {problem}");
    for part in also {
        assert!(problem.contains(part), "expected {part:?} in {problem}");
    }
}

#[test]
fn nothing_at_all_gives_the_defaults() {
    let config = load("");
    assert_eq!(config, Config::default());
    assert_eq!((config.bind_port, config.http_bind_port), (9102, 3000));
    assert_eq!(config.network_id, "rhio-default-network-1");
    assert_eq!(config.private_key_path, PathBuf::from("private-key.txt"));
    assert_eq!(config.nats.endpoint[0].to_string(), "localhost:4222");
    assert_eq!((config.nats.state.stream.as_str(), config.nats.state.replicas), ("RHIO", 1));
    assert_eq!(config.access, Access::Known);
    let folder = tempfile::tempdir().unwrap();
    let loaded = config::load_from(&Overrides::default(), &Environment::new(), folder.path()).unwrap();
    assert_eq!(loaded, Loaded { config: Config::default(), file: None, warnings: Vec::new() });
}

#[test]
fn every_key_is_read() {
    let config = load(&format!(
        r#"
bind_port: 1
http_bind_port: 0
network_id: "n"
private_key_path: "k"
log_level: "rhio=DEBUG"
log_format: "json"
access: "open"
blobs_dir: "b"
nats:
  endpoint: "a:1, tls-free.example:2,[::1]:3"
  credentials: {{ token: 0123 }}
  tls: {{ ca: "ca.pem", cert: "c.pem", key: "k.pem" }}
  inbox_prefix: "_I.rhio"
  domain: "hub"
  state: {{ stream: "S", replicas: 3, storage: "memory", max_bytes: 2GiB }}
s3:
  endpoint: "file:///var/lib/rhio/buckets"
  region: "r"
  credentials: {{ access_key: "a", secret_key: "s" }}
  poll_interval: "250ms"
import: {{ dirs: ["/import"], bucket: "in" }}
tracing: {{ otlp_endpoint: "https://collector.example/otlp/", sample: 0.25, headers: {{ X-Key: "k" }} }}
nodes:
  - public_key: "{KEY_A}"
    endpoints: ["rhio.example.org", "192.168.178.100:1", "[2a02::1]:9103"]
publish:
  s3_buckets: ["one", {{ bucket: "two", allow: ["{KEY_B}"] }}]
  nats_subjects:
    - {{ subject: "w.*.e", stream: "w", allow: [] }}
subscribe:
  s3_buckets:
    - {{ remote_bucket: "r", local_bucket: "l", public_key: "{KEY_A}", deletes: follow }}
  nats_subjects:
    - {{ subject: "w.>", stream: "w", public_key: "{KEY_B}" }}
"#
    ));
    assert_eq!((config.bind_port, config.http_bind_port), (1, 0));
    assert_eq!((config.log_format, config.access), (LogFormat::Json, Access::Open));
    let endpoints: Vec<String> = config.nats.endpoint.iter().map(ToString::to_string).collect();
    assert_eq!(endpoints, ["a:1", "tls-free.example:2", "[::1]:3"]);
    assert_eq!(config.nats.credentials, Some(Credentials::Token(Secret::new("0123"))), "the exact text");
    let tls = config.nats.tls.unwrap();
    assert_eq!(tls.ca, Some("ca.pem".into()));
    assert_eq!(tls.client, Some(ClientCert { cert: "c.pem".into(), key: "k.pem".into() }));
    assert_eq!((config.nats.inbox_prefix.as_str(), config.nats.domain.as_deref()), ("_I.rhio", Some("hub")));
    let state = State { stream: "S".into(), replicas: 3, storage: Storage::Memory, max_bytes: Some(2 << 30) };
    assert_eq!(config.nats.state, state);
    let s3 = config.s3.unwrap();
    assert_eq!(s3.endpoint, S3Endpoint::Folder("/var/lib/rhio/buckets".into()));
    assert_eq!(s3.poll_interval, Duration::from_millis(250));
    assert_eq!(config.import, Import { dirs: vec!["/import".into()], bucket: Some("in".into()) });
    let tracing = config.tracing.unwrap();
    assert_eq!(tracing.otlp_endpoint, "https://collector.example/otlp");
    assert_eq!((Some(tracing.sample), tracing.headers), (Sample::of(0.25), vec![("X-Key".into(), Secret::new("k"))]));
    let addresses: Vec<String> = config.nodes[0].endpoints.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["rhio.example.org:9102", "192.168.178.100:1", "[2a02::1]:9103"]);
    assert_eq!(config.publish.s3_buckets[0], PublishBucket { bucket: "one".into(), allow: None });
    assert_eq!(config.publish.s3_buckets[1].allow.as_ref().unwrap()[0].to_string(), KEY_B);
    assert_eq!(config.publish.nats_subjects[0].subject.as_str(), "w.*.e");
    assert_eq!(config.publish.nats_subjects[0].allow, Some(vec![]), "an empty list is a list: nobody");
    assert_eq!(config.subscribe.s3_buckets[0].deletes, Deletes::Follow);
    assert_eq!(config.subscribe.nats_subjects[0].public_key.to_string(), KEY_B);
}

#[test]
fn the_originals_configuration_loads_unchanged() {
    let loaded = load_with(include_str!("../fixtures/original.yaml"), &[]).unwrap();
    let config = loaded.config;
    assert_eq!((config.bind_port, config.http_bind_port), (4711, 4712));
    assert_eq!(config.nats.endpoint[0].to_string(), "nats.messaging.svc.cluster.local:4222");
    let user = Credentials::UserPassword { username: "grid".into(), password: Secret::new("grid-secret") };
    assert_eq!(config.nats.credentials, Some(user));
    assert_eq!(config.s3.unwrap().poll_interval, Duration::from_millis(2500));
    assert_eq!(config.publish.s3_buckets.len() + config.publish.nats_subjects.len(), 4);
    assert_eq!(config.subscribe.s3_buckets.len() + config.subscribe.nats_subjects.len(), 4);
    let warned = |part: &str| loaded.warnings.iter().any(|warning| warning.contains(part));
    assert!(warned("protocol.poll_interval_seconds") && warned("discovery.query_interval_seconds"));
    assert!(warned("several ways to authenticate"), "{:?}", loaded.warnings);
    assert_eq!(loaded.warnings.len(), 4, "{:?}", loaded.warnings);
}

#[test]
fn what_its_operator_generates_loads_too() {
    let text = format!(
        r#"{{"s3":null,"nats":{{"endpoint":"nats://n:4222","credentials":{{"nkey":null,"username":"u","password":"p","token":null}}}},
        "bind_port":9102,"http_bind_port":8080,"nodes":[{{"public_key":"{KEY_A}","endpoints":[]}}],
        "private_key_path":"/etc/rhio/private-key.txt","network_id":"test","protocol":null,"discovery":null,
        "log_level":null,"publish":{{"s3_buckets":[],"nats_subjects":[]}},"subscribe":null}}"#
    );
    let loaded = load_with(&text, &[]).unwrap();
    assert_eq!(loaded.config.http_bind_port, 8080);
    assert_eq!(loaded.warnings, [""; 0]);
}

#[test]
fn our_own_example_holds_the_defaults_and_loads_with_every_option_switched_on() {
    let example = include_str!("../../../config.example.yaml");
    assert_eq!(load(example), Config::default(), "as it is, it changes nothing");
    // Prose has exactly one space after its "#", an option none, or as many as it is indented by.
    let is_prose = |text: &str| text.is_empty() || text.starts_with(' ') && !text.starts_with("  ");
    let switched = |line: &'static str| line.strip_prefix('#').filter(|text| !is_prose(text)).unwrap_or(line);
    let text: String = example.lines().map(|line| format!("{}\n", switched(line))).collect();
    let loaded = load_with(&text, &[]).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let config = loaded.config;
    assert!(config.s3.is_some() && config.nats.tls.is_some() && !config.nodes.is_empty());
    assert!(!config.publish.nats_subjects.is_empty() && !config.subscribe.s3_buckets.is_empty());
    // Whatever can be set is explained.
    for key in [
        "bind_port",
        "http_bind_port",
        "network_id",
        "private_key_path",
        "log_level",
        "log_format",
        "access",
        "blobs_dir",
        "endpoint",
        "username",
        "password",
        "token",
        "nkey",
        "creds_file",
        "ca",
        "cert",
        "key",
        "stream",
        "replicas",
        "storage",
        "region",
        "access_key",
        "secret_key",
        "session_token",
        "poll_interval",
        "otlp_endpoint",
        "sample",
        "headers",
        "dirs",
        "bucket",
        "public_key",
        "endpoints",
        "allow",
        "subject",
        "remote_bucket",
        "local_bucket",
        "deletes",
    ] {
        assert!(example.contains(&format!("{key}:")), "config.example.yaml lacks {key}");
    }
}

#[test]
fn environment_wins_over_the_file_and_options_over_both() {
    let folder = tempfile::tempdir().unwrap();
    let text = "bind_port: 1\nhttp_bind_port: 1\nnetwork_id: file\nnats: {endpoint: 'file:1', state: {stream: FILE}}\n";
    std::fs::write(folder.path().join("config.yaml"), text).unwrap();
    let variables = environment(&[
        ("RHIO_BIND_PORT", "2"),
        ("RHIO_HTTP_BIND_PORT", "2"),
        ("RHIO_NATS__ENDPOINT", "env:2"),
        ("RHIO_NATS__CREDENTIALS__USERNAME", "me"),
        ("RHIO_NATS__CREDENTIALS__PASSWORD", "{not: [yaml"),
        ("RHIO_NETWORK_ID", ""),
        ("RHIO_NODES", &format!("[{{public_key: {KEY_A}, endpoints: [\"x:1\"]}}]")),
        ("RHIO_PUBLISH__NATS_SUBJECTS", r#"[{"subject": "a.>", "stream": "s"}]"#),
    ]);
    let overrides = Overrides { bind_port: Some(3), log_level: Some("warn".into()), ..Overrides::default() };
    let loaded = config::load_from(&overrides, &variables, folder.path()).unwrap();
    let config = loaded.config;
    assert_eq!((config.bind_port, config.http_bind_port), (3, 2));
    assert_eq!(config.network_id, "file", "an empty variable sets nothing");
    assert_eq!(config.nats.endpoint[0].to_string(), "env:2");
    assert_eq!(config.nats.state.stream, "FILE", "the rest of the section stays");
    let user = Credentials::UserPassword { username: "me".into(), password: Secret::new("{not: [yaml") };
    assert_eq!(config.nats.credentials, Some(user));
    assert_eq!(config.nodes[0].endpoints[0].to_string(), "x:1");
    assert_eq!(config.publish.nats_subjects[0].stream, "s");
    assert_eq!(config.log_level, "warn");
    assert_eq!(loaded.file, Some(folder.path().join("config.yaml")));
}

#[test]
fn a_way_to_authenticate_from_the_environment_replaces_the_files() {
    let file = "nats: {credentials: {username: u, password: p}}\n";
    let loaded = load_with(file, &[("RHIO_NATS__CREDENTIALS__TOKEN", "t")]).unwrap();
    assert_eq!(loaded.config.nats.credentials, Some(Credentials::Token(Secret::new("t"))));
    assert_eq!(loaded.warnings, [""; 0]);
    let loaded = load_with(file, &[("RHIO_NATS__CREDENTIALS__PASSWORD", "q")]).unwrap();
    let user = Credentials::UserPassword { username: "u".into(), password: Secret::new("q") };
    assert_eq!(loaded.config.nats.credentials, Some(user), "half of a pair completes the file's");
}

#[test]
fn the_file_is_looked_for_in_the_folder_then_in_the_users_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    let write = |path: &Path, id: &str| {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, format!("network_id: {id}\n")).unwrap();
    };
    write(&home.join(".config/rhio/config.yaml"), "home");
    write(&folder.path().join("xdg/rhio/config.yaml"), "xdg");
    let work = folder.path().join("work");
    write(&work.join("named.yaml"), "named");
    let home = home.to_str().unwrap().to_owned();
    let xdg = folder.path().join("xdg").to_str().unwrap().to_owned();
    let id = |overrides: &Overrides, variables: &[(&str, &str)]| {
        config::load_from(overrides, &environment(variables), &work).unwrap().config.network_id
    };
    let none = Overrides::default();
    assert_eq!(id(&none, &[]), DEFAULT_NETWORK_ID);
    assert_eq!(id(&none, &[("HOME", &home)]), "home");
    assert_eq!(id(&none, &[("HOME", &home), ("XDG_CONFIG_HOME", &xdg)]), "xdg");
    write(&work.join("config.yaml"), "work");
    assert_eq!(id(&none, &[("HOME", &home), ("XDG_CONFIG_HOME", &xdg)]), "work");
    let named = Overrides { config: Some("named.yaml".into()), ..Overrides::default() };
    assert_eq!(id(&named, &[("HOME", &home)]), "named");
    let missing = Overrides { config: Some("missing.yaml".into()), ..Overrides::default() };
    let error = config::load_from(&missing, &environment(&[("HOME", &home)]), &work).unwrap_err().to_string();
    assert!(error.contains("missing.yaml: cannot be read"), "{error}");
}

#[test]
fn unknown_keys_are_errors_that_say_what_was_meant() {
    assert_problem("bind_port: 1\nbind_prot: 2\n", "config.yaml:2: bind_prot: ", &["\"bind_port\"", "expected one of"]);
    assert_problem("nats:\n  endpont: x\n", "config.yaml:2: nats.endpont: ", &["did you mean \"endpoint\"", "state"]);
    let node = format!("nodes:\n  - public_key: {KEY_A}\n    port: 1\n");
    assert_problem(&node, "config.yaml:3: nodes[0].port: ", &["public_key, endpoints"]);
    let entry = "publish:\n  nats_subjects:\n  - subject: a\n    stream: s\n    alow: []\n";
    assert_problem(entry, "config.yaml:5: publish.nats_subjects[0].alow: ", &["did you mean \"allow\""]);
}

#[test]
fn wrong_types_name_what_was_found_and_what_was_expected() {
    assert_problem("\nbind_port: many\n", "config.yaml:2: bind_port: ", &["\"many\"", "from 0 to 65535"]);
    assert_problem("bind_port: 65536\n", "config.yaml:1: bind_port: ", &["from 0 to 65535"]);
    assert_problem("bind_port: -1\n", "config.yaml:1: bind_port: ", &["from 0 to 65535"]);
    assert_problem("bind_port: \"9102\"\n", "config.yaml:1: bind_port: ", &["without quotes"]);
    assert_problem("bind_port: [1]\n", "config.yaml:1: bind_port: ", &["found a list"]);
    assert_problem("network_id: {a: 1}\n", "config.yaml:1: network_id: ", &["a section", "expected text"]);
    assert_problem("nats: here\n", "config.yaml:1: nats: ", &["expected a section", "endpoint"]);
    assert_problem("nodes: {}\n", "config.yaml:1: nodes: ", &["expected a list of nodes"]);
    assert_problem("- a\n", "config.yaml:1: ", &["found a list"]);
    assert_problem("log_format: xml\n", "config.yaml:1: log_format: ", &["\"xml\"", "text or json"]);
    assert_problem("access: all\n", "config.yaml:1: access: ", &["known or open"]);
    assert_problem("log_level: LOUD\n", "config.yaml:1: log_level: ", &["\"LOUD\"", "TRACE"]);
    assert_problem("nats: {state: {replicas: 6}}\n", "config.yaml:1: nats.state.replicas: ", &["from 1 to 5"]);
    assert_problem("s3: {poll_interval: 5 parsecs}\n", "config.yaml:1: s3.poll_interval: ", &["5s"]);
    assert_problem("s3: {endpoint: localhost}\n", "config.yaml:1: s3.endpoint: ", &["http://", "file:///"]);
    assert_problem("nats: {endpoint: 'http://x'}\n", "config.yaml:1: nats.endpoint: ", &["host:port", "tls://"]);
    assert_problem("nats: {tls: {cert: c}}\n", "config.yaml:1: nats.tls: ", &["expected both"]);
}

#[test]
fn broken_yaml_and_duplicate_keys_are_errors_with_their_line() {
    assert_problem("a: 1\n  b: 2\n", "config.yaml:2: ", &["not valid YAML"]);
    assert_problem(
        "bind_port: 1\nnats: {}\nbind_port: 2\n",
        "config.yaml:3: ",
        &["bind_port", "second time", "line 1"],
    );
    assert_problem("nats:\n  endpoint: a\n  endpoint: b\n", "config.yaml:3: ", &["endpoint", "line 2"]);
}

#[test]
fn bad_public_keys_and_subjects_are_errors() {
    for bad in ["abc", &KEY_A[1..], &"zz".repeat(32)] {
        let text = format!("nodes:\n  - endpoints: []\n    public_key: \"{bad}\"\n");
        assert_problem(&text, "config.yaml:3: nodes[0].public_key: ", &["64 hex digits"]);
    }
    for bad in ["a..b", ".a", "a.", "a.>.b", "a b", ""] {
        let text = format!("publish:\n  nats_subjects:\n    - stream: s\n      subject: \"{bad}\"\n");
        assert_problem(&text, "config.yaml:4: publish.nats_subjects[0].subject: ", &["expected a NATS subject"]);
    }
    let no_stream = "subscribe:\n  nats_subjects:\n\n    - subject: a\n      public_key: ";
    assert_problem(
        &format!("{no_stream}{KEY_A}\n"),
        "config.yaml:4: subscribe.nats_subjects[0]: ",
        &["has no \"stream\""],
    );
    let bad_stream = "publish: {nats_subjects: [{subject: a, stream: 'a.b'}]}\n";
    assert_problem(bad_stream, "config.yaml:1: publish.nats_subjects[0].stream: ", &["JetStream"]);
    let own_stream = "publish: {nats_subjects: [{subject: a, stream: RHIO}]}\n";
    assert_problem(own_stream, "config.yaml:1: publish.nats_subjects[0].stream: ", &["rhio's own stream"]);
}

fn subscribe_buckets(locals: &[&str]) -> String {
    let entry = |local: &&str| format!("    - {{remote_bucket: r, local_bucket: {local}, public_key: {KEY_A}}}\n");
    format!("s3: {{}}\nsubscribe:\n  s3_buckets:\n{}", locals.iter().map(entry).collect::<String>())
}

#[test]
fn two_subscriptions_into_one_bucket_are_an_error() {
    load(&subscribe_buckets(&["a", "b"]));
    let key = "config.yaml:6: subscribe.s3_buckets[2].local_bucket: ";
    assert_problem(&subscribe_buckets(&["a", "b", "a"]), key, &["two subscriptions", "\"a\"", "line 4"]);
}

fn publish_subjects(entries: &[(&str, &str)]) -> String {
    let entry = |(subject, stream): &(&str, &str)| format!("  - {{subject: '{subject}', stream: {stream}}}\n");
    format!("publish:\n  nats_subjects:\n{}", entries.iter().map(entry).collect::<String>())
}

#[test]
fn publications_of_one_stream_must_not_overlap_in_part() {
    load(&publish_subjects(&[("a.b", "s"), ("a.c", "s"), ("a.b", "other")]));
    load(&publish_subjects(&[("a.>", "s"), ("a.b", "s")]));
    let key = "config.yaml:4: publish.nats_subjects[1].subject: ";
    assert_problem(&publish_subjects(&[("a.*", "s"), ("*.b", "s")]), key, &["overlaps in part", "line 3"]);
    assert_problem(&publish_subjects(&[("a.*", "s"), ("a.*", "s")]), key, &["published already", "line 3"]);
}

#[test]
fn subscriptions_from_one_author_into_one_stream_must_not_overlap() {
    let text = |entries: &[(&str, &str, &str)]| {
        let entry = |(subject, stream, key): &(&str, &str, &str)| {
            format!("  - {{subject: '{subject}', stream: {stream}, public_key: {key}}}\n")
        };
        format!("subscribe:\n  nats_subjects:\n{}", entries.iter().map(entry).collect::<String>())
    };
    load(&text(&[("a.>", "s", KEY_A), ("a.>", "s", KEY_B), ("a.>", "other", KEY_A), ("b", "s", KEY_A)]));
    let key = "config.yaml:4: subscribe.nats_subjects[1].subject: ";
    assert_problem(&text(&[("a.>", "s", KEY_A), ("a.b", "s", KEY_A)]), key, &["overlaps", "twice", "line 3"]);
}

#[test]
fn all_problems_are_reported_at_once_in_the_order_of_the_file() {
    let problems = problems_with("bind_port: x\nnats:\n  foo: 1\naccess: y\n", &[("RHIO_LOG_FORMAT", "z")]);
    let starts: Vec<&str> = problems.iter().map(|problem| problem.split(": ").next().unwrap()).collect();
    assert_eq!(starts, ["config.yaml:1", "config.yaml:3", "config.yaml:4", "RHIO_LOG_FORMAT"]);
}

#[test]
fn errors_of_the_environment_and_of_options_name_the_variable_and_the_option() {
    let from = |name: &str, text: &str| problems_with("", &[(name, text)]).remove(0);
    assert!(from("RHIO_BIND_PORT", "x").starts_with("RHIO_BIND_PORT: bind_port: found \"x\""));
    assert!(from("RHIO_NODES", "[{public_key: x}]").starts_with("RHIO_NODES: nodes[0].public_key: \"x\" is no public"));
    assert!(from("RHIO_NODES", "[1, 2").starts_with("RHIO_NODES: nodes: is not valid YAML"));
    let wrong = from("RHIO_NATS__ENDPONT", "x");
    assert!(wrong.starts_with("RHIO_NATS__ENDPONT: ") && wrong.contains("RHIO_NATS__ENDPOINT"), "{wrong}");
    let wrong = from("RHIO_NATS_ENDPOINT", "x");
    assert!(wrong.contains("RHIO_NATS__ENDPOINT"), "one underscore too few: {wrong}");
    let wrong = from("RHIO_NATS__COLOUR", "x");
    assert!(wrong.contains("RHIO_NATS__TLS__CA") && !wrong.contains("RHIO_BIND_PORT"), "{wrong}");
    let overrides = Overrides { log_level: Some("x".into()), ..Overrides::default() };
    let folder = tempfile::tempdir().unwrap();
    let error = config::load_from(&overrides, &Environment::new(), folder.path()).unwrap_err().to_string();
    assert!(error.starts_with("--log-level: log_level: \"x\" is no log level"), "{error}");
}

#[test]
fn what_kubernetes_and_others_put_into_the_environment_does_no_harm() {
    let variables = [
        ("RHIO_SERVICE_HOST", "10.0.0.1"),
        ("RHIO_SERVICE_PORT_P2P", "9102"),
        ("RHIO_PORT", "udp://10.0.0.1:9102"),
        ("RHIO_PORT_9102_UDP_ADDR", "10.0.0.1"),
        ("RHIO_TEST_NATS_SERVER", "/bin/nats-server"),
    ];
    assert_eq!(load_with("", &variables).unwrap().warnings, [""; 0]);
    let odd = load_with("", &[("RHIO_FAVOURITE_COLOUR", "red")]).unwrap();
    assert!(odd.warnings[0].contains("RHIO_FAVOURITE_COLOUR"), "{:?}", odd.warnings);
}

#[test]
fn secrets_are_never_shown() {
    let seed = &*nkeys::KeyPair::new_user().seed().unwrap();
    let secrets = ["geheim1", "geheim2", "geheim3", seed];
    let text = format!(
        "nats: {{endpoint: 'nats://u:geheim1@h', credentials: {{nkey: {seed}}}}}\n\
         s3: {{credentials: {{access_key: a, secret_key: geheim2, session_token: geheim3}}}}\n\
         tracing: {{otlp_endpoint: 'http://h', headers: {{Authorization: Bearer geheim1}}}}\n"
    );
    let loaded = load_with(&text, &[]).unwrap();
    assert_eq!(loaded.config.nats.credentials, Some(Credentials::Nkey(Secret::new(seed))));
    let shown = format!("{loaded:?} {}", Secret::new("geheim1"));
    let broken = [
        "nats: {credentials: {nkey: geheim1}}",
        "nats: {credentials: {password: [geheim1]}}",
        "nats: {endpoint: 'nats://u:geheim1@h:port'}",
        "nats: {endpoint: 'http://u:geheim1@h'}",
        "nats: {credentials: geheim1}",
        "s3: {endpoint: 'http://u:geheim1@h'}",
        "s3: {credentials: {secret_key: geheim2}}",
        "tracing: {otlp_endpoint: 'http://u:geheim1@h'}",
        "tracing: {otlp_endpoint: 'http://h?key=geheim1'}",
        "tracing: {otlp_endpoint: h, headers: {X-Key: geheim1}}",
        "tracing: {otlp_endpoint: 'http://h', headers: {X-Key: [geheim1]}}",
        "tracing: {otlp_endpoint: 'http://h', headers: geheim1}",
        "tracing: {otlp_endpoint: 'http://h', headers: {X-Key: \"geheim1\\nX: y\"}}",
    ];
    let errors: String = broken.iter().map(|text| problem(text)).collect();
    for secret in secrets {
        assert!(!shown.contains(secret), "{secret} in {shown}");
        assert!(!errors.contains(secret), "{secret} in {errors}");
    }
}

#[test]
fn an_address_may_carry_the_credentials() {
    let loaded = load_with("nats: {endpoint: 'nats://u:p@h:1,nats://i'}\n", &[]).unwrap();
    let user = Credentials::UserPassword { username: "u".into(), password: Secret::new("p") };
    assert_eq!(loaded.config.nats.credentials, Some(user));
    let loaded = load_with("nats: {endpoint: 'nats://u:p@h:1', credentials: {token: t}}\n", &[]).unwrap();
    assert_eq!(loaded.config.nats.credentials, Some(Credentials::Token(Secret::new("t"))));
    assert!(loaded.warnings[0].contains("not used"));
}

#[test]
fn traces_need_an_address_a_share_and_headers_that_are_some() {
    let tracing = load("tracing: {otlp_endpoint: 'http://collector:4318/'}").tracing.unwrap();
    let expected = Tracing { otlp_endpoint: "http://collector:4318".into(), sample: Sample::ALL, headers: Vec::new() };
    assert_eq!(tracing, expected);
    assert_eq!(load("tracing:").tracing, None, "a section that is commented out");
    assert_problem("tracing: {sample: 0.5}", "config.yaml:1: tracing: has no \"otlp_endpoint\"", &[":4318"]);
    for wrong in ["collector:4318", "grpc://h:4317", "http://", "''"] {
        let text = format!("tracing: {{otlp_endpoint: {wrong}}}");
        assert_problem(&text, "config.yaml:1: tracing.otlp_endpoint: ", &["expected"]);
    }
    for wrong in ["1.5", "-1", "all", "NaN"] {
        let text = format!("tracing: {{otlp_endpoint: 'http://h', sample: {wrong}}}");
        assert_problem(&text, "config.yaml:1: tracing.sample: ", &["from 0 to 1"]);
    }
    for (wrong, why) in [("'a b': x", "no name"), ("Content-Type: x", "itself"), ("a: {b: c}", "a header's value")] {
        let text = format!("tracing: {{otlp_endpoint: 'http://h', headers: {{{wrong}}}}}");
        assert_problem(&text, "config.yaml:1: tracing.headers.", &[why]);
    }
    let variables = [
        ("RHIO_TRACING__OTLP_ENDPOINT", "http://env:1"),
        ("RHIO_TRACING__SAMPLE", "0.5"),
        ("RHIO_TRACING__HEADERS", r#"{"X-Key": "k"}"#),
    ];
    let tracing = load_with("", &variables).unwrap().config.tracing.unwrap();
    assert_eq!((tracing.otlp_endpoint.as_str(), Some(tracing.sample)), ("http://env:1", Sample::of(0.5)));
    assert_eq!(tracing.headers, [("X-Key".into(), Secret::new("k"))]);
}

#[test]
fn only_nodes_publish_and_subscribe_can_change_without_a_restart() {
    let old = load("");
    let text = format!("nodes: [{{public_key: {KEY_A}}}]\n{}", publish_subjects(&[("a", "s")]));
    assert_eq!(old.needs_restart(&load(&text)), [""; 0]);
    assert_eq!(old.needs_restart(&load("bind_port: 1\nnats: {endpoint: x}\n")), ["bind_port", "nats"]);
    assert_eq!(old.needs_restart(&load("tracing: {otlp_endpoint: 'http://h'}\n")), ["tracing"]);
}

#[test]
fn a_node_that_is_listed_twice_has_both_addresses() {
    let text = format!("nodes: [{{public_key: {KEY_A}, endpoints: [a]}}, {{public_key: {KEY_A}, endpoints: [b]}}]\n");
    let loaded = load_with(&text, &[]).unwrap();
    assert_eq!((loaded.config.nodes.len(), loaded.config.nodes[0].endpoints.len()), (1, 2));
    assert_eq!(loaded.warnings.len(), 1);
}
