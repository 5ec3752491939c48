//! What must hold between one operation of a log and the next. Whoever takes operations from somewhere else checks them
//! here: a subscriber, and an author that takes back what it lost.

use crate::id::{LogId, OpSeq, PublicKey};

use super::descriptor::Kind;
use super::operation::{Head, Operation, OperationError};
use super::total::Total;

/// One log as far as it is known, to check what comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chain {
    author: PublicKey,
    log: LogId,
    kind: Kind,
    head: Option<Head>,
    total: Total,
    /// Where the next operation may begin although the ones before it never came: the author pruned them.
    begins: Option<OpSeq>,
}

impl Chain {
    /// A log of which nothing is known yet.
    pub fn new(author: PublicKey, log: LogId, kind: Kind) -> Self {
        Self { author, log, kind, head: None, total: Total::default(), begins: None }
    }

    /// The same log, known up to here.
    #[must_use]
    pub fn at(self, head: Option<Head>, total: Total) -> Self {
        Self { head, total, ..self }
    }

    /// The log.
    pub fn log(&self) -> LogId {
        self.log
    }

    /// The last operation.
    pub fn head(&self) -> Option<Head> {
        self.head
    }

    /// What the log holds up to there.
    pub fn total(&self) -> Total {
        self.total
    }

    /// The number that comes next.
    pub fn next(&self) -> OpSeq {
        self.head.map_or(OpSeq(0), |head| head.seq.next())
    }

    /// Whether the next operation may be a later one than the number that comes next.
    pub fn is_cut(&self) -> bool {
        self.begins.is_some()
    }

    /// The author no longer has the operations before `first`.
    ///
    /// # Errors
    /// When that would go back.
    pub fn skip_to(&mut self, first: OpSeq) -> Result<(), OperationError> {
        let expected = self.next();
        if first < expected {
            return Err(OperationError::Sequence { expected, got: first });
        }
        self.begins = (first > expected).then_some(first);
        Ok(())
    }

    /// Checks that an operation, whose signature is verified, is the next one of this log.
    ///
    /// # Errors
    /// When it is another author's or log's, of another kind, out of order, not linked to the one before, or says less
    /// than was said before.
    pub fn check(&self, operation: &Operation) -> Result<(), OperationError> {
        let (expected, got) = (self.author, operation.author());
        if got != expected {
            return Err(OperationError::Author { expected, got });
        }
        if operation.log() != self.log {
            return Err(OperationError::Log);
        }
        if operation.kind() != self.kind {
            return Err(OperationError::Kind);
        }
        let in_order = match self.begins {
            Some(first) if operation.seq() == first => operation.before().covers(self.total),
            _ => {
                let (expected, got) = (self.next(), operation.seq());
                if got != expected {
                    return Err(OperationError::Sequence { expected, got });
                }
                if operation.backlink() != self.head.map(|head| head.hash) {
                    return Err(OperationError::Backlink(got));
                }
                operation.before() == self.total
            }
        };
        if in_order { Ok(()) } else { Err(OperationError::Backwards(operation.seq())) }
    }

    /// Goes on behind an operation that [`check`](Self::check) has let pass.
    pub fn advance(&mut self, operation: &Operation) {
        (self.head, self.total, self.begins) = (Some(operation.head()), operation.after(), None);
    }

    /// Checks an operation and goes on behind it.
    ///
    /// # Errors
    /// See [`check`](Self::check); nothing has changed then.
    pub fn accept(&mut self, operation: &Operation) -> Result<(), OperationError> {
        self.check(operation)?;
        self.advance(operation);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use p2panda_core::SigningKey;

    use crate::catalog::{Catalog, Entry};
    use crate::log::body::Body;
    use crate::log::writer::Writer;

    use super::*;

    const LOG: LogId = LogId::from_bytes([5; 32]);

    fn key(fill: u8) -> SigningKey {
        SigningKey::from_bytes(&[fill; 32])
    }

    fn chain() -> Chain {
        Chain::new(key(1).verifying_key().into(), LOG, Kind::Bucket)
    }

    fn sign(by: u8, log: LogId, previous: Option<Head>, items: u64) -> Operation {
        let content = Catalog::new(vec![Entry::Complete]).unwrap().into();
        Operation::sign(&key(by), log, previous, 0, Body { before: Total { items, bytes: 0 }, content })
    }

    #[test]
    fn operations_that_follow_each_other_are_accepted() {
        let mut chain = chain();
        let mut previous = None;
        for items in 0..3 {
            let operation = sign(1, LOG, previous, items);
            chain.accept(&operation).unwrap();
            previous = Some(operation.head());
        }
        assert_eq!((chain.next(), chain.total().items, chain.head()), (OpSeq(3), 3, previous));
    }

    #[test]
    fn whatever_does_not_follow_is_refused_and_changes_nothing() {
        let mut chain = chain();
        let first = sign(1, LOG, None, 0);
        chain.accept(&first).unwrap();
        let before = chain;
        let fork = sign(1, LOG, Some(sign(1, LOG, None, 7).head()), 1);
        let wanted = OpSeq(1);
        for (operation, why) in [
            (sign(2, LOG, Some(first.head()), 1), None),
            (sign(1, LogId::from_bytes([6; 32]), Some(first.head()), 1), Some(OperationError::Log)),
            (first.clone(), Some(OperationError::Sequence { expected: wanted, got: OpSeq(0) })),
            (fork, Some(OperationError::Backlink(wanted))),
            (sign(1, LOG, Some(first.head()), 0), Some(OperationError::Backwards(wanted))),
            (sign(1, LOG, Some(first.head()), 2), Some(OperationError::Backwards(wanted))),
        ] {
            let refused = chain.accept(&operation).unwrap_err();
            assert!(why.is_none_or(|why| why == refused), "{refused}");
            assert_eq!(chain, before);
        }
        let messages = Chain { kind: Kind::Messages, ..before };
        assert_eq!(messages.check(&sign(1, LOG, Some(first.head()), 1)), Err(OperationError::Kind));
    }

    #[test]
    fn a_beginning_that_was_pruned_is_passed_over_once() {
        let mut chain = chain();
        chain.skip_to(OpSeq(2)).unwrap();
        let mut writer = Writer::new(
            key(1),
            LOG,
            Some(Head { seq: OpSeq(1), hash: crate::id::OpHash::from_bytes([1; 32]) }),
            Total { items: 9, bytes: 9 },
        );
        let content = || Catalog::new(vec![Entry::Complete]).unwrap();
        let later = writer.stage(content(), 0).unwrap().clone();
        writer.appended().unwrap();
        let last = writer.stage(content(), 0).unwrap().clone();
        assert!(chain.check(&last).is_err(), "only the one that was said");
        chain.accept(&later).unwrap();
        assert!(!chain.is_cut());
        chain.accept(&last).unwrap();
        assert!(matches!(chain.skip_to(OpSeq(3)), Err(OperationError::Sequence { .. })));
    }
}
