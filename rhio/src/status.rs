//! What an operator sees of each publication and subscription, kept in memory.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use tracing::{debug, info, warn};

/// A trouble that lasts is logged again this often.
const REPEAT: Duration = Duration::from_secs(60);

/// So many troubles with parts of an entry are logged in that time.
const MAX_TROUBLES: u32 = 10;

/// The state of a publication or subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Not begun yet.
    Starting,
    /// At work.
    Active,
    /// It can't go on by itself; what must happen is said. It is tried again all the time.
    Waiting(String),
}

/// What is known of a subscription's lag.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lag {
    /// Records, or a catalog's entries, that the author has and this node has not applied; `None` while unknown.
    pub messages: Option<u64>,
    /// The same in canonical bytes, or bytes of objects.
    pub bytes: Option<u64>,
}

/// Counters and state of one entry.
#[derive(Clone, Debug)]
pub struct Report {
    /// Its state.
    pub state: State,
    /// Records sealed, or applied.
    pub records: u64,
    /// Records that were gone at the source.
    pub gone: u64,
    /// How far behind.
    pub lag: Lag,
    /// When a record was last sealed or applied.
    pub last_progress: Option<SystemTime>,
    /// The last trouble.
    pub last_error: Option<String>,
    /// Batches of peers that were refused.
    pub refused: u64,
    /// Times that it was begun anew because nothing moved.
    pub restarts: u64,
}

/// One entry. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Entry {
    name: Arc<str>,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    report: Report,
    logged: Option<Instant>,
    /// Since when troubles are counted, and how many there were.
    troubles: Option<(Instant, u32)>,
}

impl Inner {
    /// Returns whether it is to be logged.
    fn note_trouble(&mut self, reason: &str) -> bool {
        let new = self.report.last_error.as_deref() != Some(reason);
        self.report.last_error = Some(reason.to_owned());
        if self.troubles.is_none_or(|(since, _)| since.elapsed() > REPEAT) {
            self.troubles = Some((Instant::now(), 0));
            return true;
        }
        let Some((_, count)) = &mut self.troubles else { return true };
        *count += u32::from(new);
        new && *count < MAX_TROUBLES
    }
}

impl Entry {
    /// A new entry; `name` begins its log lines.
    pub fn new(name: String) -> Self {
        let report = Report {
            state: State::Starting,
            records: 0,
            gone: 0,
            lag: Lag::default(),
            last_progress: None,
            last_error: None,
            refused: 0,
            restarts: 0,
        };
        Self { name: name.into(), inner: Arc::new(Mutex::new(Inner { report, logged: None, troubles: None })) }
    }

    fn with<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        change(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What is known now.
    pub fn report(&self) -> Report {
        self.with(|inner| inner.report.clone())
    }

    /// The entry's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// It works.
    pub fn active(&self) {
        let before = self.with(|inner| {
            let before = std::mem::replace(&mut inner.report.state, State::Active);
            // Trouble with a part of it may last all the while.
            if before != State::Active {
                inner.logged = None;
            }
            before
        });
        if before != State::Active {
            info!("{}: active", self.name);
        }
    }

    /// It waits for something. Logged at once when it is new, and again while it lasts.
    pub fn waiting(&self, reason: &str) {
        let log = self.with(|inner| {
            let new = !matches!(&inner.report.state, State::Waiting(before) if before == reason);
            inner.report.state = State::Waiting(reason.to_owned());
            inner.report.last_error = Some(reason.to_owned());
            inner.report.lag = Lag::default();
            let due = new || inner.logged.is_none_or(|at| at.elapsed() > REPEAT);
            if due {
                inner.logged = Some(Instant::now());
            }
            due
        });
        if log {
            warn!("{}: waiting: {reason}", self.name);
        }
    }

    /// Something is wrong with a part of it, such as one object; the rest goes on. Logged at once when it is new, and
    /// again while it lasts; when there are many, only some are.
    pub fn trouble(&self, reason: &str) {
        if self.with(|inner| inner.note_trouble(reason)) {
            warn!("{}: {reason}", self.name);
        } else {
            debug!("{}: {reason}", self.name);
        }
    }

    /// Records were sealed, or applied.
    pub fn progress(&self, records: u64, gone: u64) {
        self.with(|inner| {
            inner.report.records += records;
            inner.report.gone += gone;
            inner.report.last_progress = Some(SystemTime::now());
        });
    }

    /// How far behind it is.
    pub fn set_lag(&self, lag: Lag) {
        self.with(|inner| inner.report.lag = lag);
    }

    /// A peer sent what was not accepted.
    pub fn refused(&self, reason: &str) {
        self.with(|inner| {
            inner.report.refused += 1;
            inner.report.last_error = Some(reason.to_owned());
        });
    }

    /// A peer sent something for a part of it, such as one object, that was not accepted. Returns whether it is time to
    /// log it, which is decided as for [`trouble`](Self::trouble).
    pub fn refused_part(&self, reason: &str) -> bool {
        self.with(|inner| {
            inner.report.refused += 1;
            inner.note_trouble(reason)
        })
    }

    /// It was begun anew because nothing moved.
    pub fn restarted(&self) {
        self.with(|inner| inner.report.restarts += 1);
    }
}
