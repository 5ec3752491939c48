//! Handshakes of those who dial this node: so many at once, none for long, and in a crowd only from proven addresses.
//!
//! Whoever is there costs a signature and a few kilobytes until its key is known. Existing connections share nothing with
//! this but the processor: a handshake for which there is no room is dropped before anything is computed.

use std::sync::Arc;
use std::time::Duration;

use iroh::endpoint::Incoming;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::connection::Connection;
use super::windows::Windows;

/// How long a handshake may take, and the wait until somebody looks at the connection.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How much of a crowd is let in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Handshakes under way at once. Who comes then is not answered, and tries again by itself.
    pub(crate) handshakes: usize,
    /// While so many are under way, whoever comes has to show first that it receives at its address.
    pub(crate) crowd: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { handshakes: 256, crowd: 32 }
    }
}

/// What the loop works with.
#[derive(Debug)]
pub(crate) struct Door {
    /// The endpoint.
    pub(crate) endpoint: iroh::Endpoint,
    /// The protocol's name.
    pub(crate) alpn: Vec<u8>,
    /// What new connections get.
    pub(crate) windows: Windows,
    /// Where they go.
    pub(crate) connections: mpsc::Sender<Connection>,
}

impl Door {
    /// Accepts until the endpoint closes, or until it is stopped; then it closes the endpoint.
    pub(crate) async fn run(self, limits: Limits, stop: CancellationToken) {
        let slots = Arc::new(Semaphore::new(limits.handshakes));
        loop {
            let incoming = tokio::select! {
                () = stop.cancelled() => break,
                incoming = self.endpoint.accept() => incoming,
            };
            let Some(incoming) = incoming else { return };
            let under_way = limits.handshakes - slots.available_permits();
            if under_way >= limits.crowd && !incoming.remote_addr_validated() {
                // Fails only for those that have shown it already.
                let _ = incoming.retry();
                continue;
            }
            let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
                incoming.ignore();
                continue;
            };
            let handshake = self.handshake(incoming);
            tokio::spawn(async move {
                let _slot = slot;
                if tokio::time::timeout(HANDSHAKE, handshake).await.is_err() {
                    tracing::debug!("a handshake has taken too long");
                }
            });
        }
        self.endpoint.close().await;
    }

    fn handshake(&self, incoming: Incoming) -> impl Future<Output = ()> + Send + use<> {
        let config = self.endpoint.create_server_config_builder(vec![self.alpn.clone()]);
        let config = Arc::new(config.set_transport_config(self.windows.accepted()).build());
        let connections = self.connections.clone();
        async move {
            let accepting = match incoming.accept_with(config) {
                Ok(accepting) => accepting,
                Err(error) => return tracing::debug!(%error, "a handshake could not begin"),
            };
            match accepting.await {
                // Nobody takes it over when the receiver is gone; then it is closed by being dropped.
                Ok(connection) => drop(connections.send(Connection::new(connection)).await),
                Err(error) => tracing::debug!(%error, "a handshake has failed"),
            }
        }
    }
}
