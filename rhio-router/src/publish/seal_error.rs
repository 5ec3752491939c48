//! Why sealing stopped, and what that makes doubtful.

use thiserror::Error;

use crate::trouble::Cause;
use rhio_nats::source::SourceError;
use rhio_nats::state::StateError;

/// What a subscriber's word has made doubtful.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// Nothing.
    None,
    /// It holds more than this node.
    Behind,
    /// It holds something else.
    Diverged,
}

/// Why sealing stopped.
#[derive(Debug, Error)]
pub enum SealError {
    /// The source's stream.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The state stream.
    #[error(transparent)]
    State(StateError),
    /// Another process with this key.
    #[error(
        "another process with the same private key appends to this log; this one stands back. Run one rhio per key, \
         or give each its own key"
    )]
    OtherWriter,
    /// NATS takes nothing.
    #[error("NATS does not take what it is sent")]
    Stuck,
    /// Something happened that makes it necessary to look where the log ends.
    #[error("{0}")]
    Recover(&'static str, Doubt),
}

impl From<&SealError> for Cause {
    fn from(error: &SealError) -> Self {
        match error {
            SealError::Source(error) => error.into(),
            SealError::State(error) => error.into(),
            SealError::OtherWriter => Self::SameKey,
            SealError::Stuck => Self::NatsSilent,
            SealError::Recover(..) => Self::StateFailed,
        }
    }
}

impl From<StateError> for SealError {
    fn from(error: StateError) -> Self {
        match error {
            StateError::Refused { .. } => Self::OtherWriter,
            error => Self::State(error),
        }
    }
}
