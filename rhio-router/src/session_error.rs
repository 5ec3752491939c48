//! Why a session with a node that reads ended.

use rhio_core::record::Position;
use rhio_core::wire::CloseCode;
use thiserror::Error;

use crate::deadlines::Silent;
use crate::trouble::Cause;
use rhio_nats::source::SourceError;
use rhio_nats::state::StateError;
use rhio_net::stream::StreamError;

/// Why a session ended.
#[derive(Debug, Error)]
pub enum SessionError {
    /// The stream broke.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// The state stream can't be read.
    #[error(transparent)]
    State(#[from] StateError),
    /// The source's stream can't be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The peer does not read what it is sent.
    #[error(transparent)]
    Silent(#[from] Silent),
    /// The source's stream has another message where a signed one was.
    #[error(
        "message {} of stream '{stream}' is not what it was when it was signed; readers get nothing of this log from \
         there on until it is as it was, or is deleted",
        .position.seq
    )]
    Altered {
        /// The stream.
        stream: String,
        /// Which message.
        position: Position,
    },
    /// The peer is not served, with the code that it is told.
    #[error("not served: {}", .0.reason())]
    Refused(CloseCode),
}

impl SessionError {
    /// How the stream is closed.
    pub fn code(&self) -> CloseCode {
        match self {
            Self::Stream(error) => error.code(),
            Self::Silent(Silent) => CloseCode::Stalled,
            Self::State(_) | Self::Source(_) | Self::Altered { .. } => CloseCode::Unavailable,
            Self::Refused(code) => *code,
        }
    }
}

impl From<&SessionError> for Cause {
    fn from(error: &SessionError) -> Self {
        match error {
            SessionError::Stream(error) => error.into(),
            SessionError::State(error) => error.into(),
            SessionError::Source(error) => error.into(),
            SessionError::Silent(Silent) => Self::NoProgress,
            SessionError::Altered { .. } => Self::StreamAltered,
            SessionError::Refused(code) => (*code).into(),
        }
    }
}
