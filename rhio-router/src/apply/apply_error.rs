//! Why applying a log stopped.

use std::time::Duration;

use rhio_core::apply::Violation;
use thiserror::Error;

use crate::deadlines::Silent;
use crate::trouble::Cause;
use rhio_nats::sink::SinkError;
use rhio_nats::state::StateError;
use rhio_net::stream::StreamError;

/// Without progress for this long, while the author has more, the connection is closed and made anew.
pub(super) const STALL: Duration = Duration::from_secs(20);
/// How long the local stream may take to acknowledge a message.
pub(super) const ACK: Duration = Duration::from_secs(10);

/// Why applying stopped.
#[derive(Debug, Error)]
pub enum ApplyError {
    /// The local stream.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// The state stream.
    #[error(transparent)]
    State(#[from] StateError),
    /// The provider's stream.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// The provider sent what can't be accepted.
    #[error("the author's node sent what can't be accepted: {0}")]
    Violation(#[from] Violation),
    /// The provider does not answer, or does not read.
    #[error(transparent)]
    Silent(#[from] Silent),
    /// Nothing moves.
    #[error("no progress for {} s although the author has more; the connection is made anew", STALL.as_secs())]
    Stalled,
    /// The local stream does not answer.
    #[error("the local stream did not acknowledge a message within {} s", ACK.as_secs())]
    Unacknowledged,
    /// The sequence numbers do not tell whether every record was stored.
    #[error("somebody else writes to the local stream too; every record is acknowledged by itself from now on")]
    Shared,
    /// The author wants back what it forgot, and nothing may be under way while it reads.
    #[error("the author takes back operations that it lost")]
    Recalled,
    /// The local stream is another one now.
    #[error("the local stream was deleted and created again")]
    Recreated,
}

impl From<&ApplyError> for Cause {
    fn from(error: &ApplyError) -> Self {
        match error {
            ApplyError::Sink(error) => error.into(),
            ApplyError::State(error) => error.into(),
            ApplyError::Stream(error) => error.into(),
            ApplyError::Violation(_) => Self::Violation,
            ApplyError::Stalled | ApplyError::Silent(Silent) => Self::NoProgress,
            ApplyError::Unacknowledged => Self::NatsSilent,
            ApplyError::Shared | ApplyError::Recreated => Self::StreamChanged,
            ApplyError::Recalled => Self::PeerUnavailable,
        }
    }
}
