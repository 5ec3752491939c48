//! A connection whose owner asks questions over it and waits for the answers, and a few of them that are lent.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use thiserror::Error;
use tokio::time::{Instant, timeout_at};

use super::connect::{ConnectError, connect};
use super::connection::{Denied, Incoming, Lost, Reader, WriteError, Writer};
use super::encode::Publish;
use super::js;
use super::parse::Message;
use crate::settings::Nats;

/// Connections that wait for the next who needs one.
const MAX_IDLE: usize = 8;
/// The subscription that answers come to.
const ANSWERS: u64 = 1;

/// Why a question has no answer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AskError {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The connection is gone.
    #[error("connection to NATS: {0}")]
    Lost(#[from] Lost),
    /// The server forbids it.
    #[error("NATS forbids it: {}", .0.text)]
    Denied(Denied),
    /// It can't be sent.
    #[error(transparent)]
    Write(WriteError),
    /// Nothing came in time.
    #[error("NATS did not answer within {} ms", .0.as_millis())]
    TimedOut(Duration),
}

impl From<WriteError> for AskError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Lost(lost) => Self::Lost(lost),
            other => Self::Write(other),
        }
    }
}

/// A connection, and where answers to questions come to.
#[derive(Debug)]
pub struct Exchange {
    /// The half that sends.
    pub writer: Writer,
    /// The half that yields what comes.
    pub reader: Reader,
    inbox: String,
    /// The number of the last question.
    asked: u64,
    /// The number of the last subscription.
    sid: u64,
    /// Subscriptions besides the one to answers.
    listens: Vec<u64>,
}

impl Exchange {
    /// Connects, and listens to answers.
    ///
    /// # Errors
    /// When no server takes us.
    pub async fn open(settings: &Nats, purpose: &str) -> Result<Self, AskError> {
        let (writer, reader) = connect(settings, purpose).await?;
        let inbox = js::inbox(settings);
        writer.subscribe(format!("{inbox}.*").as_bytes(), ANSWERS).await?;
        Ok(Self { writer, reader, inbox, asked: 0, sid: ANSWERS, listens: Vec::new() })
    }

    /// The subject that an answer with this mark comes to.
    pub fn answer_subject(&self, mark: u64) -> String {
        format!("{}.{mark}", self.inbox)
    }

    /// The mark of an answer; `None` for any other message.
    pub fn answered(message: &Message) -> Option<u64> {
        (message.sid() == ANSWERS).then(|| js::mark(message.subject())).flatten()
    }

    /// Listens to a subject; what comes there has the number that is returned.
    ///
    /// # Errors
    /// When it is no subject, or the connection is gone.
    pub async fn subscribe(&mut self, subject: &[u8]) -> Result<u64, WriteError> {
        self.sid += 1;
        self.writer.subscribe(subject, self.sid).await?;
        self.listens.push(self.sid);
        Ok(self.sid)
    }

    /// Listens to answers alone from now on.
    pub fn unsubscribe_all(&mut self) {
        self.listens.drain(..).for_each(|sid| self.writer.forget(sid));
    }

    /// Asks one question. What else comes meanwhile is dropped.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn ask(&mut self, subject: &str, question: Bytes, within: Duration) -> Result<Message, AskError> {
        let mut answers = self.ask_all(subject, std::iter::once(question), within).await?;
        answers.pop().ok_or(AskError::TimedOut(within))
    }

    /// Asks several questions at once; the answers are in the order of the questions. What else comes meanwhile is
    /// dropped.
    ///
    /// # Errors
    /// When one of them is not answered.
    pub async fn ask_all(
        &mut self,
        subject: &str,
        questions: impl Iterator<Item = Bytes>,
        within: Duration,
    ) -> Result<Vec<Message>, AskError> {
        let first = self.asked + 1;
        let deadline = Instant::now() + within;
        for payload in questions {
            self.asked += 1;
            let reply = self.answer_subject(self.asked);
            let reply = Some(reply.as_bytes());
            let question = Publish { subject: subject.as_bytes(), reply, headers: &[], payload: &payload };
            timeout_at(deadline, self.writer.publish(&question)).await.map_err(|_| AskError::TimedOut(within))??;
        }
        let mut answers = vec![None; usize::try_from(self.asked + 1 - first).unwrap_or_default()];
        let mut missing = answers.len();
        while missing > 0 {
            let incoming = timeout_at(deadline, self.reader.next()).await.map_err(|_| AskError::TimedOut(within))??;
            match incoming {
                Incoming::Message(message) => {
                    let place = Self::answered(&message).and_then(|mark| mark.checked_sub(first));
                    let place = place.and_then(|at| answers.get_mut(usize::try_from(at).ok()?));
                    if let Some(place @ None) = place {
                        *place = Some(message);
                        missing -= 1;
                    }
                }
                Incoming::Denied(denied) => return Err(AskError::Denied(denied)),
                Incoming::Info(_) => {}
            }
        }
        Ok(answers.into_iter().flatten().collect())
    }
}

/// Connections that are lent to whoever reads, and kept for the next one.
#[derive(Debug)]
pub struct Pool {
    settings: Arc<Nats>,
    idle: Mutex<Vec<Exchange>>,
}

impl Pool {
    /// Without any connection yet.
    pub fn new(settings: Arc<Nats>) -> Arc<Self> {
        Arc::new(Self { settings, idle: Mutex::default() })
    }

    /// How NATS is reached.
    pub fn settings(&self) -> &Arc<Nats> {
        &self.settings
    }

    /// A connection for one reader, made now unless one waits.
    ///
    /// # Errors
    /// When no server takes us.
    pub async fn lend(self: &Arc<Self>) -> Result<Lent, AskError> {
        let waiting = {
            let mut idle = self.idle();
            idle.retain(|exchange| exchange.writer.why().is_none() && !exchange.writer.info().lame_duck);
            idle.pop()
        };
        let exchange = match waiting {
            Some(exchange) => exchange,
            None => Exchange::open(&self.settings, "reads").await?,
        };
        Ok(Lent { exchange: Some(exchange), pool: Arc::clone(self) })
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Exchange>> {
        // Nothing in here is left half done by a panic.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection from a [`Pool`], which gets it back when this is dropped.
#[derive(Debug)]
pub struct Lent {
    /// Always there until the drop.
    exchange: Option<Exchange>,
    pool: Arc<Pool>,
}

impl Lent {
    /// The connection.
    ///
    /// # Errors
    /// Never, while this lives.
    pub fn exchange(&mut self) -> Result<&mut Exchange, Lost> {
        self.exchange.as_mut().ok_or(Lost::GivenUp)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let Some(mut exchange) = self.exchange.take() else { return };
        exchange.unsubscribe_all();
        let mut idle = self.pool.idle();
        if exchange.writer.why().is_none() && idle.len() < MAX_IDLE {
            idle.push(exchange);
        }
    }
}
