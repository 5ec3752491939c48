//! A network between two nodes that can fail.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::task::JoinSet;

const LARGEST_DATAGRAM: usize = 65_536;

/// A UDP forwarder on 127.0.0.1: whoever sends to it reaches the target, and gets its answers back.
///
/// It can be cut, lose a share of all datagrams, or delay them. Two nodes that learn each other's true addresses may go
/// around it.
#[derive(Debug)]
pub struct LossyLink {
    address: SocketAddr,
    state: Arc<State>,
    /// Ends with this.
    _tasks: JoinSet<()>,
}

#[derive(Debug, Default)]
struct State {
    cut: AtomicBool,
    lost_per_thousand: AtomicU32,
    delay_micros: AtomicU64,
    seen: AtomicU64,
    forwarded_bytes: AtomicU64,
}

impl State {
    /// Whether the next datagram gets through, decided by its number, so that runs repeat.
    fn lets_through(&self) -> bool {
        let number = self.seen.fetch_add(1, Ordering::Relaxed);
        let dice = (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) % 1000;
        !self.cut.load(Ordering::Relaxed) && dice >= u64::from(self.lost_per_thousand.load(Ordering::Relaxed))
    }

    fn delay(&self) -> Duration {
        Duration::from_micros(self.delay_micros.load(Ordering::Relaxed))
    }
}

impl LossyLink {
    /// A link to a node at `127.0.0.1:<port>`.
    pub async fn to(port: u16) -> Self {
        let target = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let front = Arc::new(any_port().await);
        let address = front.local_addr().expect("a bound socket has an address");
        let state = Arc::new(State::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(front, target, Arc::clone(&state)));
        Self { address, state, _tasks: tasks }
    }

    /// Where to send what should reach the target: an endpoint for `nodes`.
    pub fn endpoint(&self) -> String {
        self.address.to_string()
    }

    /// Drops everything from now on, in both directions.
    pub fn cut(&self) {
        self.state.cut.store(true, Ordering::Relaxed);
    }

    /// Ends a cut.
    pub fn heal(&self) {
        self.state.cut.store(false, Ordering::Relaxed);
    }

    /// Drops so many of a thousand datagrams.
    pub fn lose(&self, per_thousand: u32) {
        self.state.lost_per_thousand.store(per_thousand, Ordering::Relaxed);
    }

    /// Holds each datagram back for so long, in each direction.
    pub fn delay(&self, delay: Duration) {
        self.state.delay_micros.store(u64::try_from(delay.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// How many bytes of datagrams got through, in both directions.
    pub fn forwarded_bytes(&self) -> u64 {
        self.state.forwarded_bytes.load(Ordering::Relaxed)
    }
}

async fn any_port() -> UdpSocket {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("the kernel gives a port")
}

/// Takes datagrams from callers; each caller gets a socket of its own towards the target, by which answers find back.
async fn serve(front: Arc<UdpSocket>, target: SocketAddr, state: Arc<State>) {
    let mut callers: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut answers = JoinSet::new();
    let mut buffer = vec![0; LARGEST_DATAGRAM];
    loop {
        // An error on a UDP socket is an echo of an earlier datagram that nobody took.
        let Ok((length, caller)) = front.recv_from(&mut buffer).await else { continue };
        let back = match callers.get(&caller) {
            Some(back) => Arc::clone(back),
            None => {
                let back = Arc::new(any_port().await);
                back.connect(target).await.expect("a local socket connects");
                callers.insert(caller, Arc::clone(&back));
                answers.spawn(answer(Arc::clone(&back), Arc::clone(&front), caller, Arc::clone(&state)));
                back
            }
        };
        forward(&state, buffer[..length].to_vec(), back, None).await;
    }
}

async fn answer(back: Arc<UdpSocket>, front: Arc<UdpSocket>, caller: SocketAddr, state: Arc<State>) {
    let mut buffer = vec![0; LARGEST_DATAGRAM];
    loop {
        let Ok(length) = back.recv(&mut buffer).await else {
            tokio::task::yield_now().await;
            continue;
        };
        forward(&state, buffer[..length].to_vec(), Arc::clone(&front), Some(caller)).await;
    }
}

async fn forward(state: &Arc<State>, datagram: Vec<u8>, socket: Arc<UdpSocket>, to: Option<SocketAddr>) {
    if !state.lets_through() {
        return;
    }
    let send = async move |state: Arc<State>| {
        let sent = match to {
            Some(to) => socket.send_to(&datagram, to).await,
            None => socket.send(&datagram).await,
        };
        if let Ok(bytes) = sent {
            state.forwarded_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    };
    let (delay, state) = (state.delay(), Arc::clone(state));
    if delay.is_zero() {
        send(state).await;
    } else {
        // A datagram that waits must not hold up the next.
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            send(state).await;
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn reply(socket: &UdpSocket, within: Duration) -> Option<Vec<u8>> {
        let mut buffer = [0; 64];
        let length = tokio::time::timeout(within, socket.recv(&mut buffer)).await.ok()?.expect("a datagram");
        Some(buffer[..length].to_vec())
    }

    #[tokio::test]
    async fn a_link_forwards_both_ways_and_can_be_cut_and_healed() {
        let target = any_port().await;
        let port = target.local_addr().expect("an address").port();
        let echo = tokio::spawn(async move {
            let mut buffer = [0; 64];
            loop {
                let (length, from) = target.recv_from(&mut buffer).await.expect("a datagram");
                target.send_to(&buffer[..length], from).await.expect("an answer");
            }
        });
        let link = LossyLink::to(port).await;
        let caller = any_port().await;
        caller.connect(link.endpoint()).await.expect("a local socket connects");

        caller.send(b"one").await.expect("sent");
        assert_eq!(reply(&caller, Duration::from_secs(5)).await.as_deref(), Some(&b"one"[..]));
        assert_eq!(link.forwarded_bytes(), 6);

        link.cut();
        caller.send(b"two").await.expect("sent");
        assert_eq!(reply(&caller, Duration::from_millis(50)).await, None);

        link.heal();
        link.delay(Duration::from_millis(5));
        caller.send(b"three").await.expect("sent");
        assert_eq!(reply(&caller, Duration::from_secs(5)).await.as_deref(), Some(&b"three"[..]));
        echo.abort();
    }
}
