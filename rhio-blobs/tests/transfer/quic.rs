//! Over QUIC: what the streams' real ends, resets and losses look like.

use std::net::Ipv4Addr;
use std::time::Duration;

use futures_util::StreamExt;
use iroh::endpoint::{Connection, RecvStream, SendStream, VarInt};
use iroh::{Endpoint, RelayMode};
use rhio_blobs::fetch::{Fetch, FetchError, fetch};
use rhio_blobs::hashing::GROUP;
use rhio_blobs::serve::{ServeError, read_request, respond};

use crate::support::{Blob, Memory, content};

const ALPN: &[u8] = b"rhio-test/blobs";
const DEADLINE: Duration = Duration::from_secs(60);

/// Two endpoints with a connection between them.
struct Pair {
    provider: Connection,
    getter: Connection,
    _endpoints: [Endpoint; 2],
}

async fn endpoint() -> Endpoint {
    let builder = Endpoint::builder(iroh::endpoint::presets::Minimal);
    let builder = builder.relay_mode(RelayMode::Disabled).clear_address_lookup().clear_ip_transports();
    let builder = builder.bind_addr((Ipv4Addr::LOCALHOST, 0)).unwrap().alpns(vec![ALPN.to_vec()]);
    builder.bind().await.unwrap()
}

async fn connect() -> Pair {
    let (provider, getter) = (endpoint().await, endpoint().await);
    let (accepted, dialed) = tokio::join!(async { provider.accept().await.unwrap().await.unwrap() }, async {
        getter.connect(provider.addr(), ALPN).await.unwrap()
    });
    Pair { provider: accepted, getter: dialed, _endpoints: [provider, getter] }
}

/// Opens a stream for a fetch.
async fn open(pair: &Pair, blob: &Blob) -> Fetch {
    let (send, recv) = pair.getter.open_bi().await.unwrap();
    fetch(recv, send, blob.hash, blob.size(), 0..blob.size())
}

async fn accept(pair: &Pair) -> (SendStream, RecvStream) {
    pair.provider.accept_bi().await.unwrap()
}

/// Drains a fetch: bytes and the end.
async fn drain(mut pieces: Fetch) -> (Vec<u8>, Option<FetchError>) {
    let drained = async {
        let mut bytes = Vec::new();
        while let Some(piece) = pieces.next().await {
            match piece {
                Ok(piece) => bytes.extend_from_slice(&piece),
                Err(error) => return (bytes, Some(error)),
            }
        }
        (bytes, None)
    };
    tokio::time::timeout(DEADLINE, drained).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blob_arrives_whole_and_the_stream_ends_well() {
    let pair = connect().await;
    for size in [0, 1, GROUP, 20 * 1024 * 1024 + 77] {
        let blob = Blob::new(content(size));
        let provider = async {
            let (mut send, mut recv) = accept(&pair).await;
            let request = read_request(&mut recv).await.unwrap();
            respond(&request, &blob.source, &mut send).await.unwrap();
            send.finish().unwrap();
            // The getter reads to the end, so it stops nothing.
            assert_eq!(send.stopped().await.unwrap(), None);
        };
        let getter = async { drain(open(&pair, &blob).await).await };
        let ((), (bytes, error)) = tokio::join!(provider, getter);
        assert_eq!(error, None);
        assert!(bytes == blob.data, "{size} bytes");
    }
}

#[tokio::test]
async fn a_provider_that_gives_up_is_an_early_end_or_a_reset_with_its_code() {
    let pair = connect().await;
    let data = content(100 * GROUP);
    for code in [None, Some(77)] {
        let mut memory = Memory::new(data.clone());
        memory.replaced_at = Some(50 * GROUP as u64);
        let blob = Blob::with(data.clone(), memory);
        let provider = async {
            let (mut send, mut recv) = accept(&pair).await;
            let request = read_request(&mut recv).await.unwrap();
            respond(&request, &blob.source, &mut send).await.unwrap_err();
            match code {
                Some(code) => send.reset(VarInt::from_u32(code)).unwrap(),
                None => send.finish().unwrap(),
            }
        };
        let getter = async { drain(open(&pair, &blob).await).await };
        let ((), (bytes, error)) = tokio::join!(provider, getter);
        assert!(blob.data.starts_with(&bytes) && bytes.len() <= 50 * GROUP);
        match code {
            // A reset may overtake bytes that were sent before it.
            Some(code) => assert_eq!(error, Some(FetchError::Reset { code: code.into() })),
            None => assert_eq!(error, Some(FetchError::Ended { offset: bytes.len() as u64 })),
        }
    }
}

#[tokio::test]
async fn an_end_in_the_middle_of_a_group_is_an_early_end() {
    let pair = connect().await;
    let blob = Blob::new(content(GROUP));
    let provider = async {
        let (mut send, mut recv) = accept(&pair).await;
        read_request(&mut recv).await.unwrap();
        send.write_all(&blob.size().to_le_bytes()).await.unwrap();
        send.write_all(&blob.data[..100]).await.unwrap();
        send.finish().unwrap();
    };
    let getter = async { drain(open(&pair, &blob).await).await };
    let ((), (bytes, error)) = tokio::join!(provider, getter);
    assert!(bytes.is_empty());
    assert_eq!(error, Some(FetchError::Ended { offset: 0 }));
}

#[tokio::test]
async fn a_connection_that_is_closed_tells_its_code() {
    let pair = connect().await;
    let blob = Blob::new(content(GROUP));
    let provider = async {
        let (_send, mut recv) = accept(&pair).await;
        read_request(&mut recv).await.unwrap();
        pair.provider.close(VarInt::from_u32(9), b"enough");
    };
    let getter = async { drain(open(&pair, &blob).await).await };
    let ((), (bytes, error)) = tokio::join!(provider, getter);
    assert!(bytes.is_empty());
    assert!(matches!(error, Some(FetchError::Lost { code: Some(9), .. })), "{error:?}");
}

#[tokio::test]
async fn many_small_blobs_come_at_once() {
    let pair = connect().await;
    let blobs: Vec<Blob> = (0..200).map(|size| Blob::new(content(size * 301))).collect();
    let provider = async {
        for _ in 0..blobs.len() {
            let (mut send, mut recv) = accept(&pair).await;
            let request = read_request(&mut recv).await.unwrap();
            let blob = blobs.iter().find(|blob| blob.hash == request.hash).unwrap();
            respond(&request, &blob.source, &mut send).await.unwrap();
        }
    };
    let getter = futures_util::stream::iter(&blobs).for_each_concurrent(32, |blob| {
        let pair = &pair;
        async move { assert_eq!(drain(open(pair, blob).await).await, (blob.data.to_vec(), None)) }
    });
    tokio::join!(provider, getter);
}

/// Whoever changes its mind has not asked for anything, least of all in a way that is not allowed.
#[tokio::test]
async fn a_fetch_that_is_dropped_before_it_asks_is_no_request() {
    let (pair, blob) = (connect().await, Blob::new(content(GROUP)));
    let (mut send, recv) = pair.getter.open_bi().await.unwrap();
    // As a frame that goes before it.
    send.write_all(b"x").await.unwrap();
    let (_send, mut asked) = accept(&pair).await;
    asked.read_exact(&mut [0]).await.unwrap();
    drop(fetch(recv, send, blob.hash, blob.size(), 0..blob.size()));
    let request = tokio::time::timeout(DEADLINE, read_request(&mut asked)).await.unwrap();
    assert!(matches!(request, Err(ServeError::Receive(_))), "{request:?}");
}
