//! The QUIC endpoint. p2panda-net drives it on a thread of its own; every connection is handed to our runtime at once.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use iroh::endpoint::{QuicTransportConfig, VarInt};
use iroh::protocol::{AcceptError, ProtocolHandler};
use iroh::{EndpointAddr, PublicKey as EndpointId, TransportAddr};
use p2panda_core::SigningKey;
use p2panda_net::addrs::NodeInfo;
use p2panda_net::iroh_endpoint::IrohConfig;
use p2panda_net::{AddressBook, Endpoint, NodeId};
use rhio_core::id::PublicKey;
use rhio_core::wire::PROTOCOL;
use thiserror::Error;
use tokio::sync::mpsc;

use super::connection::Connection;
use super::settings::NodeEndpoint;

/// Bytes of one stream that may be under way to us: at 100 ms of delay, 160 MB/s.
const STREAM_WINDOW: u32 = 16 * 1024 * 1024;
/// Bytes of one connection that may be under way to us.
const CONNECTION_WINDOW: u32 = 48 * 1024 * 1024;
/// Bytes that we send ahead of the peer's acknowledgements.
const SEND_WINDOW: u64 = 16 * 1024 * 1024;
/// An idle connection is kept alive this often.
const KEEP_ALIVE: Duration = Duration::from_secs(4);
/// A connection that is silent this long is gone.
const IDLE: Duration = Duration::from_secs(15);
/// Streams that a peer may have open at once.
const MAX_STREAMS: u32 = 512;
/// Connections that wait to be taken over by our runtime.
const BACKLOG: usize = 64;
/// How long dialling may take.
const DIAL: Duration = Duration::from_secs(10);

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

/// The endpoint.
#[derive(Clone, Debug)]
pub struct Network {
    book: AddressBook,
    endpoint: Endpoint,
    inner: iroh::Endpoint,
}

#[derive(Debug)]
struct Accept(mpsc::Sender<Connection>);

impl ProtocolHandler for Accept {
    async fn accept(&self, connection: iroh::endpoint::Connection) -> Result<(), AcceptError> {
        // The library leaves these at their defaults where the peer has dialled: 100 streams, two per subscription.
        connection.set_max_concurrent_bi_streams(VarInt::from_u32(MAX_STREAMS));
        connection.set_receive_window(VarInt::from_u32(CONNECTION_WINDOW));
        // A full backlog makes the peer wait; QUIC holds it off.
        let _ = self.0.send(Connection::new(connection)).await;
        Ok(())
    }
}

impl Network {
    /// Binds the port (0 picks one) and begins to accept. Connections that peers make come from the receiver.
    ///
    /// # Errors
    /// When the port is taken.
    pub async fn bind(
        key: &SigningKey,
        network_id: &str,
        port: u16,
    ) -> Result<(Self, mpsc::Receiver<Connection>), NetworkError> {
        // The library falls back to another port in silence, which no firewall rule follows.
        let port = claim(port)?;
        let library = |error: &dyn std::fmt::Display| NetworkError::Library(error.to_string());
        let book = AddressBook::builder().spawn().await.map_err(|e| library(&e))?;
        let endpoint = Endpoint::builder(book.clone())
            .network_id(*blake3::hash(network_id.as_bytes()).as_bytes())
            .signing_key(key.clone())
            .config(IrohConfig { bind_port_v4: port, bind_port_v6: port, ..IrohConfig::default() })
            .spawn()
            .await
            .map_err(|e| library(&e))?;
        let (sender, receiver) = mpsc::channel(BACKLOG);
        endpoint.accept(PROTOCOL, Accept(sender)).await.map_err(|e| library(&e))?;
        let inner = endpoint.endpoint().await.map_err(|e| library(&e))?;
        let bound = inner.bound_sockets();
        if !bound.iter().any(|socket| socket.is_ipv4() && socket.port() == port) {
            let reason = std::io::Error::from(std::io::ErrorKind::AddrInUse);
            return Err(NetworkError::Port { port, reason });
        }
        Ok((Self { book, endpoint, inner }, receiver))
    }

    /// The sockets.
    pub fn sockets(&self) -> Vec<SocketAddr> {
        self.inner.bound_sockets()
    }

    /// Connects to a node. Names are resolved each time.
    ///
    /// # Errors
    /// When none of its addresses leads to it.
    pub async fn dial(&self, peer: PublicKey, endpoints: &[NodeEndpoint]) -> Result<Connection, NetworkError> {
        let id = NodeId::from_bytes(peer.as_bytes()).map_err(|e| NetworkError::Library(e.to_string()))?;
        let addresses = resolve(endpoints).await?;
        let target = EndpointAddr::from_parts(
            EndpointId::from_bytes(peer.as_bytes()).map_err(|e| NetworkError::Library(e.to_string()))?,
            addresses.into_iter().map(TransportAddr::Ip),
        );
        let failed = |e: &dyn std::fmt::Display| NetworkError::Library(e.to_string());
        self.book.insert_node_info(NodeInfo::from(target)).await.map_err(|e| failed(&e))?;
        let dialled = tokio::time::timeout(DIAL, self.endpoint.connect_with_config(id, PROTOCOL, transport()));
        match dialled.await {
            Ok(Ok(connection)) => Ok(Connection::new(connection)),
            Ok(Err(error)) => Err(NetworkError::Dial(error.to_string())),
            Err(_) => Err(NetworkError::Dial(format!("no connection within {} s", DIAL.as_secs()))),
        }
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

/// Checks that the port is free, and picks one when it is 0. It is free again when this returns.
///
/// # Errors
/// [`NetworkError::Port`] when it can't be bound.
pub fn claim(port: u16) -> Result<u16, NetworkError> {
    let failed = |reason| NetworkError::Port { port, reason };
    let v4 = UdpSocket::bind((IpAddr::from([0, 0, 0, 0]), port)).map_err(failed)?;
    let port = v4.local_addr().map_err(failed)?.port();
    match UdpSocket::bind((IpAddr::V6(Ipv6Addr::UNSPECIFIED), port)) {
        // On most systems this socket would take IPv4 too, which is taken by the first one: no sign of a stranger.
        Err(error) if error.kind() != std::io::ErrorKind::AddrInUse => {
            tracing::debug!(%error, "no IPv6");
        }
        _ => {}
    }
    Ok(port)
}

fn transport() -> QuicTransportConfig {
    let mut config = QuicTransportConfig::builder()
        .keep_alive_interval(KEEP_ALIVE)
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW))
        .send_window(SEND_WINDOW)
        .max_concurrent_bidi_streams(VarInt::from_u32(MAX_STREAMS));
    if let Ok(idle) = IDLE.try_into() {
        config = config.max_idle_timeout(Some(idle));
    }
    config.build()
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
