//! Counts what goes to and from a server over TCP.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

const BUFFER: usize = 64 * 1024;

/// Whoever connects to it reaches the server. Ends when dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    to_server: Arc<AtomicU64>,
    sent_by_server: Arc<AtomicU64>,
    _task: JoinSet<()>,
}

impl Proxy {
    /// A proxy to a server at `http://127.0.0.1:<port>`.
    pub async fn to(endpoint: &str) -> anyhow::Result<Self> {
        let target: SocketAddr = endpoint.trim_start_matches("http://").parse().context("the address of a server")?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("cannot bind a TCP port")?;
        let address = listener.local_addr()?;
        let (to_server, sent_by_server) = <(Arc<AtomicU64>, Arc<AtomicU64>)>::default();
        let mut task = JoinSet::new();
        task.spawn(serve(listener, target, Arc::clone(&to_server), Arc::clone(&sent_by_server)));
        Ok(Self { address, to_server, sent_by_server, _task: task })
    }

    /// `http://127.0.0.1:<port>`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Bytes that went to the server.
    pub fn to_server(&self) -> u64 {
        self.to_server.load(Ordering::Relaxed)
    }

    /// Bytes that came from the server.
    pub fn sent_by_server(&self) -> u64 {
        self.sent_by_server.load(Ordering::Relaxed)
    }
}

async fn serve(listener: TcpListener, target: SocketAddr, to_server: Arc<AtomicU64>, sent_by_server: Arc<AtomicU64>) {
    let mut copies = JoinSet::new();
    loop {
        let Ok((caller, _)) = listener.accept().await else { continue };
        let Ok(server) = TcpStream::connect(target).await else { continue };
        let _ = (caller.set_nodelay(true), server.set_nodelay(true));
        let ((caller_in, caller_out), (server_in, server_out)) = (caller.into_split(), server.into_split());
        copies.spawn(copy(caller_in, server_out, Arc::clone(&to_server)));
        copies.spawn(copy(server_in, caller_out, Arc::clone(&sent_by_server)));
        while copies.try_join_next().is_some() {}
    }
}

/// Until one of the two is gone.
async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, count: Arc<AtomicU64>) {
    let mut buffer = vec![0; BUFFER];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        count.fetch_add(read as u64, Ordering::Relaxed);
        if to.write_all(&buffer[..read]).await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn both_directions_are_counted() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        let proxy = Proxy::to(&endpoint).await.expect("a proxy");
        let server = async {
            let (mut stream, _) = listener.accept().await.expect("a caller");
            let mut asked = [0; 5];
            stream.read_exact(&mut asked).await.expect("a question");
            stream.write_all(b"and an answer").await.expect("answered");
        };
        let caller = async {
            let mut stream = TcpStream::connect(proxy.address).await.expect("connected");
            stream.write_all(b"hello").await.expect("asked");
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await.expect("an answer");
            answer
        };
        let ((), answer) = tokio::join!(server, caller);
        assert_eq!((answer.as_slice(), proxy.to_server(), proxy.sent_by_server()), (&b"and an answer"[..], 5, 13));
    }
}
