//! What lies between nodes: connections, and streams on them. Frames travel as the bytes that the daemon sends, in
//! order within a stream, each with a delay of its own. A connection breaks at any time: of what is under way a
//! beginning still arrives, and each side learns of it some time later. Flow control lets a few frames wait, no more.
//!
//! Not modelled: authentication (a connection is from whom it says), and frames that were tampered with (unit tests of
//! the applier do that).

use std::collections::VecDeque;

use bytes::Bytes;
use rhio_core::wire::{Frame, FrameHeader, HEADER_LEN};

use crate::base::{MS, NodeId, ProcId, SECOND, US, name};
use crate::exec::Cx;
use crate::world::World;

pub mod links;

use links::{Conn, Stream};

/// Frames that may be under way or unread on one stream and direction.
const WINDOW: usize = 6;

/// The stream or the connection is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;

impl World {
    fn dial(&mut self, proc: ProcId, from: NodeId, to: NodeId) -> Option<u64> {
        if self.net.parted.iter().any(|pair| *pair == (from, to) || *pair == (to, from)) {
            return None;
        }
        let there: Vec<_> = self.procs.iter().filter(|(_, node)| **node == to).map(|(proc, _)| *proc).collect();
        let other = *there.get(self.rng.below(there.len() as u64) as usize)?;
        self.net.next += 1;
        let id = self.net.next;
        let (noticed, opened) = ([false; 2], Default::default());
        let conn = Conn { procs: [proc, other], nodes: [from, to], broken: false, noticed, opened };
        self.net.conns.insert(id, conn);
        self.net.incoming.entry(other).or_default().push_back(id);
        self.wake(other);
        self.note(|| format!("connection {id} from {}/{proc} to {}/{other}", name(from), name(to)));
        Some(id)
    }

    /// Breaks connections.
    pub fn break_conns(&mut self, which: impl Fn(&Conn) -> bool) {
        let ids: Vec<_> = self.net.conns.iter().filter(|(_, c)| which(c)).map(|(id, _)| *id).collect();
        ids.into_iter().for_each(|id| self.break_conn(id));
    }

    fn break_conn(&mut self, id: u64) {
        if self.net.conns.get(&id).is_some_and(|conn| !conn.broken) {
            self.note(|| format!("connection {id} breaks"));
            for stream in self.net.streams.values_mut().filter(|stream| stream.conn == id) {
                for pipe in &mut stream.pipes {
                    pipe.grace = self.rng.below(pipe.flying as u64 + 1) as usize;
                }
            }
            if let Some(conn) = self.net.conns.get_mut(&id) {
                conn.broken = true;
            }
            for side in 0..2 {
                let delay = self.rng.between(MS, 400 * MS);
                self.after(delay, move |w| w.notice(id, side));
            }
        }
    }

    fn notice(&mut self, id: u64, side: usize) {
        let Some(conn) = self.net.conns.get_mut(&id) else { return };
        conn.noticed[side] = true;
        let (proc, both) = (conn.procs[side], conn.noticed[0] && conn.noticed[1]);
        if both {
            self.net.conns.remove(&id);
            self.net.streams.retain(|_, stream| stream.conn != id);
        }
        self.wake(proc);
    }

    fn send(&mut self, stream: u64, side: usize, frame: Option<Bytes>) {
        let delay = self.rng.between(MS, 15 * MS);
        let Some(open) = self.net.streams.get_mut(&stream) else { return };
        if self.net.conns.get(&open.conn).is_none_or(|conn| conn.broken) {
            return;
        }
        let pipe = &mut open.pipes[1 - side];
        pipe.flying += 1;
        // Frames follow each other at some distance, so that a fault can strike between them.
        pipe.busy = (pipe.busy + 20 * US).max(self.now + delay);
        let delay = pipe.busy - self.now;
        self.after(delay, move |w| w.arrive(stream, 1 - side, frame));
    }

    fn arrive(&mut self, stream: u64, side: usize, frame: Option<Bytes>) {
        let Some(open) = self.net.streams.get_mut(&stream) else { return };
        let Some(conn) = self.net.conns.get(&open.conn) else { return };
        let pipe = &mut open.pipes[side];
        pipe.flying -= 1;
        if conn.broken && pipe.grace == 0 {
            return;
        }
        pipe.grace = pipe.grace.saturating_sub(1);
        pipe.arrived.push_back(frame);
        let proc = conn.procs[side];
        self.wake(proc);
    }
}

/// One side of a connection.
#[derive(Clone)]
pub struct Connection {
    cx: Cx,
    id: u64,
    side: usize,
    /// Who is at the other end.
    pub peer: NodeId,
}

impl Connection {
    /// Dials a node.
    pub async fn dial(cx: &Cx, peer: NodeId) -> Result<Self, Closed> {
        cx.sleep(cx.between(2 * MS, 30 * MS)).await;
        let id = cx.with(|w| w.dial(cx.proc, cx.node, peer)).ok_or(Closed)?;
        Ok(Self { cx: cx.clone(), id, side: 0, peer })
    }

    /// The next connection that someone dialled.
    pub async fn accept(cx: &Cx) -> Self {
        let next = || cx.with(|w| w.net.incoming.get_mut(&cx.proc).and_then(VecDeque::pop_front));
        let id = cx.until(next).await;
        let peer = cx.with(|w| w.net.conns.get(&id).map_or(cx.node, |conn| conn.nodes[0]));
        Self { cx: cx.clone(), id, side: 1, peer }
    }

    /// Whether it is known to be gone.
    pub fn check(&self) -> Result<(), Closed> {
        let gone = self.cx.with(|w| w.net.conns.get(&self.id).is_none_or(|conn| conn.noticed[self.side]));
        if gone { Err(Closed) } else { Ok(()) }
    }

    /// Opens a stream.
    pub fn open(&self) -> Wire {
        let id = self.cx.with(|w| {
            w.net.next += 1;
            let id = w.net.next;
            w.net.streams.insert(id, Stream { conn: self.id, pipes: Default::default() });
            if let Some(conn) = w.net.conns.get_mut(&self.id) {
                conn.opened[1 - self.side].push_back(id);
            }
            id
        });
        Wire { conn: self.clone(), id }
    }

    /// A stream that the other side opened and sent something on.
    pub fn accepted(&self) -> Option<Wire> {
        let id = self.cx.with(|w| {
            let queue = &mut w.net.conns.get_mut(&self.id)?.opened[self.side];
            let streams = &w.net.streams;
            let spoken = |id: &u64| streams.get(id).is_some_and(|s| !s.pipes[self.side].arrived.is_empty());
            let at = queue.iter().position(spoken)?;
            queue.remove(at)
        })?;
        Some(Wire { conn: self.clone(), id })
    }

    /// Closes it: this side is done with it at once, the other learns of it.
    pub fn close(&self) {
        let id = self.id;
        self.cx.with(|w| {
            w.break_conn(id);
            w.notice(id, self.side);
        });
    }
}

/// One side of a stream.
#[derive(Clone)]
pub struct Wire {
    conn: Connection,
    id: u64,
}

impl Wire {
    /// Sends a frame, as bytes.
    pub fn send(&self, frame: &Frame) {
        let bytes = frame.encode();
        self.conn.cx.with(|w| w.send(self.id, self.conn.side, Some(bytes)));
    }

    /// Ends the stream from this side.
    pub fn finish(&self) {
        self.conn.cx.with(|w| w.send(self.id, self.conn.side, None));
    }

    /// Whether flow control takes another frame.
    pub fn has_room(&self) -> bool {
        self.conn.cx.with(|w| {
            let pipe = w.net.streams.get(&self.id).map(|stream| &stream.pipes[1 - self.conn.side]);
            pipe.is_some_and(|pipe| pipe.flying + pipe.arrived.len() < WINDOW)
        })
    }

    /// The next frame, if one is there.
    pub fn receive(&self) -> Result<Option<Frame>, Closed> {
        self.conn.check()?;
        let next = self.conn.cx.with(|w| {
            let stream = w.net.streams.get_mut(&self.id)?;
            let next = stream.pipes[self.conn.side].arrived.pop_front()?;
            // The sender hears that there is room.
            let conn = w.net.conns.get(&stream.conn)?;
            let (proc, delay) = (conn.procs[1 - self.conn.side], w.rng.between(MS, 15 * MS));
            w.after(delay, move |w| w.wake(proc));
            Some(next)
        });
        match next {
            None => Ok(None),
            Some(None) => Err(Closed),
            Some(Some(bytes)) => decode(bytes).map(Some),
        }
    }

    /// Waits for the next frame, but not beyond `end`.
    pub async fn next(&self, end: u64) -> Result<Frame, Closed> {
        let cx = &self.conn.cx;
        cx.look_in(end.saturating_sub(cx.now()));
        cx.until(|| match self.receive() {
            Ok(None) if cx.now() < end => None,
            Ok(None) | Err(Closed) => Some(Err(Closed)),
            Ok(Some(frame)) => Some(Ok(frame)),
        })
        .await
    }
}

fn decode(mut bytes: Bytes) -> Result<Frame, Closed> {
    let head = bytes.split_to(HEADER_LEN);
    let head = FrameHeader::decode(head.as_ref().try_into().map_err(|_| Closed)?).map_err(|_| Closed)?;
    if head.len != bytes.len() {
        return Err(Closed);
    }
    Frame::decode(head, bytes).map_err(|_| Closed)
}

/// How long a connection may be silent before it is given up.
pub const SILENCE: u64 = 3 * SECOND;
