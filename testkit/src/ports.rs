//! Ports that stay ours while nothing listens on them.

use std::fs::{self, File};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};

/// Where leased ports come from when the kernel's own range leaves no room.
const FALLBACK: (u16, u16) = (20_000, 30_000);

/// A port for a process that goes away and comes back on the same port.
///
/// A port that the kernel hands out for "any" may be handed to somebody else while our process is down. So leases
/// come from below the kernel's range, and a file lock per port, which ends with the process that holds it, keeps
/// test processes out of each other's way.
#[derive(Debug)]
pub struct PortLease {
    port: u16,
    _lock: File,
}

impl PortLease {
    /// A port that is free for UDP and TCP, on all addresses.
    pub fn take() -> Self {
        static TAKEN: AtomicU32 = AtomicU32::new(0);
        let user = rustix::process::getuid().as_raw();
        let locks = std::env::temp_dir().join(format!("rhio-testkit-ports-{user}"));
        fs::create_dir_all(&locks).unwrap_or_else(|e| panic!("cannot create {}: {e}", locks.display()));
        let (low, high) = range();
        let span = u32::from(high - low);
        for _ in 0..span {
            // Different processes start at different places and walk with a stride that visits every port.
            let step = TAKEN.fetch_add(1, Ordering::Relaxed);
            let offset = (std::process::id().wrapping_mul(7_919).wrapping_add(step)) % span;
            let port = low + u16::try_from(offset).expect("smaller than the span");
            let Ok(lock) = File::options().create(true).append(true).open(locks.join(port.to_string())) else {
                continue;
            };
            if lock.try_lock().is_ok() && is_free(port) {
                return Self { port, _lock: lock };
            }
        }
        panic!("no port between {low} and {high} is free");
    }

    /// The number.
    pub fn port(&self) -> u16 {
        self.port
    }
}

/// Up to 10,000 ports below those which the kernel picks from.
fn range() -> (u16, u16) {
    let low = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|text| text.split_whitespace().next()?.parse::<u16>().ok());
    match low {
        Some(low) if low > 15_000 => (low - 10_000, low - 1),
        _ => FALLBACK,
    }
}

fn is_free(port: u16) -> bool {
    let udp = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok();
    // A machine without IPv6 refuses for that reason, which says nothing about the port.
    let udp6 = match UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port)) {
        Ok(_) => true,
        Err(e) => e.kind() != std::io::ErrorKind::AddrInUse,
    };
    udp && udp6 && TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_leases_differ_and_a_port_in_use_is_not_leased() {
        let a = PortLease::take();
        let b = PortLease::take();
        assert_ne!(a.port(), b.port());
        let held = UdpSocket::bind((Ipv4Addr::LOCALHOST, a.port())).expect("the leased port can be bound");
        assert!(!is_free(a.port()));
        drop(held);
        // A process that another test starts at this moment holds a copy of the socket until it executes.
        let mut poll = crate::Poll::new(std::time::Duration::from_secs(5));
        while !is_free(a.port()) {
            poll.check(&"the port to be free again", "it is not");
            poll.pause_blocking();
        }
    }
}
