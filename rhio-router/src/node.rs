//! What the node's tasks share.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use p2panda_core::SigningKey;
use rhio_core::id::PublicKey;
use rhio_nats::client::Client;
use rhio_net::connection::Connection;

use crate::blobs::store::Blobs;
use crate::holdings::Holdings;
use crate::metrics::Metrics;
use crate::quiet::Quiet;
use crate::status::Entry;
use crate::telemetry::Telemetry;
use crate::trouble::{Cause, Trouble};
use rhio_nats::state::StateStore;
use rhio_net::links::Links;

/// How long a peer may be out of reach before that is worth a word.
const PATIENCE: Duration = Duration::from_secs(3);

/// The node. Shared by reference count.
#[derive(Clone)]
pub struct Node {
    /// Its public key.
    pub me: PublicKey,
    /// Its private key.
    pub key: SigningKey,
    /// The connection for everything but writing to local streams.
    pub client: Client,
    /// Its logs and cursors.
    pub state: Arc<StateStore>,
    /// Its connections.
    pub links: Links,
    /// What is counted for operators.
    pub metrics: Arc<Metrics>,
    /// Where batches are traced, when they are.
    pub telemetry: Telemetry,
    /// What it can serve.
    pub holdings: Arc<Holdings>,
    /// Its buckets.
    pub blobs: Arc<Blobs>,
    /// When the process started, in milliseconds since the Unix epoch.
    pub started: u64,
    /// Time between two listings of a bucket.
    pub poll_interval: Duration,
    /// Holds appliers still while an author takes its operations back.
    pub quiet: Arc<Quiet>,
}

impl Node {
    /// The NATS server that this node talks to; another one after every restart of the server.
    pub fn server_id(&self) -> String {
        self.client.server_info().server_id
    }

    /// A connection with a peer that something is subscribed to. Waits for it as long as it takes, and says so when that
    /// is long.
    pub async fn reach(&self, peer: &PublicKey, status: &Entry) -> Connection {
        let mut refused = false;
        loop {
            if let Ok(connection) = tokio::time::timeout(PATIENCE, self.links.wait(peer)).await {
                return connection;
            }
            // The reason may show later; a refusal is remembered for a minute only, and stays the reason.
            refused |= self.links.is_refused_by(peer);
            status.waiting(self.unreached(peer, refused));
        }
    }

    /// Why a peer is out of reach.
    fn unreached(&self, peer: &PublicKey, refused: bool) -> Trouble {
        let (cause, words) = if refused {
            let words = format!("{peer} refuses us: our public key {} must be added to its 'nodes'", self.me);
            (Cause::RefusesUs, words)
        } else if self.links.can_dial(peer) {
            (Cause::NotConnected, format!("not connected to {peer}"))
        } else {
            let words =
                format!("not connected to {peer}, and no address of it is known; add one to its entry in 'nodes'");
            (Cause::NoAddress, words)
        };
        Trouble::new(cause, words)
    }
}

/// Milliseconds since the Unix epoch.
pub fn now_millis() -> u64 {
    now_micros() / 1000
}

/// Microseconds since the Unix epoch.
pub fn now_micros() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
