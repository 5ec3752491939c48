//! A publication of messages: what it is about, and what its tasks share.

use std::sync::Arc;

use rhio_core::id::LogId;
use rhio_core::policy::Readers;
use rhio_core::subject::Filter;
use rhio_core::wire::LogState;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::status::Entry;
use crate::supervise::Supervised;

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
    logs: watch::Sender<Logs>,
    /// A subscriber holds what this node does not: the log must be recovered.
    pub behind: Notify,
    /// A subscriber holds something else than this node: the log must be closed.
    pub diverged: Notify,
    /// Who may read it, and who does now.
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
            logs: watch::Sender::default(),
            behind: Notify::new(),
            diverged: Notify::new(),
            readership: Readership::new(readers),
            status,
            stop,
        }
    }

    /// Changes who may read it.
    pub fn set_readers(&self, readers: Readers) {
        self.readership.allow(readers);
        // Sessions look again.
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

impl Supervised for Publication {
    fn status(&self) -> &Entry {
        &self.status
    }

    fn stop(&self) -> &CancellationToken {
        &self.stop
    }
}
