//! Sends the catalog of a bucket to a subscriber.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rhio_core::id::{LogId, OpHash, OpSeq, PublicKey};
use rhio_core::log::session::{Session, Step, Unsent};
use rhio_core::wire::{Batch, CloseCode, Frame};
use tracing::{debug, warn};

use crate::node::Node;
use crate::publish::readership::Presence;
use crate::publish::session::SessionError;
use crate::status::Count;
use rhio_nats::state::StateReader;
use rhio_net::links::Incoming;
use rhio_net::stream::{FrameReader, FrameWriter, StreamError};

use super::publication::{BucketPublication, View};

/// Catalogs are small, and tell what there is to do: they go with live messages.
const PRIORITY: i32 = 1;

/// What a subscriber asks for: a log, the first operation that it lacks, and the hash of the one before.
pub struct Asked {
    /// The log.
    pub log: LogId,
    /// The first operation that is lacking.
    pub next: OpSeq,
    /// The hash of the operation before that.
    pub held: Option<OpHash>,
}

/// Serves a pull of a bucket's log until the subscriber leaves.
///
/// # Errors
/// When the stream breaks, or the pull is not served.
pub async fn serve(node: &Node, mut incoming: Incoming, asked: Asked) -> Result<(), SessionError> {
    incoming.writer.set_priority(PRIORITY);
    let outcome = open_and_serve(node, &mut incoming, asked).await;
    if let Err(error) = &outcome {
        incoming.reader.stop(error.code());
        incoming.writer.reset(error.code());
    }
    outcome
}

async fn open_and_serve(node: &Node, incoming: &mut Incoming, asked: Asked) -> Result<(), SessionError> {
    let peer = incoming.peer;
    let unavailable = || SessionError::Refused(CloseCode::Unavailable);
    let publication = node.blobs.published.of_log(asked.log).filter(|publication| publication.admits(&peer));
    let publication = publication.ok_or_else(unavailable)?;
    let view = publication.view().borrow().clone().filter(|view| view.log == asked.log).ok_or_else(unavailable)?;
    let before = hash_before(node, &view, asked.next).await?;
    let session = Session::open((asked.next, asked.held), view.head, before).map_err(|_| {
        // Whatever it is that this node forgot: a new epoch says everything again.
        warn!(peer = %peer, "{}: a subscriber holds more of the catalog than this node", publication.status.name());
        publication.doubted.notify_one();
        unavailable()
    })?;
    debug!(peer = %peer, bucket = publication.bucket.name(), from = session.next().0, "catalog session begins");
    let session = Mutex::new(session);
    let presence = publication.readership.enter(peer);
    let sending = send(node, (&publication, &view), peer, &session, &mut incoming.writer);
    let hearing = hear(&session, &mut incoming.reader, &presence);
    tokio::select! {
        outcome = sending => outcome,
        outcome = hearing => outcome,
    }
}

fn lock(session: &Mutex<Session>) -> MutexGuard<'_, Session> {
    session.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The hash that the log has for the operation before `next`.
async fn hash_before(node: &Node, view: &View, next: OpSeq) -> Result<Option<OpHash>, SessionError> {
    let Some(wanted) = next.0.checked_sub(1).map(OpSeq) else { return Ok(None) };
    if let Some(head) = view.head.filter(|head| head.seq == wanted) {
        return Ok(Some(head.hash));
    }
    let Some(stored) = node.state.find(&view.subject, wanted).await? else { return Ok(None) };
    let found = stored.operations(&node.state)?.into_iter().find(|operation| operation.seq() == wanted);
    Ok(found.map(|operation| operation.hash()))
}

/// Sends what the subscriber lacks, for ever.
async fn send(
    node: &Node,
    (publication, first): (&BucketPublication, &View),
    peer: PublicKey,
    session: &Mutex<Session>,
    writer: &mut FrameWriter,
) -> Result<(), SessionError> {
    let mut views = publication.view();
    let mut reader: Option<StateReader> = None;
    loop {
        let view = views.borrow_and_update().clone();
        let Some(view) = view.filter(|view| view.log == first.log) else {
            return Err(SessionError::Refused(CloseCode::Unavailable));
        };
        if !publication.admits(&peer) {
            return Err(SessionError::Refused(CloseCode::Refused));
        }
        let step = lock(session).step(view.head, None);
        match step {
            Step::Ring(next) | Step::Log(next) => {
                let mut open = match reader.take() {
                    Some(open) => open,
                    None => {
                        let stored = node.state.find(&view.subject, next).await?;
                        let Some(stored) = stored else {
                            // It was durable, so the state stream is another one now, or has forgotten it: nothing else
                            // would tell as long as the bucket does not change.
                            if publication.view().borrow().as_ref().is_some_and(|now| now.log == first.log) {
                                debug!(bucket = publication.bucket.name(), "the state stream lost the catalog's end");
                                publication.doubted.notify_one();
                            }
                            return Err(SessionError::Refused(CloseCode::Unavailable));
                        };
                        node.state.read(&view.subject, stored.seq).await?
                    }
                };
                // At its end it has read what was the end when it was opened; there is more now.
                if let Some(stored) = open.next().await? {
                    for operation in stored.operations(&node.state)? {
                        if operation.seq() != lock(session).next() {
                            continue;
                        }
                        writer.send(&Frame::Batch(Batch::bare(operation.raw().clone()))).await?;
                        lock(session).sent(operation.seq());
                        let (entries, bytes) = (operation.entries().len(), operation.raw().len());
                        publication.status.sent(Count { messages: entries as u64, bytes: bytes as u64 });
                        failpoint::hit("catalog-sent");
                    }
                    reader = Some(open);
                }
            }
            Step::Wait => {
                reader = None;
                if views.changed().await.is_err() {
                    return Err(SessionError::Refused(CloseCode::Unavailable));
                }
            }
        }
    }
}

/// Hears what the subscriber has stored, until it leaves.
async fn hear(session: &Mutex<Session>, reader: &mut FrameReader, presence: &Presence) -> Result<(), SessionError> {
    loop {
        let head = match reader.next().await? {
            Some(Frame::Applied(head)) => head,
            Some(_) => return Err(StreamError::Unexpected.into()),
            None => return Ok(()),
        };
        lock(session).applied(head).map_err(|Unsent| SessionError::Refused(CloseCode::Protocol))?;
        presence.applied(head.seq);
    }
}
