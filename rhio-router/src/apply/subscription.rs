//! A subscription to messages: what it is about, and what its tasks share.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rhio_core::id::{LogId, PublicKey};
use rhio_core::record::Position;
use rhio_core::subject::Filter;
use tokio_util::sync::CancellationToken;

use crate::status::{Entry, Lag};
use crate::supervise::Supervised;

/// One subscription.
#[derive(Debug)]
pub struct Subscription {
    /// The subjects that are wanted.
    pub filter: Filter,
    /// The local stream that captures them.
    pub stream: String,
    /// Whose they are.
    pub author: PublicKey,
    /// What an operator sees of it.
    pub status: Entry,
    /// Ends its task.
    pub stop: CancellationToken,
    lags: Mutex<HashMap<LogId, Lag>>,
    /// Somebody else writes to the local stream too.
    shared: AtomicBool,
    /// Records that a local stream acknowledged before it refused one, and that no commit covers: once they are consumed
    /// or purged, nothing else tells of them.
    written: Mutex<HashMap<LogId, (String, Position)>>,
}

impl Subscription {
    /// A subscription that has not begun.
    pub fn new(filter: Filter, stream: String, author: PublicKey, stop: CancellationToken) -> Self {
        let status = Entry::new(format!("subscription to '{filter}' of {} into stream '{stream}'", author.short()));
        Self {
            filter,
            stream,
            author,
            status,
            stop,
            lags: Mutex::default(),
            shared: AtomicBool::new(false),
            written: Mutex::default(),
        }
    }

    /// Remembers how far the local stream has acknowledged a log's records. Good as long as this server runs: one that
    /// was started anew may have forgotten them.
    pub fn note_written(&self, log: LogId, server: String, through: Position) {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).insert(log, (server, through));
    }

    /// What [`Subscription::note_written`] said about this server.
    pub fn written(&self, log: LogId, server: &str) -> Option<Position> {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        written.get(&log).filter(|(noted, _)| noted == server).map(|(_, through)| *through)
    }

    /// Whether somebody else writes to the local stream too, so that its sequence numbers tell nothing.
    pub fn is_shared(&self) -> bool {
        self.shared.load(Ordering::Relaxed)
    }

    /// Notes that somebody else does.
    pub fn set_shared(&self) {
        self.shared.store(true, Ordering::Relaxed);
    }

    /// Notes how far one log is behind; the subscription's lag is the sum, unknown while any part is.
    pub fn set_lag(&self, log: LogId, lag: Lag) {
        let mut lags = self.lags.lock().unwrap_or_else(PoisonError::into_inner);
        lags.insert(log, lag);
        let add = |part: fn(&Lag) -> Option<u64>| lags.values().map(part).sum::<Option<u64>>();
        self.status.set_lag(Lag { messages: add(|lag| lag.messages), bytes: add(|lag| lag.bytes) });
    }

    /// A log is not applied for now.
    pub fn forget_lag(&self, log: LogId) {
        let mut lags = self.lags.lock().unwrap_or_else(PoisonError::into_inner);
        lags.remove(&log);
        if lags.is_empty() {
            self.status.set_lag(Lag::default());
        }
    }

    /// Names this subscription's cursors. Another local stream, also one created again under the same name, is filled
    /// from the beginning.
    pub(super) fn cursor_id(&self, local_created: u64) -> String {
        let text = format!("{} {local_created} {}", self.stream, self.filter);
        blake3::hash(text.as_bytes()).to_hex()[..16].to_owned()
    }
}

impl Supervised for Subscription {
    fn status(&self) -> &Entry {
        &self.status
    }

    fn stop(&self) -> &CancellationToken {
        &self.stop
    }
}
