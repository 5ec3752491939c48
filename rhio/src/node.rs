//! What the node's tasks share.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use async_nats::Client;
use p2panda_core::SigningKey;
use rhio_core::id::PublicKey;

use crate::config;
use crate::nats::state::StateStore;
use crate::peer::links::Links;
use crate::publish::registry::Registry;
use crate::quiet::Quiet;

/// The node. Shared by reference count.
#[derive(Clone)]
pub struct Node {
    /// Its public key.
    pub me: PublicKey,
    /// Its private key.
    pub key: SigningKey,
    /// How NATS is reached.
    pub nats: Arc<config::Nats>,
    /// The connection for everything but writing to local streams.
    pub client: Client,
    /// Its logs and cursors.
    pub state: Arc<StateStore>,
    /// Its connections.
    pub links: Links,
    /// What it publishes.
    pub registry: Arc<Registry>,
    /// Holds appliers still while an author takes its operations back.
    pub quiet: Arc<Quiet>,
}

impl Node {
    /// The NATS server that this node talks to; another one after every restart of the server.
    pub fn server_id(&self) -> String {
        self.client.server_info().server_id
    }
}

/// Microseconds since the Unix epoch.
pub fn now_micros() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
