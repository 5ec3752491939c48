//! The world: one clock, one queue of events, the servers, the wires and the processes. Everything that happens is an
//! event; events happen one after another, in the order of their times, and between any two of them a fault may strike.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;

use p2panda_core::SigningKey;
use rhio_core::id::PublicKey;

use crate::base::{NodeId, ProcId, SECOND, US, name};
use crate::bucket::Bucket;
use crate::bucket::history::Goods;
use crate::config::Config;
use crate::history::History;
use crate::jetstream::Stream;
use crate::nats::clients::Clients;
use crate::network::links::Network;
use crate::rng::Rng;
use crate::site::Site;

/// When every run begins: the clock never shows zero, as real ones don't.
const EPOCH: u64 = 1_700_000_000 * SECOND;

/// What a process does next.
pub type Task = Pin<Box<dyn Future<Output = ()>>>;
type Action = Box<dyn FnOnce(&mut World)>;

/// Everything.
pub struct World {
    /// Nanoseconds since the Unix epoch.
    pub now: u64,
    order: u64,
    queue: BTreeMap<(u64, u64), Action>,
    /// The only source of chance.
    pub rng: Rng,
    /// What this run is made of.
    pub config: Config,
    /// Whether faults still strike.
    pub faulty: bool,
    /// The clusters' NATS servers.
    pub sites: Vec<Site>,
    keys: Vec<SigningKey>,
    /// Processes that run, and whose they are.
    pub procs: BTreeMap<ProcId, NodeId>,
    next_proc: ProcId,
    ready: BTreeSet<ProcId>,
    started: Vec<(ProcId, NodeId)>,
    spawned: Vec<(ProcId, Task)>,
    /// Connections to NATS.
    pub clients: Clients,
    /// Connections between nodes.
    pub net: Network,
    /// What happened, for the checker.
    pub history: History,
    /// What happened to objects.
    pub goods: Goods,
    /// Stands for the content that an app last put.
    pub next_content: u64,
    /// The event log, when it is wanted.
    pub trace: Option<Vec<String>>,
}

impl World {
    /// A world in which nothing has happened.
    pub fn new(config: Config, rng: Rng, traced: bool) -> Self {
        let site = |id: usize| Site {
            up: true,
            identity: 1000 * (id as u64 + 1),
            unnoticed: 0,
            data: Stream::new(EPOCH + id as u64),
            state: Stream::new(EPOCH),
            bucket: Bucket::default(),
        };
        let count = config.nodes.len();
        let keys: Vec<_> = (0..count).map(|id| SigningKey::from_bytes(&[id as u8 + 1; 32])).collect();
        let authors = config.catalog_authors().into_iter().map(|id| (keys[id].verifying_key().into(), id)).collect();
        Self {
            now: EPOCH + SECOND,
            order: 0,
            queue: BTreeMap::new(),
            rng,
            faulty: true,
            sites: (0..count).map(site).collect(),
            keys,
            procs: BTreeMap::new(),
            next_proc: 0,
            ready: BTreeSet::new(),
            started: Vec::new(),
            spawned: Vec::new(),
            clients: Clients::default(),
            net: Network::default(),
            history: History::new(&config),
            goods: Goods::new(authors),
            next_content: 0,
            trace: traced.then(Vec::new),
            config,
        }
    }

    /// Does something later. What is due at one time happens in the order in which it was asked for.
    pub fn after(&mut self, delay: u64, action: impl FnOnce(&mut World) + 'static) {
        self.order += 1;
        self.queue.insert((self.now + delay, self.order), Box::new(action));
    }

    /// Lets the next event happen, unless it is due after `end`.
    pub fn step(&mut self, end: u64) -> bool {
        match self.queue.first_key_value() {
            Some((&(at, _), _)) if at <= end => {}
            _ => return false,
        }
        if let Some(((at, _), action)) = self.queue.pop_first() {
            self.now = at;
            action(self);
        }
        true
    }

    /// A time that no message was stored at yet.
    pub fn stamp(&mut self) -> u64 {
        self.now += 1;
        self.now
    }

    /// Notes what happens.
    pub fn note(&mut self, text: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            let time = self.now - EPOCH;
            trace.push(format!("{:>4}.{:06} {}", time / SECOND, time % SECOND / US, text()));
        }
    }

    /// Notes what the run is made of.
    pub fn note_config(&mut self) {
        let config = format!("{:?}", self.config);
        self.note(|| config);
    }

    /// A node's key.
    pub fn key(&self, node: NodeId) -> SigningKey {
        self.keys[node].clone()
    }

    /// A node's name.
    pub fn public_key(&self, node: NodeId) -> PublicKey {
        self.keys[node].verifying_key().into()
    }

    /// Starts a process.
    pub fn start(&mut self, node: NodeId) -> ProcId {
        let proc = self.next_proc;
        self.next_proc += 1;
        self.procs.insert(proc, node);
        self.started.push((proc, node));
        self.note(|| format!("process {proc} of {} starts", name(node)));
        proc
    }

    /// Kills a process: whatever it had in memory is gone, and what it had sent arrives or not.
    pub fn kill(&mut self, proc: ProcId) {
        let Some(node) = self.procs.remove(&proc) else { return };
        self.note(|| format!("process {proc} of {} is killed", name(node)));
        self.break_clients(|client| client.proc == proc);
        self.break_conns(|conn| conn.procs.contains(&proc));
    }

    /// Lets a process look at what happened.
    pub fn wake(&mut self, proc: ProcId) {
        self.ready.insert(proc);
    }

    /// Gives a process something more to do.
    pub fn spawn(&mut self, proc: ProcId, task: Task) {
        self.spawned.push((proc, task));
        self.wake(proc);
    }

    /// The next process that has to look.
    pub fn take_ready(&mut self) -> Option<ProcId> {
        self.ready.pop_first()
    }

    /// Processes that were started since.
    pub fn take_started(&mut self) -> Vec<(ProcId, NodeId)> {
        std::mem::take(&mut self.started)
    }

    /// Tasks that were started since.
    pub fn take_spawned(&mut self) -> Vec<(ProcId, Task)> {
        std::mem::take(&mut self.spawned)
    }
}
