//! How long another node may take. What is sent to it waits for its flow control, and what it is asked for waits for its
//! word: neither may be for ever.

use std::future::Future;
use std::time::Duration;

use rhio_net::stream::StreamError;
use thiserror::Error;

/// How long a node may take to open a stream, to take what it is told there, and to answer.
pub const ANSWER: Duration = Duration::from_secs(20);
/// How long a node may take to read one frame of a log. Generous: what was sent before it goes first, over a slow link.
pub const FRAME: Duration = Duration::from_secs(600);

/// A node did not answer, or did not read what it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the other node does not answer, or does not read what it is sent")]
pub struct Silent;

/// Waits so long for something that another node must do.
///
/// # Errors
/// [`Silent`] when the time is over, and whatever happens before.
pub async fn within<T, E: From<StreamError> + From<Silent>>(
    limit: Duration,
    something: impl Future<Output = Result<T, StreamError>>,
) -> Result<T, E> {
    match tokio::time::timeout(limit, something).await {
        Ok(outcome) => outcome.map_err(E::from),
        Err(_) => Err(Silent.into()),
    }
}
