//! A connection to one server, which is never made again.
//!
//! One task reads, another writes. The reader's answers `PING`, asks whether the server is still there when it is
//! silent, and hands on whatever its owner should know, in order. It reads ahead by a bounded number of bytes; then it
//! stops reading until the owner has taken some, and TCP stops the server. What is written gathers while the last write
//! is under way, and goes out in one piece.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::encode::{EncodeError, Outbox, Publish};
use super::info::ServerInfo;
use super::parse::{Message, ParseError, Parser};

mod denied;
mod read;
mod write;

pub use denied::{Denied, Operation};

/// So long the server may be silent before it is asked whether it is still there, and so long it may take to answer.
pub const SILENCE: Duration = Duration::from_secs(4);
/// How long the server may take to take anything of what is written.
pub const WRITE_DEADLINE: Duration = Duration::from_secs(8);
/// How long [`Writer::round_trip`] may take.
pub const ROUND_TRIP: Duration = Duration::from_secs(8);
/// Bytes that wait to be written before [`Writer::publish`] waits.
const MAX_WAITING: usize = 1024 * 1024;
/// Answers to `PING` that may wait to be written.
const MAX_PONGS: usize = 10_000;
/// Bytes that are read ahead; a message that is larger may be, alone.
const MAX_AHEAD: usize = 8 * 1024 * 1024;
/// Portions of messages that are read ahead.
const MAX_PORTIONS: usize = 1024;

/// Why a connection has ended.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Lost {
    /// The server said why.
    #[error("the server ended the connection: {0}")]
    Server(String),
    /// The server said nothing.
    #[error("the server closed the connection")]
    Closed,
    /// The operating system, or TLS.
    #[error("the connection broke: {0}")]
    Io(String),
    /// No answer to a `PING`.
    #[error("the server has been silent for {} s", (SILENCE * 2).as_secs())]
    Silent,
    /// It takes nothing.
    #[error("the server has taken nothing of what is sent for {} s", WRITE_DEADLINE.as_secs())]
    Stuck,
    /// It does not keep to the protocol.
    #[error("the server does not keep to the protocol: {0}")]
    Protocol(#[from] ParseError),
    /// Its `INFO` is of no use, or it asks whether we are there without end.
    #[error("the server does not keep to the protocol: {0}")]
    Nonsense(&'static str),
    /// Its owner gave it up.
    #[error("the connection was given up")]
    GivenUp,
}

/// Why nothing was sent.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum WriteError {
    /// The connection is gone.
    #[error(transparent)]
    Lost(#[from] Lost),
    /// It can't be said.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The server would end the connection.
    #[error("a message of {len} bytes is larger than the NATS server allows ({max})")]
    TooLarge {
        /// With its headers.
        len: usize,
        /// The server's limit.
        max: u64,
    },
}

/// What an owner gets to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// A message of one of the subscriptions.
    Message(Message),
    /// The server forbids something that was tried. The connection goes on.
    Denied(Denied),
    /// Something about the server has changed; it may be about to shut down.
    Info(Arc<ServerInfo>),
}

/// Messages that were read at once, and the room that they take.
#[derive(Debug)]
struct Portion {
    items: Vec<Incoming>,
    _room: OwnedSemaphorePermit,
}

/// The half that yields what comes. The connection lives as long as this does.
#[derive(Debug)]
pub struct Reader {
    portions: mpsc::Receiver<Portion>,
    items: std::vec::IntoIter<Incoming>,
    room: Option<OwnedSemaphorePermit>,
    shared: Arc<Shared>,
}

/// The half that sends; one of any number.
#[derive(Clone, Debug)]
pub struct Writer {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    waiting: Mutex<Waiting>,
    /// Something waits to be written.
    work: Notify,
    /// Something was written.
    written: Notify,
    /// Writing has failed; what the server said about it may still be read.
    broken: CancellationToken,
    why_broken: OnceLock<Lost>,
    lost: CancellationToken,
    why_lost: OnceLock<Lost>,
    info: watch::Sender<Arc<ServerInfo>>,
    /// Answers to our `PING`s so far.
    pongs: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Waiting {
    outbox: Outbox,
    /// `PING`s so far.
    pings: u64,
    /// `PONG`s among what waits.
    pongs: usize,
}

/// Begins to read and to write. `buffer` and `parser` are where the handshake left them.
pub(super) fn start<S>(socket: S, buffer: BytesMut, parser: Parser, info: ServerInfo) -> (Writer, Reader)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let shared = Arc::new(Shared {
        waiting: Mutex::default(),
        work: Notify::new(),
        written: Notify::new(),
        broken: CancellationToken::new(),
        why_broken: OnceLock::new(),
        lost: CancellationToken::new(),
        why_lost: OnceLock::new(),
        info: watch::Sender::new(Arc::new(info)),
        pongs: watch::Sender::new(0),
    });
    let (from, to) = tokio::io::split(socket);
    let (sender, portions) = mpsc::channel(MAX_PORTIONS);
    let budget = Arc::new(Semaphore::new(MAX_AHEAD));
    tokio::spawn(read::run(from, buffer, parser, read::Outlet::new(sender, budget), Arc::clone(&shared)));
    tokio::spawn(write::run(to, Arc::clone(&shared)));
    let reader = Reader { portions, items: Vec::new().into_iter(), room: None, shared: Arc::clone(&shared) };
    (Writer { shared }, reader)
}

impl Reader {
    /// The next thing to know. Cancel-safe.
    ///
    /// # Errors
    /// When the connection is gone, after everything that came before.
    pub async fn next(&mut self) -> Result<Incoming, Lost> {
        loop {
            if let Some(item) = self.items.next() {
                return Ok(item);
            }
            self.room = None;
            let Some(portion) = self.portions.recv().await else { return Err(self.shared.why()) };
            self.take(portion);
        }
    }

    /// The next thing to know, if it is there already.
    pub fn next_ready(&mut self) -> Option<Incoming> {
        loop {
            if let Some(item) = self.items.next() {
                return Some(item);
            }
            self.room = None;
            let portion = self.portions.try_recv().ok()?;
            self.take(portion);
        }
    }

    fn take(&mut self, portion: Portion) {
        let Portion { items, _room } = portion;
        (self.items, self.room) = (items.into_iter(), Some(_room));
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.shared.lose(Lost::GivenUp);
    }
}

impl Writer {
    /// Sends a message: when this returns it is in order behind what was sent before, and goes out as soon as the
    /// server takes it. Waits while too much waits already. Cancel-safe: it is sent, or not at all.
    ///
    /// # Errors
    /// When it can't be sent, or the connection is gone. Nothing was sent then.
    pub async fn publish(&self, message: &Publish<'_>) -> Result<(), WriteError> {
        let (len, max) = (message.len(), self.shared.info.borrow().max_payload);
        if max > 0 && len as u64 > max {
            return Err(WriteError::TooLarge { len, max });
        }
        self.say(|outbox| outbox.publish(message)).await
    }

    /// Asks for messages under a subject, which come with this number.
    ///
    /// # Errors
    /// When it is no subject, or the connection is gone.
    pub async fn subscribe(&self, subject: &[u8], sid: u64) -> Result<(), WriteError> {
        self.say(|outbox| outbox.subscribe(subject, sid)).await
    }

    /// Asks for no more messages with this number, at once or after so many in all.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn unsubscribe(&self, sid: u64, after: Option<u64>) -> Result<(), WriteError> {
        self.say(|outbox| {
            outbox.unsubscribe(sid, after);
            Ok(())
        })
        .await
    }

    /// Asks for no more messages with this number, without waiting for room.
    pub fn forget(&self, sid: u64) {
        let mut waiting = self.shared.waiting();
        let Ok(()) = self.shared.add(&mut waiting.outbox, |outbox| {
            outbox.unsubscribe(sid, None);
            Ok::<_, std::convert::Infallible>(())
        });
    }

    /// Waits until the server has read all that was sent before. Its answer comes behind what it sent until then, so
    /// somebody must take that from the reader meanwhile.
    ///
    /// # Errors
    /// When the connection is gone, or the server does not answer in time.
    pub async fn round_trip(&self) -> Result<(), Lost> {
        let mut pongs = self.shared.pongs.subscribe();
        let number = self.shared.ping();
        let answer = tokio::time::timeout(ROUND_TRIP, pongs.wait_for(|pongs| *pongs >= number));
        tokio::select! {
            answer = answer => answer.map(|_| ()).map_err(|_| Lost::Silent),
            () = self.shared.lost.cancelled() => Err(self.shared.why()),
        }
    }

    /// What the server says about itself now.
    pub fn info(&self) -> Arc<ServerInfo> {
        Arc::clone(&self.shared.info.borrow())
    }

    /// Cancelled when the connection is gone.
    pub fn lost(&self) -> &CancellationToken {
        &self.shared.lost
    }

    /// Why the connection is gone, if it is.
    pub fn why(&self) -> Option<Lost> {
        self.shared.lost.is_cancelled().then(|| self.shared.why())
    }

    async fn say(&self, say: impl FnOnce(&mut Outbox) -> Result<(), EncodeError>) -> Result<(), WriteError> {
        let shared = &*self.shared;
        loop {
            if shared.lost.is_cancelled() {
                return Err(shared.why().into());
            }
            {
                let mut waiting = shared.waiting();
                if waiting.outbox.len() < MAX_WAITING {
                    return Ok(shared.add(&mut waiting.outbox, say)?);
                }
            }
            let mut written = std::pin::pin!(shared.written.notified());
            written.as_mut().enable();
            // It may have been written in between.
            if shared.waiting().outbox.len() < MAX_WAITING {
                continue;
            }
            tokio::select! {
                () = written => {}
                () = shared.lost.cancelled() => {}
            }
        }
    }
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // Nothing in here is left half done by a panic.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add<E>(&self, outbox: &mut Outbox, say: impl FnOnce(&mut Outbox) -> Result<(), E>) -> Result<(), E> {
        let was_empty = outbox.is_empty();
        say(outbox)?;
        if was_empty {
            self.work.notify_one();
        }
        Ok(())
    }

    /// Asks whether the server is there; returns how many `PONG`s there will have been with its answer.
    fn ping(&self) -> u64 {
        let mut waiting = self.waiting();
        waiting.pings += 1;
        let number = waiting.pings;
        let Ok(()) = self.add(&mut waiting.outbox, |outbox| {
            outbox.ping();
            Ok::<_, std::convert::Infallible>(())
        });
        number
    }

    /// Answers that we are here.
    fn pong(&self) -> Result<(), Lost> {
        let mut waiting = self.waiting();
        waiting.pongs += 1;
        if waiting.pongs > MAX_PONGS {
            return Err(Lost::Nonsense("it asks without end whether we are here"));
        }
        self.add(&mut waiting.outbox, |outbox| {
            outbox.pong();
            Ok(())
        })
    }

    /// Takes what waits, for an empty outbox.
    fn take(&self, mine: &mut Outbox) {
        let mut waiting = self.waiting();
        std::mem::swap(mine, &mut waiting.outbox);
        waiting.pongs = 0;
    }

    fn lose(&self, why: Lost) {
        let _ = self.why_lost.set(why);
        self.lost.cancel();
    }

    fn break_off(&self, why: Lost) {
        let _ = self.why_broken.set(why);
        self.broken.cancel();
    }

    fn why(&self) -> Lost {
        self.why_lost.get().cloned().unwrap_or(Lost::Closed)
    }
}
