//! Takes back what an author signed and its state stream forgot: readers still hold it.

use bytes::Bytes;

use crate::log::chain::Chain;
use crate::log::commit::Commit;
use crate::log::descriptor::LogDescriptor;
use crate::log::operation::Operation;
use crate::wire::pull::{Pull, Want};

use super::Tail;

/// One reader of the log, reached by whatever way. Whoever implements it keeps a deadline for every answer.
pub trait Holder {
    /// Asks for everything that it holds of a log from a number on. `false` when it can't be asked.
    fn ask(&mut self, pull: Pull) -> impl Future<Output = bool>;

    /// What it says next; `None` when that does not come in time, or is not what belongs here.
    fn next(&mut self) -> impl Future<Output = Option<Given>>;
}

/// What a reader says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Given {
    /// An operation, not verified yet.
    Operation(Bytes),
    /// That was everything.
    End,
}

/// The author's own log in its state stream.
pub trait OwnLog {
    /// Why it does not take a commit.
    type Error;

    /// Appends a commit behind the last one (compare-and-set).
    fn append(&mut self, commit: Commit) -> impl Future<Output = Result<(), Self::Error>>;
}

/// How a reader answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To the end.
    Whole,
    /// Not, or not to the end.
    Silent,
    /// With something that nobody signed: no honest reader does, so there is nothing to wait for.
    Foreign,
    /// With operations that do not continue the log: what it holds behind them can't be had from it.
    Astray,
}

impl Answer {
    /// Whether the reader holds nothing of the log that the author lacks now.
    pub fn is_settled(self) -> bool {
        matches!(self, Self::Whole | Self::Foreign)
    }
}

/// Asks one reader for what it holds behind the end of the log, and appends it. `tail` is moved to the new end. Returns
/// how the reader answered; whatever it gave before it stopped is kept.
///
/// An operation passes with the author's own signature and when it continues the chain from what the state stream still
/// has: nobody can slip anything in.
///
/// # Errors
/// When the state stream does not take a commit; then the log is read anew.
pub async fn take_back<H: Holder, L: OwnLog>(
    descriptor: &LogDescriptor,
    tail: &mut Tail,
    holder: &mut H,
    log: &mut L,
) -> Result<Answer, L::Error> {
    let mut chain = Chain::new(descriptor.author, descriptor.id(), descriptor.kind()).at(tail.head, tail.total);
    let held = chain.head().map(|head| head.hash);
    let pull = Pull { log: chain.log(), next: chain.next(), held, want: Want::Settle };
    if !holder.ask(pull).await {
        return Ok(Answer::Silent);
    }
    loop {
        let raw = match holder.next().await {
            Some(Given::Operation(raw)) => raw,
            Some(Given::End) => return Ok(Answer::Whole),
            None => return Ok(Answer::Silent),
        };
        let Ok(operation) = Operation::verify(raw) else { return Ok(Answer::Foreign) };
        if operation.seq() < chain.next() {
            continue;
        }
        if chain.accept(&operation).is_err() {
            return Ok(Answer::Astray);
        }
        log.append(Commit::own(operation.raw().clone())).await?;
        *tail = Tail::after(&operation);
    }
}

#[cfg(test)]
mod tests;
