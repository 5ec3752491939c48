use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::status::State;
use crate::trouble::Cause;

struct Work {
    status: Entry,
    stop: CancellationToken,
}

impl Work {
    fn new(name: &str) -> Arc<Self> {
        Arc::new(Self { status: Entry::new(name.to_owned()), stop: CancellationToken::new() })
    }
}

impl Supervised for Work {
    fn status(&self) -> &Entry {
        &self.status
    }

    fn stop(&self) -> &CancellationToken {
        &self.stop
    }
}

fn trouble() -> Trouble {
    Trouble::new(Cause::NatsSilent, "it hangs")
}

/// The waits after attempts that lasted so many milliseconds, and whether each was told of.
fn pauses(attempts: impl IntoIterator<Item = (u64, Verdict)>) -> Vec<(u128, bool)> {
    let mut pauses = Pauses::new();
    let after = |(lasted, verdict)| {
        let (pause, told) = pauses.after(Duration::from_millis(lasted), verdict);
        (pause.as_millis(), told.is_some())
    };
    attempts.into_iter().map(after).collect()
}

#[test]
fn waits_grow_to_a_bound_and_begin_anew_after_what_worked() {
    let lasted = [0, 0, 0, 0, 0, 0, 0, 0, 6000, 0];
    let waits = pauses(lasted.map(|lasted| (lasted, Verdict::Trouble(trouble()))));
    assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 5000, 5000, 100, 200].map(|wait| (wait, true)));
}

#[test]
fn each_verdict_has_its_wait_and_its_word() {
    let quiet = [Verdict::AtOnce, Verdict::Soon, Verdict::Soon].map(|verdict| (0, verdict));
    assert_eq!(pauses(quiet), [(0, false), (100, false), (100, false)]);
    // Once it may be; again it is worth a word; and once more after what worked.
    let passing = [0, 0, 6000].map(|lasted| (lasted, Verdict::Passing(trouble())));
    assert_eq!(pauses(passing), [(100, false), (200, true), (100, false)]);
    assert_eq!(pauses([(0, Verdict::StandBack(trouble()))]), [(10_000, true)]);
}

/// Fails once, and hangs then.
struct Hangs {
    work: Arc<Work>,
    attempts: Arc<AtomicU32>,
    suspended: Arc<AtomicU32>,
}

impl Duty for Hangs {
    type Failure = &'static str;

    fn entry(&self) -> &dyn Supervised {
        &*self.work
    }

    async fn attempt(&mut self) -> Result<Infallible, &'static str> {
        if self.attempts.fetch_add(1, Ordering::Relaxed) > 0 {
            std::future::pending::<()>().await;
        }
        Err("it fails")
    }

    fn suspend(&self) {
        self.suspended.fetch_add(1, Ordering::Relaxed);
    }

    fn judge(&mut self, _: &&'static str) -> Verdict {
        Verdict::Trouble(trouble())
    }
}

#[tokio::test]
async fn what_hangs_keeps_its_trouble_and_ends_when_it_is_stopped() {
    let (work, attempts, suspended) = (Work::new("w"), Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let duty = Hangs { work: Arc::clone(&work), attempts: Arc::clone(&attempts), suspended: Arc::clone(&suspended) };
    let task = tokio::spawn(run(duty));
    while attempts.load(Ordering::Relaxed) < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(work.status.report().state, State::Waiting(trouble()));
    work.stop.cancel();
    task.await.unwrap();
    assert_eq!(suspended.load(Ordering::Relaxed), 2, "after the failure, and at the end");
}

#[test]
fn what_is_wanted_stays_or_begins_and_the_rest_is_stopped() {
    let (a, b) = (Work::new("a"), Work::new("b"));
    let kept = Mutex::new(Vec::new());
    let after = reconcile(
        &[Arc::clone(&a), Arc::clone(&b)],
        &["c", "b", "impossible"],
        |work, wanted| work.status.name() == *wanted,
        |_, wanted| kept.lock().unwrap().push(*wanted),
        |wanted| (*wanted != "impossible").then(|| Work::new(wanted)),
    );
    let names: Vec<_> = after.iter().map(|work| work.status.name()).collect();
    assert_eq!((names, kept.into_inner().unwrap()), (vec!["c", "b"], vec!["b"]));
    assert!(Arc::ptr_eq(&after[1], &b) && !b.stop.is_cancelled() && a.stop.is_cancelled());
}
