//! How fast hashing, serving and fetching are on this machine. `cargo run --release -p rhio-blobs --example throughput`

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a measurement fails by a panic")]

use std::io;
use std::net::Ipv4Addr;
use std::num::NonZero;
use std::time::Instant;

use bytes::Bytes;
use futures_util::StreamExt;
use iroh::endpoint::presets::Minimal;
use iroh::endpoint::{Connection, VarInt};
use iroh::{Endpoint, RelayMode};
use iroh_blobs::util::SendStream;
use rhio_blobs::fetch::fetch;
use rhio_blobs::hashing::Hasher;
use rhio_blobs::serve::{BlobRequest, read_request, respond};

#[path = "../tests/transfer/support.rs"]
mod support;

use support::{Blob, Kept, content, pipe};

const SIZE: usize = 256 * 1024 * 1024;
const ROUNDS: usize = 5;

/// The best of some rounds, in MB/s.
fn best(name: &str, seconds: impl IntoIterator<Item = f64>) {
    let best = seconds.into_iter().fold(f64::MAX, f64::min);
    println!("{name:<44} {:>8.0} MB/s", SIZE as f64 / best / 1e6);
}

fn measure(name: &str, mut work: impl FnMut()) {
    best(
        name,
        (0..ROUNDS).map(|_| {
            let begin = Instant::now();
            work();
            begin.elapsed().as_secs_f64()
        }),
    );
}

fn main() {
    let data = content(SIZE);
    measure("blake3::hash", || {
        std::hint::black_box(blake3::hash(&data));
    });
    for piece in [SIZE, 1024 * 1024, 64 * 1024, 16 * 1024, 10_000] {
        measure(&format!("Hasher, {piece} bytes at once"), || {
            let mut hasher = Hasher::new(io::sink());
            data.chunks(piece).for_each(|piece| hasher.update(piece).unwrap());
            std::hint::black_box(hasher.finish().unwrap().hash);
        });
    }
    for piece in [SIZE, 8 * 1024 * 1024, 4 * 1024 * 1024] {
        measure(&format!("Hasher, {piece} bytes at once, two threads"), || {
            let mut hasher = Hasher::new(io::sink());
            let threads = NonZero::new(2).unwrap();
            data.chunks(piece).for_each(|piece| hasher.update_on(threads, piece).unwrap());
            std::hint::black_box(hasher.finish().unwrap().hash);
        });
    }
    let blob = Blob::new(data);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let request = BlobRequest { hash: blob.hash, ranges: iroh_blobs::protocol::ChunkRanges::all() };
    measure("respond, to nobody", || {
        runtime.block_on(async { respond(&request, &blob.source, &mut Nobody).await.unwrap() });
    });
    let kept = Kept::default();
    runtime.block_on(async { respond(&request, &blob.source, &mut kept.clone()).await.unwrap() });
    let response = Bytes::from(kept.take());
    measure("fetch, out of memory", || {
        runtime.block_on(async {
            let mut pieces = fetch(response.clone(), Kept::default(), blob.hash, blob.size(), 0..blob.size());
            while let Some(piece) = pieces.next().await {
                std::hint::black_box(piece.unwrap());
            }
        });
    });
    measure("respond and fetch, over a pipe", || {
        runtime.block_on(async {
            let (send_request, mut recv_request) = pipe(1024);
            let (mut send, recv) = pipe(1024 * 1024);
            let source = blob.source.clone();
            let provider = tokio::spawn(async move {
                let request = read_request(&mut recv_request).await.unwrap();
                respond(&request, &source, &mut send).await.unwrap();
            });
            let mut pieces = fetch(recv, send_request, blob.hash, blob.size(), 0..blob.size());
            while let Some(piece) = pieces.next().await {
                std::hint::black_box(piece.unwrap());
            }
            provider.await.unwrap();
        });
    });
    let (provider, getter) = runtime.block_on(connect());
    measure("respond and fetch, over QUIC on loopback", || {
        runtime.block_on(async {
            let (source, provider) = (blob.source.clone(), provider.clone());
            let provider = tokio::spawn(async move {
                let (mut send, mut recv) = provider.1.accept_bi().await.unwrap();
                let request = read_request(&mut recv).await.unwrap();
                respond(&request, &source, &mut send).await.unwrap();
            });
            let (send, recv) = getter.1.open_bi().await.unwrap();
            let mut pieces = fetch(recv, send, blob.hash, blob.size(), 0..blob.size());
            while let Some(piece) = pieces.next().await {
                std::hint::black_box(piece.unwrap());
            }
            provider.await.unwrap();
        });
    });
}

type Peer = (Endpoint, Connection);

async fn connect() -> (Peer, Peer) {
    let bind = async || {
        let builder = Endpoint::builder(Minimal).relay_mode(RelayMode::Disabled).clear_address_lookup();
        let builder = builder.clear_ip_transports().bind_addr((Ipv4Addr::LOCALHOST, 0)).unwrap();
        builder.alpns(vec![b"throughput".to_vec()]).bind().await.unwrap()
    };
    let (provider, getter) = (bind().await, bind().await);
    let accept = async { provider.accept().await.unwrap().await.unwrap() };
    let dial = async { getter.connect(provider.addr(), b"throughput").await.unwrap() };
    let (accepted, dialed) = tokio::join!(accept, dial);
    ((provider, accepted), (getter, dialed))
}

/// Takes everything and keeps nothing.
struct Nobody;

impl SendStream for Nobody {
    async fn send_bytes(&mut self, bytes: Bytes) -> io::Result<()> {
        std::hint::black_box(bytes);
        Ok(())
    }
    async fn send(&mut self, _: &[u8]) -> io::Result<()> {
        Ok(())
    }
    async fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
    fn reset(&mut self, _: VarInt) -> io::Result<()> {
        Ok(())
    }
    async fn stopped(&mut self) -> io::Result<Option<VarInt>> {
        Ok(None)
    }
    fn id(&self) -> u64 {
        0
    }
}
