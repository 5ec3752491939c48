//! The connections to other nodes: who may connect, who is dialled, and which connection leads to whom.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rhio_core::id::PublicKey;
use rhio_core::wire::CloseCode;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use super::connection::{Connection, Ended};
use super::endpoint::Network;
use super::records::{Live, PeerReport, Records, Unconnected, traffic};
use super::settings::NodeEndpoint;
use super::stream::{FrameReader, FrameWriter, close};

/// Connections with one peer; a node that restarts leaves old ones behind for a moment.
const MAX_PER_PEER: usize = 4;
/// Connections in all.
const MAX_LINKS: usize = 1024;
/// Waits between attempts to dial.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// How often a failing dial is logged.
const REPEAT: Duration = Duration::from_secs(60);

/// Whom this node knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directory {
    /// Nodes with the addresses to dial; some are known by key alone.
    pub nodes: BTreeMap<PublicKey, Vec<NodeEndpoint>>,
    /// Any node of the network may connect.
    pub open: bool,
    /// Nodes that some publication lists by itself.
    pub allowed: BTreeSet<PublicKey>,
    /// Nodes that a connection is kept with, because something is subscribed there.
    pub wanted: BTreeSet<PublicKey>,
}

impl Directory {
    fn admits(&self, peer: &PublicKey) -> bool {
        self.open || self.nodes.contains_key(peer) || self.allowed.contains(peer) || self.wanted.contains(peer)
    }
}

/// A stream that a peer opened.
pub struct Incoming {
    /// Who, by the connection's own authentication.
    pub peer: PublicKey,
    /// The way back.
    pub writer: FrameWriter,
    /// What it says.
    pub reader: FrameReader,
    /// Its connection.
    pub connection: Connection,
}

/// Who refused a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TurnedAway {
    /// This node.
    ByUs,
    /// The peer.
    ByPeer,
}

/// Where what happens to connections is counted.
pub trait Counters: Send + Sync {
    /// A connection was refused.
    fn refused(&self, by: TurnedAway);
}

struct Link {
    connection: Connection,
    dialled: bool,
    since: SystemTime,
    /// Bytes that the peer may have under way to this node.
    window: u32,
}

/// The table of connections. Cheap to clone.
#[derive(Clone)]
pub struct Links {
    inner: Arc<Inner>,
}

struct Inner {
    me: PublicKey,
    network: Network,
    directory: RwLock<Directory>,
    live: Mutex<HashMap<PublicKey, Vec<Link>>>,
    /// Locked only while nothing else waits for `live`, or after it.
    records: Mutex<Records>,
    counters: Arc<dyn Counters>,
    /// Refusals in either direction, and when each was logged last.
    refusals: Mutex<HashMap<(PublicKey, TurnedAway), Instant>>,
    changed: watch::Sender<u64>,
    streams: mpsc::Sender<Incoming>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Links {
    /// Takes over the endpoint. Streams that peers open go to `streams`.
    pub fn new(
        me: PublicKey,
        network: Network,
        counters: Arc<dyn Counters>,
        streams: mpsc::Sender<Incoming>,
        stop: CancellationToken,
    ) -> Self {
        let inner = Inner {
            me,
            network,
            directory: RwLock::default(),
            live: Mutex::default(),
            records: Mutex::new(Records::new(MAX_LINKS)),
            counters,
            refusals: Mutex::default(),
            changed: watch::Sender::new(0),
            streams,
            tasks: TaskTracker::new(),
            stop,
        };
        Self { inner: Arc::new(inner) }
    }

    /// Accepts connections until the endpoint closes, and keeps those that are wanted. Ends when stopped.
    pub async fn run(&self, mut incoming: mpsc::Receiver<Connection>) {
        let mut dials: BTreeMap<PublicKey, CancellationToken> = BTreeMap::new();
        let mut changed = self.inner.changed.subscribe();
        loop {
            self.reconcile(&mut dials);
            tokio::select! {
                () = self.inner.stop.cancelled() => break,
                connection = incoming.recv() => match connection {
                    Some(connection) => self.accept(connection),
                    None => break,
                },
                _ = changed.changed() => {}
            }
        }
        for link in self.lock_live().values().flatten() {
            close(&link.connection, CloseCode::Shutdown);
        }
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }

    /// Replaces the directory, closes connections that it no longer admits, and dials those that it wants.
    pub fn set_directory(&self, directory: Directory) {
        // First the rule, then the connections: who is closed out may be back at once.
        *self.inner.directory.write().unwrap_or_else(PoisonError::into_inner) = directory.clone();
        for (peer, links) in self.lock_live().iter() {
            if !directory.admits(peer) {
                links.iter().for_each(|link| close(&link.connection, CloseCode::Refused));
            }
        }
        self.inner.changed.send_modify(|version| *version += 1);
    }

    /// Whether this node has addresses to dial a peer by.
    pub fn can_dial(&self, peer: &PublicKey) -> bool {
        self.read_directory().nodes.get(peer).is_some_and(|endpoints| !endpoints.is_empty())
    }

    /// Every node that this one knows by its key.
    pub fn known(&self) -> BTreeSet<PublicKey> {
        let directory = self.read_directory();
        directory.nodes.keys().chain(&directory.allowed).chain(&directory.wanted).copied().collect()
    }

    /// Every node that this one knows or is connected with.
    pub fn report(&self) -> Vec<PeerReport> {
        let directory = self.read_directory().clone();
        let known = self.known();
        let live = self.lock_live();
        let alive = |link: &&Link| link.connection.close_reason().is_none();
        let connected = live.iter().filter(|(_, links)| links.iter().any(|link| alive(&link))).map(|(peer, _)| *peer);
        let peers: BTreeSet<PublicKey> =
            known.iter().copied().chain(connected).filter(|peer| *peer != self.inner.me).collect();
        let report = |peer: PublicKey| {
            let links = live.get(&peer).map(Vec::as_slice).unwrap_or_default();
            let mut record = self.lock_records().get(&peer);
            for link in links {
                let (received, sent) = traffic(&link.connection);
                record.received += received;
                record.sent += sent;
            }
            let best = links.iter().rev().filter(alive).max_by_key(|link| link.dialled);
            let endpoints = directory.nodes.get(&peer).map(Vec::as_slice).unwrap_or_default();
            PeerReport {
                peer,
                known: known.contains(&peer),
                addresses: endpoints.iter().map(ToString::to_string).collect(),
                wanted: directory.wanted.contains(&peer),
                live: best.map(|link| Live::of(&link.connection, link.dialled, link.since)),
                record,
            }
        };
        peers.into_iter().map(report).collect()
    }

    /// A live connection with a peer: one that this node dialled, else one that the peer made.
    pub fn get(&self, peer: &PublicKey) -> Option<Connection> {
        let live = self.lock_live();
        let links = live.get(peer)?;
        let alive = |link: &&Link| link.connection.close_reason().is_none();
        let best = links.iter().rev().filter(alive).max_by_key(|link| link.dialled)?;
        Some(best.connection.clone())
    }

    /// Waits for a live connection with a peer.
    pub async fn wait(&self, peer: &PublicKey) -> Connection {
        let mut changed = self.inner.changed.subscribe();
        loop {
            if let Some(connection) = self.get(peer) {
                return connection;
            }
            let _ = changed.changed().await;
        }
    }

    /// A connection with a peer: one that is there, that can be made, or that the peer makes. For ever, so it needs a
    /// deadline.
    pub async fn reach(&self, peer: &PublicKey) -> Connection {
        let endpoints = self.read_directory().nodes.get(peer).cloned().unwrap_or_default();
        if self.get(peer).is_none()
            && !endpoints.is_empty()
            && let Ok(connection) = self.inner.network.dial(*peer, &endpoints).await
        {
            self.register(*peer, connection.clone(), true);
            return connection;
        }
        self.wait(peer).await
    }

    /// The sockets on which other nodes reach this one.
    pub fn sockets(&self) -> Vec<std::net::SocketAddr> {
        self.inner.network.sockets()
    }

    /// Whether a peer has refused this node lately.
    pub fn is_refused_by(&self, peer: &PublicKey) -> bool {
        let refusals = self.inner.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        refusals.get(&(*peer, TurnedAway::ByPeer)).is_some_and(|at| at.elapsed() < REPEAT)
    }

    /// Returns whether it is time to log it again.
    fn note_refusal(&self, peer: PublicKey, refusal: TurnedAway) -> bool {
        self.inner.counters.refused(refusal);
        let mut refusals = self.inner.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        refusals.retain(|_, at| at.elapsed() < REPEAT);
        // Strangers can make any number of keys.
        if refusals.len() >= MAX_LINKS || refusals.contains_key(&(peer, refusal)) {
            return false;
        }
        refusals.insert((peer, refusal), Instant::now());
        true
    }

    fn read_directory(&self) -> std::sync::RwLockReadGuard<'_, Directory> {
        self.inner.directory.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_live(&self) -> std::sync::MutexGuard<'_, HashMap<PublicKey, Vec<Link>>> {
        self.inner.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_records(&self) -> std::sync::MutexGuard<'_, Records> {
        self.inner.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection is over.
    fn remove(&self, peer: PublicKey, connection: &Connection, why: Option<Ended>) {
        let mut live = self.lock_live();
        let Some(links) = live.get_mut(&peer) else { return };
        let before = links.len();
        links.retain(|link| link.connection.quic().stable_id() != connection.quic().stable_id());
        if links.len() < before {
            self.retire(peer, connection, why);
        }
        live.retain(|_, links| !links.is_empty());
        self.share(&mut live);
    }

    /// Gives each connection its part of the memory for what arrives. One that a peer made has hardly any until then.
    fn share(&self, live: &mut HashMap<PublicKey, Vec<Link>>) {
        let window = self.inner.network.share(live.values().map(Vec::len).sum());
        for link in live.values_mut().flatten().filter(|link| link.window != window) {
            link.connection.set_receive_window(window);
            link.window = window;
        }
    }

    fn retire(&self, peer: PublicKey, connection: &Connection, why: Option<Ended>) {
        let (received, sent) = traffic(connection);
        self.lock_records().change(peer, |record| {
            record.received += received;
            record.sent += sent;
            record.last_error = why.map(Unconnected::Ended).or(record.last_error.take());
        });
    }

    fn reconcile(&self, dials: &mut BTreeMap<PublicKey, CancellationToken>) {
        let directory = self.read_directory();
        let wanted: BTreeMap<_, _> = directory
            .wanted
            .iter()
            .filter_map(|peer| Some((*peer, directory.nodes.get(peer)?)))
            .filter(|(peer, endpoints)| *peer != self.inner.me && !endpoints.is_empty())
            .collect();
        dials.retain(|peer, stop| {
            let keep = wanted.contains_key(peer) && !stop.is_cancelled();
            if !keep {
                stop.cancel();
            }
            keep
        });
        for peer in wanted.into_keys() {
            dials.entry(peer).or_insert_with(|| {
                let stop = self.inner.stop.child_token();
                let (links, token) = (self.clone(), stop.clone());
                self.inner.tasks.spawn(async move { links.keep(peer, token).await });
                stop
            });
        }
    }

    /// Keeps a connection with a peer: dials when there is none that this node made, with backoff, for ever.
    async fn keep(&self, peer: PublicKey, stop: CancellationToken) {
        let mut wait = BACKOFF.0;
        let mut logged: Option<Instant> = None;
        while !stop.is_cancelled() {
            let endpoints = self.read_directory().nodes.get(&peer).cloned().unwrap_or_default();
            let dialled = tokio::select! {
                () = stop.cancelled() => return,
                dialled = self.inner.network.dial(peer, &endpoints) => dialled,
            };
            match dialled {
                Ok(connection) => {
                    let begun = Instant::now();
                    logged = None;
                    self.register(peer, connection.clone(), true);
                    tokio::select! {
                        () = stop.cancelled() => {
                            close(&connection, CloseCode::Done);
                            return;
                        }
                        _ = connection.closed() => {}
                    }
                    // One that is closed at once does not count as success.
                    if begun.elapsed() > BACKOFF.1 {
                        wait = BACKOFF.0;
                    }
                }
                Err(error) => {
                    let why = Unconnected::NotMade(error.to_string());
                    self.lock_records().change(peer, |record| record.last_error = Some(why));
                    if logged.is_none_or(|at| at.elapsed() > REPEAT) {
                        let addresses: Vec<_> = endpoints.iter().map(ToString::to_string).collect();
                        warn!(peer = %peer, addresses = addresses.join(", "), %error, "can't reach node, trying on");
                        logged = Some(Instant::now());
                    }
                }
            }
            let jitter = Duration::from_millis(fastrand::u64(..=wait.as_millis() as u64 / 4));
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait + jitter) => {}
            }
            wait = (wait * 2).min(BACKOFF.1);
        }
    }

    fn accept(&self, connection: Connection) {
        let Ok(peer) = PublicKey::from_bytes(*connection.quic().remote_id().as_bytes()) else { return };
        if !self.read_directory().admits(&peer) {
            if self.note_refusal(peer, TurnedAway::ByUs) {
                warn!(
                    peer = %peer,
                    "refused a connection: the node is not known here; to admit it, add its public key to 'nodes'"
                );
            }
            close(&connection, CloseCode::Refused);
            return;
        }
        self.register(peer, connection, false);
    }

    fn register(&self, peer: PublicKey, connection: Connection, dialled: bool) {
        {
            let mut live = self.lock_live();
            live.retain(|peer, links| {
                links.retain(|link| {
                    let reason = link.connection.close_reason();
                    if let Some(reason) = &reason {
                        self.retire(*peer, &link.connection, Some(reason.clone()));
                    }
                    reason.is_none()
                });
                !links.is_empty()
            });
            let count: usize = live.values().map(Vec::len).sum();
            let links = live.entry(peer).or_default();
            if count >= MAX_LINKS {
                warn!(peer = %peer, "refused a connection: there are {MAX_LINKS} already");
                close(&connection, CloseCode::Unavailable);
                return;
            }
            if links.len() >= MAX_PER_PEER {
                let oldest = links.remove(0);
                close(&oldest.connection, CloseCode::Superseded);
                self.retire(peer, &oldest.connection, None);
            }
            links.push(Link { connection: connection.clone(), dialled, since: SystemTime::now(), window: 0 });
            self.share(&mut live);
            self.lock_records().change(peer, |record| record.connects += 1);
        }
        info!(peer = %peer, direction = if dialled { "out" } else { "in" }, "connected");
        self.inner.changed.send_modify(|version| *version += 1);
        let links = self.clone();
        self.inner.tasks.spawn(async move { links.serve(peer, connection).await });
    }

    /// Passes on the streams that the peer opens, until the connection is gone.
    async fn serve(&self, peer: PublicKey, connection: Connection) {
        loop {
            let accepted = tokio::select! {
                () = self.inner.stop.cancelled() => break,
                accepted = connection.accept_bi() => accepted,
            };
            let Ok((send, recv)) = accepted else { break };
            let (writer, reader) = (FrameWriter::new(send), FrameReader::new(recv));
            let incoming = Incoming { peer, writer, reader, connection: connection.clone() };
            if self.inner.streams.send(incoming).await.is_err() {
                break;
            }
        }
        if let Some(reason) = connection.close_reason() {
            match reason {
                Ended::ByPeer(CloseCode::Refused) => {
                    if self.note_refusal(peer, TurnedAway::ByPeer) {
                        let me = self.inner.me;
                        warn!(peer = %peer, "the node refuses us: our public key {me} must be added to its 'nodes'");
                    }
                }
                reason => info!(peer = %peer, %reason, "disconnected"),
            }
        } else {
            debug!(peer = %peer, "connection left");
        }
        let why = connection.close_reason();
        self.remove(peer, &connection, why);
        self.inner.changed.send_modify(|version| *version += 1);
    }
}
