use bao_tree::io::outboard::PostOrderMemOutboard;
use bao_tree::io::sync::Outboard as _;
use tempfile::TempDir;

use super::*;
use crate::hashing::Hasher;

fn content(size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    blake3::Hasher::new().update(b"outboard").finalize_xof().fill(&mut bytes);
    bytes
}

fn make(store: &OutboardStore, data: &[u8]) -> Outboard {
    let mut hasher = Hasher::new(store.draft());
    hasher.update(data).unwrap();
    let hashed = hasher.finish().unwrap();
    hashed.sink.keep(hashed.hash, hashed.size).unwrap()
}

/// Every file below a folder.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

#[test]
fn every_parent_is_where_bao_tree_expects_it() {
    let dir = TempDir::new().unwrap();
    let store = OutboardStore::open(dir.path()).unwrap();
    let data = content(70 * GROUP + 5);
    let mut sizes = vec![GROUP + 1, data.len()];
    sizes.extend((2..=67).flat_map(|groups| [groups * GROUP, groups * GROUP + 1]));
    for size in sizes {
        let data = &data[..size];
        let kept = make(&store, data);
        let opened = store.get(kept.hash(), size as u64).unwrap().unwrap();
        let expected = PostOrderMemOutboard::create(data, tree::BLOCK);
        for node in opened.tree().pre_order_nodes_iter() {
            // The last leaf has no pair when it is one group only.
            let Some(pair) = expected.load(node).unwrap() else { continue };
            let pair = (*pair.0.as_bytes(), *pair.1.as_bytes());
            assert_eq!(opened.pair(node).unwrap(), pair, "{node} of {size} bytes");
            assert_eq!(kept.pair(node).unwrap(), pair, "{node} of {size} bytes");
        }
    }
}

#[test]
fn one_group_needs_no_disk() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("cache");
    let store = OutboardStore::open(&path).unwrap();
    fs::remove_dir_all(&path).unwrap();
    for size in [0, 1, GROUP] {
        let outboard = make(&store, &content(size));
        assert!(store.get(outboard.hash(), size as u64).unwrap().is_some());
    }
    assert!(!path.exists(), "the folder was made for nothing");
    // The first that needs one makes the folder again.
    make(&store, &content(GROUP + 1));
    assert_eq!(files(&path).len(), 1);
}

#[test]
fn a_truncated_or_longer_file_is_removed_and_made_again() {
    let dir = TempDir::new().unwrap();
    let store = OutboardStore::open(dir.path()).unwrap();
    let data = content(5 * GROUP);
    let outboard = make(&store, &data);
    let size = data.len() as u64;
    let path = store.path(outboard.hash());
    for len in [0, 64 * 4 - 1, 64 * 4 + 1, 64 * 5] {
        OpenOptions::new().write(true).open(&path).unwrap().set_len(len).unwrap();
        assert!(store.get(outboard.hash(), size).unwrap().is_none(), "{len} bytes");
        assert!(!path.exists(), "{len} bytes are left");
        make(&store, &data);
        assert!(store.get(outboard.hash(), size).unwrap().is_some());
    }
    // A file of another size than the one asked for is no use either.
    assert!(store.get(outboard.hash(), size + GROUP as u64).unwrap().is_none());
    assert!(store.get(outboard.hash(), MAX_SIZE + 1).is_err());
}

#[test]
fn drafts_leave_nothing_when_they_are_dropped_or_left_by_a_crash() {
    let dir = TempDir::new().unwrap();
    let store = OutboardStore::open(dir.path()).unwrap();
    let mut hasher = Hasher::new(store.draft());
    hasher.update(&content(40 * 1024 * 1024)).unwrap();
    assert_eq!(files(dir.path()).len(), 1, "a long draft is on disk");
    drop(hasher);
    assert!(files(dir.path()).is_empty());

    let kept = make(&store, &content(2 * GROUP));
    fs::write(dir.path().join("draft-1-0"), b"half").unwrap();
    fs::write(dir.path().join("note.txt"), b"not ours").unwrap();
    let store = OutboardStore::open(dir.path()).unwrap();
    assert_eq!(files(dir.path()).len(), 2, "the outboard and the note stay");
    assert!(store.get(kept.hash(), kept.size()).unwrap().is_some());
}

#[test]
fn an_outboard_is_kept_only_for_its_own_size() {
    let dir = TempDir::new().unwrap();
    let store = OutboardStore::open(dir.path()).unwrap();
    let mut hasher = Hasher::new(store.draft());
    hasher.update(&content(3 * GROUP)).unwrap();
    let hashed = hasher.finish().unwrap();
    let error = hashed.sink.keep(hashed.hash, 4 * GROUP as u64).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    assert!(files(dir.path()).is_empty());
}

#[test]
fn retain_and_remove_forget_and_usage_counts() {
    let dir = TempDir::new().unwrap();
    let store = OutboardStore::open(dir.path()).unwrap();
    let outboards: Vec<_> = (2..10).map(|groups| make(&store, &content(groups * GROUP))).collect();
    let bytes = (2..10).map(|groups| (groups - 1) * 64).sum();
    assert_eq!(store.usage().unwrap(), Usage { files: 8, bytes });
    store.remove(outboards[0].hash()).unwrap();
    store.remove(outboards[0].hash()).unwrap();
    let wanted = outboards[3].hash();
    assert_eq!(store.retain(|hash| hash == wanted).unwrap(), Usage { files: 1, bytes: 4 * 64 });
    assert!(store.get(wanted, outboards[3].size()).unwrap().is_some());
    assert!(store.get(outboards[1].hash(), outboards[1].size()).unwrap().is_none());
    // One that is open stays readable.
    let root = outboards[1].tree().pre_order_nodes_iter().next().unwrap();
    outboards[1].pair(root).unwrap();
}
