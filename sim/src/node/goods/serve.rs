//! Lets readers see a catalog and pull it.

use std::cell::RefCell;
use std::rc::Rc;

use rhio_core::log::descriptor::LogDescriptor;
use rhio_core::log::operation::{Head, Operation};
use rhio_core::log::session::{Session, Step, Unsent};
use rhio_core::log::total::Total;
use rhio_core::record::Position;
use rhio_core::wire::{Batch, CloseCode, Frame, LogState, Pull, Want};

use crate::exec::Cx;
use crate::nats::{Lost, Nats};
use crate::network::{Closed, Connection, Wire};
use crate::node::store::{Stored, ops_subject};

/// A catalog as far as it is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    pub descriptor: LogDescriptor,
    pub head: Option<Head>,
    pub total: Total,
    pub pending: Option<u64>,
}

impl View {
    fn state(&self) -> LogState {
        let Self { descriptor, head, total, pending } = self.clone();
        LogState { descriptor, closed: false, head, through: Position::default(), total, pending }
    }
}

/// What writing and the sessions share.
#[derive(Default)]
pub struct Shared {
    /// NATS and the catalog, while it can be written.
    view: Option<(Nats, View)>,
    /// A reader holds operations that this node does not know.
    pub doubted: bool,
    /// Operations that leave before they are stored, where that rule is broken.
    pub early: Vec<Operation>,
}

impl Shared {
    /// The catalog can't be written for now.
    pub fn hide(&mut self) {
        self.view = None;
        self.early.clear();
    }

    /// Shows how far the catalog is. Returns whether that is new.
    pub fn show(&mut self, nats: &Nats, view: View) -> bool {
        let same = self.view.as_ref().is_some_and(|(_, before)| *before == view);
        if !same {
            self.view = Some((nats.clone(), view));
        }
        !same
    }
}

/// Takes connections for as long as the process lives.
pub async fn accept(cx: Cx, shared: Rc<RefCell<Shared>>) {
    loop {
        let conn = Connection::accept(&cx).await;
        cx.spawn(streams(cx.clone(), conn, Rc::clone(&shared)));
    }
}

async fn streams(cx: Cx, conn: Connection, shared: Rc<RefCell<Shared>>) {
    while conn.check().is_ok() {
        if let Some(wire) = conn.accepted() {
            cx.spawn(stream(cx.clone(), conn.clone(), wire, Rc::clone(&shared)));
        } else {
            cx.changed().await;
        }
    }
}

async fn stream(cx: Cx, conn: Connection, wire: Wire, shared: Rc<RefCell<Shared>>) {
    match wire.receive() {
        Ok(Some(Frame::Watch(_))) => watch(&cx, &conn, &wire, &shared).await,
        Ok(Some(Frame::Pull(pull))) => {
            let code = serve(&cx, &wire, &shared, pull).await.err().unwrap_or(CloseCode::Unavailable);
            wire.send(&Frame::Refused { code, reason: String::new() });
            wire.finish();
        }
        _ => wire.finish(),
    }
}

/// Tells the reader which log there is, now and whenever it changes; none while it can't be written.
async fn watch(cx: &Cx, conn: &Connection, wire: &Wire, shared: &Rc<RefCell<Shared>>) {
    let mut told = None;
    while conn.check().is_ok() {
        let states: Vec<LogState> = shared.borrow().view.iter().map(|(_, view)| view.state()).collect();
        if wire.has_room() && told.as_ref() != Some(&states) {
            wire.send(&Frame::Logs(states.clone()));
            told = Some(states);
        }
        cx.changed().await;
    }
}

async fn serve(cx: &Cx, wire: &Wire, shared: &Rc<RefCell<Shared>>, pull: Pull) -> Result<(), CloseCode> {
    let unavailable = |Lost| CloseCode::Unavailable;
    let view = |shared: &Rc<RefCell<Shared>>| {
        let view = shared.borrow().view.clone().filter(|(_, view)| view.descriptor.id() == pull.log);
        view.ok_or(CloseCode::Unavailable)
    };
    if pull.want != Want::Bucket {
        return Err(CloseCode::Protocol);
    }
    let (nats, first) = view(shared)?;
    let stored = stored(&nats, &first.descriptor).await.map_err(unavailable)?;
    let before = stored.iter().find(|op| op.seq().next() == pull.next).map(Operation::hash);
    // Whatever it is that this node forgot: a new epoch says everything again.
    let mut session = Session::open((pull.next, pull.held), first.head, before).map_err(|refusal| {
        cx.note(|| format!("refuses to serve {:?}: {refusal:?}", pull.log));
        doubt(cx, shared)
    })?;
    loop {
        let (nats, view) = view(shared)?;
        while let Some(frame) = wire.receive().map_err(|Closed| CloseCode::Done)? {
            let Frame::Applied(head) = frame else { return Err(CloseCode::Protocol) };
            session.applied(head).map_err(|Unsent| CloseCode::Protocol)?;
        }
        match session.step(view.head, None) {
            Step::Ring(next) | Step::Log(next) if wire.has_room() => {
                let early = shared.borrow().early.iter().find(|op| op.log() == pull.log && op.seq() == next).cloned();
                let operation = match early {
                    Some(operation) => operation,
                    None => {
                        let stored = self::stored(&nats, &view.descriptor).await.map_err(unavailable)?;
                        let found = stored.into_iter().find(|op| op.seq() == next);
                        found.ok_or_else(|| doubt(cx, shared))?
                    }
                };
                wire.send(&Frame::Batch(Batch::bare(operation.raw().clone())));
                session.sent(next);
            }
            _ => cx.changed().await,
        }
    }
}

/// The state stream does not have what this node has signed.
fn doubt(cx: &Cx, shared: &Rc<RefCell<Shared>>) -> CloseCode {
    shared.borrow_mut().doubted = true;
    cx.touch();
    CloseCode::Unavailable
}

async fn stored(nats: &Nats, descriptor: &LogDescriptor) -> Result<Vec<Operation>, Lost> {
    let messages = nats.state(Some(ops_subject(descriptor.author, descriptor.id()))).await?;
    Ok(messages.iter().flat_map(|message| Stored::read(message).operations).collect())
}
