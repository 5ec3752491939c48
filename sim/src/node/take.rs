//! Taking operations back: the author asks a reader for those that it may have forgotten.

use std::cell::RefCell;
use std::rc::Rc;

use rhio_core::id::PublicKey;
use rhio_core::seal::{Given, Holder};
use rhio_core::wire::{Batch, Frame, Pull, Want};

use super::shared::Shared;
use super::store::{Stored, ops_subject};
use crate::base::{MS, NodeId, SECOND};
use crate::exec::Cx;
use crate::nats::{Lost, Nats};
use crate::network::{Connection, Wire};

/// How long an author waits for one reader.
const PATIENCE: u64 = 2 * SECOND;

/// A reader that is asked what it holds. A connection that breaks meanwhile is replaced until the author's patience
/// ends, and the reader asked again.
pub struct Asked<'a> {
    cx: &'a Cx,
    shared: &'a Rc<RefCell<Shared>>,
    reader: NodeId,
    end: u64,
    pull: Option<Pull>,
    wire: Option<Wire>,
}

impl<'a> Asked<'a> {
    pub fn new(cx: &'a Cx, shared: &'a Rc<RefCell<Shared>>, reader: NodeId) -> Self {
        Self { cx, shared, reader, end: cx.now() + PATIENCE, pull: None, wire: None }
    }

    /// Opens a stream to the reader and asks.
    async fn open(&mut self) -> bool {
        let Some(pull) = &self.pull else { return false };
        while self.cx.now() < self.end {
            let ready = |conn: &&Connection| conn.peer == self.reader && conn.check().is_ok();
            let conn = self.shared.borrow().conns.iter().rfind(ready).cloned();
            if let Some(conn) = conn {
                let wire = conn.open();
                wire.send(&Frame::Pull(pull.clone()));
                self.wire = Some(wire);
                return true;
            }
            self.cx.sleep(50 * MS).await;
        }
        false
    }
}

impl Holder for Asked<'_> {
    async fn ask(&mut self, pull: Pull) -> bool {
        self.pull = Some(pull);
        self.open().await
    }

    async fn next(&mut self) -> Option<Given> {
        while let Some(wire) = &self.wire {
            match wire.next(self.end).await {
                Ok(Frame::Batch(batch)) => return Some(Given::Operation(batch.operation)),
                Ok(Frame::End) => return Some(Given::End),
                _ => {
                    // What comes again is known by its number.
                    self.wire = None;
                    self.cx.sleep(50 * MS).await;
                    self.open().await;
                }
            }
        }
        None
    }
}

/// A reader's answer. It has let go of everything of this author that was under way before: what it has not stored by
/// now, it will not store. Commits that were taken back later count too: their operations were signed and seen.
pub async fn answer(cx: &Cx, nats: &Nats, author: PublicKey, wire: &Wire) -> Result<(), Lost> {
    let Ok(Some(Frame::Pull(Pull { log, next, want: Want::Settle, .. }))) = wire.receive() else { return Ok(()) };
    // One for each life of the local stream; each may have got further than the others.
    let copies = format!("{}.", ops_subject(author, log));
    let mut messages = nats.state(None).await?;
    messages.retain(|message| message.subject.starts_with(&copies));
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
