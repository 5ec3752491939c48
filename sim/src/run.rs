//! One run, from its seed to its verdict.

use crate::checker::problems;
use crate::config::{Broken, Config};
use crate::exec::Sim;
use crate::rng::Rng;
use crate::world::{SECOND, World};

/// How long a run may take to come to rest once nothing goes wrong any more.
const PATIENCE: u64 = 120 * SECOND;
/// How long it must then stay at rest.
const REST: u64 = 4 * SECOND;

/// What came of a run.
#[derive(Debug)]
pub struct Verdict {
    /// Everything that is not as it must be.
    pub problems: Vec<String>,
    /// The event log, when it was wanted.
    pub trace: Vec<String>,
}

/// Runs a seed.
pub fn run(seed: u64, broken: Option<Broken>, traced: bool) -> Verdict {
    let mut rng = Rng::new(seed);
    let config = Config { broken, ..Config::draw(&mut rng) };
    let end = config.active;
    let mut world = World::new(config, rng, traced);
    world.note_config();
    let start = world.now;
    world.begin();
    let mut sim = Sim::new(world);
    let failed = |w: &mut World| !w.history.failures.is_empty();
    sim.run(start + end, failed);
    // Looked at now and then, because looking takes longer than most events.
    let mut at = start + end + SECOND / 4;
    while at < start + end + PATIENCE {
        sim.run(at, failed);
        if sim.with(|w| w.history.published.len() as u64 == w.config.messages && problems(w).is_empty()) {
            break;
        }
        at += SECOND / 4;
    }
    sim.run(at + REST, failed);
    sim.with(|w| Verdict { problems: problems(w), trace: w.trace.take().unwrap_or_default() })
}
