//! Reads what a response needs from the bucket, ahead of what is being sent.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::{ServeError, Source};
use crate::bucket::BodyError;

/// Pieces that wait at most. A bucket's pieces are what one read of a socket or a file gives: rarely over 256 KiB.
const AHEAD: usize = 8;

/// The ranges' bytes in order, as one stream.
pub(super) struct Reader {
    pieces: mpsc::Receiver<Result<Bytes, ServeError>>,
    piece: Bytes,
    /// Reads as long as there is somebody who wants it.
    _task: AbortOnDropHandle<()>,
}

impl Reader {
    /// Begins to read, one request for each range.
    pub(super) fn new(source: &Source, ranges: Vec<Range<u64>>) -> Self {
        let (sender, pieces) = mpsc::channel(AHEAD);
        let source = source.clone();
        let task = tokio::spawn(async move {
            for range in ranges {
                if let Err(error) = read(&source, range, &sender).await {
                    // Nobody to tell means that nobody reads any more.
                    let _ = sender.send(Err(error)).await;
                    return;
                }
            }
        });
        Self { pieces, piece: Bytes::new(), _task: AbortOnDropHandle::new(task) }
    }

    /// Appends exactly the next `len` bytes.
    pub(super) async fn read(&mut self, mut len: usize, out: &mut BytesMut) -> Result<(), ServeError> {
        while len > 0 {
            if self.piece.is_empty() {
                let piece = self.pieces.recv().await.ok_or_else(|| body("the content ends early"))?;
                self.piece = piece?;
            }
            let taken = self.piece.split_to(len.min(self.piece.len()));
            out.extend_from_slice(&taken);
            len -= taken.len();
        }
        Ok(())
    }
}

async fn read(
    source: &Source,
    range: Range<u64>,
    sender: &mpsc::Sender<Result<Bytes, ServeError>>,
) -> Result<(), ServeError> {
    let len = range.end - range.start;
    let mut content = source.bucket.read(&source.key, &source.etag, range).await?;
    if content.len != len {
        return Err(body("the bucket answers with another length than it was asked for"));
    }
    let mut left = len;
    while let Some(piece) = content.body.next().await {
        let piece = piece.map_err(ServeError::Body)?;
        left = left.checked_sub(piece.len() as u64).ok_or_else(|| body("the bucket sends more than it announced"))?;
        if !piece.is_empty() && sender.send(Ok(piece)).await.is_err() {
            return Ok(());
        }
    }
    if left > 0 { Err(body("the content ends early")) } else { Ok(()) }
}

fn body(text: &str) -> ServeError {
    ServeError::Body(BodyError(text.to_owned()))
}
