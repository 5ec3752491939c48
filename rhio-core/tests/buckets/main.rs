//! Both machines of a bucket together, through random histories: an author whose bucket changes while it is listed, and
//! a subscriber whose tasks fail, come late, and are cut off by crashes and power cuts.
//!
//! `RHIO_BUCKETS_SEED=<n>` plays only that one; `RHIO_BUCKETS_SEEDS=<count>` plays so many.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by a panic")]
#![forbid(unsafe_code)]

mod author;
mod random;
mod subscriber;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use author::Author;
use random::Random;
use rhio_core::catalog::landing::Deletes;
use subscriber::Subscriber;

const SEEDS: u64 = 4000;
const STEPS: u64 = 120;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

fn play(seed: u64) -> Count {
    let mut random = Random::new(seed);
    let deletes = if random.one_in(2) { Deletes::Keep } else { Deletes::Follow };
    let mut author = Author::new(&mut random);
    let mut subscriber = Subscriber::new(deletes);
    let steps = random.below(STEPS) + 10;
    for _ in 0..steps {
        if random.one_in(2) {
            author.step(&mut random);
        } else {
            subscriber.step(&mut random, &author);
        }
    }
    author.settle(&mut random);
    subscriber.finish(&mut random, &author);
    Count { tasks: subscriber.tasks, crashes: subscriber.crashes + author.crashes, epochs: author.logs.len() as u64 }
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    tasks: u64,
    crashes: u64,
    epochs: u64,
}

#[test]
fn every_history_ends_with_the_same_objects_on_both_sides() {
    if let Some(seed) = number("RHIO_BUCKETS_SEED") {
        println!("{:?}", play(seed));
        return;
    }
    let mut sum = Count::default();
    for seed in 0..number("RHIO_BUCKETS_SEEDS").unwrap_or(SEEDS) {
        match catch_unwind(AssertUnwindSafe(|| play(seed))) {
            Ok(count) => {
                sum.tasks += count.tasks;
                sum.crashes += count.crashes;
                sum.epochs += count.epochs;
            }
            Err(panic) => {
                eprintln!("RHIO_BUCKETS_SEED={seed} plays this again");
                resume_unwind(panic);
            }
        }
    }
    println!("{sum:?}");
    // A model in which nothing happens would find nothing.
    assert!(sum.tasks > 10_000 && sum.crashes > 1_000 && sum.epochs > 5_000 || number("RHIO_BUCKETS_SEEDS").is_some());
}
