//! The `config.yaml` of a rhio under test.

use std::fmt::Write;
use std::path::Path;

use crate::nats::{Login, NatsServer};
use crate::weed::WeedServer;

/// What goes into the file. Fields may be changed at any time; they take effect when the file is written.
#[derive(Debug, Clone, Default)]
pub struct RhioConfig {
    /// Nodes with another id never talk. By default one id per test process.
    pub network_id: String,
    /// UDP port.
    pub bind_port: u16,
    /// HTTP port; 0 is off.
    pub http_bind_port: u16,
    /// `known` or `open`; `None` leaves it out.
    pub access: Option<String>,
    /// Log level or filter; `None` leaves it out.
    pub log_level: Option<String>,
    /// `json`, or `text`, of which [`LogLine`](super::LogLine) makes nothing.
    pub log_format: String,
    /// The NATS server, `host:port` or an URL.
    pub nats_endpoint: String,
    /// Further lines below `nats:`, indented by two spaces.
    pub nats_lines: String,
    /// Where buckets are; `None` leaves it out.
    pub s3: Option<S3Section>,
    /// Folder for hash trees; `None` leaves it out. The builder puts it below the rhio's own folder.
    pub blobs_dir: Option<String>,
    /// Folders that `rhio.import` may read.
    pub import_dirs: Vec<String>,
    /// Where imports go; `None` leaves it out.
    pub import_bucket: Option<String>,
    /// Other nodes.
    pub nodes: Vec<Node>,
    /// What this node offers.
    pub publish: Vec<Publish>,
    /// What this node wants.
    pub subscribe: Vec<Subscribe>,
    /// Buckets that this node offers.
    pub publish_buckets: Vec<PublishBucket>,
    /// Buckets that this node wants.
    pub subscribe_buckets: Vec<SubscribeBucket>,
    /// Text to append, at the top level.
    pub extra: String,
}

/// An entry of `nodes`.
#[derive(Debug, Clone)]
pub struct Node {
    /// 64 hex digits.
    pub public_key: String,
    /// `host:port` each.
    pub endpoints: Vec<String>,
}

/// An entry of `publish.nats_subjects`.
#[derive(Debug, Clone)]
pub struct Publish {
    /// Subject filter.
    pub subject: String,
    /// Local stream.
    pub stream: String,
    /// Public keys that may read it; `None` leaves it to `access`.
    pub allow: Option<Vec<String>>,
}

/// An entry of `subscribe.nats_subjects`.
#[derive(Debug, Clone)]
pub struct Subscribe {
    /// Subject filter.
    pub subject: String,
    /// Local stream.
    pub stream: String,
    /// The author.
    pub public_key: String,
}

/// The section `s3`.
#[derive(Debug, Clone)]
pub struct S3Section {
    /// `http://host:port`, or `file:///folder`.
    pub endpoint: String,
    /// Access key and secret key; `None` leaves them out.
    pub credentials: Option<(String, String)>,
    /// How often buckets are listed, as a duration that rhio reads.
    pub poll_interval: String,
    /// Subject under which the server tells of changes; `None` leaves it out.
    pub events: Option<String>,
}

/// An entry of `publish.s3_buckets`.
#[derive(Debug, Clone)]
pub struct PublishBucket {
    /// Local bucket.
    pub bucket: String,
    /// Public keys that may read it; `None` leaves it to `access`.
    pub allow: Option<Vec<String>>,
}

/// An entry of `subscribe.s3_buckets`.
#[derive(Debug, Clone)]
pub struct SubscribeBucket {
    /// The author's bucket.
    pub remote_bucket: String,
    /// The bucket here.
    pub local_bucket: String,
    /// The author.
    pub public_key: String,
    /// `keep` or `follow`; `None` leaves it out.
    pub deletes: Option<String>,
}

impl S3Section {
    /// Buckets of this server, looked at five times a second.
    pub fn server(server: &WeedServer) -> Self {
        let credentials = Some((server.access_key().into(), server.secret_key().into()));
        Self { endpoint: server.endpoint(), credentials, poll_interval: "200ms".into(), events: None }
    }

    /// Folders below this one, looked at five times a second.
    pub fn folder(root: &Path) -> Self {
        let endpoint = format!("file://{}", root.display());
        Self { endpoint, credentials: None, poll_interval: "200ms".into(), events: None }
    }
}

impl RhioConfig {
    /// Points it to a server, with that server's credentials.
    pub fn nats(&mut self, server: &NatsServer) {
        self.nats_endpoint = server.address();
        self.nats_lines = match server.login() {
            Login::Open => String::new(),
            Login::Password { user, password } => {
                format!("  credentials: {{ username: {}, password: {} }}\n", quoted(user), quoted(password))
            }
            Login::Token(token) => format!("  credentials: {{ token: {} }}\n", quoted(token)),
            Login::Nkey { seed, .. } => format!("  credentials: {{ nkey: {} }}\n", quoted(seed)),
            Login::Creds(path) => format!("  credentials: {{ creds_file: {} }}\n", quoted(&path.to_string_lossy())),
        };
    }

    /// The file's text.
    pub(super) fn render(&self, key_file: &str) -> String {
        let mut out = String::new();
        let mut line = |text: String| writeln!(out, "{text}").expect("writing to a string");
        line(format!("bind_port: {}", self.bind_port));
        line(format!("http_bind_port: {}", self.http_bind_port));
        line("http_bind_address: \"127.0.0.1\"".to_owned());
        line(format!("network_id: {}", quoted(&self.network_id)));
        line(format!("private_key_path: {}", quoted(key_file)));
        if let Some(level) = &self.log_level {
            line(format!("log_level: {}", quoted(level)));
        }
        line(format!("log_format: {}", quoted(&self.log_format)));
        if let Some(access) = &self.access {
            line(format!("access: {}", quoted(access)));
        }
        line(format!("\nnats:\n  endpoint: {}", quoted(&self.nats_endpoint)));
        if !self.nats_lines.is_empty() {
            line(self.nats_lines.trim_end().to_owned());
        }
        if let Some(folder) = &self.blobs_dir {
            line(format!("\nblobs_dir: {}", quoted(folder)));
        }
        if let Some(s3) = &self.s3 {
            line(format!("\ns3:\n  endpoint: {}", quoted(&s3.endpoint)));
            if let Some((access, secret)) = &s3.credentials {
                line(format!("  credentials: {{ access_key: {}, secret_key: {} }}", quoted(access), quoted(secret)));
            }
            line(format!("  poll_interval: {}", quoted(&s3.poll_interval)));
            if let Some(events) = &s3.events {
                line(format!("  events: {}", quoted(events)));
            }
        }
        if !self.import_dirs.is_empty() || self.import_bucket.is_some() {
            line(format!("\nimport:\n  dirs: {}", list(&self.import_dirs)));
        }
        if let Some(bucket) = &self.import_bucket {
            line(format!("  bucket: {}", quoted(bucket)));
        }
        if !self.nodes.is_empty() {
            line("\nnodes:".into());
        }
        for node in &self.nodes {
            line(format!("  - public_key: {}", quoted(&node.public_key)));
            line(format!("    endpoints: {}", list(&node.endpoints)));
        }
        if !self.publish.is_empty() || !self.publish_buckets.is_empty() {
            line("\npublish:".into());
        }
        if !self.publish_buckets.is_empty() {
            line("  s3_buckets:".into());
        }
        for entry in &self.publish_buckets {
            let allow = entry.allow.as_ref().map(|keys| format!(", allow: {}", list(keys))).unwrap_or_default();
            line(format!("    - {{ bucket: {}{allow} }}", quoted(&entry.bucket)));
        }
        if !self.publish.is_empty() {
            line("  nats_subjects:".into());
        }
        for entry in &self.publish {
            let allow = entry.allow.as_ref().map(|keys| format!(", allow: {}", list(keys))).unwrap_or_default();
            line(format!("    - {{ subject: {}, stream: {}{allow} }}", quoted(&entry.subject), quoted(&entry.stream)));
        }
        if !self.subscribe.is_empty() || !self.subscribe_buckets.is_empty() {
            line("\nsubscribe:".into());
        }
        if !self.subscribe_buckets.is_empty() {
            line("  s3_buckets:".into());
        }
        for entry in &self.subscribe_buckets {
            line(format!("    - remote_bucket: {}", quoted(&entry.remote_bucket)));
            line(format!("      local_bucket: {}", quoted(&entry.local_bucket)));
            line(format!("      public_key: {}", quoted(&entry.public_key)));
            if let Some(deletes) = &entry.deletes {
                line(format!("      deletes: {}", quoted(deletes)));
            }
        }
        if !self.subscribe.is_empty() {
            line("  nats_subjects:".into());
        }
        for entry in &self.subscribe {
            line(format!("    - subject: {}", quoted(&entry.subject)));
            line(format!("      stream: {}", quoted(&entry.stream)));
            line(format!("      public_key: {}", quoted(&entry.public_key)));
        }
        if !self.extra.is_empty() {
            line(format!("\n{}", self.extra.trim_end()));
        }
        out
    }
}

/// A YAML string in double quotes.
fn quoted(text: &str) -> String {
    // JSON's strings are YAML's double-quoted ones.
    serde_json::Value::from(text).to_string()
}

fn list(items: &[String]) -> String {
    let items: Vec<_> = items.iter().map(|item| quoted(item)).collect();
    format!("[{}]", items.join(", "))
}
