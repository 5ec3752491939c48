//! Gives an author back what this node holds of its log. The author pulls it, to settle, when its JetStream may have
//! lost the end.

use rhio_core::id::{OpSeq, PublicKey};
use rhio_core::wire::{Batch, Frame};
use tokio::sync::OwnedRwLockWriteGuard;

use crate::deadlines::{ANSWER, within};
use crate::node::Node;
use crate::session_error::SessionError;
use rhio_nats::state::LogSubject;
use rhio_net::links::Incoming;

/// Holds still whatever applies an author's logs, so that nothing is stored any more that it is not told of. `None` when
/// something does not come to rest in time; the author then counts this node among those that did not answer.
pub async fn hold(node: &Node, author: PublicKey) -> Option<OwnedRwLockWriteGuard<()>> {
    tokio::time::timeout(ANSWER, node.quiet.hold(author)).await.ok()
}

/// Sends every operation of the peer's own log from `next` on, from these copies of it. They must be [held](hold) still.
///
/// # Errors
/// When the stream breaks or the state can't be read.
pub async fn serve(
    node: &Node,
    incoming: &mut Incoming,
    copies: &[LogSubject],
    mut next: OpSeq,
) -> Result<(), SessionError> {
    // Several subscriptions may each have a copy, and each may have got further than the others.
    for subject in copies {
        next = serve_copy(node, incoming, subject, next).await?;
    }
    within(ANSWER, incoming.writer.send(&Frame::End)).await
}

/// Sends what one copy has from `next` on, and says what comes then. Commits that were taken back count too: their
/// operations were signed and seen. That leaves operations twice, and not in order, so the whole copy is read.
async fn serve_copy(
    node: &Node,
    incoming: &mut Incoming,
    subject: &LogSubject,
    mut next: OpSeq,
) -> Result<OpSeq, SessionError> {
    let mut reader = node.state.read(subject, 1).await?;
    let mut begun = false;
    while let Some(stored) = reader.next().await? {
        for operation in stored.operations(&node.state)? {
            // Where the beginning was pruned, the author must learn that there is more than it can be given.
            let follows = operation.seq() == next || (!begun && operation.seq() > next);
            if follows {
                let frame = Frame::Batch(Batch::bare(operation.raw().clone()));
                within::<_, SessionError>(ANSWER, incoming.writer.send(&frame)).await?;
                next = operation.seq().next();
            }
            begun = true;
        }
    }
    Ok(next)
}
