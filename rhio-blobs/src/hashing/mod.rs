//! One pass over an object's content gives its hash and its outboard.
//!
//! The hash is plain BLAKE3. The outboard holds the chaining values of every parent above the groups of 16 KiB, in
//! post-order, so it can be written while the content goes by and its length need not be known before.

use std::io;
use std::num::NonZero;

use rhio_core::id::BlobHash;

pub(crate) mod tree;

use tree::{Cv, GROUP_CHUNKS};

/// Bytes that one leaf of the hash tree covers: the smallest piece that can be verified.
pub const GROUP: usize = 16 * 1024;

/// Largest content that is hashed, served or fetched: far above what any S3 server takes, and far below where arithmetic
/// on offsets could overflow.
pub const MAX_SIZE: u64 = 1 << 50;

/// Starting a thread costs about as much as hashing 256 KiB, so each must have more to do than that.
const MIN_PER_THREAD: usize = 1024 * 1024;

/// Content's hash, its length, and the sink that took its outboard.
#[derive(Debug)]
pub struct Hashed<W> {
    /// The BLAKE3 hash.
    pub hash: BlobHash,
    /// Bytes of content.
    pub size: u64,
    /// What the outboard was written to; not flushed.
    pub sink: W,
}

/// Hashes content that comes in pieces. It does no IO but what its sink does, and keeps at most one group and one hash
/// per level of the tree in memory.
#[derive(Debug)]
pub struct Hasher<W> {
    sink: W,
    /// Roots of the finished subtrees, the largest first. Merging is put off until more content comes, because only then
    /// it is known that a subtree is not the whole.
    stack: Vec<Cv>,
    /// The last group, whole or not: it is not hashed before it is known whether it is the only one.
    group: Vec<u8>,
    /// Groups on the stack.
    groups: u64,
}

impl<W: io::Write> Hasher<W> {
    /// Begins. `sink` takes the outboard: 64 bytes for each group but the first. [`io::sink`] when only the hash is
    /// wanted.
    pub fn new(sink: W) -> Self {
        Self { sink, stack: Vec::new(), group: Vec::new(), groups: 0 }
    }

    /// Bytes taken so far.
    pub fn size(&self) -> u64 {
        self.groups * GROUP as u64 + self.group.len() as u64
    }

    /// Takes the next bytes. Fastest with many groups at once, because whole groups are hashed where they are.
    ///
    /// # Errors
    /// When the sink fails, or the content is longer than [`MAX_SIZE`]. The hasher is of no use afterwards.
    pub fn update(&mut self, data: &[u8]) -> io::Result<()> {
        self.update_on(NonZero::<usize>::MIN, data)
    }

    /// As [`Hasher::update`], but on several threads, which it starts and waits for. That gains for a local file that is
    /// read in pieces of 4 MiB and more; where a thread would get less than 1 MiB, none is started. The result is the
    /// same in any case.
    ///
    /// # Errors
    /// As [`Hasher::update`].
    pub fn update_on(&mut self, threads: NonZero<usize>, mut data: &[u8]) -> io::Result<()> {
        if self.size().saturating_add(data.len() as u64) > MAX_SIZE {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "content is longer than any object can be"));
        }
        if !self.group.is_empty() {
            let (head, rest) = data.split_at(data.len().min(GROUP - self.group.len()));
            self.group.extend_from_slice(head);
            if rest.is_empty() {
                return Ok(());
            }
            let cv = tree::subtree(self.groups * GROUP_CHUNKS, &self.group, false);
            self.group.clear();
            self.push(cv)?;
            data = rest;
        }
        // The last group waits, even if it is whole.
        let (whole, last) = data.split_at(data.len().saturating_sub(1) / GROUP * GROUP);
        let threads = threads.get().min(whole.len() / MIN_PER_THREAD);
        if threads > 1 {
            for cv in tree::groups(self.groups * GROUP_CHUNKS, whole, threads) {
                self.push(cv)?;
            }
        } else {
            for group in whole.chunks_exact(GROUP) {
                self.push(tree::subtree(self.groups * GROUP_CHUNKS, group, false))?;
            }
        }
        if !last.is_empty() {
            self.group.reserve_exact(GROUP);
            self.group.extend_from_slice(last);
        }
        Ok(())
    }

    /// Ends the content.
    ///
    /// # Errors
    /// When the sink fails.
    pub fn finish(mut self) -> io::Result<Hashed<W>> {
        let size = self.size();
        let is_only = self.groups == 0;
        let last = tree::subtree(self.groups * GROUP_CHUNKS, &self.group, is_only);
        self.push(last)?;
        while self.stack.len() > 1 {
            self.merge(self.stack.len() == 2)?;
        }
        let root = self.stack.pop().unwrap_or(last);
        Ok(Hashed { hash: BlobHash::from_bytes(root), size, sink: self.sink })
    }

    /// Puts a group on the stack, after the subtrees before it that are complete have become one. As many are left as
    /// the number of groups has binary ones.
    fn push(&mut self, cv: Cv) -> io::Result<()> {
        while self.stack.len() > self.groups.count_ones() as usize {
            self.merge(false)?;
        }
        self.stack.push(cv);
        self.groups += 1;
        Ok(())
    }

    fn merge(&mut self, is_root: bool) -> io::Result<()> {
        if let (Some(right), Some(left)) = (self.stack.pop(), self.stack.pop()) {
            self.sink.write_all(&left)?;
            self.sink.write_all(&right)?;
            self.stack.push(tree::parent(&left, &right, is_root));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
