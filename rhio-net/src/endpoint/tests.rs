use std::collections::BTreeMap;
use std::future::Future;

use iroh::endpoint::PathId;
use noq_proto::congestion::Bbr;

use super::*;
use crate::windows::STRANGER_WINDOW;

const SOON: Duration = Duration::from_secs(10);
const NETWORK: &str = "network";

fn key(n: u8) -> SigningKey {
    SigningKey::from_bytes(&[n; 32])
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, future).await.expect("in time")
}

fn local(network: &Network) -> Vec<NodeEndpoint> {
    let port = network.sockets()[0].port();
    vec![NodeEndpoint { host: "127.0.0.1".into(), port }]
}

async fn node(n: u8) -> (Network, mpsc::Receiver<Connection>) {
    Network::bind(&key(n), NETWORK, 0).await.expect("a free port")
}

/// Two connected endpoints: who dialled, who accepted.
async fn pair() -> (Network, Connection, Network, Connection) {
    let (a, _) = node(1).await;
    let (b, mut incoming) = node(2).await;
    let dialled = a.dial(key(2).verifying_key().into(), &local(&b)).await.expect("a connection");
    let accepted = soon(incoming.recv()).await.expect("a connection");
    (a, dialled, b, accepted)
}

fn is_bbr(connection: &Connection) -> bool {
    let state = connection.quic().congestion_state(PathId::ZERO).expect("the first path");
    state.into_any().is::<Bbr>()
}

/// Sends bytes over a new stream; returns what has arrived when nothing comes any more, or everything has.
async fn carry(from: &Connection, to: &Connection, len: usize) -> usize {
    let (mut send, _answers) = soon(from.open_bi()).await.expect("a stream");
    let writing = tokio::spawn(async move {
        let _ = send.write_all(&vec![7; len]).await;
        let _ = send.finish();
        let _ = send.stopped().await;
    });
    let (_answers, mut recv) = soon(to.accept_bi()).await.expect("a stream");
    // Nothing is read until the sender has filled its window.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut arrived = 0;
    while let Ok(Some(chunk)) = soon(recv.read_chunk(1 << 20)).await {
        arrived += chunk.bytes.len();
    }
    soon(writing).await.expect("written");
    arrived
}

#[tokio::test]
async fn who_dials_and_who_accepts_have_the_same_congestion_control_and_move_data_both_ways() {
    let (a, dialled, b, accepted) = pair().await;
    assert!(is_bbr(&dialled) && is_bbr(&accepted));
    assert_eq!(dialled.quic().remote_id(), b.inner.id());
    assert_eq!(accepted.quic().remote_id(), a.inner.id());
    accepted.set_receive_window(b.share(1));
    let len = 3 << 20;
    assert_eq!(carry(&dialled, &accepted, len).await, len);
    assert_eq!(carry(&accepted, &dialled, len).await, len);
    a.close(SOON).await;
    b.close(SOON).await;
}

/// What has been accepted for sending while nobody reads: the windows are full then.
async fn under_way(from: &Connection) -> usize {
    let (mut send, _answers) = soon(from.open_bi()).await.expect("a stream");
    let before = from.quic().stats().udp_tx.bytes;
    let _ = tokio::time::timeout(Duration::from_secs(2), send.write_all(&vec![7; 40 << 20])).await;
    usize::try_from(from.quic().stats().udp_tx.bytes - before).expect("a few bytes")
}

#[tokio::test]
async fn a_stranger_has_a_small_window_until_it_is_admitted() {
    let (_a, dialled, b, accepted) = pair().await;
    let sent = under_way(&dialled).await;
    let (least, most) = (STRANGER_WINDOW as usize / 2, 2 * STRANGER_WINDOW as usize);
    assert!((least..most).contains(&sent), "{sent} bytes were sent");
    accepted.set_receive_window(b.share(1));
    let sent = under_way(&dialled).await;
    assert!(sent > 10 << 20, "{sent} bytes were sent");
}

#[tokio::test]
async fn both_sides_have_windows_for_a_fast_and_long_path() {
    let (_a, dialled, b, accepted) = pair().await;
    accepted.set_receive_window(b.share(1));
    for from in [&dialled, &accepted] {
        let sent = under_way(from).await;
        assert!(sent >= 20_000_000, "{sent} bytes were sent, and nobody read");
    }
}

#[tokio::test]
async fn another_network_has_no_protocol_in_common() {
    let (a, _) = node(1).await;
    let (b, mut incoming) = Network::bind(&key(2), "another", 0).await.expect("a free port");
    let error = a.dial(key(2).verifying_key().into(), &local(&b)).await.expect_err("another network");
    assert!(matches!(error, NetworkError::Dial(_)), "{error}");
    assert!(incoming.try_recv().is_err());
}

#[tokio::test]
async fn who_answers_with_another_key_is_not_the_node() {
    let (a, _) = node(1).await;
    let (b, _incoming) = node(2).await;
    assert!(a.dial(key(3).verifying_key().into(), &local(&b)).await.is_err());
}

#[tokio::test]
async fn a_port_that_is_taken_is_an_error_for_either_family() {
    let (a, _incoming) = node(1).await;
    let sockets = a.sockets();
    assert!(sockets.iter().all(|socket| socket.port() == sockets[0].port()), "{sockets:?}");
    let taken = Network::bind(&key(2), NETWORK, sockets[0].port()).await;
    assert!(matches!(taken, Err(NetworkError::Port { .. })), "{taken:?}");

    let Ok(v6) = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)) else { return };
    let port = v6.local_addr().expect("an address").port();
    assert!(matches!(claim(port), Err(NetworkError::Port { .. })));
    let taken = Network::bind(&key(2), NETWORK, port).await;
    assert!(matches!(taken, Err(NetworkError::Port { .. })), "{taken:?}");
}

#[tokio::test]
async fn the_port_is_free_again_when_the_endpoint_is_dropped() {
    let (a, incoming) = node(1).await;
    let port = a.sockets()[0].port();
    drop((a, incoming));
    let free = async {
        while claim(port).is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    soon(free).await;
}

/// The first packets of so many handshakes, which nobody goes on with.
async fn first_packets(count: u8) -> Vec<Vec<u8>> {
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    let endpoint = NodeEndpoint { host: "127.0.0.1".into(), port: socket.local_addr().expect("an address").port() };
    let (network, _) = node(99).await;
    for n in 0..count {
        let (network, endpoint) = (network.clone(), endpoint.clone());
        tokio::spawn(async move { network.dial(key(100 + n).verifying_key().into(), &[endpoint]).await });
    }
    let mut found = BTreeMap::new();
    let mut buffer = [0; 2048];
    while found.len() < count.into() {
        let len = soon(socket.recv(&mut buffer)).await.expect("a packet");
        // A long header of the kind Initial: flags, version, and the connection id that the first keys come from.
        if buffer[0] & 0xf0 == 0xc0 {
            let id = buffer[6..6 + usize::from(buffer[5])].to_vec();
            found.entry(id).or_insert_with(|| buffer[..len].to_vec());
        }
    }
    found.into_values().collect()
}

#[tokio::test]
async fn a_flood_of_handshakes_from_many_addresses_disturbs_nobody() {
    let flood = first_packets(24).await;
    for (handshakes, enters) in [(4, false), (5, true)] {
        let limits = Limits { handshakes, crowd: 4 };
        let (b, mut incoming) = Network::bind_with(&key(2), NETWORK, 0, limits).await.expect("a free port");
        let (a, _) = node(1).await;
        let dialled = a.dial(key(2).verifying_key().into(), &local(&b)).await.expect("a connection");
        let accepted = soon(incoming.recv()).await.expect("a connection");
        accepted.set_receive_window(b.share(1));

        let target = SocketAddr::from(([127, 0, 0, 1], local(&b)[0].port));
        let mut sockets = Vec::new();
        for packet in &flood {
            let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
            socket.send_to(packet, target).expect("sent");
            sockets.push(socket);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        // Four handshakes are under way that will not end soon. Who shows its address gets in when there is a fifth.
        let (c, _) = node(3).await;
        let late =
            tokio::time::timeout(Duration::from_secs(2), c.dial(key(2).verifying_key().into(), &local(&b))).await;
        assert_eq!(matches!(late, Ok(Ok(_))), enters, "{late:?}");
        let len = 3 << 20;
        assert_eq!(carry(&dialled, &accepted, len).await, len);
    }
}
