//! The `config.yaml` of a rhio under test.

use std::fmt::Write;

use crate::nats::{Login, NatsServer};

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
    /// Other nodes.
    pub nodes: Vec<Node>,
    /// What this node offers.
    pub publish: Vec<Publish>,
    /// What this node wants.
    pub subscribe: Vec<Subscribe>,
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
        if !self.nodes.is_empty() {
            line("\nnodes:".into());
        }
        for node in &self.nodes {
            line(format!("  - public_key: {}", quoted(&node.public_key)));
            line(format!("    endpoints: {}", list(&node.endpoints)));
        }
        if !self.publish.is_empty() {
            line("\npublish:\n  nats_subjects:".into());
        }
        for entry in &self.publish {
            let allow = entry.allow.as_ref().map(|keys| format!(", allow: {}", list(keys))).unwrap_or_default();
            line(format!("    - {{ subject: {}, stream: {}{allow} }}", quoted(&entry.subject), quoted(&entry.stream)));
        }
        if !self.subscribe.is_empty() {
            line("\nsubscribe:\n  nats_subjects:".into());
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
