use std::sync::Mutex;

use super::*;
use crate::status::State;
use crate::trouble::Cause;

struct Work {
    status: Entry,
    stop: CancellationToken,
}

impl Work {
    fn new() -> Arc<Self> {
        Arc::new(Self { status: Entry::new("work".to_owned()), stop: CancellationToken::new() })
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

/// Fails as its script says, and then hangs.
struct Script {
    work: Arc<Work>,
    script: Vec<(Duration, fn() -> Verdict)>,
    begun: Arc<Mutex<Vec<Instant>>>,
}

impl Duty for Script {
    type Failure = &'static str;

    fn entry(&self) -> &dyn Supervised {
        &*self.work
    }

    async fn attempt(&mut self) -> Result<Infallible, &'static str> {
        self.begun.lock().unwrap().push(Instant::now());
        match self.script.first() {
            Some((lasts, _)) => tokio::time::sleep(*lasts).await,
            None => std::future::pending().await,
        }
        Err("it fails")
    }

    fn judge(&mut self, _: &&'static str) -> Verdict {
        (self.script.remove(0).1)()
    }
}

fn trouble() -> Trouble {
    Trouble::new(Cause::NatsSilent, "it hangs")
}

/// The pauses before each attempt but the first, in milliseconds.
async fn pauses(script: Vec<(u64, fn() -> Verdict)>) -> (Vec<u128>, Arc<Work>) {
    let (work, begun) = (Work::new(), Arc::new(Mutex::new(Vec::new())));
    let lasted: Vec<u128> = script.iter().map(|(lasts, _)| u128::from(*lasts)).collect();
    let script = script.into_iter().map(|(lasts, verdict)| (Duration::from_millis(lasts), verdict)).collect();
    let task = tokio::spawn(run(Script { work: Arc::clone(&work), script, begun: Arc::clone(&begun) }));
    tokio::time::sleep(Duration::from_secs(120)).await;
    work.stop.cancel();
    task.await.unwrap();
    let begun = begun.lock().unwrap();
    let between = begun.windows(2).map(|pair| (pair[1] - pair[0]).as_millis());
    (between.zip(lasted).map(|(between, lasted)| between - lasted).collect(), work)
}

#[tokio::test(start_paused = true)]
async fn waits_grow_to_a_bound_and_begin_anew_after_what_worked() {
    let fails: fn() -> Verdict = || Verdict::Trouble(trouble());
    let mut script = vec![(0, fails); 8];
    script.extend([(6000, fails), (0, fails)]);
    let (pauses, _) = pauses(script).await;
    assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 5000, 5000, 100, 200]);
}

#[tokio::test(start_paused = true)]
async fn each_verdict_has_its_wait_and_its_state() {
    let (quiet, work) = pauses(vec![(0, || Verdict::AtOnce), (0, || Verdict::Soon), (0, || Verdict::Soon)]).await;
    assert_eq!((quiet, work.status.report().state), (vec![0, 100, 100], State::Starting));
    // Once it may be; again it is worth a word.
    let passing: fn() -> Verdict = || Verdict::Passing(trouble());
    let (once, work) = pauses(vec![(0, passing)]).await;
    assert_eq!((once, work.status.report().state), (vec![100], State::Starting));
    let (twice, work) = pauses(vec![(0, passing), (0, passing)]).await;
    assert_eq!((twice, work.status.report().state), (vec![100, 200], State::Waiting(trouble())));
    let (stands_back, work) = pauses(vec![(0, || Verdict::StandBack(trouble()))]).await;
    assert_eq!((stands_back, work.status.report().state), (vec![10_000], State::Waiting(trouble())));
}

/// How long ago the entry was told of, in seconds, `after` so many.
async fn told(work: &Work, after: u64) -> Option<u64> {
    tokio::time::sleep(Duration::from_secs(after)).await;
    work.status.logged().map(|at| at.elapsed().as_secs())
}

#[tokio::test(start_paused = true)]
async fn what_a_hanging_attempt_waits_for_is_told_each_minute() {
    let work = Work::new();
    let script = vec![(Duration::ZERO, (|| Verdict::Trouble(trouble())) as fn() -> Verdict)];
    let task = tokio::spawn(run(Script { work: Arc::clone(&work), script, begun: Arc::default() }));
    assert_eq!(told(&work, 59).await, Some(59), "when it begins to wait");
    for _ in 0..3 {
        let ago = told(&work, 61).await;
        assert!(ago.is_some_and(|ago| ago < 61), "told {ago:?} s ago");
    }
    work.status.active();
    assert_eq!(told(&work, 200).await, None, "it works");
    work.stop.cancel();
    task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_never_begins_is_told_of_too() {
    let work = Work::new();
    let task = tokio::spawn(run(Script { work: Arc::clone(&work), script: Vec::new(), begun: Arc::default() }));
    assert_eq!(told(&work, 50).await, None);
    assert!(told(&work, 20).await.is_some());
    work.stop.cancel();
    task.await.unwrap();
}

#[test]
fn what_is_wanted_stays_or_begins_and_the_rest_is_stopped() {
    let named = |name: &str| Arc::new(Work { status: Entry::new(name.to_owned()), stop: CancellationToken::new() });
    let (a, b) = (named("a"), named("b"));
    let kept = Mutex::new(Vec::new());
    let after = reconcile(
        &[Arc::clone(&a), Arc::clone(&b)],
        &["c", "b", "impossible"],
        |work, wanted| work.status.name() == *wanted,
        |_, wanted| kept.lock().unwrap().push(*wanted),
        |wanted| (*wanted != "impossible").then(|| named(wanted)),
    );
    let names: Vec<_> = after.iter().map(|work| work.status.name()).collect();
    assert_eq!((names, kept.into_inner().unwrap()), (vec!["c", "b"], vec!["b"]));
    assert!(Arc::ptr_eq(&after[1], &b) && !b.stop.is_cancelled() && a.stop.is_cancelled());
}
