//! Taking operations back: the author asks a reader for those that it may have forgotten.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use rhio_core::id::PublicKey;
use rhio_core::log::chain::Chain;
use rhio_core::wire::{Batch, Frame, Pull, Want};

use super::author::Shared;
use super::store::{Stored, ops_subject};
use crate::exec::Cx;
use crate::nats::{Lost, Nats};
use crate::network::Wire;
use crate::world::{MS, NodeId, SECOND};

/// How long an author waits for one reader.
const PATIENCE: u64 = 2 * SECOND;

/// Asks one reader. `None` when it does not answer in time.
pub async fn ask(cx: &Cx, shared: &Rc<RefCell<Shared>>, reader: NodeId, known: &Chain) -> Option<Vec<Bytes>> {
    let end = cx.now() + PATIENCE;
    while cx.now() < end {
        let conn = shared.borrow().conns.iter().rfind(|conn| conn.peer == reader && conn.check().is_ok()).cloned();
        if let Some(conn) = conn {
            let wire = conn.open();
            let held = known.head().map(|head| head.hash);
            wire.send(&Frame::Pull(Pull { log: known.log(), next: known.next(), held, want: Want::Settle }));
            let mut operations = Vec::new();
            loop {
                match wire.next(end).await {
                    Ok(Frame::Batch(batch)) => operations.push(batch.operation),
                    Ok(Frame::End) => return Some(operations),
                    _ => break,
                }
            }
        }
        cx.sleep(50 * MS).await;
    }
    None
}

/// A reader's answer. It has let go of everything of this author that was under way before: what it has not stored by
/// now, it will not store. Commits that were taken back later count too: their operations were signed and seen.
pub async fn answer(cx: &Cx, nats: &Nats, author: PublicKey, wire: &Wire) -> Result<(), Lost> {
    let Ok(Some(Frame::Pull(Pull { log, next, want: Want::Settle, .. }))) = wire.receive() else { return Ok(()) };
    let messages = nats.state(Some(ops_subject(author, log))).await?;
    let stored: Vec<_> = messages.iter().map(Stored::read).collect();
    let mut operations: Vec<_> = stored.iter().flat_map(|stored| &stored.operations).collect();
    operations.sort_by_key(|op| op.seq());
    operations.dedup_by_key(|op| op.seq());
    operations.retain(|op| op.seq() >= next);
    cx.note(|| format!("gives back {} operations of {log:?}", operations.len()));
    for operation in operations {
        wire.send(&Frame::Batch(Batch::bare(operation.raw().clone())));
    }
    wire.send(&Frame::End);
    Ok(())
}
