//! Environment variables and options, laid over what the file says.

use super::given::{Environment, Overrides};
use super::reader::{Notes, nearest};
use super::tree::{self, Key, Node, Origin, Value};

const PREFIX: &str = "RHIO_";

/// How the text of a variable is read.
#[derive(Clone, Copy, PartialEq)]
enum Shape {
    /// As it is: no quoting, no escapes.
    Text,
    /// As YAML, of which JSON is a part: lists and whole sections.
    Yaml,
}

/// Every key that a variable can set.
const KEYS: &[(&str, Shape)] = &[
    ("bind_port", Shape::Text),
    ("http_bind_port", Shape::Text),
    ("http_bind_address", Shape::Text),
    ("network_id", Shape::Text),
    ("private_key_path", Shape::Text),
    ("log_level", Shape::Text),
    ("log_format", Shape::Text),
    ("access", Shape::Text),
    ("blobs_dir", Shape::Text),
    ("nats", Shape::Yaml),
    ("nats.endpoint", Shape::Text),
    ("nats.credentials", Shape::Yaml),
    ("nats.credentials.username", Shape::Text),
    ("nats.credentials.password", Shape::Text),
    ("nats.credentials.token", Shape::Text),
    ("nats.credentials.nkey", Shape::Text),
    ("nats.credentials.creds_file", Shape::Text),
    ("nats.tls", Shape::Yaml),
    ("nats.tls.ca", Shape::Text),
    ("nats.tls.cert", Shape::Text),
    ("nats.tls.key", Shape::Text),
    ("nats.inbox_prefix", Shape::Text),
    ("nats.domain", Shape::Text),
    ("nats.state", Shape::Yaml),
    ("nats.state.stream", Shape::Text),
    ("nats.state.replicas", Shape::Text),
    ("nats.state.storage", Shape::Text),
    ("nats.state.max_bytes", Shape::Text),
    ("s3", Shape::Yaml),
    ("s3.endpoint", Shape::Text),
    ("s3.region", Shape::Text),
    ("s3.credentials", Shape::Yaml),
    ("s3.credentials.access_key", Shape::Text),
    ("s3.credentials.secret_key", Shape::Text),
    ("s3.credentials.session_token", Shape::Text),
    ("s3.poll_interval", Shape::Text),
    ("s3.ca", Shape::Text),
    ("s3.style", Shape::Text),
    ("s3.events", Shape::Text),
    ("import", Shape::Yaml),
    ("import.dirs", Shape::Yaml),
    ("import.bucket", Shape::Text),
    ("tracing", Shape::Yaml),
    ("tracing.otlp_endpoint", Shape::Text),
    ("tracing.sample", Shape::Text),
    ("tracing.headers", Shape::Yaml),
    ("nodes", Shape::Yaml),
    ("publish", Shape::Yaml),
    ("publish.s3_buckets", Shape::Yaml),
    ("publish.nats_subjects", Shape::Yaml),
    ("subscribe", Shape::Yaml),
    ("subscribe.s3_buckets", Shape::Yaml),
    ("subscribe.nats_subjects", Shape::Yaml),
];

/// The ways to authenticate at NATS: a variable that sets one takes the place of whatever the file has.
const AUTH: &[&[&str]] = &[&["username", "password"], &["token"], &["nkey"], &["creds_file"]];

/// Lays the variables over the tree. An empty variable counts as not set.
pub(super) fn overlay_environment(notes: &Notes, root: &mut Node, environment: &Environment) {
    let mut found = Vec::new();
    for (name, text) in environment {
        let Some(rest) = name.strip_prefix(PREFIX) else { continue };
        if text.is_empty() || is_foreign(rest, text) {
            continue;
        }
        let key = rest.to_ascii_lowercase().replace("__", ".");
        match KEYS.iter().find(|(known, _)| *known == key) {
            Some((known, shape)) => found.push((*known, *shape, name, text)),
            None => unknown(notes, name, &key),
        }
    }
    // A whole section first, then what is in it.
    found.sort_by_key(|(key, ..)| key.matches('.').count());
    for (key, shape, name, text) in found {
        let origin = Origin::Env(name.clone());
        let node = match shape {
            Shape::Text => Node { origin: origin.clone(), value: Value::Text { text: text.clone(), plain: true } },
            Shape::Yaml => match tree::parse(text, |_| origin.clone()) {
                Ok(node) => node,
                Err(error) => {
                    notes.problem(&origin, key, error.to_string());
                    continue;
                }
            },
        };
        insert(root, key, node, &origin);
        if let Some(way) = key.strip_prefix("nats.credentials.") {
            drop_other_ways(root, way);
        }
    }
}

/// Lays the options over the tree.
pub(super) fn overlay_options(root: &mut Node, overrides: &Overrides) {
    let port = |port: Option<u16>| port.map(|port| port.to_string());
    let path = |path: &Option<std::path::PathBuf>| path.as_ref().map(|path| path.to_string_lossy().into_owned());
    let options = [
        ("bind_port", "--bind-port", port(overrides.bind_port)),
        ("http_bind_port", "--http-bind-port", port(overrides.http_bind_port)),
        ("private_key_path", "--private-key-path", path(&overrides.private_key_path)),
        ("blobs_dir", "--blobs-dir", path(&overrides.blobs_dir)),
        ("log_level", "--log-level", overrides.log_level.clone()),
    ];
    for (key, flag, text) in options {
        if let Some(text) = text {
            let origin = Origin::Flag(flag);
            insert(root, key, Node { origin: origin.clone(), value: Value::Text { text, plain: true } }, &origin);
        }
    }
}

/// Variables that begin like ours but are not: what Kubernetes sets in every pod for a service named `rhio` or
/// `rhio-something`, and what our own tests use.
fn is_foreign(rest: &str, text: &str) -> bool {
    let ports = ["_TCP", "_UDP", "_SCTP"];
    let link = rest.ends_with("SERVICE_HOST")
        || rest.contains("SERVICE_PORT")
        || ports.iter().any(|port| rest.ends_with(port) || rest.contains(&format!("{port}_")));
    link || ["tcp://", "udp://", "sctp://"].iter().any(|scheme| text.starts_with(scheme))
        || rest.starts_with("TEST_")
        || rest == "FAILPOINTS"
}

/// A name with `__` in it can only be meant for us, and one that nearly is a key is a typing mistake: both are errors.
/// Anything else may belong to somebody else's script: a warning.
fn unknown(notes: &Notes, name: &str, key: &str) {
    let origin = Origin::Env(name.to_owned());
    let known: Vec<&str> = KEYS.iter().map(|(key, _)| *key).collect();
    let variable = |key: &str| format!("{PREFIX}{}", key.to_ascii_uppercase().replace('.', "__"));
    let guess = nearest(key, &known).or_else(|| known.iter().copied().find(|known| known.replace('.', "_") == key));
    match guess {
        Some(guess) => {
            let message = format!("sets no key of rhio, expected {} (did you mean that?)", variable(guess));
            notes.problem(&origin, key, message);
        }
        None if key.contains('.') => {
            let section = key.split('.').next().unwrap_or_default();
            let inside = known.iter().filter(|known| known.split('.').next() == Some(section)).count() > 1;
            let shown = known.iter().filter(|known| !inside || known.split('.').next() == Some(section));
            let names: Vec<String> = shown.map(|key| variable(key)).collect();
            notes.problem(&origin, key, format!("sets no key of rhio, expected one of {}", names.join(", ")));
        }
        None => notes.warning(&origin, key, "sets no key of rhio and is ignored".into()),
    }
}

/// Puts a node at a path, in place of what is there. Where something else than a section is in the way, it stays, for
/// the reader to complain about.
fn insert(root: &mut Node, path: &str, node: Node, origin: &Origin) {
    let mut place = root;
    let mut keys = path.split('.').peekable();
    while let Some(key) = keys.next() {
        if matches!(place.value, Value::Null) {
            *place = Node { origin: origin.clone(), value: Value::Map(Vec::new()) };
        }
        let Value::Map(entries) = &mut place.value else { return };
        let index = entries.iter().position(|(entry, _)| entry.name == key).unwrap_or_else(|| {
            let name = Key { name: key.to_owned(), origin: origin.clone() };
            entries.push((name, Node { origin: origin.clone(), value: Value::Null }));
            entries.len() - 1
        });
        place = &mut entries[index].1;
        if keys.peek().is_none() {
            *place = node;
            return;
        }
    }
}

fn drop_other_ways(root: &mut Node, way: &str) {
    let Some(credentials) = child(root, "nats").and_then(|nats| child(nats, "credentials")) else { return };
    let Value::Map(entries) = &mut credentials.value else { return };
    let mine = AUTH.iter().find(|keys| keys.contains(&way)).copied().unwrap_or_default();
    let is_other = |key: &str| AUTH.iter().any(|keys| keys.contains(&key)) && !mine.contains(&key);
    entries.retain(|(key, node)| !(is_other(&key.name) && matches!(node.origin, Origin::File(_))));
}

fn child<'a>(node: &'a mut Node, key: &str) -> Option<&'a mut Node> {
    let Value::Map(entries) = &mut node.value else { return None };
    entries.iter_mut().find(|(entry, _)| entry.name == key).map(|(_, node)| node)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubernetes_variables_are_not_ours() {
        assert!(is_foreign("SERVICE_HOST", "10.0.0.1"));
        assert!(is_foreign("NATS_SERVICE_PORT_CLIENT", "4222"));
        assert!(is_foreign("PORT", "tcp://10.0.0.1:3000"));
        assert!(is_foreign("PORT_9102_UDP_ADDR", "10.0.0.1"));
        assert!(is_foreign("PORT_9102_UDP", "udp://10.0.0.1:9102"));
        assert!(is_foreign("BIND_PORT", "tcp://10.0.0.1:3000"));
        assert!(!is_foreign("BIND_PORT", "9102"));
        assert!(!is_foreign("NATS__ENDPOINT", "nats://10.0.0.1:4222"));
    }

    /// A key that a variable sets but the reader does not know would be an error that no operator can put right.
    #[test]
    fn the_reader_knows_every_key_that_a_variable_can_set() {
        for (key, _) in KEYS {
            let notes = Notes::default();
            let mut root = Node { origin: Origin::File(1), value: Value::Null };
            let origin = Origin::Env("X".into());
            insert(&mut root, key, Node { origin: origin.clone(), value: Value::List(Vec::new()) }, &origin);
            super::super::decode::config(&notes, &root);
            let problems = notes.problems.borrow();
            let unknown = problems.iter().find(|problem| problem.to_string().contains("is not a key"));
            assert!(unknown.is_none(), "{unknown:?}");
        }
    }
}
