//! The hash tree: its geometry and its two operations.

use bao_tree::{BaoTree, BlockSize};
use blake3::hazmat::{self, HasherExt};

use super::GROUP;

/// A chaining value; at the root, the hash.
pub(crate) type Cv = [u8; 32];

/// Bytes of one BLAKE3 chunk.
pub(crate) const CHUNK: usize = blake3::CHUNK_LEN;
/// Chunks of a group.
pub(crate) const GROUP_CHUNKS: u64 = (GROUP / CHUNK) as u64;
/// Nodes of at least this level have their pair in the outboard, the others are within one group.
pub(crate) const GROUP_LEVEL: u32 = GROUP_CHUNKS.trailing_zeros();
/// The group's size as bao-tree wants it.
pub(crate) const BLOCK: BlockSize = BlockSize::from_chunk_log(GROUP_LEVEL as u8);

/// The tree of content of this length.
pub(crate) fn tree(size: u64) -> BaoTree {
    BaoTree::new(size, BLOCK)
}

/// Hashes a subtree that begins at a chunk. Only the root may be empty.
pub(crate) fn subtree(start_chunk: u64, data: &[u8], is_root: bool) -> Cv {
    if is_root {
        return *blake3::hash(data).as_bytes();
    }
    let mut hasher = blake3::Hasher::new();
    hasher.set_input_offset(start_chunk * CHUNK as u64);
    hasher.update(data);
    hasher.finalize_non_root()
}

/// Hashes whole groups, from a chunk on, with the caller's and other threads.
pub(crate) fn groups(start_chunk: u64, data: &[u8], threads: usize) -> Vec<Cv> {
    let mut cvs = vec![Cv::default(); data.len() / GROUP];
    let share = cvs.len().div_ceil(threads.max(1)).max(1);
    let hash = |first: usize, data: &[u8], cvs: &mut [Cv]| {
        for (index, (group, cv)) in data.chunks_exact(GROUP).zip(cvs).enumerate() {
            *cv = subtree(start_chunk + (first + index) as u64 * GROUP_CHUNKS, group, false);
        }
    };
    std::thread::scope(|scope| {
        let mut parts = data.chunks(share * GROUP).zip(cvs.chunks_mut(share)).enumerate();
        let own = parts.next();
        for (index, (data, cvs)) in parts {
            scope.spawn(move || hash(index * share, data, cvs));
        }
        if let Some((_, (data, cvs))) = own {
            hash(0, data, cvs);
        }
    });
    cvs
}

/// Hashes a parent.
pub(crate) fn parent(left: &Cv, right: &Cv, is_root: bool) -> Cv {
    if is_root {
        *hazmat::merge_subtrees_root(left, right, hazmat::Mode::Hash).as_bytes()
    } else {
        hazmat::merge_subtrees_non_root(left, right, hazmat::Mode::Hash)
    }
}
