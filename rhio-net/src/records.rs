//! What is remembered of each peer, for whoever looks: kept in memory only.

use std::collections::HashMap;
use std::fmt;
use std::time::{Duration, SystemTime};

use iroh::Watcher;
use rhio_core::id::PublicKey;
use rhio_core::wire::CloseCode;

use super::connection::{Connection, Ended};

/// What a peer's connections did that are over, and how many there were.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Connections made, in either direction.
    pub connects: u64,
    /// UDP payload that came through connections that are over.
    pub received: u64,
    /// UDP payload that went out through them.
    pub sent: u64,
    /// Why the last attempt failed, or the last connection ended.
    pub last_error: Option<Unconnected>,
}

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unconnected {
    /// The last one ended so.
    Ended(Ended),
    /// None could be made, for this reason.
    NotMade(String),
}

impl fmt::Display for Unconnected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended(ended) => ended.fmt(f),
            Self::NotMade(reason) => f.write_str(reason),
        }
    }
}

impl Unconnected {
    /// Whether the other node does not let this one in.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Ended(Ended::ByPeer(CloseCode::Refused)))
    }
}

/// The records, at most so many.
#[derive(Debug)]
pub struct Records {
    of: HashMap<PublicKey, Record>,
    max: usize,
}

impl Records {
    /// None yet; strangers get no record once there are `max`.
    pub fn new(max: usize) -> Self {
        Self { of: HashMap::new(), max }
    }

    /// What is known of a peer.
    pub fn get(&self, peer: &PublicKey) -> Record {
        self.of.get(peer).cloned().unwrap_or_default()
    }

    /// Changes what is known of a peer.
    pub fn change(&mut self, peer: PublicKey, change: impl FnOnce(&mut Record)) {
        if self.of.len() < self.max || self.of.contains_key(&peer) {
            change(self.of.entry(peer).or_default());
        }
    }
}

/// How a live connection is.
#[derive(Clone, Debug, PartialEq)]
pub struct Live {
    /// Whether this node dialled.
    pub dialled: bool,
    /// Since when.
    pub since: SystemTime,
    /// The address that is talked to.
    pub remote: Option<String>,
    /// Round-trip time.
    pub round_trip: Option<Duration>,
}

impl Live {
    /// Looks at a connection.
    pub fn of(connection: &Connection, dialled: bool, since: SystemTime) -> Self {
        let mut paths = connection.quic().paths();
        let paths = paths.get();
        let path = paths.iter().find(|path| path.is_selected()).or_else(|| paths.iter().find(|path| !path.is_closed()));
        let remote = path.map(|path| match path.remote_addr() {
            iroh::TransportAddr::Ip(address) => address.to_string(),
            other => format!("{other:?}"),
        });
        Self { dialled, since, remote, round_trip: path.and_then(|path| path.rtt()) }
    }
}

/// UDP payload of a connection: received, sent.
pub fn traffic(connection: &Connection) -> (u64, u64) {
    let stats = connection.quic().stats();
    (stats.udp_rx.bytes, stats.udp_tx.bytes)
}

/// A peer as it is now.
#[derive(Clone, Debug, PartialEq)]
pub struct PeerReport {
    /// Which one.
    pub peer: PublicKey,
    /// Whether the configuration names it.
    pub known: bool,
    /// The addresses of it that are configured.
    pub addresses: Vec<String>,
    /// Whether something is subscribed there.
    pub wanted: bool,
    /// The connection, when there is one.
    pub live: Option<Live>,
    /// Sums over all connections.
    pub record: Record,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_get_no_record_once_there_are_too_many() {
        let mut records = Records::new(1);
        let [a, b] = [1, 2].map(|n| p2panda_core::SigningKey::from_bytes(&[n; 32]).verifying_key().into());
        records.change(a, |record| record.connects += 1);
        records.change(b, |record| record.connects += 1);
        records.change(a, |record| record.connects += 1);
        assert_eq!((records.get(&a).connects, records.get(&b).connects), (2, 0));
    }
}
