//! The getter's side of the iroh-blobs protocol: asks for a range of a blob and verifies what comes.
//!
//! The bytes on the wire are those of iroh-blobs' own getter. Content goes from the stream into the buffer that is handed
//! on, and is verified there, group by group.

use std::io;
use std::ops::Range;
use std::pin::Pin;

use bao_tree::iter::{BaoChunk, ResponseIter};
use bao_tree::{ChunkNum, ChunkRanges};
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, stream};
use iroh::endpoint::{ConnectionError, ReadError, VarInt, WriteError};
use iroh_blobs::util::{RecvStream, SendStream};
use rhio_core::id::BlobHash;
use thiserror::Error;

use crate::hashing::tree::{self, CHUNK, Cv};
use crate::hashing::{GROUP, MAX_SIZE};
use crate::serve::request::encode_request;

/// Bytes of a piece but the last: groups are put together, because whoever writes them pays for each piece.
const PIECE: usize = 64 * 1024;

/// Why a range did not arrive.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum FetchError {
    /// The peer sent what the blob does not have. Nobody else's fault: the stream is authenticated.
    #[error("the peer sent wrong bytes at {offset}")]
    Violation {
        /// Where in the blob; for a wrong parent, where the next content was expected.
        offset: u64,
    },
    /// The peer says that the blob has another size than we were told.
    #[error("the peer has the blob with {claimed} bytes, not {expected}")]
    Size {
        /// By the peer.
        claimed: u64,
        /// By who described the blob.
        expected: u64,
    },
    /// The peer sent more than the response.
    #[error("the peer sent more than it was asked for")]
    Excess,
    /// The response ends early. With nothing received, the peer does not have the blob.
    #[error("the response ends early, at {offset}")]
    Ended {
        /// Where in the blob.
        offset: u64,
    },
    /// The peer has given up the stream.
    #[error("the peer has reset the stream (code {code})")]
    Reset {
        /// Its reason.
        code: u64,
    },
    /// The connection is gone, or the stream is of no use.
    #[error("the connection is lost: {reason}")]
    Lost {
        /// The code that the peer closed the connection with.
        code: Option<u64>,
        /// What is known about it.
        reason: String,
    },
    /// The range is not one that can be asked for. The caller's mistake.
    #[error("no such range of {size} bytes: {start} to {end}")]
    Range {
        /// Its begin.
        start: u64,
        /// Its end.
        end: u64,
        /// The blob's size.
        size: u64,
    },
}

impl FetchError {
    /// Whether the peer has done what no honest and healthy one does. A differing size counts: either the peer lies, or
    /// who described the blob.
    pub fn is_violation(&self) -> bool {
        matches!(self, Self::Violation { .. } | Self::Size { .. } | Self::Excess)
    }
}

/// Verified content in order. It ends with the range or with the first error.
pub type Fetch = Pin<Box<dyn Stream<Item = Result<Bytes, FetchError>> + Send>>;

/// Asks for a range over a stream pair that nothing but frames of the caller's has passed, and yields exactly its bytes,
/// in pieces of 64 KiB and a group at most. A range begins at a multiple of 16 KiB, ends at one or at the blob's end, and
/// is empty only for an empty blob, whose hash is verified too. Nothing happens before the stream is polled.
///
/// Every byte that comes out is verified against the hash, also before an error. After the last one the stream waits for
/// the peer's end of the stream, to notice what is too much; whoever has the whole range need not wait.
/// A peer that sends nothing is not noticed here: the caller sets the time that it may take.
pub fn fetch<R, W>(recv: R, send: W, hash: BlobHash, size: u64, range: Range<u64>) -> Fetch
where
    R: RecvStream + 'static,
    W: SendStream + 'static,
{
    let step = Step::Ask { recv, send: Asking(Some(send)), hash, size, range };
    Box::pin(stream::unfold(step, |step| async move {
        match step {
            Step::Ask { recv, send, hash, size, range } => match Response::begin(recv, send, hash, size, range).await {
                Ok(response) => response.next().await,
                Err(error) => Some((Err(error), Step::Failed(None))),
            },
            Step::Read(response) => response.next().await,
            Step::Failed(error) => error.map(|error| (Err(error), Step::Failed(None))),
        }
    }))
}

/// A stream that a request is still to be written to. Dropped before that it is reset: a stream that is just dropped ends
/// well, and the peer would take what is on it, or nothing, for the request of a node that does not know the protocol.
struct Asking<W: SendStream>(Option<W>);

impl<W: SendStream> Asking<W> {
    async fn ask(mut self, request: Vec<u8>) -> io::Result<()> {
        if let Some(send) = &mut self.0 {
            send.send_bytes(request.into()).await?;
            send.sync().await?;
        }
        // The request ends with its stream.
        self.0 = None;
        Ok(())
    }
}

impl<W: SendStream> Drop for Asking<W> {
    fn drop(&mut self) {
        if let Some(send) = &mut self.0 {
            // On a stream that is gone there is nothing to reset.
            let _ = send.reset(VarInt::from_u32(0));
        }
    }
}

/// What is to be done next.
enum Step<R, W: SendStream> {
    Ask { recv: R, send: Asking<W>, hash: BlobHash, size: u64, range: Range<u64> },
    Read(Response<R>),
    Failed(Option<FetchError>),
}

/// A response that is being read.
struct Response<R> {
    recv: R,
    /// What the response consists of.
    items: ResponseIter,
    /// Verified chaining values of what comes, the next one last.
    expected: Vec<Cv>,
    /// Verified content.
    piece: BytesMut,
    /// Where in the blob the next content belongs.
    offset: u64,
}

impl<R: RecvStream> Response<R> {
    async fn begin(
        mut recv: R,
        send: Asking<impl SendStream>,
        hash: BlobHash,
        size: u64,
        range: Range<u64>,
    ) -> Result<Self, FetchError> {
        let aligned = |offset: u64| offset.is_multiple_of(GROUP as u64);
        let Range { start, end } = range;
        let ordered = if size == 0 { start == 0 && end == 0 } else { start < end };
        if !ordered || end > size || size > MAX_SIZE || !aligned(start) || !(aligned(end) || end == size) {
            return Err(FetchError::Range { start, end, size });
        }
        let (first, last) = (start / CHUNK as u64, end.div_ceil(CHUNK as u64));
        // A range that holds the last chunk is an open one for the traversal. The request names the end all the same, so
        // that a peer with a longer blob sends no more; only the empty blob's range must be open, or it asks for nothing.
        let ranges = if end == size {
            ChunkRanges::from(ChunkNum(first)..)
        } else {
            ChunkRanges::from(ChunkNum(first)..ChunkNum(last))
        };
        let request = encode_request(hash, first, (size > 0).then_some(last));
        send.ask(request).await.map_err(lost)?;

        let mut claimed = [0; 8];
        recv.recv_exact(&mut claimed).await.map_err(|error| failed(error, start))?;
        let claimed = u64::from_le_bytes(claimed);
        if claimed != size {
            return Err(FetchError::Size { claimed, expected: size });
        }
        Ok(Self {
            recv,
            items: ResponseIter::new(tree::tree(size), ranges),
            expected: vec![*hash.as_bytes()],
            piece: BytesMut::new(),
            offset: start,
        })
    }

    async fn next<W: SendStream>(mut self) -> Option<(Result<Bytes, FetchError>, Step<R, W>)> {
        match self.fill().await {
            Ok(()) if self.piece.is_empty() => {
                let rest = self.recv.recv_bytes(1).await;
                // All that was wanted is here and verified, so only what is too much can still be wrong.
                rest.is_ok_and(|rest| !rest.is_empty()).then_some((Err(FetchError::Excess), Step::Failed(None)))
            }
            Ok(()) => {
                let piece = self.piece.split().freeze();
                Some((Ok(piece), Step::Read(self)))
            }
            Err(error) if self.piece.is_empty() => Some((Err(error), Step::Failed(None))),
            Err(error) => Some((Ok(self.piece.freeze()), Step::Failed(Some(error)))),
        }
    }

    /// Reads and verifies until there is a piece or the end. On an error, the piece holds what was right before it.
    async fn fill(&mut self) -> Result<(), FetchError> {
        while self.piece.len() < PIECE {
            let Some(item) = self.items.next() else { break };
            // The tree's traversal asks for no more than was pushed.
            let expected = self.expected.pop().unwrap_or_default();
            match item {
                BaoChunk::Parent { is_root, left, right, .. } => {
                    let mut pair = [[0; 32]; 2];
                    let read = self.recv.recv_exact(pair.as_flattened_mut()).await;
                    read.map_err(|error| failed(error, self.offset))?;
                    if tree::parent(&pair[0], &pair[1], is_root) != expected {
                        return Err(FetchError::Violation { offset: self.offset });
                    }
                    if right {
                        self.expected.push(pair[1]);
                    }
                    if left {
                        self.expected.push(pair[0]);
                    }
                }
                BaoChunk::Leaf { start_chunk, size, is_root, .. } => {
                    let old = self.piece.len();
                    if old == 0 {
                        self.piece.reserve(PIECE + GROUP);
                    }
                    self.piece.resize(old + size, 0);
                    let read = self.recv.recv_exact(&mut self.piece[old..]).await;
                    let verified = match read {
                        Err(error) => Err(failed(error, self.offset)),
                        Ok(()) if tree::subtree(start_chunk.0, &self.piece[old..], is_root) == expected => Ok(()),
                        Ok(()) => Err(FetchError::Violation { offset: self.offset }),
                    };
                    if verified.is_err() {
                        self.piece.truncate(old);
                    }
                    verified?;
                    self.offset += size as u64;
                }
            }
        }
        Ok(())
    }
}

/// What a failed read means. Streams report an early end as "unexpected end", and iroh's, in the middle of what was
/// wanted, as "invalid data".
fn failed(error: io::Error, offset: u64) -> FetchError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData => FetchError::Ended { offset },
        _ => lost(error),
    }
}

fn lost(error: io::Error) -> FetchError {
    let inner = error.get_ref();
    let connection = match (inner.and_then(|e| e.downcast_ref()), inner.and_then(|e| e.downcast_ref())) {
        (Some(ReadError::Reset(code)), _) | (_, Some(WriteError::Stopped(code))) => {
            return FetchError::Reset { code: code.into_inner() };
        }
        (Some(ReadError::ConnectionLost(connection)), _) | (_, Some(WriteError::ConnectionLost(connection))) => {
            Some(connection)
        }
        _ => None,
    };
    let code = match connection {
        Some(ConnectionError::ApplicationClosed(close)) => Some(close.error_code.into_inner()),
        _ => None,
    };
    FetchError::Lost { code, reason: error.to_string() }
}
