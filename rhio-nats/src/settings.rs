//! What can be set about NATS.

use std::fmt;
use std::path::PathBuf;

use rhio_core::secret::Secret;

/// Stream for rhio's own operation log, unless set.
pub const DEFAULT_STATE_STREAM: &str = "RHIO";
/// What the subjects of answers begin with, unless set.
pub const DEFAULT_INBOX_PREFIX: &str = "_INBOX";
/// Port of a NATS server, unless set.
pub const DEFAULT_NATS_PORT: u16 = 4222;

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
        Self { tls: false, host: "localhost".into(), port: DEFAULT_NATS_PORT }
    }
}

impl Endpoint {
    /// The address as the NATS client takes it, without credentials.
    pub fn url(&self) -> String {
        format!("{}://{self}", if self.tls { "tls" } else { "nats" })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_host_port(f, &self.host, self.port)
    }
}

/// The local NATS and how to connect to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nats {
    /// Servers of one cluster, tried in random order. At least one. Default `localhost:4222`.
    pub endpoint: Vec<Endpoint>,
    /// How to authenticate. Default: not at all.
    pub credentials: Option<Credentials>,
    /// TLS settings. When set, TLS is required; else a server that asks for TLS gets it with the system's CAs.
    pub tls: Option<Tls>,
    /// What the subjects begin with that answers come to. Default `_INBOX`.
    pub inbox_prefix: String,
    /// The JetStream domain to talk to. Default: the one of the server.
    pub domain: Option<String>,
    /// Where rhio keeps its operation log.
    pub state: State,
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

/// rhio's own stream, which holds the operation logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Its name. Default `RHIO`.
    pub stream: String,
    /// Its replicas, 1 to 5, for when rhio creates it. Default 1.
    pub replicas: u8,
    /// Its storage, for when rhio creates it. Default file.
    pub storage: Storage,
    /// The bytes that it may take, for when rhio creates it; some accounts want every stream to say that. Beyond it
    /// nothing new is taken. Default: no limit.
    pub max_bytes: Option<u64>,
}

/// Where JetStream keeps a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Storage {
    /// On disk.
    #[default]
    File,
    /// In memory: gone when the server restarts.
    Memory,
}

impl Default for Nats {
    fn default() -> Self {
        let state =
            State { stream: DEFAULT_STATE_STREAM.into(), replicas: 1, storage: Storage::default(), max_bytes: None };
        Self {
            endpoint: vec![Endpoint::default()],
            credentials: None,
            tls: None,
            inbox_prefix: DEFAULT_INBOX_PREFIX.into(),
            domain: None,
            state,
        }
    }
}

fn write_host_port(f: &mut fmt::Formatter<'_>, host: &str, port: u16) -> fmt::Result {
    if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
}
