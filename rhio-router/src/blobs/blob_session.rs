//! Sends content to a node that asks for it by its hash, over the iroh-blobs protocol.

use std::sync::Arc;
use std::time::Duration;

use rhio_blobs::bucket::BucketError;
use rhio_blobs::serve::{self, ServeError, Source};
use rhio_core::wire::CloseCode;
use thiserror::Error;
use tracing::{debug, warn};

use crate::deadlines::FRAME;
use crate::node::Node;
use rhio_net::links::Incoming;
use rhio_net::stream::{StreamError, abandon};

use super::importing::{self, ImportError};
use super::publication::BucketPublication;
use super::transfers::Direction;

/// Content goes after everything else.
const PRIORITY: i32 = -1;
/// How long a peer may take to say what it wants.
const REQUEST: Duration = Duration::from_secs(10);

/// Why content was not sent.
#[derive(Debug, Error)]
pub enum BlobError {
    /// The stream broke, or the peer broke the protocol before content was asked for.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// Nothing that the peer may read has this content.
    #[error("no bucket that the node may read holds this content")]
    NotFound,
    /// The object can't be read.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// Asking or sending failed.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The node stops.
    #[error("the node stops")]
    Stopped,
}

impl BlobError {
    fn code(&self) -> CloseCode {
        match self {
            Self::Stream(error) => error.code(),
            Self::Serve(ServeError::Request(_)) => CloseCode::Protocol,
            Self::NotFound => CloseCode::Refused,
            Self::Import(_) | Self::Serve(_) | Self::Stopped => CloseCode::Unavailable,
        }
    }

    /// Whether the peer broke the protocol.
    pub fn is_violation(&self) -> bool {
        matches!(self, Self::Serve(ServeError::Request(_)))
    }
}

/// Answers one request.
///
/// # Errors
/// When it can't be answered to its end.
pub async fn serve(node: &Node, incoming: Incoming) -> Result<(), BlobError> {
    let Incoming { peer, writer, reader, connection: _connection } = incoming;
    writer.set_priority(PRIORITY);
    let mut send = writer.into_stream()?;
    let mut recv = reader.into_stream()?;
    let outcome: Result<(), BlobError> = async {
        let request = tokio::time::timeout(REQUEST, serve::read_request(&mut recv)).await;
        let request = request.map_err(|_| StreamError::Timeout)??;
        let _permits = node.blobs.may_serve(peer).await.ok_or(BlobError::Stopped)?;
        let admitted: Vec<Arc<BucketPublication>> =
            node.holdings.buckets().into_iter().filter(|publication| publication.readership.admits(&peer)).collect();
        let found = admitted.iter().find_map(|p| Some((p, p.locate(&request.hash)?)));
        let (publication, location) = found.ok_or(BlobError::NotFound)?;
        let outboard = importing::outboard(&node.blobs, &location, request.hash).await?;
        let progress = node.blobs.transfers.begin(
            Direction::Send,
            location.bucket.name(),
            &location.key,
            location.size,
            Some(peer),
        );
        let source = Source {
            bucket: Arc::clone(&location.bucket),
            key: location.key.clone(),
            etag: location.etag.clone(),
            outboard,
        };
        match serve::respond(&request, &source, &mut send).await {
            Ok(sent) => {
                progress.add(sent.content);
                progress.done();
                Ok(())
            }
            Err(error) => {
                if is_damaged(&error) {
                    warn!("{}: '{}' is not what it was: {error}", publication.status.name(), location.key);
                    let _ = node.blobs.outboards.remove(request.hash);
                }
                if is_damaged(&error) || is_changed(&error) {
                    // The bucket will tell what it holds by now.
                    publication.look();
                }
                Err(error.into())
            }
        }
    }
    .await;
    match &outcome {
        Ok(()) => {
            let _ = send.finish();
            // So long the peer may take to read what is under way.
            let _ = tokio::time::timeout(FRAME, send.stopped()).await;
        }
        Err(error) => {
            debug!(peer = %peer, %error, "content not sent");
            abandon(&mut send, &mut recv, error.code());
        }
    }
    outcome
}

/// Whether the object or its outboard is not what the catalog says, although the bucket has the same version.
fn is_damaged(error: &ServeError) -> bool {
    matches!(error, ServeError::Outboard(_) | ServeError::Content { .. })
}

/// Whether the object may have been overwritten or deleted since the catalog told of it, as objects are every day.
fn is_changed(error: &ServeError) -> bool {
    matches!(error, ServeError::Body(_) | ServeError::Bucket(BucketError::Changed))
}
