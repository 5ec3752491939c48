//! Thousands of seeds; and proof that the checker can fail.

use rhio_sim::config::Broken;
use rhio_sim::run::run;

fn from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")))
}

/// Runs seeds on both cores. Returns the first that fails, with what is wrong.
fn first_failure(seeds: std::ops::Range<u64>, broken: Option<Broken>) -> Option<(u64, Vec<String>)> {
    let next = std::sync::atomic::AtomicU64::new(seeds.start);
    let failed = std::sync::Mutex::new(None::<(u64, Vec<String>)>);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    if seed >= seeds.end || failed.lock().unwrap().is_some() {
                        return;
                    }
                    let verdict = run(seed, broken, false);
                    if !verdict.problems.is_empty() {
                        *failed.lock().unwrap() = Some((seed, verdict.problems));
                    }
                }
            });
        }
    });
    failed.into_inner().unwrap()
}

#[test]
fn every_message_arrives_once_and_in_order_whatever_goes_wrong() {
    let first = from_env("SIM_FIRST").unwrap_or(0);
    let count = from_env("SIM_SEEDS").unwrap_or(3000);
    if let Some((seed, problems)) = first_failure(first..first + count, None) {
        panic!(
            "seed {seed} fails:\n  {}\nreplay: SIM_SEED={seed} cargo test -p rhio-sim replay -- --nocapture",
            problems.join("\n  ")
        );
    }
}

/// Prints everything that happens in the run that `SIM_SEED` names.
#[test]
fn replay() {
    let Some(seed) = from_env("SIM_SEED") else { return };
    let verdict = run(seed, None, true);
    verdict.trace.iter().for_each(|line| println!("{line}"));
    assert!(verdict.problems.is_empty(), "seed {seed} fails:\n  {}", verdict.problems.join("\n  "));
}

#[test]
fn a_seed_always_gives_the_same_run() {
    for seed in [3, 14, 159] {
        let traces = [run(seed, None, true).trace, run(seed, None, true).trace];
        assert!(traces[0].len() > 50);
        assert!(traces[0] == traces[1], "seed {seed} gave two runs");
    }
}

/// A checker that can't fail is worth nothing: each rule that is broken on purpose must show within these seeds.
const ENOUGH: u64 = 1500;

fn is_noticed(broken: Broken) {
    assert!(first_failure(0..ENOUGH, Some(broken)).is_some(), "{broken:?} goes unnoticed in {ENOUGH} seeds");
}

#[test]
fn a_commit_before_its_records_is_noticed() {
    is_noticed(Broken::CommitBeforeWritten);
}

#[test]
fn an_acknowledgement_before_its_commit_is_noticed() {
    is_noticed(Broken::AcknowledgeBeforeCommit);
}

#[test]
fn a_restart_that_does_not_look_at_the_local_stream_is_noticed() {
    is_noticed(Broken::SkipScan);
}

#[test]
fn a_cursor_that_trusts_a_stream_that_forgot_is_noticed() {
    is_noticed(Broken::SkipPresence);
}

#[test]
fn records_of_an_earlier_log_written_again_are_noticed() {
    is_noticed(Broken::IgnoreFloors);
}

#[test]
fn appending_without_compare_and_set_is_noticed() {
    is_noticed(Broken::NoCompareAndSet);
}

#[test]
fn an_operation_that_leaves_before_it_is_stored_is_noticed() {
    is_noticed(Broken::ReleaseEarly);
}

#[test]
fn a_log_that_is_continued_without_asking_its_readers_is_noticed() {
    is_noticed(Broken::SkipRecall);
}

#[test]
fn a_source_that_forgot_and_is_trusted_is_noticed() {
    is_noticed(Broken::SkipTailRecord);
}

#[test]
fn two_processes_that_write_to_one_stream_are_noticed() {
    is_noticed(Broken::SkipClaim);
}

#[test]
fn records_known_by_their_numbers_alone_are_noticed() {
    is_noticed(Broken::NumbersOnly);
}

#[test]
fn a_cursor_that_is_not_tied_to_other_logs_is_noticed() {
    is_noticed(Broken::OneLogOnly);
}

#[test]
fn a_local_stream_created_again_behind_the_subscribers_back_is_noticed() {
    is_noticed(Broken::SkipCreated);
}

#[test]
fn an_echo_is_noticed() {
    is_noticed(Broken::Echo);
}

#[test]
fn a_log_that_is_begun_before_its_turn_is_noticed() {
    is_noticed(Broken::SkipTurn);
}
