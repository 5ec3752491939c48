//! How a test wants its NATS server.

use std::fmt::Write;
use std::path::PathBuf;

/// Settings of a [`NatsServer`](super::NatsServer). The default is an open server with JetStream.
#[derive(Debug, Clone, Default)]
pub struct NatsOptions {
    pub(super) name: Option<String>,
    pub(super) domain: Option<String>,
    pub(super) max_payload: Option<usize>,
    pub(super) sync_interval: Option<String>,
    pub(super) leaf_listener: bool,
    pub(super) leaf_remotes: Vec<String>,
    pub(super) login: Login,
    pub(super) jetstream: String,
    pub(super) config: String,
}

/// How clients prove who they are.
#[derive(Debug, Clone, Default)]
pub(crate) enum Login {
    #[default]
    Open,
    Password {
        user: String,
        password: String,
    },
    Token(String),
    Nkey {
        seed: String,
        public: String,
    },
    /// The server is configured by text; clients use this file.
    Creds(PathBuf),
}

impl NatsOptions {
    /// An open server with JetStream.
    pub fn new() -> Self {
        Self::default()
    }

    /// The server's name.
    pub fn name(mut self, name: &str) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The JetStream domain, which servers joined by leaf nodes need.
    pub fn domain(mut self, domain: &str) -> Self {
        self.domain = Some(domain.into());
        self
    }

    /// The largest message, in bytes.
    pub fn max_payload(mut self, bytes: usize) -> Self {
        self.max_payload = Some(bytes);
        self
    }

    /// How often JetStream syncs to disk: a duration as NATS writes it, or `always`.
    pub fn sync_interval(mut self, interval: &str) -> Self {
        self.sync_interval = Some(interval.into());
        self
    }

    /// Listens for leaf nodes, at [`NatsServer::leaf_url`](super::NatsServer::leaf_url).
    pub fn leaf_listener(mut self) -> Self {
        self.leaf_listener = true;
        self
    }

    /// Connects as a leaf node to a server started with [`leaf_listener`](Self::leaf_listener).
    pub fn leaf_remote(mut self, url: &str) -> Self {
        self.leaf_remotes.push(url.into());
        self
    }

    /// Clients need this user and password.
    pub fn password(mut self, user: &str, password: &str) -> Self {
        self.login = Login::Password { user: user.into(), password: password.into() };
        self
    }

    /// Clients need this token.
    pub fn token(mut self, token: &str) -> Self {
        self.login = Login::Token(token.into());
        self
    }

    /// Clients need this nkey: a seed (`SU…`) and its public key (`U…`).
    pub fn nkey(mut self, seed: &str, public: &str) -> Self {
        self.login = Login::Nkey { seed: seed.into(), public: public.into() };
        self
    }

    /// [`NatsServer::client`](super::NatsServer::client) logs in with this file; the server's side of it is
    /// [`config`](Self::config).
    pub fn creds_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.login = Login::Creds(path.into());
        self
    }

    /// Text to append to the `jetstream` section of the server's configuration file.
    pub fn jetstream(mut self, text: &str) -> Self {
        self.jetstream.push_str(text);
        self
    }

    /// Text to append to the server's configuration file.
    pub fn config(mut self, text: &str) -> Self {
        self.config.push_str(text);
        self.config.push('\n');
        self
    }

    /// The configuration file.
    pub(super) fn render(&self, port: u16, leaf_port: Option<u16>, store: &str) -> String {
        let mut out = format!("listen: \"127.0.0.1:{port}\"\n");
        let mut line = |text: String| writeln!(out, "{text}").expect("writing to a string");
        if let Some(name) = &self.name {
            line(format!("server_name: \"{name}\""));
        }
        if let Some(bytes) = self.max_payload {
            line(format!("max_payload: {bytes}"));
        }
        line(format!("jetstream {{\n  store_dir: \"{store}\""));
        if let Some(domain) = &self.domain {
            line(format!("  domain: \"{domain}\""));
        }
        if let Some(interval) = &self.sync_interval {
            line(format!("  sync_interval: \"{interval}\""));
        }
        line(self.jetstream.clone());
        line("}".into());
        if leaf_port.is_some() || !self.leaf_remotes.is_empty() {
            line("leafnodes {".into());
            if let Some(port) = leaf_port {
                line(format!("  listen: \"127.0.0.1:{port}\""));
            }
            if !self.leaf_remotes.is_empty() {
                line("  reconnect: 1".into());
                let remotes: Vec<_> = self.leaf_remotes.iter().map(|url| format!("{{ url: \"{url}\" }}")).collect();
                line(format!("  remotes: [ {} ]", remotes.join(", ")));
            }
            line("}".into());
        }
        match &self.login {
            Login::Open | Login::Creds(_) => {}
            Login::Password { user, password } => {
                line(format!("authorization {{ user: \"{user}\", password: \"{password}\" }}"));
            }
            Login::Token(token) => line(format!("authorization {{ token: \"{token}\" }}")),
            Login::Nkey { public, .. } => line(format!("authorization {{ users: [ {{ nkey: \"{public}\" }} ] }}")),
        }
        out.push_str(&self.config);
        out
    }
}
