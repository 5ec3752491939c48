//! The QUIC endpoint: sockets on the configured port, who this node is, and dialling.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use iroh::endpoint::{BindError, BindOpts, ConnectOptions, presets};
use iroh::{EndpointAddr, SecretKey, TransportAddr};
use p2panda_core::SigningKey;
use rhio_core::id::PublicKey;
use rhio_core::wire::PROTOCOL;
use thiserror::Error;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::accept::{Door, Limits};
use super::connection::Connection;
use super::settings::NodeEndpoint;
use super::windows::Windows;

/// Connections that wait to be taken over.
const BACKLOG: usize = 64;
/// How long dialling may take, with finding out what the peer's names stand for.
const DIAL: Duration = Duration::from_secs(10);
/// How often a free port is picked, when each is taken from us in the moment between.
const PICKS: usize = 8;

/// The network can't be used.
#[derive(Debug, Error)]
pub enum NetworkError {
    /// Somebody else has the port.
    #[error("UDP port {port} can't be bound: {reason}; stop what uses it, or choose another with --bind-port")]
    Port {
        /// The port.
        port: u16,
        /// The system's words.
        reason: std::io::Error,
    },
    /// The library failed.
    #[error("network: {0}")]
    Library(String),
    /// None of the configured names leads anywhere.
    #[error("none of its addresses can be resolved: {0}")]
    Unresolved(String),
    /// Nobody answers.
    #[error("does not answer: {0}")]
    Dial(String),
}

/// The endpoint. Cheap to clone; it closes when it is told to, or when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct Network {
    inner: iroh::Endpoint,
    alpn: Vec<u8>,
    windows: Windows,
    /// Ends the loop that accepts, which has a clone of the endpoint.
    _open: Arc<DropGuard>,
}

impl Network {
    /// Binds the port (0 picks one) and begins to accept. Connections that peers make come from the receiver.
    ///
    /// # Errors
    /// When the port is taken, for IPv4 or for IPv6. There is no other port instead: no firewall rule would follow.
    pub async fn bind(
        key: &SigningKey,
        network_id: &str,
        port: u16,
    ) -> Result<(Self, mpsc::Receiver<Connection>), NetworkError> {
        Self::bind_with(key, network_id, port, Limits::default()).await
    }

    pub(crate) async fn bind_with(
        key: &SigningKey,
        network_id: &str,
        port: u16,
        limits: Limits,
    ) -> Result<(Self, mpsc::Receiver<Connection>), NetworkError> {
        let windows = Windows::default();
        let alpn = protocol_of(network_id);
        let mut picks = 1..PICKS;
        let inner = loop {
            match open(key, &alpn, claim(port)?, &windows).await {
                // It was free for IPv4; another pick may be free for both.
                Err(NetworkError::Port { .. }) if port == 0 && picks.next().is_some() => {}
                opened => break opened?,
            }
        };
        let (connections, receiver) = mpsc::channel(BACKLOG);
        let stop = CancellationToken::new();
        let door = Door { endpoint: inner.clone(), alpn: alpn.clone(), windows: windows.clone(), connections };
        tokio::spawn(door.run(limits, stop.clone()));
        Ok((Self { inner, alpn, windows, _open: Arc::new(stop.drop_guard()) }, receiver))
    }

    /// There are now so many connections with peers that are admitted. Returns how many bytes each of them may have under
    /// way to this node.
    pub(crate) fn share(&self, links: usize) -> u32 {
        self.windows.share(links)
    }

    /// The sockets.
    pub fn sockets(&self) -> Vec<SocketAddr> {
        self.inner.bound_sockets()
    }

    /// Connects to a node. Names are resolved each time.
    ///
    /// # Errors
    /// When none of its addresses leads to it, within 10 s.
    pub async fn dial(&self, peer: PublicKey, endpoints: &[NodeEndpoint]) -> Result<Connection, NetworkError> {
        let dialled = tokio::time::timeout(DIAL, self.connect(peer, endpoints));
        let late = |_| NetworkError::Dial(format!("no connection within {} s", DIAL.as_secs()));
        dialled.await.map_err(late)?
    }

    async fn connect(&self, peer: PublicKey, endpoints: &[NodeEndpoint]) -> Result<Connection, NetworkError> {
        let id = iroh::PublicKey::from_bytes(peer.as_bytes()).map_err(|e| NetworkError::Library(e.to_string()))?;
        let addresses = resolve(endpoints).await?;
        let target = EndpointAddr::from_parts(id, addresses.into_iter().map(TransportAddr::Ip));
        let options = ConnectOptions::new().with_transport_config(self.windows.dialled());
        let connecting = self.inner.connect_with_opts(target, &self.alpn, options).await;
        let connecting = connecting.map_err(|e| NetworkError::Dial(e.to_string()))?;
        let connection = connecting.await.map_err(|e| NetworkError::Dial(e.to_string()))?;
        Ok(Connection::new(connection))
    }

    /// Closes every connection and the sockets, as far as the peers let that happen in time.
    pub async fn close(&self, within: Duration) {
        if tokio::time::timeout(within, self.inner.close()).await.is_err() {
            tracing::debug!("not every peer has confirmed that its connection is closed");
            // The process ends now, and the library's destructor would call that an error.
            std::mem::forget(self.inner.clone());
        }
    }
}

/// What nodes agree on in the handshake. Those of another network have it in common with nobody of this one.
fn protocol_of(network_id: &str) -> Vec<u8> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(PROTOCOL).update(blake3::hash(network_id.as_bytes()).as_bytes());
    hasher.finalize().as_bytes().to_vec()
}

/// Opens the sockets of one port. The library asks for buffers of 7 MiB and gets what the system allows.
async fn open(key: &SigningKey, alpn: &[u8], port: u16, windows: &Windows) -> Result<iroh::Endpoint, NetworkError> {
    let library = |error: &dyn std::fmt::Display| NetworkError::Library(error.to_string());
    // Without IPv6 in the kernel the node works with IPv4 alone. Where there is IPv6, its port is as strict.
    let has_v6 = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).is_ok();
    let v6 = BindOpts::default().set_is_required(has_v6);
    let bound = iroh::Endpoint::builder(presets::Minimal)
        .secret_key(SecretKey::from_bytes(key.as_bytes()))
        .alpns(vec![alpn.to_vec()])
        .transport_config(windows.dialled())
        .bind_addr((Ipv4Addr::UNSPECIFIED, port))
        .map_err(|e| library(&e))?
        .bind_addr_with_opts((Ipv6Addr::UNSPECIFIED, port), v6)
        .map_err(|e| library(&e))?
        .bind()
        .await;
    match bound {
        Ok(endpoint) => Ok(endpoint),
        Err(BindError::Sockets { source, .. }) => Err(NetworkError::Port { port, reason: source }),
        Err(error) => Err(library(&error)),
    }
}

/// Checks that the port is free for IPv4 and IPv6, and picks one when it is 0. It is free again when this returns.
///
/// # Errors
/// [`NetworkError::Port`] when it can't be bound.
pub fn claim(port: u16) -> Result<u16, NetworkError> {
    let failed = |reason| NetworkError::Port { port, reason };
    let v4 = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).map_err(failed)?;
    let picked = v4.local_addr().map_err(failed)?.port();
    // On most systems the next socket would take IPv4 too.
    drop(v4);
    match UdpSocket::bind((Ipv6Addr::UNSPECIFIED, picked)) {
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => return Err(failed(error)),
        Err(error) => tracing::debug!(%error, "no IPv6"),
        Ok(_) => {}
    }
    Ok(picked)
}

async fn resolve(endpoints: &[NodeEndpoint]) -> Result<Vec<SocketAddr>, NetworkError> {
    let mut addresses = Vec::new();
    let mut failures = Vec::new();
    for endpoint in endpoints {
        match tokio::net::lookup_host((endpoint.host.as_str(), endpoint.port)).await {
            Ok(found) => addresses.extend(found),
            Err(error) => failures.push(format!("{endpoint}: {error}")),
        }
    }
    if addresses.is_empty() { Err(NetworkError::Unresolved(failures.join("; "))) } else { Ok(addresses) }
}

#[cfg(test)]
mod tests;
