//! Tells a subscriber which logs there are under its filter, and how far each one is.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use rhio_core::id::PublicKey;
use rhio_core::subject::Filter;
use rhio_core::wire::{CloseCode, Frame, Interest, LogState, MAX_LOGS};
use tracing::warn;

use crate::deadlines::{ANSWER, FRAME, within};
use crate::node::Node;
use crate::session_error::SessionError;
use rhio_net::links::Incoming;
use rhio_net::stream::StreamError;

use super::publication::Publication;
use crate::blobs::bucket_watch;

/// Changes are told at most this often.
const PACE: Duration = Duration::from_millis(100);
/// How far logs are is told this often when nothing else changes.
const REFRESH: Duration = Duration::from_secs(1);
/// Control frames go before everything else.
const PRIORITY: i32 = 2;

/// Serves a watch until the subscriber leaves.
///
/// # Errors
/// When the stream breaks, or the subscriber does not read.
pub async fn serve(node: &Node, incoming: Incoming, interest: Interest) -> Result<(), SessionError> {
    match interest {
        Interest::Messages(filter) => messages(node, incoming, filter).await,
        Interest::Bucket(bucket) => bucket_watch::serve(node, incoming, &bucket).await,
    }
}

async fn messages(node: &Node, mut incoming: Incoming, filter: Filter) -> Result<(), SessionError> {
    let peer = incoming.peer;
    incoming.writer.set_priority(PRIORITY);
    let mut published = node.holdings.watch_messages();
    let mut told: Option<Vec<LogState>> = None;
    loop {
        published.borrow_and_update();
        let (admitted, refused) = node.holdings.matching(&filter, &peer);
        if admitted.is_empty() && !refused.is_empty() {
            refuse(&mut incoming, &refused, peer).await?;
            return Ok(());
        }
        let logs = states(&admitted);
        if told.as_ref() != Some(&logs) {
            within::<_, SessionError>(FRAME, incoming.writer.send(&Frame::Logs(logs.clone()))).await?;
            told = Some(logs);
        }
        let mut watches: Vec<_> = admitted.iter().map(|publication| publication.logs()).collect();
        watches.iter_mut().for_each(|watch| {
            watch.borrow_and_update();
        });
        let mut changes: FuturesUnordered<_> = watches.iter_mut().map(|watch| watch.changed()).collect();
        tokio::select! {
            frame = incoming.reader.next() => {
                return match frame? {
                    None => Ok(()),
                    Some(_) => Err(StreamError::Unexpected.into()),
                };
            }
            _ = published.changed() => {}
            Some(_) = changes.next() => {}
            () = tokio::time::sleep(REFRESH) => {}
        }
        drop(changes);
        tokio::time::sleep(PACE).await;
    }
}

async fn refuse(incoming: &mut Incoming, matching: &[Arc<Publication>], peer: PublicKey) -> Result<(), SessionError> {
    let names: Vec<_> = matching.iter().map(|p| p.filter.to_string()).collect();
    warn!(
        peer = %peer,
        subjects = names.join(", "),
        "refused a subscription: the node may not read this; to admit it, add its public key to 'nodes' or to the \
         publication's 'allow'"
    );
    let reason = format!("{peer} may not read '{}'; the author must add it to 'nodes' or 'allow'", names.join(", "));
    within(ANSWER, incoming.writer.send(&Frame::Refused { code: CloseCode::Refused, reason })).await
}

fn states(publications: &[Arc<Publication>]) -> Vec<LogState> {
    let mut states: Vec<LogState> = Vec::new();
    for publication in publications {
        let logs = publication.logs().borrow().clone();
        states.extend(logs.closed);
        states.extend(logs.live.map(|live| {
            let progress = *live.progress().borrow();
            LogState {
                descriptor: live.descriptor.clone(),
                closed: false,
                head: progress.tail.head,
                through: progress.tail.through,
                total: progress.tail.total,
                pending: progress.pending,
            }
        }));
    }
    // Never more than a frame holds; the newest matter most.
    states.sort_by_key(|state| state.descriptor.epoch);
    states.split_off(states.len().saturating_sub(MAX_LOGS))
}
