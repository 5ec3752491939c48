use std::io::{Error, Write};

use bao_tree::io::outboard::PostOrderMemOutboard;
use proptest::prelude::*;

use super::*;

/// Content without repetition, so that two groups never have one hash.
fn content(size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    blake3::Hasher::new().update(b"content").finalize_xof().fill(&mut bytes);
    bytes
}

fn hash(pieces: &[&[u8]]) -> Hashed<Vec<u8>> {
    let mut hasher = Hasher::new(Vec::new());
    for piece in pieces {
        hasher.update(piece).unwrap();
    }
    hasher.finish().unwrap()
}

fn check(data: &[u8], hashed: &Hashed<Vec<u8>>) {
    let expected = PostOrderMemOutboard::create(data, tree::BLOCK);
    assert_eq!(hashed.size, data.len() as u64);
    assert_eq!(hashed.hash.as_bytes(), blake3::hash(data).as_bytes(), "size {}", data.len());
    assert!(hashed.sink == expected.data, "the outboard of {} bytes differs", data.len());
}

#[test]
fn every_boundary_has_blake3s_hash_and_bao_trees_outboard() {
    let data = content(9 * 1024 * 1024 + 7);
    let mut sizes = vec![0, 1, 1023, 1024, 1025, 3 * 1024 * 1024, 4 * 1024 * 1024 + 1, data.len()];
    for groups in 1..=33 {
        sizes.extend([groups * GROUP - 1, groups * GROUP, groups * GROUP + 1, groups * GROUP + 1024]);
    }
    for size in sizes {
        let data = &data[..size];
        check(data, &hash(&[data]));
    }
}

#[test]
fn threads_make_no_difference() {
    let data = content(7 * 1024 * 1024 + 12_345);
    for threads in [1, 2, 3, 16] {
        for (first, end) in [(0, data.len()), (1, data.len()), (GROUP, data.len() - 12_345), (GROUP - 1, 6_000_001)] {
            let mut hasher = Hasher::new(Vec::new());
            hasher.update(&data[..first]).unwrap();
            hasher.update_on(NonZero::new(threads).unwrap(), &data[first..end]).unwrap();
            hasher.update(&data[end..]).unwrap();
            check(&data, &hasher.finish().unwrap());
        }
    }
}

#[test]
fn content_longer_than_any_object_is_refused() {
    let mut hasher = Hasher::new(io::sink());
    hasher.groups = MAX_SIZE / GROUP as u64;
    assert_eq!(hasher.update(b"x").unwrap_err().kind(), io::ErrorKind::FileTooLarge);
}

#[test]
fn a_sink_that_fails_fails_the_update() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(Error::from(io::ErrorKind::StorageFull))
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut hasher = Hasher::new(Full);
    // The first two groups become one subtree only when there is more.
    hasher.update(&content(2 * GROUP)).unwrap();
    hasher.update(&content(GROUP)).unwrap();
    assert_eq!(hasher.update(&content(1)).unwrap_err().kind(), io::ErrorKind::StorageFull);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn pieces_of_any_length_make_no_difference(
        size in prop_oneof![0..70_000usize, 0..2_000_000usize],
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..24),
    ) {
        let data = content(size);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(size + 1)).collect();
        cuts.extend([0, size]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &data[cut[0]..cut[1]]).collect();
        check(&data, &hash(&pieces));
    }
}
