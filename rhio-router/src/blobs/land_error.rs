//! Why an object did not land.

use std::time::Duration;

use rhio_blobs::bucket::BucketError;
use rhio_blobs::fetch::FetchError;
use rhio_core::wire::CloseCode;
use thiserror::Error;

use crate::deadlines::Silent;
use crate::trouble::Cause;
use rhio_nats::state::StateError;
use rhio_net::stream::StreamError;

/// A fetch in which nothing arrives for this long is given up. Longer than a provider may take to read a large object
/// again whose outboard it has lost, within reason: the reading goes on, and the next attempt finds it.
const STALL: Duration = Duration::from_secs(60);

/// The same, as tests may set it.
pub(super) fn stall() -> Duration {
    failpoint::setting("RHIO_TEST_STALL_SECONDS").map_or(STALL, Duration::from_secs)
}

/// Why an object did not land.
#[derive(Debug, Error)]
pub enum LandError {
    /// The local bucket.
    #[error("{0}")]
    Bucket(#[from] BucketError),
    /// The state stream.
    #[error(transparent)]
    State(#[from] StateError),
    /// The connection.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// The content did not come, or was not what was signed.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// Nothing came.
    #[error("no content came for {} s", stall().as_secs())]
    Stalled,
    /// It must be tried again from the beginning.
    #[error("{0}")]
    Again(&'static str),
    /// The node stops.
    #[error("the node stops")]
    Stopped,
    /// The author said something newer of it.
    #[error("superseded")]
    Superseded,
}

impl From<&LandError> for Cause {
    fn from(error: &LandError) -> Self {
        match error {
            LandError::Bucket(error) => error.into(),
            LandError::State(error) => error.into(),
            LandError::Stream(error) => error.into(),
            LandError::Fetch(error) => match error {
                FetchError::Reset { code } => CloseCode::from_code(*code).into(),
                FetchError::Lost { .. } => Self::ConnectionLost,
                FetchError::Ended { .. } => Self::PeerUnavailable,
                FetchError::Violation { .. } | FetchError::Size { .. } | FetchError::Excess => Self::Violation,
                FetchError::Range { .. } => Self::Internal,
            },
            LandError::Stalled => Self::NoProgress,
            LandError::Again(_) | LandError::Superseded => Self::ObjectChanging,
            LandError::Stopped => Self::Internal,
        }
    }
}

impl From<Silent> for LandError {
    fn from(_: Silent) -> Self {
        Self::Stalled
    }
}

impl LandError {
    /// Whether the connection to the author is gone, or the node stops.
    pub fn is_connection(&self) -> bool {
        matches!(self, Self::Stream(_) | Self::Stopped | Self::Fetch(FetchError::Lost { .. }))
    }

    /// Whether the bucket does not have what it confirmed.
    pub fn is_not_kept(&self) -> bool {
        matches!(self, Self::Bucket(BucketError::NotKept(_)))
    }

    /// Whether the peer can't send it now.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Fetch(FetchError::Reset { code })
            if matches!(CloseCode::from_code(*code), CloseCode::Unavailable | CloseCode::Refused))
    }

    /// Whether the peer sent what can't be accepted.
    pub fn is_violation(&self) -> bool {
        matches!(self, Self::Fetch(error) if error.is_violation())
    }
}
