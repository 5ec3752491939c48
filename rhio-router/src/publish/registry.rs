//! What this node publishes.

use std::sync::{Arc, PoisonError, RwLock};

use rhio_core::id::{LogId, PublicKey};
use rhio_core::policy::Readers;
use rhio_core::subject::Filter;
use rhio_core::wire::LogState;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::status::Entry;

use super::live::LiveLog;
use super::readership::Readership;

/// The logs of one publication.
#[derive(Clone, Debug, Default)]
pub struct Logs {
    /// Logs that nothing is added to any more, oldest first.
    pub closed: Vec<LogState>,
    /// The one that is being written; `None` while it can't be.
    pub live: Option<Arc<LiveLog>>,
}

/// One publication.
#[derive(Debug)]
pub struct Publication {
    /// The subjects.
    pub filter: Filter,
    /// The stream that they are read from.
    pub stream: String,
    readers: RwLock<Readers>,
    logs: watch::Sender<Logs>,
    /// A subscriber holds what this node does not: the log must be recovered.
    pub behind: Notify,
    /// A subscriber holds something else than this node: the log must be closed.
    pub diverged: Notify,
    /// Who reads it now.
    pub readership: Readership,
    /// What an operator sees of it.
    pub status: Entry,
    /// Ends its task.
    pub stop: CancellationToken,
}

impl Publication {
    /// A publication without a log yet.
    pub fn new(filter: Filter, stream: String, readers: Readers, stop: CancellationToken) -> Self {
        let status = Entry::new(format!("publication of '{filter}' from stream '{stream}'"));
        Self {
            filter,
            stream,
            readers: RwLock::new(readers),
            logs: watch::Sender::default(),
            behind: Notify::new(),
            diverged: Notify::new(),
            readership: Readership::default(),
            status,
            stop,
        }
    }

    /// Whether a node may read it.
    pub fn admits(&self, peer: &PublicKey) -> bool {
        self.readers.read().unwrap_or_else(PoisonError::into_inner).admit(peer)
    }

    /// Whether readers may be anybody, so that it is not known who they are.
    pub fn is_open(&self) -> bool {
        matches!(*self.readers.read().unwrap_or_else(PoisonError::into_inner), Readers::Anyone)
    }

    /// Changes who may read it.
    pub fn set_readers(&self, readers: Readers) {
        *self.readers.write().unwrap_or_else(PoisonError::into_inner) = readers;
        self.logs.send_modify(|_| ());
    }

    /// Its logs, now and whenever they change.
    pub fn logs(&self) -> watch::Receiver<Logs> {
        self.logs.subscribe()
    }

    /// Replaces its logs.
    pub fn set_logs(&self, logs: Logs) {
        self.logs.send_replace(logs);
    }

    /// The log is not being written for now.
    pub fn suspend(&self) {
        self.logs.send_modify(|logs| logs.live = None);
    }

    /// Whether one of its logs has this name.
    pub fn has(&self, log: LogId) -> bool {
        let logs = self.logs.borrow();
        logs.live.as_ref().is_some_and(|live| live.log == log) || logs.closed.iter().any(|c| c.descriptor.id() == log)
    }
}

/// All publications of the node.
#[derive(Debug, Default)]
pub struct Registry {
    list: watch::Sender<Vec<Arc<Publication>>>,
}

impl Registry {
    /// The publications, now and whenever they change.
    pub fn watch(&self) -> watch::Receiver<Vec<Arc<Publication>>> {
        self.list.subscribe()
    }

    /// The publications.
    pub fn list(&self) -> Vec<Arc<Publication>> {
        self.list.borrow().clone()
    }

    /// Replaces them.
    pub fn set(&self, list: Vec<Arc<Publication>>) {
        self.list.send_replace(list);
    }

    /// The publication that a log belongs to.
    pub fn find(&self, log: LogId) -> Option<Arc<Publication>> {
        self.list.borrow().iter().find(|publication| publication.has(log)).cloned()
    }

    /// Those under which a subscription's filter finds anything: first what this node may read, then what it may not.
    /// Of what it may read, one that another covers on the same stream is left out: its messages come through the
    /// wider one.
    pub fn matching(&self, filter: &Filter, reader: &PublicKey) -> (Vec<Arc<Publication>>, Vec<Arc<Publication>>) {
        let list = self.list.borrow();
        let matching = list.iter().filter(|p| p.filter.overlaps(filter)).cloned();
        let (admitted, refused): (Vec<_>, Vec<_>) = matching.partition(|p| p.admits(reader));
        let wider = |p: &Publication| {
            admitted
                .iter()
                .any(|other| other.stream == p.stream && other.filter != p.filter && other.filter.covers(&p.filter))
        };
        (admitted.iter().filter(|p| !wider(p)).cloned().collect(), refused)
    }
}
