//! Follows an author, whatever is subscribed to: looks at what is here, reaches the author, hears which logs there are,
//! and begins anew whenever something ends that. What is done with the logs, a [`Follower`] knows.

use std::convert::Infallible;
use std::error::Error;
use std::future::{Future, pending};

use rhio_core::id::PublicKey;
use rhio_core::log::operation::Head;
use rhio_core::wire::{CloseCode, Frame, Interest, LogState, Pull};
use rhio_nats::state::StateError;
use rhio_net::connection::Connection;
use rhio_net::stream::{self, FrameReader, FrameWriter, StreamError};
use tracing::warn;

use crate::deadlines::{ANSWER, Silent, within};
use crate::node::Node;
use crate::status::Refusal;
use crate::supervise::{Duty, Supervised, Verdict};
use crate::trouble::{Cause, Trouble};

/// What a failure to follow is about.
pub enum Fault<'a> {
    /// The author's stream.
    Stream(&'a StreamError),
    /// The state stream.
    State(&'a StateError),
    /// The author sent what can't be accepted.
    Violation(Refusal, CloseCode),
    /// Nothing moves although the author has more.
    Stalled,
    /// Nothing is wrong, but it must be begun anew at once.
    Anew,
    /// Nothing is wrong, but it can't go on for a moment.
    Passing,
    /// Anything else.
    Other,
}

/// What is done with an author's logs. This is what a kind of log implements to be followed.
pub trait Follower: Send + Sync {
    /// Why it could not go on.
    type Failure: Error + From<StreamError> + From<StateError> + From<Silent> + Send;
    /// What is here already.
    type Here: Send;

    /// The subscription.
    fn entry(&self) -> &dyn Supervised;
    /// Whose logs they are.
    fn author(&self) -> PublicKey;
    /// What is asked for.
    fn interest(&self) -> Interest;

    /// Looks at what is here, before the author is asked: without a place for it there is no point in asking.
    ///
    /// # Errors
    /// When there is no place, or NATS does not answer.
    fn prepare(&self, node: &Node) -> impl Future<Output = Result<Self::Here, Self::Failure>> + Send;

    /// What can be done without the author. It does not end.
    fn pass_time(&self, _here: &mut Self::Here) -> impl Future<Output = Infallible> + Send {
        pending()
    }

    /// Verifies what the author sends, and does with it what is to be done.
    ///
    /// # Errors
    /// Whatever happens; the next attempt goes on from what is stored.
    fn follow(
        &self,
        node: &Node,
        here: Self::Here,
        connection: &Connection,
        watch: &mut Watch,
    ) -> impl Future<Output = Result<Infallible, Self::Failure>> + Send;

    /// What a failure is about.
    fn fault(failure: &Self::Failure) -> Fault<'_>;

    /// What is told of a failure.
    fn trouble(failure: &Self::Failure) -> Trouble;
}

/// Hears which logs the author has.
pub struct Watch {
    // Held open: the author goes on telling as long as it is.
    _writer: FrameWriter,
    reader: FrameReader,
    first: Option<Vec<LogState>>,
}

impl Watch {
    /// Asks, and waits for the first answer.
    async fn open<E>(connection: &Connection, interest: Interest) -> Result<Self, E>
    where
        E: From<StreamError> + From<Silent>,
    {
        let opening = async {
            let (mut writer, reader) = stream::open(connection).await?;
            writer.send(&Frame::Watch(interest)).await?;
            let mut watch = Self { _writer: writer, reader, first: None };
            watch.first = Some(watch.next().await?);
            Ok(watch)
        };
        within(ANSWER, opening).await
    }

    /// The logs that there are, now and then whenever that changes. Cancel-safe.
    ///
    /// # Errors
    /// When the author refuses, or the stream breaks.
    pub async fn next(&mut self) -> Result<Vec<LogState>, StreamError> {
        if let Some(first) = self.first.take() {
            return Ok(first);
        }
        match self.reader.next().await? {
            Some(Frame::Logs(logs)) => Ok(logs),
            Some(Frame::Refused { code, reason }) => Err(StreamError::Refused { code, reason }),
            Some(_) => Err(StreamError::Unexpected),
            None => Err(StreamError::Closed(CloseCode::Done)),
        }
    }
}

/// Asks an author for a log, and tells it how far that is here.
///
/// # Errors
/// When the stream breaks, or the author does not take the question.
pub async fn pull<E>(connection: &Connection, pull: Pull, head: Option<Head>) -> Result<(FrameWriter, FrameReader), E>
where
    E: From<StreamError> + From<Silent>,
{
    let asking = async {
        let (mut writer, reader) = stream::open(connection).await?;
        writer.send(&Frame::Pull(pull)).await?;
        if let Some(head) = head {
            writer.send(&Frame::Applied(head)).await?;
        }
        Ok((writer, reader))
    };
    within(ANSWER, asking).await
}

/// Tells an author how far its log is durable here.
///
/// # Errors
/// When the stream breaks, or the author does not read.
pub async fn tell<E>(writer: &mut FrameWriter, head: Head) -> Result<(), E>
where
    E: From<StreamError> + From<Silent>,
{
    within(ANSWER, writer.send(&Frame::Applied(head))).await
}

/// Follows until stopped.
pub struct Following<F> {
    node: Node,
    follower: F,
}

impl<F: Follower> Following<F> {
    /// Has a follower follow.
    pub fn new(node: Node, follower: F) -> Self {
        Self { node, follower }
    }

    /// Says what ended it, and closes the connection when that must not go on.
    fn conclude(&self, connection: &Connection, failure: &F::Failure) {
        let status = self.follower.entry().status();
        let (refusal, code) = match F::fault(failure) {
            Fault::Stalled => {
                status.restarted();
                warn!(peer = %self.follower.author(), "{}: {failure}", status.name());
                stream::close(connection, CloseCode::Stalled);
                return;
            }
            Fault::Violation(refusal, code) => (refusal, code),
            Fault::Stream(error) if error.is_violation() => (Refusal::Protocol, error.code()),
            _ => return,
        };
        status.refused(refusal, &F::trouble(failure));
        warn!(peer = %self.follower.author(), "{}: refused: {failure}", status.name());
        stream::close(connection, code);
    }
}

impl<F: Follower> Duty for Following<F> {
    type Failure = F::Failure;

    fn entry(&self) -> &dyn Supervised {
        self.follower.entry()
    }

    async fn attempt(&mut self) -> Result<Infallible, F::Failure> {
        let (node, follower) = (&self.node, &self.follower);
        node.state.ensure().await?;
        let mut here = follower.prepare(node).await?;
        let reaching = async {
            let connection = node.reach(&follower.author(), follower.entry().status()).await;
            let watch = Watch::open::<F::Failure>(&connection, follower.interest()).await;
            (connection, watch)
        };
        let (connection, watch) = tokio::select! {
            reached = reaching => reached,
            never = follower.pass_time(&mut here) => match never {},
        };
        let outcome = match watch {
            Ok(mut watch) => follower.follow(node, here, &connection, &mut watch).await,
            Err(failure) => Err(failure),
        };
        let Err(failure) = outcome;
        self.conclude(&connection, &failure);
        Err(failure)
    }

    fn judge(&mut self, failure: &F::Failure) -> Verdict {
        match F::fault(failure) {
            // The connection went; a new one is waited for.
            Fault::Stream(StreamError::Lost(_) | StreamError::Closed(CloseCode::Done | CloseCode::Shutdown))
            | Fault::Passing => Verdict::Soon,
            // The author's log is being recovered, or a newer one takes over.
            Fault::Stream(StreamError::Closed(CloseCode::Unavailable)) => Verdict::Passing(F::trouble(failure)),
            Fault::Anew => Verdict::AtOnce,
            Fault::State(StateError::Refused { .. }) => Verdict::StandBack(Trouble::new(
                Cause::SameKey,
                "another process with the same private key writes for this subscription; this one stands back. Run one \
                 rhio per key, or give each its own key",
            )),
            _ => Verdict::Trouble(F::trouble(failure)),
        }
    }
}
