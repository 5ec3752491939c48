//! Sends the catalog of a bucket to a subscriber.

use std::time::Duration;

use rhio_core::id::{OpHash, OpSeq, PublicKey};
use rhio_core::wire::{BucketPull, CatalogState, CloseCode, Frame};
use tokio::sync::watch;
use tracing::{debug, warn};

use crate::node::Node;
use crate::publish::session::SessionError;
use crate::status::Count;
use rhio_net::links::Incoming;
use rhio_net::stream::{FrameWriter, StreamError};

use super::publication::{BucketPublication, View};

/// Catalogs are small, and tell what there is to do: they go with live messages.
const PRIORITY: i32 = 1;
/// How far the catalog is, is told at most this often.
const PACE: Duration = Duration::from_millis(25);

/// Serves a pull until the subscriber leaves.
///
/// # Errors
/// When the stream breaks, or the pull is not served.
pub async fn serve(node: &Node, mut incoming: Incoming, pull: BucketPull) -> Result<(), SessionError> {
    let peer = incoming.peer;
    incoming.writer.set_priority(PRIORITY);
    let publication = node.blobs.published.find(&pull.bucket);
    let Some(publication) = publication.filter(|publication| publication.admits(&peer)) else {
        refuse(&mut incoming.writer, peer, &pull.bucket).await?;
        incoming.writer.finish().await;
        return Ok(());
    };
    let _presence = publication.readership.enter(peer);
    let sending = send(node, &publication, peer, &mut incoming.writer, pull);
    let outcome = tokio::select! {
        outcome = sending => outcome,
        // The subscriber says nothing more; what comes is its leaving.
        frame = incoming.reader.next() => match frame {
            Ok(None) => Ok(()),
            Ok(Some(_)) => Err(StreamError::Unexpected.into()),
            Err(error) => Err(error.into()),
        },
    };
    if let Err(error) = &outcome {
        incoming.reader.stop(error.code());
        incoming.writer.reset(error.code());
    }
    outcome
}

async fn refuse(writer: &mut FrameWriter, peer: PublicKey, bucket: &str) -> Result<(), SessionError> {
    warn!(
        peer = %peer,
        bucket,
        "refused a subscription: the bucket is not published, or the node may not read it; to admit it, add its public \
         key to 'nodes' or to the publication's 'allow'"
    );
    // Whether there is such a bucket is nobody's business who may not read it.
    let reason = format!(
        "bucket '{bucket}' is not published for {peer}; the author must publish it, and add the key to \
                          'nodes' or 'allow'"
    );
    Ok(writer.send(&Frame::Refused { code: CloseCode::Refused, reason }).await?)
}

/// Sends the catalog's operations, and how far it is, for ever.
async fn send(
    node: &Node,
    publication: &BucketPublication,
    peer: PublicKey,
    writer: &mut FrameWriter,
    pull: BucketPull,
) -> Result<(), SessionError> {
    let mut views = publication.view();
    let first = wait(&mut views).await?;
    let mut next = begin(node, publication, &first, &pull).await?;
    debug!(peer = %peer, bucket = pull.bucket, from = next.0, "catalog session begins");
    let mut state_seq = match next {
        OpSeq(0) => 1,
        next => node.state.find(&first.subject, next).await?.map_or(1, |stored| stored.seq),
    };
    let mut told = None;
    loop {
        let view = views.borrow_and_update().clone();
        let Some(view) = view.filter(|view| view.log == first.log) else {
            return Err(SessionError::Refused(CloseCode::Unavailable));
        };
        if !publication.admits(&peer) {
            return Err(SessionError::Refused(CloseCode::Refused));
        }
        let state = CatalogState {
            descriptor: view.descriptor.clone(),
            from: next,
            head: view.head,
            said: view.said,
            pending: view.pending,
        };
        if told.as_ref() != Some(&state) {
            writer.send(&Frame::Catalog(state.clone())).await?;
            told = Some(state);
        }
        if view.head.is_some_and(|head| head.seq >= next) {
            let mut reader = node.state.read(&view.subject, state_seq).await?;
            while let Some(stored) = reader.next().await? {
                state_seq = stored.seq + 1;
                for operation in stored.catalog(&node.state)? {
                    // What the state stream holds beyond the view is durable too.
                    if operation.seq() == next {
                        writer.send(&Frame::Operation(operation.raw().clone())).await?;
                        let (entries, bytes) = (operation.content().entries().len(), operation.raw().len());
                        publication.status.sent(Count { messages: entries as u64, bytes: bytes as u64 });
                        failpoint::hit("catalog-sent");
                        next = next.next();
                    }
                }
            }
        }
        tokio::time::sleep(PACE).await;
        if views.changed().await.is_err() {
            return Err(SessionError::Refused(CloseCode::Unavailable));
        }
    }
}

/// The catalog, as soon as there is one.
async fn wait(views: &mut watch::Receiver<Option<View>>) -> Result<View, SessionError> {
    let view = views.wait_for(Option::is_some).await;
    let view = view.map_err(|_| SessionError::Refused(CloseCode::Unavailable))?;
    view.clone().ok_or(SessionError::Refused(CloseCode::Unavailable))
}

/// Where to begin: behind what the subscriber holds of this very log, else at its beginning.
async fn begin(
    node: &Node,
    publication: &BucketPublication,
    view: &View,
    pull: &BucketPull,
) -> Result<OpSeq, SessionError> {
    let Some(held) = pull.held.filter(|held| held.log == view.log) else { return Ok(OpSeq(0)) };
    let Some(last) = held.next.0.checked_sub(1).map(OpSeq) else { return Ok(OpSeq(0)) };
    let ours: Option<OpHash> = match view.head {
        Some(head) if head.seq == last => Some(head.hash),
        Some(head) if head.seq > last => {
            node.state.find_catalog(&view.subject, last).await?.map(|operation| operation.hash())
        }
        _ => None,
    };
    if ours.is_none() || ours != held.hash {
        warn!("{}: a subscriber holds more of the catalog than this node", publication.status.name());
        publication.doubted.notify_one();
        return Err(SessionError::Refused(CloseCode::Unavailable));
    }
    Ok(held.next)
}
