//! Why following a bucket stopped.

use std::time::Duration;

use rhio_blobs::bucket::BucketError;
use rhio_core::log::operation::OperationError;
use thiserror::Error;

use crate::deadlines::Silent;
use crate::status::Refusal;
use crate::trouble::Cause;
use rhio_nats::state::StateError;
use rhio_net::stream::StreamError;

use super::land_error::LandError;

/// Without an operation for this long, while the author has more, the connection is closed and made anew.
pub(super) const STALL: Duration = Duration::from_secs(20);

/// Why following stopped.
#[derive(Debug, Error)]
pub enum FollowError {
    /// The local bucket.
    #[error("local {0}")]
    Bucket(#[from] BucketError),
    /// The state stream.
    #[error(transparent)]
    State(#[from] StateError),
    /// The author's stream.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// The author sent what can't be accepted.
    #[error("the author's node sent what can't be accepted: {1}")]
    Violation(Refusal, String),
    /// Something that concerns more than one object.
    #[error(transparent)]
    Land(LandError),
    /// The author does not answer, or does not read.
    #[error(transparent)]
    Silent(#[from] Silent),
    /// Nothing moves.
    #[error("no progress for {} s although the author has more; the connection is made anew", STALL.as_secs())]
    Stalled,
}

impl From<&FollowError> for Cause {
    fn from(error: &FollowError) -> Self {
        match error {
            FollowError::Bucket(error) => error.into(),
            FollowError::State(error) => error.into(),
            FollowError::Stream(error) => error.into(),
            FollowError::Violation(..) => Self::Violation,
            FollowError::Land(error) => error.into(),
            FollowError::Stalled | FollowError::Silent(Silent) => Self::NoProgress,
        }
    }
}

impl From<OperationError> for FollowError {
    fn from(error: OperationError) -> Self {
        Self::Violation((&error).into(), error.to_string())
    }
}
