//! The event log that the checker decides from: what apps published and what became of it, which operations are stored
//! where, and what was acknowledged. It is written by the fake servers, never by the machines or the driver. What must
//! hold at every moment is checked here as it happens; what must hold in the end, in [`crate::checker`].

use std::collections::{BTreeMap, BTreeSet};

use rhio_core::codec::Reader;
use rhio_core::headers;
use rhio_core::id::{LogId, OpHash};
use rhio_core::log::commit::Commit;
use rhio_core::log::descriptor::LogDescriptor;
use rhio_core::log::operation::{Head, Operation};
use rhio_core::subject::Filter;

use crate::base::{NodeId, name};
use crate::config::Config;
use crate::jetstream::Message;
use crate::site::Site;

/// A message that an app published.
#[derive(Clone, Debug)]
pub struct Published {
    /// Where.
    pub site: NodeId,
    /// In which life of the stream.
    pub created: u64,
    /// Under which number and time.
    pub place: (u64, u64),
    /// On which subject.
    pub subject: String,
    /// Its stream has it no longer: deleted, expired, forgotten, or gone with the stream.
    pub gone: bool,
    /// It is gone because its stream forgot it.
    pub forgotten: bool,
    /// It was deleted, and its stream forgot the delete: readers that were told that it is gone need not get it.
    pub returned: bool,
    /// Nodes that had it for certain when it went away, so that they must have it still.
    pub kept_by: BTreeSet<NodeId>,
}

/// Everything that happened.
#[derive(Debug)]
pub struct History {
    wanted: BTreeMap<(NodeId, NodeId), Filter>,
    /// By the number that their payloads begin with.
    pub published: Vec<Published>,
    places: BTreeMap<(NodeId, u64, u64, u64), usize>,
    /// Logs, by the site of their authors.
    pub logs: BTreeMap<LogId, (NodeId, LogDescriptor)>,
    operations: BTreeMap<(LogId, u64), Vec<(NodeId, OpHash)>>,
    /// Messages that were removed from a reader's stream by others than rhio.
    pub removed: BTreeSet<(NodeId, usize)>,
    /// Readers whose state stream has once lost commits. If it was all of them, what came before the first record that
    /// the reader still held counts as had before, and so not as gone.
    pub begun_anew: BTreeSet<NodeId>,
    /// What must never happen and did.
    pub failures: Vec<String>,
}

/// The number of the message.
pub fn id_of(message: &Message) -> usize {
    message.payload.first_chunk::<8>().map_or(usize::MAX, |bytes| u64::from_be_bytes(*bytes) as usize)
}

/// Whether the message came through rhio.
pub fn is_replica(message: &Message) -> bool {
    message.header(headers::PUBLIC_KEY).is_some()
}

impl History {
    /// Nothing has happened.
    pub fn new(config: &Config) -> Self {
        let mut wanted = BTreeMap::new();
        for (reader, node) in config.nodes.iter().enumerate() {
            for (author, filter) in &node.subscriptions {
                wanted.insert((reader, *author), filter.clone());
            }
        }
        Self {
            wanted,
            published: Vec::new(),
            places: BTreeMap::new(),
            logs: BTreeMap::new(),
            operations: BTreeMap::new(),
            removed: BTreeSet::new(),
            begun_anew: BTreeSet::new(),
            failures: Vec::new(),
        }
    }

    /// Notes what must never happen.
    pub fn fail(&mut self, text: String) {
        self.failures.push(text);
    }

    /// An app's message was stored.
    pub fn publish(&mut self, site: NodeId, created: u64, message: &Message) {
        let id = self.published.len();
        debug_assert_eq!(id, id_of(message));
        self.places.insert((site, created, message.seq, message.time), id);
        self.published.push(Published {
            site,
            created,
            place: (message.seq, message.time),
            subject: message.subject.to_string(),
            gone: false,
            forgotten: false,
            returned: false,
            kept_by: BTreeSet::new(),
        });
    }

    /// A message was stored in a users' stream.
    pub fn data_stored(&mut self, site: NodeId, message: &Message) {
        let id = id_of(message);
        if is_replica(message) && self.published[id].site == site {
            self.failures.push(format!("echo: message {id} came back to {}", name(site)));
        }
    }

    /// A message went away from a site's stream: an app's, or one that came through rhio.
    pub fn data_gone(&mut self, site: NodeId, message: &Message, forgotten: bool, sites: &[Site]) {
        let id = id_of(message);
        if is_replica(message) {
            if forgotten {
                // The reader lost it; whether it can get it again depends on the source.
                self.published[id].kept_by.remove(&site);
            } else {
                self.removed.insert((site, id));
            }
            return;
        }
        let readers: Vec<_> =
            self.wanted.keys().filter(|(_, author)| *author == site).map(|(reader, _)| *reader).collect();
        let covered = readers.into_iter().filter(|reader| self.is_committed(*reader, id, sites)).collect();
        let published = &mut self.published[id];
        (published.gone, published.forgotten) = (true, published.forgotten || forgotten);
        published.kept_by = covered;
    }

    /// A reader took a message out because one that belongs before it was missing. It is written again in its turn,
    /// unless the source has lost it meanwhile: then it is lost here too, for the sake of the order.
    pub fn displaced(&mut self, site: NodeId, message: &Message) {
        self.published[id_of(message)].kept_by.remove(&site);
    }

    /// A delete was forgotten: the message is there again.
    pub fn data_back(&mut self, site: NodeId, message: &Message) {
        let id = id_of(message);
        if is_replica(message) {
            self.removed.remove(&(site, id));
        } else {
            (self.published[id].gone, self.published[id].returned) = (false, true);
        }
    }

    /// Whether a reader's state stream covers the message and its users' stream holds it.
    fn is_committed(&self, reader: NodeId, id: usize, sites: &[Site]) -> bool {
        let published = &self.published[id];
        let site = &sites[reader];
        let held = site.data.from(0).any(|message| id_of(message) == id && is_replica(message));
        let commits = site.state.from(0).filter_map(|message| Commit::decode(message.payload.clone()).ok());
        let covers = |raw: &bytes::Bytes| {
            Operation::read_stored(raw.clone()).is_ok_and(|op| {
                self.logs.get(&op.log()).is_some_and(|(author, descriptor)| {
                    let mut entries = op.records().iter();
                    (*author, created_of(descriptor)) == (published.site, published.created)
                        && entries.any(|e| (e.position.seq.0, e.position.time) == published.place)
                })
            })
        };
        held && commits.into_iter().any(|commit| commit.operations.iter().any(covers))
    }

    /// A message was stored in a state stream.
    pub fn state_stored(&mut self, site: NodeId, message: &Message, sites: &[Site]) {
        if message.subject.starts_with("log.") {
            let descriptor = LogDescriptor::read(&mut Reader::new(message.payload.clone()));
            if let Ok(descriptor) = descriptor {
                // Its author is the first to store it.
                self.logs.entry(descriptor.id()).or_insert((site, descriptor));
            }
        }
        for operation in operations_of(message) {
            let key = (operation.log(), operation.seq().0);
            let there = self.operations.entry(key).or_default();
            if let Some((other, _)) = there.iter().find(|(_, hash)| *hash != operation.hash()) {
                let (seq, other, here) = (operation.seq(), name(*other), name(site));
                self.failures.push(format!("fork: two operations {seq} of one log, at {other} and at {here}"));
            }
            there.push((site, operation.hash()));
            self.check_commit(site, &operation, message.time, sites);
        }
    }

    /// A message went away from a state stream.
    pub fn state_gone(&mut self, site: NodeId, message: &Message) {
        let about = message.subject.strip_prefix("log.").or_else(|| message.subject.strip_prefix("ops."));
        let log = about.and_then(|rest| rest.split('.').nth(1));
        let theirs = self.logs.iter().any(|(id, (of, _))| *of != site && log.is_some_and(|log| log == id.to_string()));
        if theirs {
            self.begun_anew.insert(site);
        }
        for operation in operations_of(message) {
            if let Some(there) = self.operations.get_mut(&(operation.log(), operation.seq().0))
                && let Some(at) = there.iter().position(|(of, hash)| *of == site && *hash == operation.hash())
            {
                there.remove(at);
            }
        }
    }

    /// A reader's commit must only cover what its users' stream holds, or what the source has no longer.
    fn check_commit(&mut self, site: NodeId, operation: &Operation, now: u64, sites: &[Site]) {
        let Some((author, descriptor)) = self.logs.get(&operation.log()) else { return };
        let Some(filter) = self.wanted.get(&(site, *author)) else { return };
        if now <= sites[site].unnoticed {
            return;
        }
        let held: BTreeSet<_> = sites[site].data.from(0).filter(|m| is_replica(m)).map(id_of).collect();
        for entry in operation.records() {
            let place = (*author, created_of(descriptor), entry.position.seq.0, entry.position.time);
            let Some(&id) = self.places.get(&place) else { continue };
            let published = &self.published[id];
            let missing =
                filter.matches(&published.subject) && !held.contains(&id) && !published.gone && !published.returned;
            if missing && !self.removed.contains(&(site, id)) {
                let (seq, site) = (operation.seq(), name(site));
                self.failures.push(format!("{site} commits operation {seq}, and does not hold message {id}"));
            }
        }
    }

    /// A reader told the author that it has everything up to here.
    pub fn acknowledged(&mut self, site: NodeId, log: LogId, head: Head, now: u64, sites: &[Site]) {
        let there = self.operations.get(&(log, head.seq.0));
        let stored = there.is_some_and(|there| there.contains(&(site, head.hash)));
        if !stored && now > sites[site].unnoticed {
            self.failures.push(format!("{} acknowledges operation {} and has not stored it", name(site), head.seq));
        }
    }

    /// How many nodes read what, for the final check.
    pub fn subscriptions(&self) -> impl Iterator<Item = (NodeId, NodeId, &Filter)> {
        self.wanted.iter().map(|((reader, author), filter)| (*reader, *author, filter))
    }
}

/// The operations in a message of a state stream.
pub fn operations_of(message: &Message) -> Vec<Operation> {
    if !message.subject.starts_with("ops.") {
        return Vec::new();
    }
    let Ok(commit) = Commit::decode(message.payload.clone()) else { return Vec::new() };
    commit.operations.into_iter().filter_map(|raw| Operation::read_stored(raw).ok()).collect()
}

/// When the stream was created that a log is about.
pub fn created_of(descriptor: &LogDescriptor) -> u64 {
    descriptor.source().map_or(0, |source| source.created)
}
