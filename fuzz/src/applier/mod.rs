//! The applier, driven by a script: honest and spoiled batches, restarts, a local stream that lost its end, an author
//! that signs nonsense. Nothing unverified is ever handed out to be written, a refused batch changes nothing, and an
//! honest batch is always taken.

mod game;
mod spoil;

use arbitrary::{Result, Unstructured};
use rhio_core::id::{LocalSeq, OpSeq, SourceSeq};
use rhio_core::log::body::Body;
use rhio_core::log::operation::Operation;
use rhio_core::log::total::Total;
use rhio_core::manifest::{Entry, Manifest};
use rhio_core::record::{Position, SourceRecord};
use rhio_core::wire::{Batch, Slot};

use crate::world::{self, World};
use game::Game;

pub use spoil::present;

/// Takes a script.
pub fn run(input: &[u8]) {
    // A script that ends early is a short one.
    let _ = script(&mut Unstructured::new(input));
}

fn script(u: &mut Unstructured<'_>) -> Result<()> {
    let world = World::new(u)?;
    let start = u.int_in_range(0..=world.log.len())?;
    let held = found(u, &world, world.tail(start).through)?;
    let mut game = Game::new(world, world::filter(u)?, world::floors(u)?, start, held);
    while !u.is_empty() {
        match u.int_in_range(0..=15u8)? {
            0..=4 => {
                if let Some(batch) = game.honest(u)? {
                    game.receive_honest(batch);
                }
            }
            5..=8 => {
                let batch = match game.honest(u)? {
                    Some(batch) => batch,
                    None => game.any_batch(u)?,
                };
                if let Some(batch) = spoil::batch(u, &game, batch)? {
                    game.receive_any(batch);
                }
            }
            9 => {
                let batch = game.any_batch(u)?;
                game.receive_any(batch);
            }
            10 => game.pruned(OpSeq(u.int_in_range(0..=8)?)),
            11 | 12 => game.written(),
            13 => game.commit(),
            14 => game.restart(u.int_in_range(0..=8)?),
            _ => {
                let batch = nonsense(u, &mut game)?;
                game.receive_any(batch);
            }
        }
    }
    Ok(())
}

/// What the local stream may hold behind the last commit: mostly the log's records in order, now and then not.
fn found(u: &mut Unstructured<'_>, world: &World, through: Position) -> Result<Vec<Position>> {
    let behind = world.positions().filter(|position| position.seq > through.seq);
    let mut held = Vec::new();
    for position in behind.take(u.int_in_range(0..=5usize)?) {
        match u.int_in_range(0..=15u8)? {
            0 => {}
            // The same number for another message, from before a power cut at the source, or one that is gone.
            1 => held.push(Position { time: position.time.saturating_sub(1), ..position }),
            2 => held.push(Position { seq: position.seq.next(), ..position }),
            3 => held.push(Position { seq: position.seq.next(), time: position.time.saturating_sub(1) }),
            // A second copy.
            4 => held.extend([position; 2]),
            _ => held.push(position),
        }
    }
    if held.len() > 1 && u.ratio(1u8, 8u8)? {
        let (a, b) = (u.choose_index(held.len())?, u.choose_index(held.len())?);
        held.swap(a, b);
    }
    Ok(held)
}

/// A number that is right, a little wrong, or absurd.
fn around(u: &mut Unstructured<'_>, right: u64) -> Result<u64> {
    Ok(match u.int_in_range(0..=7u8)? {
        0 => right.wrapping_add(1),
        1 => right.wrapping_sub(1),
        2 => u64::MAX - u.int_in_range(0..=3u64)?,
        3 => u.arbitrary()?,
        _ => right,
    })
}

/// A well-formed operation that no honest author would sign, as the next one of its log.
fn nonsense(u: &mut Unstructured<'_>, game: &mut Game) -> Result<Batch> {
    let through = game.through();
    let count = u.int_in_range(1..=3u64)?;
    let mut records = Vec::new();
    let mut seq = around(u, through.seq.0)?;
    for _ in 0..count {
        seq = seq.saturating_add(u.int_in_range(1..=2u64)?);
        let position = Position { seq: SourceSeq(seq), time: around(u, through.time)? };
        records.push(SourceRecord { position, record: world::record(u, &game.world().filter)? });
    }
    let entries = records.iter().map(|r| Entry { position: r.position, digest: r.record.digest() }).collect();
    let total = game.total();
    let before = Total { items: around(u, total.items)?, bytes: around(u, total.bytes)? };
    let bytes: usize = records.iter().map(|r| r.record.as_bytes().len()).sum();
    let bytes = around(u, bytes as u64)?;
    // The numbers saturate at the end of their range, where no step is left: then a plain one will do.
    let manifest = Manifest::new(bytes, entries).unwrap_or_else(|_| {
        let entry = |r: &SourceRecord| Entry { position: r.position, digest: r.record.digest() };
        Manifest::new(bytes, records[..1].iter().map(entry).collect()).expect("one record is in order")
    });
    records.truncate(manifest.entries().len());
    let previous = game.expects_after(u.arbitrary()?);
    let body = Body { before, content: manifest.into() };
    let operation = Operation::sign(&world::key(1), game.world().descriptor.id(), previous, 7, body);
    game.sign(&operation);
    let mut batch = spoil::whole(&operation, &records);
    for slot in &mut batch.slots {
        if u.ratio(1u8, 4u8)? {
            *slot = Slot::Gone;
        }
    }
    Ok(batch)
}

/// The first place in the local stream.
const FIRST: LocalSeq = LocalSeq(1);
