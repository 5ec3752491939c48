//! Gives an author back what this node holds of its log. The author pulls it, to settle, when its JetStream may have
//! lost the end.

use rhio_core::id::{LogId, OpSeq};
use rhio_core::wire::{Batch, Frame};

use crate::node::Node;
use rhio_nats::state::LogSubject;
use rhio_net::links::Incoming;

use super::session::SessionError;

/// Sends every operation of the peer's own log from `from` on.
///
/// # Errors
/// When the stream breaks or the state can't be read.
pub async fn serve(node: &Node, mut incoming: Incoming, log: LogId, from: OpSeq) -> Result<(), SessionError> {
    let _quiet = node.quiet.hold(incoming.peer).await;
    let mut next = from;
    // Several subscriptions may each have a copy, and each may have got further than the others.
    for subject in node.state.copies(incoming.peer, log).await? {
        next = serve_copy(node, &mut incoming, &subject, next).await?;
    }
    incoming.writer.send(&Frame::End).await?;
    incoming.writer.finish().await;
    Ok(())
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
                incoming.writer.send(&Frame::Batch(Batch::bare(operation.raw().clone()))).await?;
                next = operation.seq().next();
            }
            begun = true;
        }
    }
    Ok(next)
}
