//! Tells a subscriber which log a bucket has, and how far that is.

use std::time::Duration;

use rhio_core::id::PublicKey;
use rhio_core::wire::{CloseCode, Frame, LogState};
use tracing::warn;

use crate::deadlines::{ANSWER, FRAME, within};
use crate::node::Node;
use crate::session_error::SessionError;
use rhio_net::links::Incoming;
use rhio_net::stream::{FrameWriter, StreamError};

/// Control frames go before everything else.
const PRIORITY: i32 = 2;
/// How far the log is, is told at most this often.
const PACE: Duration = Duration::from_millis(25);

/// Serves a watch of a bucket until the subscriber leaves.
///
/// # Errors
/// When the stream breaks, or the subscriber does not read.
pub async fn serve(node: &Node, mut incoming: Incoming, bucket: &str) -> Result<(), SessionError> {
    let peer = incoming.peer;
    incoming.writer.set_priority(PRIORITY);
    let publication = node.holdings.bucket(bucket);
    let Some(publication) = publication.filter(|publication| publication.readership.admits(&peer)) else {
        refuse(&mut incoming.writer, peer, bucket).await?;
        incoming.writer.finish().await;
        return Ok(());
    };
    let mut views = publication.view();
    let mut told: Option<Vec<LogState>> = None;
    loop {
        if !publication.readership.admits(&peer) {
            refuse(&mut incoming.writer, peer, bucket).await?;
            return Ok(());
        }
        // None while the log can't be written.
        let states: Vec<LogState> = views.borrow_and_update().iter().map(super::publication::View::state).collect();
        if told.as_ref() != Some(&states) {
            within::<_, SessionError>(FRAME, incoming.writer.send(&Frame::Logs(states.clone()))).await?;
            told = Some(states);
        }
        tokio::select! {
            frame = incoming.reader.next() => {
                return match frame? {
                    None => Ok(()),
                    Some(_) => Err(StreamError::Unexpected.into()),
                };
            }
            changed = views.changed() => {
                if changed.is_err() {
                    return Ok(());
                }
            }
        }
        tokio::time::sleep(PACE).await;
    }
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
        "bucket '{bucket}' is not published for {peer}; the author must publish it, and add the key to 'nodes' or \
         'allow'"
    );
    within(ANSWER, writer.send(&Frame::Refused { code: CloseCode::Refused, reason })).await
}
