//! Keeps publications and subscriptions at work: begins what is configured, ends what is not any more, and has each one
//! try again, with growing waits, whatever happens to it.

use std::convert::Infallible;
use std::fmt::Display;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::status::Entry;
use crate::trouble::Trouble;

/// The first wait after a failure.
const SOON: Duration = Duration::from_millis(100);
/// The longest wait after a failure. What worked for longer than this begins with the first wait again.
pub const LONGEST: Duration = Duration::from_secs(5);
/// How long this process stands back after another one has written where only this one may.
const STAND_BACK: Duration = Duration::from_secs(10);
/// How often it is looked at whether something waits that has not been told of for a minute.
const REMIND: Duration = Duration::from_secs(5);

/// See [`waits`].
pub type Waits = <ExponentialBuilder as BackoffBuilder>::Backoff;

/// The waits between attempts: each twice the one before, from 100 ms to 5 s, without an end.
pub fn waits() -> Waits {
    ExponentialBuilder::new().with_min_delay(SOON).with_max_delay(LONGEST).without_max_times().build()
}

/// A publication or a subscription.
pub trait Supervised: Send + Sync {
    /// What an operator sees of it.
    fn status(&self) -> &Entry;
    /// Ends its task.
    fn stop(&self) -> &CancellationToken;
}

/// What is done about a failure.
#[derive(Debug)]
pub enum Verdict {
    /// Nothing is wrong. It is begun anew at once.
    AtOnce,
    /// Nothing is wrong. It is begun anew in a moment.
    Soon,
    /// Nothing is wrong when it happens now and then: then as [`Soon`](Self::Soon), else as
    /// [`Trouble`](Self::Trouble).
    Passing(Trouble),
    /// Something is wrong. It is told, and tried again with growing waits.
    Trouble(Trouble),
    /// Another process does what only one may do. It is told, and this one stands back for a while.
    StandBack(Trouble),
}

/// What a publication or a subscription does.
pub trait Duty: Send {
    /// Why it could not go on.
    type Failure: Display + Send;

    /// What it is done for.
    fn entry(&self) -> &dyn Supervised;

    /// Does it, until it can't go on. Dropped at any point, what is stored is enough to go on from.
    fn attempt(&mut self) -> impl Future<Output = Result<Infallible, Self::Failure>> + Send;

    /// It is not being done for now.
    fn suspend(&self) {}

    /// What is to be done about a failure.
    fn judge(&mut self, failure: &Self::Failure) -> Verdict;
}

/// Has a duty done until its entry is stopped.
pub async fn run(mut duty: impl Duty) {
    let (status, stop) = (duty.entry().status().clone(), duty.entry().stop().clone());
    // A task of its own: whatever the duty may hang in, what it waits for is told again.
    tokio::spawn(remind(status.clone(), stop.clone()));
    let mut pauses = Pauses::new();
    loop {
        let begun = Instant::now();
        let outcome = tokio::select! {
            () = stop.cancelled() => break,
            outcome = duty.attempt() => outcome,
        };
        duty.suspend();
        let Err(failure) = outcome;
        let (pause, trouble) = pauses.after(begun.elapsed(), duty.judge(&failure));
        match trouble {
            Some(trouble) => status.waiting(trouble),
            None => debug!("{}: {failure}", status.name()),
        }
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(pause) => {}
        }
    }
    duty.suspend();
}

/// The one policy of waiting.
struct Pauses(Option<Waits>);

impl Pauses {
    fn new() -> Self {
        Self(None)
    }

    /// The wait after an attempt that lasted so long, and what is told.
    fn after(&mut self, lasted: Duration, verdict: Verdict) -> (Duration, Option<Trouble>) {
        if lasted > LONGEST {
            self.0 = None;
        }
        let first = self.0.is_none();
        let mut growing = || self.0.get_or_insert_with(waits).next().unwrap_or(LONGEST);
        match verdict {
            Verdict::AtOnce => (Duration::ZERO, None),
            Verdict::Soon => (SOON, None),
            Verdict::Passing(_) if first => (growing(), None),
            Verdict::Passing(trouble) | Verdict::Trouble(trouble) => (growing(), Some(trouble)),
            Verdict::StandBack(trouble) => (STAND_BACK, Some(trouble)),
        }
    }
}

/// Tells each minute what an entry waits for.
async fn remind(status: Entry, stop: CancellationToken) {
    let mut tick = tokio::time::interval(REMIND);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => status.remind(),
        };
    }
}

/// Makes what runs match what is wanted: what `is` the same stays as it is, after `keep` has seen it, what is new is
/// begun, the rest is stopped. Returns what runs now, in the order of what is wanted. `begin` gives `None` for what can't
/// be begun.
pub fn reconcile<W, T: Supervised>(
    before: &[Arc<T>],
    wanted: &[W],
    is: impl Fn(&T, &W) -> bool,
    keep: impl Fn(&T, &W),
    begin: impl Fn(&W) -> Option<Arc<T>>,
) -> Vec<Arc<T>> {
    let mut after: Vec<Arc<T>> = Vec::with_capacity(wanted.len());
    for entry in wanted {
        if let Some(same) = before.iter().find(|running| is(running, entry)) {
            keep(same, entry);
            after.push(Arc::clone(same));
        } else {
            after.extend(begin(entry));
        }
    }
    for gone in before.iter().filter(|running| !after.iter().any(|kept| Arc::ptr_eq(running, kept))) {
        gone.stop().cancel();
    }
    after
}

#[cfg(test)]
mod tests;
