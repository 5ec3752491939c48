//! Thousands of seeds; and proof that the checker can fail.

use rhio_sim::config::Broken;
use rhio_sim::run::{About, run};

fn from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")))
}

/// Runs seeds on both cores. Returns the first that fails, with what is wrong.
fn first_failure(about: About, seeds: std::ops::Range<u64>, broken: Option<Broken>) -> Option<(u64, Vec<String>)> {
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
                    let verdict = run(about, seed, broken, false);
                    if !verdict.problems.is_empty() {
                        *failed.lock().unwrap() = Some((seed, verdict.problems));
                    }
                }
            });
        }
    });
    failed.into_inner().unwrap()
}

fn all_is_well(about: About, count: u64, replay: &str) {
    let first = from_env("SIM_FIRST").unwrap_or(0);
    let count = from_env("SIM_SEEDS").unwrap_or(count);
    if let Some((seed, problems)) = first_failure(about, first..first + count, None) {
        panic!(
            "seed {seed} fails:\n  {}\nreplay: SIM_SEED={seed} cargo test -p rhio-sim {replay} -- --nocapture",
            problems.join("\n  ")
        );
    }
}

#[test]
fn every_message_arrives_once_and_in_order_whatever_goes_wrong() {
    all_is_well(About::Messages, 3000, "replay_messages");
}

#[test]
fn every_object_arrives_as_it_was_signed_and_never_goes_back_whatever_goes_wrong() {
    all_is_well(About::Buckets, 2000, "replay_buckets");
}

/// Prints everything that happens in the run that `SIM_SEED` names.
fn replay(about: About) {
    let Some(seed) = from_env("SIM_SEED") else { return };
    let verdict = run(about, seed, None, true);
    verdict.trace.iter().for_each(|line| println!("{line}"));
    assert!(verdict.problems.is_empty(), "seed {seed} fails:\n  {}", verdict.problems.join("\n  "));
}

#[test]
fn replay_messages() {
    replay(About::Messages);
}

#[test]
fn replay_buckets() {
    replay(About::Buckets);
}

#[test]
fn a_seed_always_gives_the_same_run() {
    for (about, seed) in [3, 14, 159].into_iter().flat_map(|seed| [(About::Messages, seed), (About::Buckets, seed)]) {
        let traces = [run(about, seed, None, true).trace, run(about, seed, None, true).trace];
        assert!(traces[0].len() > 20, "nothing happens in seed {seed}");
        assert!(traces[0] == traces[1], "seed {seed} gave two runs");
    }
}

/// A checker that can't fail is worth nothing: each rule that is broken on purpose must show within these seeds.
const ENOUGH: u64 = 1500;

fn is_noticed(broken: Broken) {
    noticed_in(About::Messages, broken, "");
}

/// Demands that it is noticed in the words that belong to the rule: another rule that is broken along with it proves
/// nothing.
fn is_noticed_in_buckets(broken: Broken, words: &str) {
    noticed_in(About::Buckets, broken, words);
}

fn noticed_in(about: About, broken: Broken, words: &str) {
    let failure = first_failure(about, 0..ENOUGH, Some(broken));
    let (seed, problems) = failure.unwrap_or_else(|| panic!("{broken:?} goes unnoticed in {ENOUGH} seeds"));
    let told = problems.iter().any(|problem| problem.contains(words));
    assert!(told, "{broken:?}, seed {seed}: {problems:?}, where {words:?} was to be told");
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

#[test]
fn content_that_was_not_signed_is_noticed() {
    is_noticed_in_buckets(Broken::Unverified, "which its author did not sign");
}

#[test]
fn a_catalog_that_leaves_before_it_is_stored_is_noticed() {
    is_noticed_in_buckets(Broken::ReleaseEarly, "");
}

#[test]
fn a_catalog_that_is_continued_in_doubt_is_noticed() {
    is_noticed_in_buckets(Broken::ContinueInDoubt, "");
}

#[test]
fn a_catalog_that_two_processes_append_to_is_noticed() {
    is_noticed_in_buckets(Broken::NoCompareAndSet, "");
}

#[test]
fn an_object_that_counts_as_settled_before_it_is_there_is_noticed() {
    is_noticed_in_buckets(Broken::SettleEarly, "");
}

#[test]
fn entries_that_are_acted_upon_before_they_are_stored_are_noticed() {
    is_noticed_in_buckets(Broken::ActBeforeStored, "");
}

#[test]
fn a_new_epoch_for_which_the_old_one_is_forgotten_is_noticed() {
    is_noticed_in_buckets(Broken::SkipSucceed, "which its author has deleted");
}

#[test]
fn a_write_that_does_not_name_what_it_replaces_is_noticed() {
    is_noticed_in_buckets(Broken::Unconditional, "");
}

#[test]
fn a_write_over_an_object_of_somebody_elses_is_noticed() {
    is_noticed_in_buckets(Broken::Overwrite, "over an object of somebody else's");
}

#[test]
fn deletes_that_are_followed_against_the_rule_are_noticed() {
    is_noticed_in_buckets(Broken::FollowAlways, "although deletes are kept");
}

#[test]
fn deletes_that_are_concluded_from_an_empty_bucket_are_noticed() {
    is_noticed_in_buckets(Broken::TrustEmpty, "which its author did not delete");
}

#[test]
fn deletes_that_are_concluded_from_a_listing_alone_are_noticed() {
    is_noticed_in_buckets(Broken::TrustListing, "which its author did not delete");
}

#[test]
fn objects_that_came_through_rhio_and_are_published_again_are_noticed() {
    is_noticed_in_buckets(Broken::Echo, "which no app put there");
}
