//! A UDP forwarder on 127.0.0.1 that keeps a record of every datagram.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::Context as _;
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

const LARGEST_DATAGRAM: usize = 65_536;
/// Most datagrams that a record keeps.
const MAX_RECORD: usize = 100_000;

/// One datagram that went through.
#[derive(Clone, Copy, Debug)]
pub struct Datagram {
    pub at: Instant,
    /// Whether it went to the node behind the forwarder, or came from there.
    pub inward: bool,
    pub bytes: usize,
}

#[derive(Debug, Default)]
struct Record {
    cut: bool,
    datagrams: Vec<Datagram>,
}

/// Whoever sends to it reaches the target, and gets its answers back. Ends when dropped.
#[derive(Debug)]
pub struct Forwarder {
    address: SocketAddr,
    record: Arc<Mutex<Record>>,
    _tasks: JoinSet<()>,
}

impl Forwarder {
    /// A forwarder to a node at `127.0.0.1:<port>`.
    pub async fn to(port: u16) -> anyhow::Result<Self> {
        let front = Arc::new(any_port().await?);
        let address = front.local_addr()?;
        let record = Arc::<Mutex<Record>>::default();
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(front, SocketAddr::from((Ipv4Addr::LOCALHOST, port)), Arc::clone(&record)));
        Ok(Self { address, record, _tasks: tasks })
    }

    /// Where to send what should reach the node.
    pub fn endpoint(&self) -> String {
        self.address.to_string()
    }

    /// Drops everything, in both directions, or no longer.
    pub fn cut(&self, cut: bool) {
        lock(&self.record).cut = cut;
    }

    /// Begins a new record.
    pub fn forget(&self) {
        lock(&self.record).datagrams.clear();
    }

    /// What went through since then.
    pub fn seen(&self) -> Vec<Datagram> {
        lock(&self.record).datagrams.clone()
    }
}

/// Bytes of some datagrams, without what IP and UDP put before them.
pub fn bytes(datagrams: &[Datagram]) -> u64 {
    datagrams.iter().map(|datagram| datagram.bytes as u64).sum()
}

fn lock(record: &Mutex<Record>) -> std::sync::MutexGuard<'_, Record> {
    record.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn any_port() -> anyhow::Result<UdpSocket> {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.context("cannot bind a UDP port")
}

/// Notes a datagram; `false` when it must not go on.
fn pass(record: &Mutex<Record>, inward: bool, bytes: usize) -> bool {
    let mut record = lock(record);
    if !record.cut && record.datagrams.len() < MAX_RECORD {
        record.datagrams.push(Datagram { at: Instant::now(), inward, bytes });
    }
    !record.cut
}

async fn serve(front: Arc<UdpSocket>, target: SocketAddr, record: Arc<Mutex<Record>>) {
    let mut callers: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut answers = JoinSet::new();
    let mut buffer = vec![0; LARGEST_DATAGRAM];
    loop {
        // An error on a UDP socket is an echo of an earlier datagram that nobody took.
        let Ok((length, caller)) = front.recv_from(&mut buffer).await else { continue };
        let back = match callers.get(&caller) {
            Some(back) => Arc::clone(back),
            None => {
                let Ok(back) = any_port().await.map(Arc::new) else { continue };
                if back.connect(target).await.is_err() {
                    continue;
                }
                callers.insert(caller, Arc::clone(&back));
                answers.spawn(answer(Arc::clone(&back), Arc::clone(&front), caller, Arc::clone(&record)));
                back
            }
        };
        if pass(&record, true, length) {
            let _ = back.send(&buffer[..length]).await;
        }
    }
}

async fn answer(back: Arc<UdpSocket>, front: Arc<UdpSocket>, caller: SocketAddr, record: Arc<Mutex<Record>>) {
    let mut buffer = vec![0; LARGEST_DATAGRAM];
    loop {
        let Ok(length) = back.recv(&mut buffer).await else {
            tokio::task::yield_now().await;
            continue;
        };
        if pass(&record, false, length) {
            let _ = front.send_to(&buffer[..length], caller).await;
        }
    }
}

/// Datagrams that anybody on this machine has sent so far, by the kernel's count.
pub fn sent_by_anybody() -> u64 {
    let v4 = std::fs::read_to_string("/proc/net/snmp").unwrap_or_default();
    let mut lines = v4.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let column = lines.next().and_then(|names| names.split(' ').position(|name| name == "OutDatagrams"));
    let value = column.and_then(|column| lines.next()?.split(' ').nth(column)?.parse::<u64>().ok());
    let v6 = std::fs::read_to_string("/proc/net/snmp6").unwrap_or_default();
    let v6 = v6.lines().find_map(|line| line.strip_prefix("Udp6OutDatagrams")?.trim().parse::<u64>().ok());
    value.unwrap_or(0) + v6.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn datagrams_are_forwarded_and_recorded() -> anyhow::Result<()> {
        let node = any_port().await?;
        let forwarder = Forwarder::to(node.local_addr()?.port()).await?;
        let caller = any_port().await?;
        caller.connect(forwarder.endpoint()).await?;
        let before = sent_by_anybody();
        let mut buffer = [0; 64];
        caller.send(b"there").await?;
        let (length, from) = tokio::time::timeout(Duration::from_secs(5), node.recv_from(&mut buffer)).await??;
        node.send_to(&buffer[..length - 1], from).await?;
        assert_eq!(tokio::time::timeout(Duration::from_secs(5), caller.recv(&mut buffer)).await??, 4);
        let seen = forwarder.seen();
        assert_eq!(seen.iter().map(|d| (d.inward, d.bytes)).collect::<Vec<_>>(), [(true, 5), (false, 4)]);
        assert_eq!(bytes(&seen), 9);
        assert!(sent_by_anybody() >= before + 4);

        forwarder.cut(true);
        forwarder.forget();
        caller.send(b"nowhere").await?;
        assert!(tokio::time::timeout(Duration::from_millis(50), node.recv_from(&mut buffer)).await.is_err());
        assert!(forwarder.seen().is_empty());
        Ok(())
    }
}
