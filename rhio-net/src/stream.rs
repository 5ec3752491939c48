//! Frames over a QUIC stream.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use iroh::endpoint::{ReadError, ReadExactError, RecvStream, SendStream, VarInt, WriteError};
use rhio_core::codec::DecodeError;
use rhio_core::wire::{CloseCode, Frame, FrameHeader, HEADER_LEN};
use thiserror::Error;

use super::connection::Connection;

/// How long the rest of a frame may take once it has begun. Generous: 1 MiB over a 50 kbit/s link takes three minutes.
const FRAME_DEADLINE: Duration = Duration::from_secs(600);
/// What is read at once; memory for a frame grows with what arrives, not with what its header promises.
const CHUNK: usize = 256 * 1024;
/// Memory that a frame's header alone may claim; an ordinary batch fits.
const EAGER: usize = 1024 * 1024;

/// A conversation ended.
#[derive(Debug, Error)]
pub enum StreamError {
    /// The peer said goodbye with this code.
    #[error("closed by the peer: {}", .0.reason())]
    Closed(CloseCode),
    /// The peer refused, in its own words.
    #[error("refused by the peer: {reason}")]
    Refused {
        /// The code.
        code: CloseCode,
        /// What the peer says.
        reason: String,
    },
    /// The connection is gone.
    #[error("connection lost: {0}")]
    Lost(String),
    /// The peer sent what is no frame.
    #[error("the peer sent a bad frame: {0}")]
    Bad(#[from] DecodeError),
    /// The peer began a frame and did not end it in time.
    #[error("the peer stopped in the middle of a frame")]
    Timeout,
    /// The stream ended in the middle of a frame.
    #[error("the stream ended in the middle of a frame")]
    Truncated,
    /// A frame that does not belong here.
    #[error("the peer sent an unexpected frame")]
    Unexpected,
}

impl StreamError {
    /// How this side closes the stream, when it is the peer's fault.
    pub fn code(&self) -> CloseCode {
        match self {
            Self::Bad(_) | Self::Truncated | Self::Unexpected => CloseCode::Protocol,
            Self::Timeout => CloseCode::Stalled,
            Self::Closed(_) | Self::Refused { .. } | Self::Lost(_) => CloseCode::Done,
        }
    }

    /// Whether the peer broke the protocol.
    pub fn is_violation(&self) -> bool {
        matches!(self, Self::Bad(_) | Self::Truncated | Self::Unexpected)
    }
}

impl From<ReadError> for StreamError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Reset(code) => Self::Closed(CloseCode::from_code(code.into_inner())),
            other => Self::Lost(other.to_string()),
        }
    }
}

impl From<WriteError> for StreamError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Stopped(code) => Self::Closed(CloseCode::from_code(code.into_inner())),
            other => Self::Lost(other.to_string()),
        }
    }
}

/// Reads frames.
pub struct FrameReader {
    stream: RecvStream,
    /// What has arrived of the next frame: reading may be interrupted and goes on later.
    buffer: BytesMut,
    received: u64,
}

impl FrameReader {
    /// Reads from this stream.
    pub fn new(stream: RecvStream) -> Self {
        Self { stream, buffer: BytesMut::new(), received: 0 }
    }

    /// The next frame, or `None` when the peer has finished. Cancel-safe: what has arrived is kept.
    ///
    /// # Errors
    /// When the stream is closed, or what comes is no frame.
    pub async fn next(&mut self) -> Result<Option<Frame>, StreamError> {
        if !self.fill(HEADER_LEN).await? {
            return if self.buffer.is_empty() { Ok(None) } else { Err(StreamError::Truncated) };
        }
        let mut header = [0; HEADER_LEN];
        header.copy_from_slice(&self.buffer[..HEADER_LEN]);
        let header = FrameHeader::decode(header)?;
        let whole = HEADER_LEN + header.len;
        self.buffer.reserve(whole.min(EAGER).saturating_sub(self.buffer.len()));
        let filled = tokio::time::timeout(FRAME_DEADLINE, self.fill(whole)).await;
        if !filled.map_err(|_| StreamError::Timeout)?? {
            return Err(StreamError::Truncated);
        }
        let payload = self.buffer.split_to(whole).freeze().slice(HEADER_LEN..);
        Ok(Some(Frame::decode(header, payload)?))
    }

    /// Reads until `len` bytes are there; `false` when the stream ends before.
    async fn fill(&mut self, len: usize) -> Result<bool, StreamError> {
        while self.buffer.len() < len {
            let want = (len - self.buffer.len()).clamp(HEADER_LEN, CHUNK);
            match self.stream.read_chunk(want).await? {
                Some(chunk) => {
                    self.received += chunk.bytes.len() as u64;
                    self.buffer.extend_from_slice(&chunk.bytes);
                }
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    /// The stream itself, to go on with in another protocol.
    ///
    /// # Errors
    /// When the peer has sent frames that nobody asked for.
    pub fn into_stream(self) -> Result<RecvStream, StreamError> {
        if self.buffer.is_empty() { Ok(self.stream) } else { Err(StreamError::Unexpected) }
    }

    /// Bytes that have arrived so far.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Tells the peer that nothing more will be read.
    pub fn stop(&mut self, code: CloseCode) {
        let _ = self.stream.stop(VarInt::from_u32(code.code()));
    }
}

/// Writes frames.
pub struct FrameWriter {
    stream: Option<SendStream>,
    /// A frame has begun and is not sent to its end.
    broken: bool,
}

impl Drop for FrameWriter {
    fn drop(&mut self) {
        // Dropped, a stream ends well. A peer would take half of a frame for a broken protocol.
        if self.broken {
            self.reset(CloseCode::Done);
        }
    }
}

impl FrameWriter {
    /// Writes to this stream.
    pub fn new(stream: SendStream) -> Self {
        Self { stream: Some(stream), broken: false }
    }

    /// Sends a frame; returns when the stream's flow control has taken it. Not cancel-safe.
    ///
    /// # Errors
    /// When the peer does not read any more, or the connection is gone.
    pub async fn send(&mut self, frame: &Frame) -> Result<(), StreamError> {
        self.send_bytes(frame.encode()).await
    }

    /// Sends a frame that is encoded already. Not cancel-safe.
    ///
    /// # Errors
    /// When the peer does not read any more, or the connection is gone.
    pub async fn send_bytes(&mut self, frame: Bytes) -> Result<(), StreamError> {
        let Some(stream) = &mut self.stream else { return Err(StreamError::Unexpected) };
        self.broken = true;
        stream.write_chunk(frame).await?;
        self.broken = false;
        Ok(())
    }

    /// The stream itself, to go on with in another protocol.
    ///
    /// # Errors
    /// When a frame was not sent to its end.
    pub fn into_stream(mut self) -> Result<SendStream, StreamError> {
        self.stream.take().filter(|_| !self.broken).ok_or(StreamError::Unexpected)
    }

    /// Streams of higher priority are sent first.
    pub fn set_priority(&self, priority: i32) {
        if let Some(stream) = &self.stream {
            let _ = stream.set_priority(priority);
        }
    }

    /// Says that nothing more comes, and waits a moment for the peer to have read it all.
    pub async fn finish(mut self) {
        if let Some(stream) = &mut self.stream {
            let _ = stream.finish();
            let _ = tokio::time::timeout(Duration::from_secs(2), stream.stopped()).await;
        }
    }

    /// Breaks off with a code.
    pub fn reset(&mut self, code: CloseCode) {
        if let Some(stream) = &mut self.stream {
            let _ = stream.reset(VarInt::from_u32(code.code()));
        }
    }
}

/// Opens a stream.
///
/// # Errors
/// When the connection is gone.
pub async fn open(connection: &Connection) -> Result<(FrameWriter, FrameReader), StreamError> {
    let (send, recv) = connection.open_bi().await.map_err(|e| StreamError::Lost(e.to_string()))?;
    Ok((FrameWriter::new(send), FrameReader::new(recv)))
}

/// Closes a connection with a code.
pub fn close(connection: &Connection, code: CloseCode) {
    connection.close(code);
}

/// Breaks off a stream that has gone on in another protocol, in both directions.
pub fn abandon(send: &mut SendStream, recv: &mut RecvStream, code: CloseCode) {
    let code = VarInt::from_u32(code.code());
    let _ = recv.stop(code);
    let _ = send.reset(code);
}

impl From<ReadExactError> for StreamError {
    fn from(error: ReadExactError) -> Self {
        match error {
            ReadExactError::FinishedEarly(_) => Self::Truncated,
            ReadExactError::ReadError(error) => error.into(),
        }
    }
}
