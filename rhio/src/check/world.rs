//! What several probes need: each of it is made once, by the probe that needs it first.

use std::sync::Arc;
use std::time::Duration;

use rhio_core::id::PublicKey;
use rhio_nats::client::Client;
use tokio::sync::OnceCell;
use tokio::time::timeout;

use crate::config::Config;
use crate::control::ask::{Answer, AskError, Http, over_nats};
use crate::control::model::NodeStatus;
use crate::identity::{self, Identity, IdentityError};
use rhio_nats::connect::{ConnectError, ConnectSettings, connect};
use rhio_net::endpoint::Network;

/// How long connecting to NATS may take.
const CONNECT: Duration = Duration::from_secs(6);
/// How long a daemon may take to say how it is.
const DAEMON: Duration = Duration::from_secs(3);
/// How long the sockets may take to close.
const CLOSE: Duration = Duration::from_secs(1);

/// Why there is no connection to NATS.
#[derive(Debug)]
pub enum NoNats {
    /// The server or the configuration says so.
    Error(ConnectError),
    /// Nothing happens.
    Silent,
}

/// What probes share.
#[derive(Debug)]
pub struct World {
    /// What is looked at.
    pub config: Config,
    /// This node's key.
    pub identity: Result<Identity, IdentityError>,
    http: OnceCell<Result<Answer, AskError>>,
    nats: OnceCell<Result<Client, NoNats>>,
    daemon: OnceCell<Option<NodeStatus>>,
    network: OnceCell<Result<Network, String>>,
}

impl World {
    /// Nothing is looked at but the key.
    pub fn new(config: Config) -> Self {
        let identity = identity::load(&config.private_key_path);
        Self {
            config,
            identity,
            http: OnceCell::new(),
            nats: OnceCell::new(),
            daemon: OnceCell::new(),
            network: OnceCell::new(),
        }
    }

    /// This node's public key, if there is a key.
    pub fn me(&self) -> Option<PublicKey> {
        self.identity.as_ref().ok().map(Identity::public_key)
    }

    /// What answers on the configured HTTP port of this machine.
    pub async fn http(&self) -> &Result<Answer, AskError> {
        let port = self.config.http_bind_port;
        let ask = async {
            let silent =
                |reason: &str| AskError::Silent { from: format!("HTTP port {port}"), reason: reason.to_owned() };
            if port == 0 {
                return Err(silent("HTTP is off"));
            }
            let http = Http::local(self.config.http_bind_address, port)?;
            timeout(DAEMON, http.ask()).await.unwrap_or_else(|_| Err(silent("no answer in time")))
        };
        self.http.get_or_init(|| ask).await
    }

    /// A connection to NATS.
    pub async fn nats(&self) -> Result<&Client, &NoNats> {
        let connecting = async {
            match timeout(CONNECT, connect(&self.config.nats, "check", ConnectSettings::default())).await {
                Ok(connected) => connected.map_err(NoNats::Error),
                Err(_) => Err(NoNats::Silent),
            }
        };
        self.nats.get_or_init(|| connecting).await.as_ref()
    }

    /// What a daemon with this node's key says, if one runs: over HTTP, else over NATS.
    pub async fn daemon(&self) -> Option<&NodeStatus> {
        let ask = async {
            let me = self.me()?;
            let meant = |answer: &Answer| answer.is_of(me).then(|| answer.status.clone());
            if let Some(status) = self.http().await.as_ref().ok().and_then(meant) {
                return Some(status);
            }
            let client = self.nats().await.ok()?;
            let answer = timeout(DAEMON, over_nats(client, Some(me))).await.ok()?.ok()?;
            meant(&answer)
        };
        self.daemon.get_or_init(|| ask).await.as_ref()
    }

    /// A way to dial other nodes as this one, on a port of its own.
    pub async fn network(&self) -> Result<&Network, String> {
        let bind = async {
            let identity = self.identity.as_ref().map_err(ToString::to_string)?;
            let bound = Network::bind(identity.signing_key(), &self.config.network_id, 0).await;
            // Whoever connects to this port is turned away, since nobody takes over.
            bound.map(|(network, _)| network).map_err(|error| error.to_string())
        };
        self.network.get_or_init(|| bind).await.as_ref().map_err(Clone::clone)
    }

    /// Closes what was opened.
    pub async fn close(self: &Arc<Self>) {
        if let Some(Ok(network)) = self.network.get() {
            network.close(CLOSE).await;
        }
    }
}
