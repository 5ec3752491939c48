//! How every connection of this node moves data, whoever dialled: windows, congestion control, keep-alive.
//!
//! A link of 200 MB/s with a round trip of 100 ms has 20 MB under way. So much fits into one stream's window and into
//! what is kept for sending again, with a quarter more, because a window is opened again only after an eighth of it was
//! read. These are limits, no reservations: memory holds what has arrived and was not read, and what was sent and not
//! acknowledged.
//!
//! What a peer can make this node hold is bounded in sum. A stranger gets [`STRANGER_WINDOW`] until it is admitted.
//! Those who are admitted share [`RECEIVE_TOTAL`]: with many of them each one's window is smaller, and it grows again when
//! others leave. The library can't change a send window once there is a connection, so a new connection gets its part of
//! [`SEND_TOTAL`]. The one that finds `n` others has at most `SEND_TOTAL / (n + 1)`, so all of them have at most
//! `SEND_TOTAL × (1 + ln(1024 / 21))`, 2.5 GiB, when 1,024 peers that are admitted all read as slowly as they can.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use iroh::endpoint::{QuicTransportConfig, VarInt};
use noq_proto::congestion::BbrConfig;

/// Bytes of one stream that may be under way to us.
const STREAM_WINDOW: u32 = 24 * MIB;
/// Bytes of one connection that may be under way to us: a stream that is not read leaves room for another.
const CONNECTION_WINDOW: u32 = 48 * MIB;
/// Bytes that we send ahead of the peer's acknowledgements.
const SEND_WINDOW: u32 = 24 * MIB;
/// Bytes that a peer may have under way to us before we have looked who it is: its first questions.
pub(crate) const STRANGER_WINDOW: u32 = 64 * 1024;
/// Bytes that all peers together may have under way to us.
const RECEIVE_TOTAL: u32 = 1024 * MIB;
/// Bytes that connections share for what is sent and not yet acknowledged.
const SEND_TOTAL: u32 = 512 * MIB;
/// An idle connection is kept alive this often.
const KEEP_ALIVE: Duration = Duration::from_secs(4);
/// A connection that is silent this long is gone. Less than the 15 s after which the library gives up a single path.
const IDLE: Duration = Duration::from_secs(10);
/// Streams that a peer may have open at once.
const MAX_STREAMS: u32 = 512;

const MIB: u32 = 1024 * 1024;

/// What connections share. Cheap to clone; clones share the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Windows {
    links: Arc<AtomicUsize>,
}

impl Windows {
    /// There are now so many connections. Returns how many bytes each of them may have under way to us.
    pub(crate) fn share(&self, links: usize) -> u32 {
        self.links.store(links, Ordering::Relaxed);
        part(RECEIVE_TOTAL, links).min(CONNECTION_WINDOW)
    }

    /// The settings of a connection that this node dials.
    pub(crate) fn dialled(&self) -> QuicTransportConfig {
        let links = self.links.load(Ordering::Relaxed) + 1;
        transport(part(RECEIVE_TOTAL, links).min(CONNECTION_WINDOW), part(SEND_TOTAL, links).min(SEND_WINDOW))
    }

    /// The settings of a connection that a peer makes. Its window is opened when the peer is admitted.
    pub(crate) fn accepted(&self) -> QuicTransportConfig {
        let links = self.links.load(Ordering::Relaxed) + 1;
        transport(STRANGER_WINDOW, part(SEND_TOTAL, links).min(SEND_WINDOW))
    }
}

fn part(total: u32, links: usize) -> u32 {
    total / u32::try_from(links).unwrap_or(u32::MAX).max(1)
}

/// What dialled and accepted connections have in common.
fn transport(receive_window: u32, send_window: u32) -> QuicTransportConfig {
    let mut config = QuicTransportConfig::builder()
        // CUBIC, the library's default, takes each lost packet for a full queue; at 100 ms and 1 % it hardly moves.
        .congestion_controller_factory(Arc::new(BbrConfig::default()))
        .keep_alive_interval(KEEP_ALIVE)
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(receive_window))
        .send_window(send_window.into())
        .max_concurrent_bidi_streams(VarInt::from_u32(MAX_STREAMS))
        // The protocol has none of these.
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None);
    if let Ok(idle) = IDLE.try_into() {
        config = config.max_idle_timeout(Some(idle));
    }
    config.build()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 200 MB/s with a round trip of 100 ms.
    const UNDER_WAY: u32 = 20_000_000;

    #[test]
    fn a_few_links_have_windows_for_a_fast_and_long_path() {
        let windows = Windows::default();
        for links in 1..=20 {
            assert!(windows.share(links) >= UNDER_WAY);
        }
        const { assert!(STREAM_WINDOW >= UNDER_WAY && SEND_WINDOW >= UNDER_WAY) };
    }

    #[test]
    fn many_links_share_a_total() {
        let windows = Windows::default();
        for links in [21, 22, 100, 1024, 5000] {
            let sum = u64::from(windows.share(links)) * links as u64;
            assert!(sum <= u64::from(RECEIVE_TOTAL), "{links} links may send {sum} bytes");
        }
        assert_eq!(windows.share(1024), MIB);
        let sent: u64 = (1..=1024).map(|links| u64::from(part(SEND_TOTAL, links).min(SEND_WINDOW))).sum();
        assert!(sent <= 2560 * u64::from(MIB), "{sent}");
    }
}
