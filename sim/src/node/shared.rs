//! What sealing, serving and recovery of one author share.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use rhio_core::id::{LogId, OpHash};
use rhio_core::log::descriptor::LogDescriptor;
use rhio_core::log::operation::Head;
use rhio_core::log::session::Refusal;
use rhio_core::seal::{Sealed, Tail};

use crate::nats::{Lost, Nats};
use crate::network::Connection;

/// Batches that are kept for readers that follow closely.
const RING: usize = 4;

/// Why the author stops sealing, and begins with recovery again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// NATS did not answer, or anything else is in doubt.
    Doubt,
    /// Another process with this key is at work.
    StandBack,
}

impl From<Lost> for End {
    fn from(_: Lost) -> Self {
        Self::Doubt
    }
}

/// What a reader may see of an own log.
#[derive(Clone, Debug)]
pub struct OwnLog {
    pub descriptor: LogDescriptor,
    pub tail: Tail,
    pub closed: bool,
}

/// What sealing and the sessions share.
#[derive(Default)]
pub struct Shared {
    /// Counts recoveries. A session ends with the one that it was begun under: what it would send may be forgotten.
    pub generation: u64,
    /// NATS, while the logs are in order and may be read.
    pub nats: Option<Nats>,
    pub logs: BTreeMap<LogId, OwnLog>,
    pub ring: VecDeque<Rc<Sealed>>,
    /// Readers' connections, the latest last.
    pub conns: Vec<Connection>,
    /// A reader holds what this node does not have, or something else than it has.
    pub refused: Option<Refusal>,
}

impl Shared {
    /// Nothing is served until the logs are in order again.
    pub fn stop(&mut self) {
        self.generation += 1;
        self.nats = None;
        self.ring.clear();
        self.logs.clear();
    }

    /// Lets sessions have an operation and its records.
    pub fn release(&mut self, sealed: Sealed) {
        if let Some(log) = self.logs.get_mut(&sealed.operation.log()) {
            log.tail = Tail::after(&sealed.operation);
        }
        self.ring.push_back(Rc::new(sealed));
        if self.ring.len() > RING {
            self.ring.pop_front();
        }
    }
}

/// What this process knows of its own doing, to tell another process with its key from itself.
#[derive(Default)]
pub struct Mind {
    pub operations: BTreeSet<OpHash>,
    pub logs: BTreeSet<LogId>,
    /// The end of the log that another process wrote, as last seen.
    pub other: Option<(LogId, Option<Head>)>,
    /// What a reader said about the log.
    pub refused: Option<Refusal>,
}
