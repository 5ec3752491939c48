//! What a run is made of, drawn from its seed.

use rhio_core::seal::MAX_CLOSED;
use rhio_core::subject::Filter;

use crate::base::{NodeId, SECOND};
use crate::rng::Rng;

/// A rule of the driver that is broken on purpose, to see that the checker notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Broken {
    /// The subscriber commits an operation whose records are still under way.
    CommitBeforeWritten,
    /// The subscriber acknowledges an operation whose commit is still under way.
    AcknowledgeBeforeCommit,
    /// The subscriber does not look at what its stream holds behind the last commit.
    SkipScan,
    /// The subscriber does not check that its stream still holds what the last commit says.
    SkipPresence,
    /// The subscriber keeps to itself what it has from earlier logs.
    IgnoreFloors,
    /// The author appends without compare-and-set.
    NoCompareAndSet,
    /// The author lets an operation out before the state stream has it.
    ReleaseEarly,
    /// The author goes on behind the end that it sees, without asking its readers.
    SkipRecall,
    /// The author does not check that its stream still holds what its log covers.
    SkipTailRecord,
    /// Two processes of a subscriber write to its stream at the same time.
    SkipClaim,
    /// The subscriber knows its stream's records by their numbers alone, without their times.
    NumbersOnly,
    /// The subscriber does not tie a log's cursor to what other logs wrote of the same messages.
    OneLogOnly,
    /// The subscriber does not notice that its stream was deleted and created again.
    SkipCreated,
    /// The author publishes again what came through rhio.
    Echo,
    /// The subscriber begins a log before it is done with those that were closed before it.
    SkipTurn,
    /// The author of a catalog goes on with it although its end is in doubt.
    ContinueInDoubt,
    /// The author of a catalog concludes from an empty listing that everything is gone.
    TrustEmpty,
    /// The author of a catalog concludes from a listing that lacks a key that the object is gone.
    TrustListing,
    /// A subscriber follows deletes although it is told to keep.
    FollowAlways,
    /// A subscriber writes over an object of somebody else's.
    Overwrite,
    /// A subscriber's writes do not name what they replace.
    Unconditional,
    /// A subscriber does not verify content.
    Unverified,
    /// A subscriber counts an object as settled before it is there.
    SettleEarly,
    /// A subscriber acts upon entries before its copy of the catalog has them.
    ActBeforeStored,
    /// A subscriber forgets what is here when a new epoch of the catalog begins.
    SkipSucceed,
}

/// A node.
#[derive(Clone, Debug)]
pub struct Node {
    /// What it publishes of its stream.
    pub publishes: Option<Filter>,
    /// Whom it reads, and what of it.
    pub subscriptions: Vec<(NodeId, Filter)>,
}

/// How often what goes wrong. Rates are in thousandths; `mean_*` are mean times between faults, 0 for never.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs)]
pub struct Faults {
    /// A request to NATS is never carried out, the ones behind it are.
    pub lost_request: u64,
    /// A request is carried out and the answer lost.
    pub lost_answer: u64,
    /// When a connection to NATS breaks: one request is left out of the middle of those still carried out.
    pub hole: u64,
    /// A process is killed and started again.
    pub mean_kill: u64,
    /// A second process with the same key runs for a while.
    pub mean_twin: u64,
    /// The connections of a process to NATS break.
    pub mean_blip: u64,
    /// NATS is killed and started again; nothing is lost.
    pub mean_restart: u64,
    /// A cluster loses power: process and NATS, and the end of its streams.
    pub mean_cut: u64,
    /// Most changes that a power cut takes from a stream.
    pub cut_depth: u64,
    /// A stream is deleted and created again.
    pub mean_recreate: u64,
    /// Connections between nodes break.
    pub mean_break: u64,
    /// Two nodes can't reach each other for a while.
    pub mean_part: u64,
    /// A message is deleted, or the oldest expire.
    pub mean_remove: u64,
}

/// What a run about buckets is made of. Means are between events, 0 for never.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Buckets {
    /// The first two nodes publish one bucket each, and subscribe the other's into it.
    pub both: bool,
    /// Deletes are followed.
    pub follow: bool,
    /// Different keys.
    pub keys: u64,
    /// Objects in a page of a listing.
    pub page: usize,
    /// Time between two listings.
    pub poll: u64,
    /// Objects that a subscriber brings here at once.
    pub parallel: usize,
    /// Of a thousand pages, those that leave a key out.
    pub left_out: u64,
    pub mean_change: u64,
    pub mean_clear: u64,
    pub mean_tamper: u64,
    pub mean_hide: u64,
    pub mean_lose: u64,
}

/// A run.
#[derive(Clone, Debug)]
pub struct Config {
    /// The nodes.
    pub nodes: Vec<Node>,
    /// What goes wrong.
    pub faults: Faults,
    /// Messages that are published, all together.
    pub messages: u64,
    /// How long messages are published and faults strike.
    pub active: u64,
    /// Largest number of messages that a consumer hands over at once.
    pub fetch: usize,
    /// Whether authors prune their logs.
    pub prune: bool,
    /// Closed logs that authors keep.
    pub max_closed: usize,
    /// What it has of buckets, if it is about those.
    pub buckets: Option<Buckets>,
    /// The rule that is broken.
    pub broken: Option<Broken>,
}

fn filter(text: &str) -> Filter {
    Filter::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

impl Config {
    /// Draws a run.
    pub fn draw(rng: &mut Rng) -> Self {
        let both = rng.chance(400);
        let own = if rng.chance(700) { "a.>" } else { ">" };
        let a =
            Node { publishes: Some(filter(own)), subscriptions: if both { vec![(1, filter("a.>"))] } else { vec![] } };
        let b = Node { publishes: both.then(|| filter("a.>")), subscriptions: vec![(0, filter(own))] };
        let c = Node { publishes: None, subscriptions: vec![(0, filter("a.x"))] };
        let mut nodes = vec![a, b];
        if rng.chance(600) {
            nodes.push(c);
        }
        Self {
            nodes,
            faults: Faults::draw(rng),
            messages: rng.between(15, 70),
            active: rng.between(3, 25) * SECOND,
            fetch: rng.between(1, 8) as usize,
            prune: rng.chance(500),
            max_closed: if rng.chance(800) { MAX_CLOSED } else { rng.between(2, 6) as usize },
            buckets: None,
            broken: None,
        }
    }

    /// Draws a run about buckets.
    pub fn draw_buckets(rng: &mut Rng) -> Self {
        let both = rng.chance(300);
        let count = if both || rng.chance(500) { 2 } else { 3 };
        let mean = |rng: &mut Rng, chance, low: u64, high: u64| {
            if rng.chance(chance) { rng.between(low, high) * SECOND / 10 } else { 0 }
        };
        let drawn = Faults::draw(rng);
        // Two processes with one key are guarded against each other by the state stream alone, which says nothing of what
        // each of them brings into a bucket meanwhile; so only authors have them here.
        let mean_twin = if both { 0 } else { drawn.mean_twin };
        let left_out = if rng.chance(300) { rng.between(1, 200) } else { 0 };
        // What an author has forgotten altogether it can't miss in a bucket that seems empty.
        let hides = left_out == 0 && rng.chance(400);
        // Nor can it tell, in the first listing of a new epoch, an object that was left out from one that is gone.
        let settled = |mean| if hides || left_out > 0 { 0 } else { mean };
        let mean_restart = if left_out > 0 { 0 } else { drawn.mean_restart };
        let mean_cut = settled(drawn.mean_cut);
        let faults = Faults { mean_twin, mean_restart, mean_cut, mean_recreate: 0, mean_remove: 0, ..drawn };
        let buckets = Buckets {
            both,
            follow: rng.chance(600),
            keys: if rng.chance(700) { rng.between(2, 8) } else { rng.between(12, 40) },
            page: rng.between(1, 6) as usize,
            poll: rng.between(1, 10) * SECOND / 10,
            parallel: rng.between(1, 5) as usize,
            left_out,
            mean_change: rng.between(1, 20) * SECOND / 10,
            mean_clear: mean(rng, 300, 30, 150),
            mean_tamper: mean(rng, 400, 5, 40),
            mean_hide: if hides { rng.between(10, 60) * SECOND / 10 } else { 0 },
            mean_lose: settled(mean(rng, 250, 30, 150)),
        };
        Self {
            nodes: vec![Node { publishes: None, subscriptions: vec![] }; count],
            faults,
            messages: 0,
            active: rng.between(3, 25) * SECOND,
            fetch: 1,
            prune: false,
            max_closed: MAX_CLOSED,
            buckets: Some(buckets),
            broken: None,
        }
    }

    /// Who publishes a bucket.
    pub fn catalog_authors(&self) -> Vec<NodeId> {
        match &self.buckets {
            Some(buckets) if buckets.both => vec![0, 1],
            Some(_) => vec![0],
            None => Vec::new(),
        }
    }

    /// Who subscribes whose bucket.
    pub fn catalog_readers(&self) -> Vec<(NodeId, NodeId)> {
        match &self.buckets {
            Some(buckets) if buckets.both => vec![(0, 1), (1, 0)],
            Some(_) => (1..self.nodes.len()).map(|reader| (reader, 0)).collect(),
            None => Vec::new(),
        }
    }

    /// Who reads what this node publishes.
    pub fn readers(&self, author: NodeId) -> Vec<NodeId> {
        let reads = |node: &Node| node.subscriptions.iter().any(|(of, _)| *of == author);
        (0..self.nodes.len()).filter(|node| reads(&self.nodes[*node])).collect()
    }

    /// What a node wants of an author.
    pub fn wanted(&self, node: NodeId, author: NodeId) -> Option<&Filter> {
        self.nodes[node].subscriptions.iter().find(|(of, _)| *of == author).map(|(_, filter)| filter)
    }
}

impl Faults {
    /// Each kind is in some of the runs only, and at any rate: what always happens hides what follows from its absence.
    fn draw(rng: &mut Rng) -> Self {
        let rate = |rng: &mut Rng, max| if rng.chance(500) { rng.between(1, max) } else { 0 };
        let mean = |rng: &mut Rng, chance, low: u64, high: u64| {
            if rng.chance(chance) { rng.between(low, high) * SECOND / 10 } else { 0 }
        };
        Self {
            lost_request: rate(rng, 15),
            lost_answer: rate(rng, 15),
            hole: rate(rng, 500),
            mean_kill: mean(rng, 600, 5, 60),
            mean_twin: mean(rng, 250, 20, 100),
            mean_blip: mean(rng, 400, 5, 60),
            mean_restart: mean(rng, 400, 10, 100),
            mean_cut: mean(rng, 500, 15, 100),
            cut_depth: rng.between(1, 15),
            mean_recreate: mean(rng, 200, 30, 150),
            mean_break: mean(rng, 500, 5, 60),
            mean_part: mean(rng, 300, 10, 100),
            mean_remove: mean(rng, 400, 5, 40),
        }
    }
}
