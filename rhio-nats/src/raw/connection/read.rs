//! The task that reads.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{sleep, timeout};

use super::denied::Denied;
use super::{Incoming, Lost, MAX_AHEAD, Portion, SILENCE, Shared};
use crate::raw::info::ServerInfo;
use crate::raw::parse::{Parser, ServerOp};

/// Room that there must be to read into.
const MIN_ROOM: usize = 16 * 1024;
/// Room that is made.
const ROOM: usize = 64 * 1024;
/// Room that is made for the rest of a large message at most, at once.
const LARGE_ROOM: usize = 1024 * 1024;
/// Bytes of messages that are handed on at once.
const PORTION: usize = 128 * 1024;
/// How long what the server said may still be read after writing has failed.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// What something takes beside its bytes.
const OVERHEAD: usize = 128;

/// Reads until the connection is gone, and says why.
pub(super) async fn run<S: AsyncRead + Unpin>(
    mut socket: S,
    mut buffer: BytesMut,
    mut parser: Parser,
    mut outlet: Outlet,
    shared: Arc<Shared>,
) {
    let why = tokio::select! {
        why = read(&mut socket, &mut buffer, &mut parser, &mut outlet, &shared) => why,
        () = async {
            shared.broken.cancelled().await;
            sleep(LAST_WORDS).await;
        } => Lost::Closed,
        () = shared.lost.cancelled() => return,
    };
    // What failed first explains the rest, unless the server itself has explained it.
    let why = match (why, shared.why_broken.get()) {
        (why @ Lost::Server(_), _) | (why, None) => why,
        (_, Some(broken)) => broken.clone(),
    };
    // The owner gets what came before. It may be gone, or slow: then it learns why without.
    let _ = timeout(LAST_WORDS, outlet.pass_on()).await;
    shared.lose(why);
}

async fn read<S: AsyncRead + Unpin>(
    socket: &mut S,
    buffer: &mut BytesMut,
    parser: &mut Parser,
    outlet: &mut Outlet,
    shared: &Shared,
) -> Lost {
    loop {
        loop {
            match parser.next(buffer) {
                Ok(Some(op)) => {
                    if let Err(why) = take(op, outlet, shared) {
                        return why;
                    }
                }
                Ok(None) => break,
                Err(error) => return error.into(),
            }
            if outlet.bytes >= PORTION && outlet.pass_on().await.is_none() {
                return Lost::GivenUp;
            }
        }
        if outlet.pass_on().await.is_none() {
            return Lost::GivenUp;
        }
        if buffer.capacity() - buffer.len() < MIN_ROOM {
            buffer.reserve(parser.missing(buffer).clamp(ROOM, LARGE_ROOM));
        }
        match fill(socket, buffer, shared).await {
            Ok(0) => return Lost::Closed,
            Ok(_) => {}
            Err(why) => return why,
        }
    }
}

/// Reads something. A server that is silent is asked, once, whether it is there.
async fn fill<S: AsyncRead + Unpin>(socket: &mut S, buffer: &mut BytesMut, shared: &Shared) -> Result<usize, Lost> {
    let mut read = std::pin::pin!(socket.read_buf(buffer));
    for was_asked in [false, true] {
        match timeout(SILENCE, read.as_mut()).await {
            Ok(read) => return read.map_err(|error| Lost::Io(error.to_string())),
            Err(_) if was_asked => break,
            Err(_) => _ = shared.ping(),
        }
    }
    Err(Lost::Silent)
}

fn take(op: ServerOp, outlet: &mut Outlet, shared: &Shared) -> Result<(), Lost> {
    match op {
        ServerOp::Message(message) => {
            let len = message.wire_len();
            outlet.push(Incoming::Message(message), len);
        }
        ServerOp::Ping => shared.pong()?,
        ServerOp::Pong => shared.pongs.send_modify(|pongs| *pongs = pongs.saturating_add(1)),
        ServerOp::Ok => {}
        ServerOp::Info(json) => {
            let info = ServerInfo::read(&json).ok_or(Lost::Nonsense("its INFO can't be read"))?;
            let info = Arc::new(info);
            shared.info.send_replace(Arc::clone(&info));
            outlet.push(Incoming::Info(info), json.len());
        }
        ServerOp::Error(text) => match Denied::read(&text) {
            Some(denied) => outlet.push(Incoming::Denied(denied), text.len()),
            None => return Err(Lost::Server(String::from_utf8_lossy(&text).into_owned())),
        },
    }
    Ok(())
}

/// Where the owner takes what was read.
pub(super) struct Outlet {
    sender: mpsc::Sender<Portion>,
    budget: Arc<Semaphore>,
    items: Vec<Incoming>,
    bytes: usize,
}

impl Outlet {
    pub(super) fn new(sender: mpsc::Sender<Portion>, budget: Arc<Semaphore>) -> Self {
        Self { sender, budget, items: Vec::new(), bytes: 0 }
    }

    fn push(&mut self, item: Incoming, len: usize) {
        self.items.push(item);
        self.bytes += len + OVERHEAD;
    }

    /// Hands on what has gathered, as soon as there is room for it; `None` when nobody takes it any more.
    async fn pass_on(&mut self) -> Option<()> {
        if self.items.is_empty() {
            return Some(());
        }
        let len = u32::try_from(self.bytes.min(MAX_AHEAD)).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.budget).acquire_many_owned(len).await.ok()?;
        let slot = self.sender.reserve().await.ok()?;
        self.bytes = 0;
        slot.send(Portion { items: std::mem::take(&mut self.items), _room: room });
        Some(())
    }
}
