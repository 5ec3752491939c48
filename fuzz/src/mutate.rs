//! Random changes of inputs, without a guide: what an ordinary test can do in some seconds.

use fastrand::Rng;

/// Longest input.
pub const MAX_LEN: usize = 1024;

/// Numbers at which something changes.
const EDGES: [u64; 10] = [0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0xffff, 0x7fff_ffff, 0xffff_ffff, u64::MAX];

/// A change of one of the seeds, or now and then random bytes.
pub fn input(random: &mut Rng, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = match random.choice(seeds) {
        Some(seed) if random.u8(..) > 8 => seed.clone(),
        _ => (0..random.usize(..256)).map(|_| random.u8(..)).collect(),
    };
    for _ in 0..random.usize(1..=4) {
        change(random, &mut bytes, seeds);
    }
    bytes.truncate(MAX_LEN.max(seeds.iter().map(Vec::len).max().unwrap_or_default()));
    bytes
}

fn change(random: &mut Rng, bytes: &mut Vec<u8>, seeds: &[Vec<u8>]) {
    let at = random.usize(..=bytes.len());
    let end = (at + random.usize(..16)).min(bytes.len());
    match random.u8(..8) {
        // One bit, one byte, some bytes.
        0 if at < bytes.len() => bytes[at] ^= 1 << random.u8(..8),
        1 if at < bytes.len() => bytes[at] = random.u8(..),
        2 => bytes[at..end].fill_with(|| random.u8(..)),
        // Less and more.
        3 => drop(bytes.drain(at..end)),
        4 => bytes.truncate(at),
        5 => drop(bytes.splice(at..at, (0..random.usize(1..16)).map(|_| random.u8(..)).collect::<Vec<_>>())),
        // A length or count at an edge.
        6 => {
            let edge = EDGES[random.usize(..EDGES.len())].to_be_bytes();
            let width = 1 << random.usize(..4);
            let end = (at + width).min(bytes.len());
            bytes[at..end].copy_from_slice(&edge[8 - (end - at)..]);
        }
        // A part of another seed.
        _ => {
            if let Some(other) = random.choice(seeds).filter(|other| !other.is_empty()) {
                let from = random.usize(..other.len());
                let to = (from + random.usize(1..64)).min(other.len());
                drop(bytes.splice(at..end, other[from..to].iter().copied()));
            }
        }
    }
}
