//! The provider's side of the iroh-blobs protocol: answers a request for ranges of one blob from a bucket and an outboard.
//!
//! A response is the blob's size (8 bytes, little endian) and then, from the root down and from left to right, the 64
//! bytes of every parent that the ranges touch and the content of every leaf. A leaf is a group of 16 KiB; where a group
//! is wanted in part, its parents and chunks are sent one by one.
//!
//! Everything is verified before it is sent, parents and content alike: hashing costs a fraction of what encryption and
//! sending cost, and it is us who notice that a cache or an object is damaged, not a peer who would have to blame us.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use bao_tree::io::sync::truncate_ranges;
use bao_tree::iter::{BaoChunk, ResponseIterRef};
use bao_tree::{ChunkNum, ChunkRangesRef};
use bytes::BytesMut;
use iroh_blobs::util::{RecvStream, SendStream};
use rhio_core::object::ObjectKey;
use thiserror::Error;

use crate::bucket::{BodyError, Bucket, BucketError, Etag};
use crate::hashing::GROUP;
use crate::hashing::tree::{self, CHUNK, Cv, GROUP_CHUNKS, GROUP_LEVEL};
use crate::outboard::Outboard;

mod reader;
pub(crate) mod request;

use reader::Reader;
pub use request::{BlobRequest, MAX_RANGES, MAX_REQUEST_LEN, RequestError, decode_request};

/// Bytes that go to the stream at once: fewer, larger writes are cheaper, and a peer waits for no more than this.
const WRITE: usize = 64 * 1024;

/// Where a blob is.
#[derive(Clone, Debug)]
pub struct Source {
    /// The bucket.
    pub bucket: Arc<dyn Bucket>,
    /// The object that has the blob as its content.
    pub key: ObjectKey,
    /// The version of the object that was hashed.
    pub etag: Etag,
    /// The blob's hash, size and hash tree.
    pub outboard: Outboard,
}

/// What a response took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Bytes of content.
    pub content: u64,
    /// Bytes in all: size, parents and content.
    pub total: u64,
}

/// Why a request was not answered, or not to its end.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The request could not be read.
    #[error("the request does not arrive: {0}")]
    Receive(io::Error),
    /// The peer asks for what it may not ask for.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The source is another blob than the request's. The caller's mistake.
    #[error("the request is for another blob")]
    OtherBlob,
    /// The outboard can't be read or is damaged. It is to be removed and made anew.
    #[error("the outboard is of no use: {0}")]
    Outboard(String),
    /// The object's content is not what was hashed, though its version says so.
    #[error("the content from byte {offset} on is not what was hashed")]
    Content {
        /// Where the group begins that is wrong.
        offset: u64,
    },
    /// The bucket does not give the object; [`BucketError::Changed`] when it is another now.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// The bucket did not give all of the content.
    #[error("reading the content: {0}")]
    Body(BodyError),
    /// The peer does not take the response.
    #[error("the response can't be sent: {0}")]
    Send(io::Error),
}

/// Reads a request to its end, which is the end of the stream.
///
/// # Errors
/// When it does not arrive, is too long, or is not one that is answered here.
pub async fn read_request(recv: &mut impl RecvStream) -> Result<BlobRequest, ServeError> {
    let bytes = recv.recv_bytes(MAX_REQUEST_LEN + 1).await.map_err(ServeError::Receive)?;
    Ok(decode_request(&bytes)?)
}

/// Sends the response. The stream is left open: dropped it ends well, and after an error it is to be reset with a code
/// that tells the peer why. Everything that was sent until an error is right. Memory is bounded by what is read ahead
/// (eight pieces of the bucket's) and written at once, whatever the blob's size; a peer that does not read stops the
/// reading. The object is read with one request for each contiguous range of groups.
///
/// # Errors
/// When the outboard, the bucket, the content or the stream fails. The response is incomplete then.
pub async fn respond<W: SendStream>(request: &BlobRequest, source: &Source, send: &mut W) -> Result<Sent, ServeError> {
    let outboard = &source.outboard;
    if request.hash != outboard.hash() {
        return Err(ServeError::OtherBlob);
    }
    let ranges = truncate_ranges(&request.ranges, outboard.size());
    let mut response = Response {
        outboard,
        reader: Reader::new(source, groups(ranges, outboard.size())),
        out: BytesMut::with_capacity(WRITE + GROUP),
        expected: vec![*outboard.hash().as_bytes()],
        group: BytesMut::new(),
        group_start: None,
        content: 0,
    };
    response.out.extend_from_slice(&outboard.size().to_le_bytes());
    let mut total = 0;
    for item in ResponseIterRef::new(outboard.tree(), ranges) {
        response.add(item).await?;
        if response.out.len() >= WRITE {
            let out = response.out.split().freeze();
            total += out.len() as u64;
            send.send_bytes(out).await.map_err(ServeError::Send)?;
            response.out.reserve(WRITE + GROUP);
        }
    }
    let out = response.out.freeze();
    total += out.len() as u64;
    send.send_bytes(out).await.map_err(ServeError::Send)?;
    send.sync().await.map_err(ServeError::Send)?;
    Ok(Sent { content: response.content, total })
}

/// A response that is being made.
struct Response<'a> {
    outboard: &'a Outboard,
    reader: Reader,
    /// What is to be sent next.
    out: BytesMut,
    /// Verified chaining values of what comes, the next one last.
    expected: Vec<Cv>,
    /// The group that is sent in part.
    group: BytesMut,
    /// Where it begins.
    group_start: Option<u64>,
    content: u64,
}

impl Response<'_> {
    async fn add(&mut self, item: BaoChunk) -> Result<(), ServeError> {
        // The tree's traversal asks for no more than was pushed.
        let expected = self.expected.pop().unwrap_or_default();
        match item {
            BaoChunk::Parent { node, is_root, left, right, .. } if node.level() >= GROUP_LEVEL => {
                let pair = self.outboard.pair(node).map_err(|error| ServeError::Outboard(error.to_string()))?;
                if tree::parent(&pair.0, &pair.1, is_root) != expected {
                    return Err(ServeError::Outboard(format!("parent {node} is damaged")));
                }
                self.add_parent(&pair, left, right);
            }
            BaoChunk::Parent { node, is_root, left, right, .. } => {
                let chunks = node.chunk_range();
                let (start, mid) = (chunks.start.0, node.mid().0);
                let data = self.part(start, (chunks.end.0 - start) as usize * CHUNK).await?;
                let (first, second) = data.split_at_checked((mid - start) as usize * CHUNK).unwrap_or((data, &[]));
                let pair = (tree::subtree(start, first, false), tree::subtree(mid, second, false));
                if tree::parent(&pair.0, &pair.1, is_root) != expected {
                    return Err(damaged(start));
                }
                self.add_parent(&pair, left, right);
            }
            BaoChunk::Leaf { start_chunk: ChunkNum(start), size, is_root, .. } => {
                let old = self.out.len();
                if size == self.group_len(start) {
                    self.reader.read(size, &mut self.out).await?;
                } else {
                    self.part(start, size).await?;
                    let offset = (start % GROUP_CHUNKS) as usize * CHUNK;
                    self.out.extend_from_slice(&self.group[offset..offset + size]);
                }
                if tree::subtree(start, &self.out[old..], is_root) != expected {
                    return Err(damaged(start));
                }
                self.content += size as u64;
            }
        }
        Ok(())
    }

    fn add_parent(&mut self, (first, second): &(Cv, Cv), left: bool, right: bool) {
        self.out.extend_from_slice(first);
        self.out.extend_from_slice(second);
        if right {
            self.expected.push(*second);
        }
        if left {
            self.expected.push(*first);
        }
    }

    /// Bytes of the group that begins at a chunk; 0 where none does.
    fn group_len(&self, chunk: u64) -> usize {
        if chunk.is_multiple_of(GROUP_CHUNKS) {
            (self.outboard.size().saturating_sub(chunk * CHUNK as u64)).min(GROUP as u64) as usize
        } else {
            0
        }
    }

    /// At most `len` bytes from a chunk on, of the group that it is in.
    async fn part(&mut self, chunk: u64, len: usize) -> Result<&[u8], ServeError> {
        let offset = (chunk % GROUP_CHUNKS) as usize;
        let start = chunk - offset as u64;
        if self.group_start != Some(start) {
            self.group.clear();
            self.reader.read(self.group_len(start), &mut self.group).await?;
            self.group_start = Some(start);
        }
        let from = (offset * CHUNK).min(self.group.len());
        Ok(&self.group[from..from.saturating_add(len).min(self.group.len())])
    }
}

fn damaged(chunk: u64) -> ServeError {
    ServeError::Content { offset: (chunk - chunk % GROUP_CHUNKS) * CHUNK as u64 }
}

/// The bytes of all groups that truncated ranges touch, as few ranges as possible.
fn groups(ranges: &ChunkRangesRef, size: u64) -> Vec<Range<u64>> {
    let last = ChunkNum::chunks(size).0.saturating_sub(1);
    let mut groups: Vec<Range<u64>> = Vec::new();
    for range in ranges.boundaries().chunks(2) {
        let &[start, ref end @ ..] = range else { continue };
        let start = start.0.min(last) / GROUP_CHUNKS * GROUP as u64;
        let end = end.first().map_or(size, |end| end.0.div_ceil(GROUP_CHUNKS).saturating_mul(GROUP as u64).min(size));
        match groups.last_mut() {
            Some(before) if start <= before.end => before.end = before.end.max(end),
            _ if start < end => groups.push(start..end),
            _ => {}
        }
    }
    groups
}
