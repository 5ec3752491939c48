//! Who connects: admitted nodes get room for what they send, strangers are turned away before any stream.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by a panic")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use p2panda_core::SigningKey;
use rhio_core::wire::CloseCode;
use rhio_net::connection::{Connection, Ended};
use rhio_net::endpoint::Network;
use rhio_net::links::{Counters, Directory, Incoming, Links, TurnedAway};
use rhio_net::settings::NodeEndpoint;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

const SOON: Duration = Duration::from_secs(10);
const NETWORK: &str = "network";

#[derive(Default)]
struct Refusals(AtomicUsize);

impl Counters for Refusals {
    fn refused(&self, _by: TurnedAway) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, future).await.expect("in time")
}

fn key(n: u8) -> SigningKey {
    SigningKey::from_bytes(&[n; 32])
}

/// A node that admits node 1, and node 2 when told to.
struct Node {
    endpoint: NodeEndpoint,
    links: Links,
    streams: mpsc::Receiver<Incoming>,
    refusals: Arc<Refusals>,
    stop: CancellationToken,
}

impl Node {
    async fn new() -> Self {
        let (network, connections) = Network::bind(&key(9), NETWORK, 0).await.expect("a free port");
        let port = network.sockets()[0].port();
        let (sender, streams) = mpsc::channel(8);
        let (refusals, stop) = (Arc::new(Refusals::default()), CancellationToken::new());
        let counters = Arc::clone(&refusals);
        let links = Links::new(key(9).verifying_key().into(), network, counters, sender, stop.clone());
        let running = links.clone();
        tokio::spawn(async move { running.run(connections).await });
        let node = Self { endpoint: NodeEndpoint { host: "127.0.0.1".into(), port }, links, streams, refusals, stop };
        node.admit(&[1]);
        node
    }

    fn admit(&self, nodes: &[u8]) {
        let allowed = nodes.iter().map(|n| key(*n).verifying_key().into()).collect();
        self.links.set_directory(Directory { allowed, ..Directory::default() });
    }

    async fn dialled_by(&self, n: u8) -> (Network, Connection) {
        let (network, _) = Network::bind(&key(n), NETWORK, 0).await.expect("a free port");
        let endpoints = std::slice::from_ref(&self.endpoint);
        let connection = network.dial(key(9).verifying_key().into(), endpoints).await.expect("a connection");
        (network, connection)
    }

    async fn next(&mut self) -> Incoming {
        soon(self.streams.recv()).await.expect("a stream")
    }
}

#[tokio::test]
async fn a_stream_that_is_not_read_leaves_room_for_others_once_the_peer_is_admitted() {
    let mut node = Node::new().await;
    let (_network, connection) = node.dialled_by(1).await;
    let (mut unread, _answers) = soon(connection.open_bi()).await.expect("a stream");
    // It waits when the peer's window is full.
    soon(unread.write_all(&[1; 1 << 20])).await.expect("written");
    let _first = node.next().await;
    let (mut other, _answers) = soon(connection.open_bi()).await.expect("a stream");
    soon(other.write_all(b"hello")).await.expect("written");
    let second = node.next().await;
    let mut said = [0; 5];
    let mut recv = second.reader.into_stream().expect("nothing was read ahead");
    soon(recv.read_exact(&mut said)).await.expect("read");
    assert_eq!(&said, b"hello");
    node.stop.cancel();
}

#[tokio::test]
async fn strangers_are_turned_away_before_any_stream() {
    let mut node = Node::new().await;
    let (_network, connection) = node.dialled_by(2).await;
    if let Ok((mut send, _answers)) = soon(connection.open_bi()).await {
        let _ = soon(send.write_all(b"let me in")).await;
    }
    let ended = soon(connection.closed()).await;
    assert_eq!(ended, Ended::ByPeer(CloseCode::Refused));
    assert_eq!(node.refusals.0.load(Ordering::Relaxed), 1);
    assert!(node.streams.try_recv().is_err(), "no stream of a stranger is passed on");

    node.admit(&[1, 2]);
    let (_network, connection) = node.dialled_by(2).await;
    let (mut send, _answers) = soon(connection.open_bi()).await.expect("a stream");
    soon(send.write_all(b"let me in")).await.expect("written");
    assert_eq!(node.next().await.peer, key(2).verifying_key().into());
    node.stop.cancel();
}
