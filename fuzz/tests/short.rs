//! Every fuzz target for some seconds: what failed once, the seeds, and random changes of them.
//!
//! The first inputs are the same each time, the rest is new in each run. `RHIO_FUZZ_SECONDS` sets the time for each
//! target. An input that fails is written to a file and named; `RHIO_FUZZ_INPUT=<file>` runs only that one.

#![forbid(unsafe_code)]

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{env, fs};

use rhio_fuzz::{Target, mutate, target};

/// Inputs that are the same each time.
const SAME: u32 = 500;
const SECONDS: f64 = 4.0;

fn short(name: &str) {
    let target = target(name).expect("a target");
    if let Some(file) = env::var_os("RHIO_FUZZ_INPUT") {
        let input = fs::read(&file).unwrap_or_else(|e| panic!("cannot read {}: {e}", Path::new(&file).display()));
        return (target.run)(&input);
    }
    let seeds = (target.seeds)();
    known(name).iter().chain(&seeds).for_each(|input| attempt(target, input));

    let seconds = env::var("RHIO_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(SECONDS);
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    let mut random = fastrand::Rng::with_seed(1);
    let mut count = 0;
    while count < SAME || Instant::now() < end {
        if count == SAME {
            random = fastrand::Rng::new();
        }
        attempt(target, &mutate::input(&mut random, &seeds));
        count += 1;
    }
    println!("{name}: {} seeds, {count} changed inputs", seeds.len());
}

/// Inputs that failed once.
fn known(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    files.map(|file| fs::read(file.path()).expect("a file of the corpus can be read")).collect()
}

fn attempt(target: Target, input: &[u8]) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (target.run)(input))) {
        let path = keep(target.name, input);
        eprintln!("the input that failed is {}: {}", path.display(), hex::encode(input));
        resume_unwind(panic);
    }
}

/// Where integration tests may leave files.
fn keep(name: &str, input: &[u8]) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{name}.input"));
    if let Err(e) = fs::write(&path, input) {
        eprintln!("cannot write {}: {e}", path.display());
    }
    path
}

macro_rules! short {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            short(stringify!($name));
        })*

        #[test]
        fn every_target_is_here() {
            let here = [$(stringify!($name)),*];
            assert_eq!(rhio_fuzz::TARGETS.map(|target| target.name), here);
        }
    };
}

short! { frame record body descriptor commit operation progress blob_request filter nats session landing applier }
