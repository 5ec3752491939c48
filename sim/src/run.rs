//! One run, from its seed to its verdict.

use crate::base::SECOND;
use crate::bucket;
use crate::checker;
use crate::config::{Broken, Config};
use crate::exec::Sim;
use crate::node;
use crate::rng::Rng;
use crate::world::World;

/// How long a run about messages may take to come to rest once nothing goes wrong any more.
const PATIENCE: u64 = 120 * SECOND;
/// The same for buckets: an object that somebody else's was in the way of is tried again after five minutes.
const PATIENCE_FOR_BUCKETS: u64 = 700 * SECOND;
/// How long it must then stay at rest.
const REST: u64 = 4 * SECOND;

/// What a run is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// Messages of streams.
    Messages,
    /// Objects of buckets.
    Buckets,
}

/// What came of a run.
#[derive(Debug)]
pub struct Verdict {
    /// Everything that is not as it must be.
    pub problems: Vec<String>,
    /// The event log, when it was wanted.
    pub trace: Vec<String>,
}

/// Everything that is not as it must be.
fn problems(world: &World) -> Vec<String> {
    [checker::problems(world), bucket::checker::problems(world)].concat()
}

/// Runs a seed.
pub fn run(about: About, seed: u64, broken: Option<Broken>, traced: bool) -> Verdict {
    let mut rng = Rng::new(seed);
    let (drawn, patience) = match about {
        About::Messages => (Config::draw(&mut rng), PATIENCE),
        About::Buckets => (Config::draw_buckets(&mut rng), PATIENCE_FOR_BUCKETS),
    };
    let config = Config { broken, ..drawn };
    let end = config.active;
    let mut world = World::new(config, rng, traced);
    world.note_config();
    let start = world.now;
    world.begin();
    let mut sim = Sim::new(world, |cx| Box::pin(node::run(cx)));
    let failed = |w: &mut World| !w.history.failures.is_empty() || !w.goods.failures.is_empty();
    sim.run(start + end, failed);
    // Looked at now and then, because looking takes longer than most events.
    let mut at = start + end + SECOND / 4;
    while at < start + end + patience {
        sim.run(at, failed);
        if sim.with(|w| w.history.published.len() as u64 == w.config.messages && problems(w).is_empty()) {
            break;
        }
        at += SECOND / 4;
    }
    sim.run(at + REST, failed);
    sim.with(|w| Verdict { problems: problems(w), trace: w.trace.take().unwrap_or_default() })
}
