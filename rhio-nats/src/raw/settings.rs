//! Where NATS is, and how to log in there.

use std::fmt;
use std::path::PathBuf;

/// What a connection is made with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Servers of one cluster, tried in random order. At least one.
    pub endpoint: Vec<Endpoint>,
    /// How to authenticate. Default: not at all.
    pub credentials: Option<Credentials>,
    /// TLS settings. When set, TLS is required; else a server that asks for TLS gets it with the system's CAs.
    pub tls: Option<Tls>,
    /// What the subjects begin with that answers come to. Default `_INBOX`.
    pub inbox_prefix: String,
    /// The JetStream domain to talk to. Default: the one of the server.
    pub domain: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            endpoint: vec![Endpoint::default()],
            credentials: None,
            tls: None,
            inbox_prefix: "_INBOX".into(),
            domain: None,
        }
    }
}

/// A NATS server. Displays as `host:port`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// `tls://`: TLS is required.
    pub tls: bool,
    /// Name or IP address; IPv6 without brackets.
    pub host: String,
    /// TCP port. Default 4222.
    pub port: u16,
}

impl Default for Endpoint {
    fn default() -> Self {
        Self { tls: false, host: "localhost".into(), port: 4222 }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (host, port) = (&self.host, self.port);
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// How to authenticate at NATS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// User name and password.
    UserPassword {
        /// The user's name.
        username: String,
        /// Its password.
        password: Secret,
    },
    /// A token.
    Token(Secret),
    /// The seed of a user's nkey, `SU…`.
    Nkey(Secret),
    /// A file with a user JWT and its seed, read again on every connect, so that it can be renewed at any time.
    CredsFile(PathBuf),
}

/// TLS towards NATS. All files are PEM and are read again on every connect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// The CA that signed the server's certificate. Default: the system's CAs.
    pub ca: Option<PathBuf>,
    /// Our own certificate and its key, for servers that verify clients.
    pub client: Option<ClientCert>,
}

/// A client certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCert {
    /// The certificate, with its chain.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps a text from being shown.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}
