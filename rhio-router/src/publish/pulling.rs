//! Hands a pull to whoever serves what it asks for.

use rhio_core::wire::{Pull, Want};

use crate::blobs::catalog_session;
use crate::node::Node;
use rhio_net::links::Incoming;

use super::recall;
use super::session::{self, SessionError};

/// Serves a pull until the peer leaves, or everything is sent.
///
/// # Errors
/// When the stream breaks, or the pull is not served.
pub async fn serve(node: &Node, incoming: Incoming, pull: Pull) -> Result<(), SessionError> {
    let Pull { log, next, held, want } = pull;
    match want {
        Want::Messages { filter, floors } => {
            session::serve(node, incoming, session::Asked { log, next, held, filter, floors }).await
        }
        Want::Bucket => catalog_session::serve(node, incoming, catalog_session::Asked { log, next, held }).await,
        Want::Settle => recall::serve(node, incoming, log, next).await,
    }
}
