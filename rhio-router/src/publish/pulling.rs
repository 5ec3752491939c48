//! Hands a pull to whoever serves what it asks for.

use rhio_core::wire::{CloseCode, Pull, Want};
use rhio_net::links::Incoming;

use crate::blobs::entries::Entries;
use crate::holdings::Holding;
use crate::node::Node;
use crate::serving::{self, Asked};
use crate::session_error::SessionError;

use super::payloads::Payloads;
use super::recall;

/// Serves a pull until the peer leaves, or everything is sent.
///
/// # Errors
/// When the stream breaks, or the pull is not served.
pub async fn serve(node: &Node, mut incoming: Incoming, pull: Pull) -> Result<(), SessionError> {
    // Nothing may be stored until the author has read what it is given back.
    let quiet = match pull.want {
        Want::Settle => Some(recall::hold(node, incoming.peer).await),
        Want::Messages { .. } | Want::Bucket => None,
    };
    let outcome = match &quiet {
        Some(None) => Err(SessionError::Refused(CloseCode::Unavailable)),
        _ => find_and_serve(node, &mut incoming, pull).await,
    };
    match &outcome {
        Ok(()) if quiet.is_some() => incoming.writer.finish().await,
        Ok(()) => {}
        Err(error) => {
            incoming.reader.stop(error.code());
            incoming.writer.reset(error.code());
        }
    }
    outcome
}

async fn find_and_serve(node: &Node, incoming: &mut Incoming, pull: Pull) -> Result<(), SessionError> {
    let Pull { log, next, held, want } = pull;
    let (peer, asked) = (incoming.peer, Asked { log, next, held });
    // Who settles asks for its own log; others ask for one of this node's.
    let author = if want == Want::Settle { peer } else { node.me };
    match (want, node.holdings.find(author, log).await?) {
        (Want::Messages { filter, floors }, Some(Holding::Messages(publication)))
            if publication.readership.admits(&peer) =>
        {
            let source = Payloads::open(node, publication, log, (filter, floors)).await?;
            serving::serve(node, incoming, &asked, &source).await
        }
        (Want::Bucket, Some(Holding::Bucket(publication))) if publication.readership.admits(&peer) => {
            serving::serve(node, incoming, &asked, &Entries::of(node, publication, log)).await
        }
        (Want::Settle, Some(Holding::Copies(copies))) => recall::serve(node, incoming, &copies, next).await,
        _ => Err(SessionError::Refused(CloseCode::Unavailable)),
    }
}
