//! Gives an author back what this node holds of its log. The author asks when its JetStream may have lost the end.

use rhio_core::id::{LogId, OpSeq};
use rhio_core::operation::Operation;
use rhio_core::wire::Frame;

use crate::nats::state::{LogSubject, StateError};
use crate::node::Node;
use crate::peer::links::Incoming;

use super::session::SessionError;

/// Sends every operation of the peer's own log from `from` on.
///
/// # Errors
/// When the stream breaks or the state can't be read.
pub async fn serve(node: &Node, mut incoming: Incoming, log: LogId, from: OpSeq) -> Result<(), SessionError> {
    let mut next = from;
    if let Some(subject) = longest(node, &incoming, log).await?
        && let Some(stored) = node.state.find(&subject, from).await?
    {
        let mut reader = node.state.read(&subject, stored.seq).await?;
        while let Some(stored) = reader.next().await? {
            for operation in stored.operations(&node.state)? {
                // A cursor that went back left some of them twice.
                if operation.seq() == next {
                    incoming.writer.send(&Frame::Operation(operation.raw().clone())).await?;
                    next = next.next();
                }
            }
        }
    }
    incoming.writer.send(&Frame::End).await?;
    incoming.writer.finish().await;
    Ok(())
}

/// Several subscriptions may each have a copy; the one that got furthest serves.
async fn longest(node: &Node, incoming: &Incoming, log: LogId) -> Result<Option<LogSubject>, StateError> {
    let mut best: Option<(OpSeq, LogSubject)> = None;
    for subject in node.state.copies(incoming.peer, log).await? {
        let Some(last) = node.state.last(&subject).await? else { continue };
        let end = last.operations(&node.state)?.last().map(Operation::seq).unwrap_or_default();
        if best.as_ref().is_none_or(|(before, _)| *before < end) {
            best = Some((end, subject));
        }
    }
    Ok(best.map(|(_, subject)| subject))
}
