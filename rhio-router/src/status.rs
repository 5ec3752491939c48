//! What an operator sees of each publication and subscription, kept in memory.

use std::ops::AddAssign;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rhio_core::apply::Violation;
use rhio_core::id::LogId;
use rhio_core::log::operation::{Head, OperationError};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::trouble::{Cause, Tally, Trouble};

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
    Waiting(Trouble),
}

/// What is known of a subscription's lag.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lag {
    /// Records, or a catalog's entries, that the author has and this node has not applied; `None` while unknown.
    pub messages: Option<u64>,
    /// Canonical bytes, or bytes of objects, of what the author has signed of that; `None` while it has signed nothing
    /// of it.
    pub bytes: Option<u64>,
}

impl Lag {
    /// What is missing of what the author has signed, and how many it has still to sign, whose bytes nobody knows.
    pub fn new(messages: u64, bytes: u64, pending: Option<u64>) -> Self {
        let Some(pending) = pending else { return Self::default() };
        Self { messages: Some(messages + pending), bytes: (bytes > 0 || pending == 0).then_some(bytes) }
    }
}

/// Messages, or objects, and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// How many.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl AddAssign for Count {
    fn add_assign(&mut self, more: Self) {
        self.messages += more.messages;
        self.bytes += more.bytes;
    }
}

/// Why something that a peer sent was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Frames or operations that break the rules.
    Protocol,
    /// An operation that its author did not sign.
    Signature,
    /// A record or an object that is not what was signed.
    Digest,
    /// An operation that is not the next one of its log.
    Order,
    /// Anything else.
    Other,
}

impl From<&OperationError> for Refusal {
    fn from(error: &OperationError) -> Self {
        match error {
            OperationError::Invalid(_) => Self::Signature,
            OperationError::Sequence { .. } | OperationError::Backlink(_) | OperationError::Backwards(_) => Self::Order,
            _ => Self::Protocol,
        }
    }
}

impl From<&Violation> for Refusal {
    fn from(violation: &Violation) -> Self {
        match violation {
            Violation::Operation(error) => error.into(),
            Violation::Digest { .. } => Self::Digest,
            Violation::Pruned { .. } => Self::Order,
            _ => Self::Protocol,
        }
    }
}

impl Refusal {
    /// All of them, with their names in metrics.
    pub const ALL: [(Self, &'static str); 5] = [
        (Self::Protocol, "protocol"),
        (Self::Signature, "signature"),
        (Self::Digest, "digest"),
        (Self::Order, "order"),
        (Self::Other, "other"),
    ];
}

/// The end of what is durable of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogEnd {
    /// The log.
    pub log: LogId,
    /// Its last operation.
    pub head: Option<Head>,
    /// What it describes up to there.
    pub total: Count,
    /// Sequence number of its last message in the author's stream; `None` for catalogs.
    pub source: Option<u64>,
}

/// The last thing that went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastError {
    /// What it was.
    pub trouble: Trouble,
    /// When.
    pub at: SystemTime,
}

/// Counters and state of one entry.
#[derive(Clone, Debug)]
pub struct Report {
    /// Its state.
    pub state: State,
    /// Sealed, or applied.
    pub done: Count,
    /// Operations that were sealed.
    pub operations: u64,
    /// Whose signature and digest were right.
    pub verified: Count,
    /// Sent to other nodes.
    pub sent: Count,
    /// Records that were gone at the source.
    pub gone: u64,
    /// Records that can't be replicated.
    pub unreplicable: u64,
    /// How far behind.
    pub lag: Lag,
    /// What is missing is at most this old; zero when nothing is missing, `None` while that is not known.
    pub lag_age: Option<Duration>,
    /// How far the newest log of a subscription is applied.
    pub end: Option<LogEnd>,
    /// When a record was last sealed or applied.
    pub last_progress: Option<SystemTime>,
    /// The last trouble.
    pub last_error: Option<LastError>,
    /// How often each cause of a trouble was met; one that lasts counts once.
    pub troubles: Tally,
    /// What peers sent that was refused, by reason as in [`Refusal::ALL`].
    pub refused: [u64; Refusal::ALL.len()],
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
    /// When it was last known that nothing was missing.
    whole: Option<SystemTime>,
    /// When the author told of the oldest thing that is missing, where that is known.
    missing: Option<SystemTime>,
    /// When the last record that was applied came into the author's stream, by the author's clock.
    newest: Option<SystemTime>,
    /// When a line last said what it waits for.
    logged: Option<Instant>,
    /// When it was made.
    made: Instant,
    /// Since when troubles are counted, and how many there were.
    troubles: Option<(Instant, u32)>,
}

impl Inner {
    fn report(&self) -> Report {
        let age = || {
            let since = self.missing.or(self.whole.max(self.newest))?;
            Some(SystemTime::now().duration_since(since).unwrap_or_default())
        };
        let lag_age = match self.report.lag.messages {
            None => None,
            Some(0) => Some(Duration::ZERO),
            Some(_) => age(),
        };
        Report { lag_age, ..self.report.clone() }
    }

    fn count_refusal(&mut self, why: Refusal) {
        let index = Refusal::ALL.iter().position(|(reason, _)| *reason == why);
        if let Some(count) = index.and_then(|index| self.report.refused.get_mut(index)) {
            *count += 1;
        }
    }

    fn note_error(&mut self, trouble: &Trouble) {
        self.report.troubles.count(trouble.cause());
        self.note_lasting(trouble);
    }

    fn note_lasting(&mut self, trouble: &Trouble) {
        self.report.last_error = Some(LastError { trouble: trouble.clone(), at: SystemTime::now() });
    }

    /// Returns whether it is to be logged.
    fn note_trouble(&mut self, trouble: &Trouble) -> bool {
        let new = self.report.last_error.as_ref().is_none_or(|last| last.trouble != *trouble);
        self.note_error(trouble);
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
            done: Count::default(),
            operations: 0,
            verified: Count::default(),
            sent: Count::default(),
            gone: 0,
            unreplicable: 0,
            lag: Lag::default(),
            lag_age: None,
            end: None,
            last_progress: None,
            last_error: None,
            troubles: Tally::default(),
            refused: [0; Refusal::ALL.len()],
            restarts: 0,
        };
        let made = Instant::now();
        let inner = Inner { report, whole: None, missing: None, newest: None, logged: None, made, troubles: None };
        Self { name: name.into(), inner: Arc::new(Mutex::new(inner)) }
    }

    fn with<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        change(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What is known now.
    pub fn report(&self) -> Report {
        self.with(|inner| inner.report())
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
    pub fn waiting(&self, trouble: Trouble) {
        let words = trouble.to_string();
        let log = self.with(|inner| {
            let before = match &inner.report.state {
                State::Waiting(before) => Some(before),
                State::Starting | State::Active => None,
            };
            let new = before != Some(&trouble);
            if before.is_some_and(|before| before.cause() == trouble.cause()) {
                inner.note_lasting(&trouble);
            } else {
                inner.note_error(&trouble);
            }
            inner.report.state = State::Waiting(trouble);
            inner.report.lag = Lag::default();
            let due = new || inner.logged.is_none_or(|at| at.elapsed() > REPEAT);
            if due {
                inner.logged = Some(Instant::now());
            }
            due
        });
        if log {
            warn!("{}: waiting: {words}", self.name);
        }
    }

    /// Tells again what it waits for, or that it has not begun, when that was not told for a minute. Whoever calls this
    /// must not wait for what the entry waits for.
    pub fn remind(&self) {
        if let Some(words) = self.due(Instant::now()) {
            warn!("{}: waiting: {words}", self.name);
        }
    }

    /// What is to be told again at this time.
    fn due(&self, now: Instant) -> Option<String> {
        self.with(|inner| {
            let words = match &inner.report.state {
                State::Active => return None,
                State::Waiting(trouble) => trouble.to_string(),
                State::Starting => "it has not begun yet; its first steps take long".to_owned(),
            };
            let told = inner.logged.unwrap_or(inner.made);
            (now.saturating_duration_since(told) >= REPEAT).then(|| {
                inner.logged = Some(now);
                words
            })
        })
    }

    /// Something is wrong with a part of it, such as one object; the rest goes on. Logged at once when it is new, and
    /// again while it lasts; when there are many, only some are.
    pub fn trouble(&self, trouble: &Trouble) {
        if self.with(|inner| inner.note_trouble(trouble)) {
            warn!("{}: {trouble}", self.name);
        } else {
            debug!("{}: {trouble}", self.name);
        }
    }

    /// Something was sealed, or applied.
    pub fn progress(&self, done: Count) {
        self.with(|inner| {
            inner.report.done += done;
            inner.report.last_progress = Some(SystemTime::now());
        });
    }

    /// One more operation was sealed.
    pub fn sealed_operation(&self) {
        self.with(|inner| inner.report.operations += 1);
    }

    /// Something of the author's was verified.
    pub fn verified(&self, count: Count) {
        self.with(|inner| inner.report.verified += count);
    }

    /// Something was sent to another node.
    pub fn sent(&self, count: Count) {
        self.with(|inner| inner.report.sent += count);
    }

    /// Records were gone at the source.
    pub fn gone(&self, records: u64) {
        self.with(|inner| {
            inner.report.gone += records;
            inner.report.last_progress = Some(SystemTime::now());
        });
    }

    /// A record can't be replicated.
    pub fn unreplicable(&self, reason: &str) {
        self.with(|inner| {
            inner.report.unreplicable += 1;
            inner.note_error(&Trouble::new(Cause::Unreplicable, reason));
        });
    }

    /// How far a subscription is, and when the last record of that came into the author's stream.
    pub fn set_end(&self, end: LogEnd, newest: Option<SystemTime>) {
        self.with(|inner| {
            inner.report.end = Some(end);
            inner.newest = newest.or(inner.newest);
        });
    }

    /// When the author told of the oldest thing that is missing.
    pub fn set_missing_since(&self, missing: Option<SystemTime>) {
        self.with(|inner| inner.missing = missing);
    }

    /// How far behind it is.
    pub fn set_lag(&self, lag: Lag) {
        self.with(|inner| {
            inner.report.lag = lag;
            if lag.messages == Some(0) {
                inner.whole = Some(SystemTime::now());
            }
        });
    }

    /// A peer sent what was not accepted.
    pub fn refused(&self, why: Refusal, trouble: &Trouble) {
        self.with(|inner| {
            inner.count_refusal(why);
            inner.note_error(trouble);
        });
    }

    /// A peer sent something for a part of it, such as one object, that was not accepted. Returns whether it is time to
    /// log it, which is decided as for [`trouble`](Self::trouble).
    pub fn refused_part(&self, why: Refusal, trouble: &Trouble) -> bool {
        self.with(|inner| {
            inner.count_refusal(why);
            inner.note_trouble(trouble)
        })
    }

    /// It was begun anew because nothing moved.
    pub fn restarted(&self) {
        self.with(|inner| inner.report.restarts += 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lag(messages: Option<u64>) -> Lag {
        Lag { messages, bytes: None }
    }

    #[test]
    fn the_age_of_a_lag_is_unknown_until_something_bounds_it() {
        let entry = Entry::new("e".to_owned());
        assert_eq!(entry.report().lag_age, None);
        entry.set_lag(lag(Some(3)));
        assert_eq!(entry.report().lag_age, None, "how old they are, nobody knows");
        entry.set_lag(lag(Some(0)));
        assert_eq!(entry.report().lag_age, Some(Duration::ZERO));
        entry.set_lag(lag(Some(1)));
        assert!(entry.report().lag_age.is_some_and(|age| age < Duration::from_secs(60)));
        entry.waiting(Trouble::new(Cause::NotConnected, "the author is away"));
        assert_eq!((entry.report().lag_age, entry.report().lag), (None, Lag::default()));
    }

    #[test]
    fn what_waits_is_told_again_each_minute_and_so_is_what_does_not_begin() {
        let entry = Entry::new("e".to_owned());
        let (begun, second) = (Instant::now(), Duration::from_secs(1));
        let told = |at: u32| entry.due(begun + at * second);
        assert_eq!(told(50), None);
        assert!(told(61).is_some_and(|words| words.contains("has not begun")));
        assert_eq!((told(62), told(120)), (None, None));
        assert!(told(122).is_some());
        entry.active();
        assert_eq!(told(300), None);
        entry.waiting(Trouble::new(Cause::NotConnected, "the author is away"));
        assert_eq!(told(50), None, "it was just said");
        assert_eq!(told(400).as_deref(), Some("the author is away"));
        assert_eq!(told(459), None);
    }

    #[test]
    fn what_is_applied_bounds_the_age_of_what_is_missing() {
        let entry = Entry::new("e".to_owned());
        let end = LogEnd { log: LogId::from_bytes([1; 32]), head: None, total: Count::default(), source: Some(1) };
        entry.set_end(end, Some(SystemTime::now() - Duration::from_secs(3600)));
        entry.set_lag(lag(Some(5)));
        let age = entry.report().lag_age.unwrap();
        assert!((3600..3700).contains(&age.as_secs()), "{age:?}");
        // The author's clock may be ahead of ours.
        entry.set_end(end, Some(SystemTime::now() + Duration::from_secs(3600)));
        assert_eq!(entry.report().lag_age, Some(Duration::ZERO));
    }

    #[test]
    fn bytes_of_what_is_not_signed_yet_are_unknown_and_not_0() {
        assert_eq!(Lag::new(0, 0, Some(5)), Lag { messages: Some(5), bytes: None });
        assert_eq!(Lag::new(2, 70, Some(5)), Lag { messages: Some(7), bytes: Some(70) });
        assert_eq!(Lag::new(0, 0, Some(0)), Lag { messages: Some(0), bytes: Some(0) });
        assert_eq!(Lag::new(2, 70, None), Lag::default());
    }

    #[test]
    fn refusals_are_counted_by_reason() {
        let entry = Entry::new("e".to_owned());
        let trouble = Trouble::new(Cause::Violation, "no");
        entry.refused(Refusal::Digest, &trouble);
        entry.refused_part(Refusal::Other, &trouble);
        assert_eq!(entry.report().refused, [0, 0, 1, 0, 1]);
    }

    #[test]
    fn troubles_are_counted_by_cause_and_one_that_lasts_counts_once() {
        let entry = Entry::new("e".to_owned());
        let away = |words: &str| Trouble::new(Cause::NotConnected, words);
        entry.waiting(away("not connected"));
        entry.waiting(away("not connected, still"));
        entry.waiting(Trouble::new(Cause::StreamMissing, "no stream"));
        entry.waiting(away("not connected"));
        entry.active();
        entry.waiting(away("not connected"));
        entry.trouble(&Trouble::new(Cause::KeyTaken, "'k' is left alone"));
        entry.unreplicable("a message");
        let counts: Vec<_> = entry.report().troubles.iter().collect();
        let expected =
            [(Cause::StreamMissing, 1), (Cause::Unreplicable, 1), (Cause::NotConnected, 3), (Cause::KeyTaken, 1)];
        assert_eq!(counts, expected);
        let last = entry.report().last_error.unwrap().trouble;
        assert_eq!((last.code(), last.to_string().as_str()), ("message-not-replicable", "a message"));
    }
}
