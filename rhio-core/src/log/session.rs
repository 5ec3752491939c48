//! A provider's session: serves one log to one subscriber, from the operation that it names.
//!
//! The subscriber pulls: it says what it holds, the session decides whether its copy and the log are one chain, and what
//! to send next, from where. It keeps a position, never data, so a slow subscriber costs nothing but its own stream.

use crate::id::{OpHash, OpSeq};

use super::operation::Head;

/// Why a pull is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The subscriber holds operations that this node signed and does not have: it forgot them, and must take them back.
    Behind,
    /// The subscriber holds another operation under the same number.
    Diverged,
}

/// Where the next operation comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The ring of recent batches has it.
    Ring(OpSeq),
    /// Read the operation from the state stream, from this number on.
    Log(OpSeq),
    /// Everything has been sent.
    Wait,
}

/// More was acknowledged than was sent: a breach of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsent;

/// One subscriber's session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    next: OpSeq,
    applied: Option<Head>,
}

impl Session {
    /// Opens a session for a subscriber that lacks `next` and what follows, and holds the operation `held` before it.
    /// `head` is the log's last durable operation, `before` the hash that the log has for the operation before `next`
    /// (`None` when that is the first, or pruned).
    ///
    /// # Errors
    /// When the subscriber's copy is not a beginning of this log.
    pub fn open(
        (next, held): (OpSeq, Option<OpHash>),
        head: Option<Head>,
        before: Option<OpHash>,
    ) -> Result<Self, Refusal> {
        let end = head.map_or(OpSeq(0), |head| head.seq.next());
        if next > end {
            return Err(Refusal::Behind);
        }
        if let (Some(ours), Some(theirs)) = (before, held)
            && ours != theirs
        {
            return Err(Refusal::Diverged);
        }
        Ok(Self { next, applied: None })
    }

    /// What to do next, when the log ends at `head` and the ring begins at `ring`.
    pub fn step(&self, head: Option<Head>, ring: Option<OpSeq>) -> Step {
        match head {
            Some(head) if self.next <= head.seq => match ring {
                Some(first) if first <= self.next => Step::Ring(self.next),
                _ => Step::Log(self.next),
            },
            _ => Step::Wait,
        }
    }

    /// The next operation that is to be sent.
    pub fn next(&self) -> OpSeq {
        self.next
    }

    /// An operation is on its way.
    pub fn sent(&mut self, seq: OpSeq) {
        self.next = seq.next();
    }

    /// The operations before `first` have been pruned; the subscriber must be told.
    pub fn skip_to(&mut self, first: OpSeq) {
        self.next = self.next.max(first);
    }

    /// The subscriber says that everything up to here is durable on its side.
    ///
    /// # Errors
    /// When it was never sent that far.
    pub fn applied(&mut self, head: Head) -> Result<(), Unsent> {
        if head.seq >= self.next {
            return Err(Unsent);
        }
        if self.applied.is_none_or(|before| before.seq < head.seq) {
            self.applied = Some(head);
        }
        Ok(())
    }

    /// How far the subscriber has it durably, as far as this session knows.
    pub fn durable(&self) -> Option<Head> {
        self.applied
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(seq: u64) -> Head {
        Head { seq: OpSeq(seq), hash: OpHash::from_bytes([seq as u8; 32]) }
    }

    fn pull(next: u64, held: Option<u8>) -> (OpSeq, Option<OpHash>) {
        (OpSeq(next), held.map(|fill| OpHash::from_bytes([fill; 32])))
    }

    #[test]
    fn a_subscriber_that_holds_more_or_other_than_the_log_is_not_served() {
        let open = |pull, log: Option<u64>, before: Option<u8>| {
            let before = before.map(|fill| OpHash::from_bytes([fill; 32]));
            Session::open(pull, log.map(head), before).map(|session| session.next())
        };
        assert_eq!(open(pull(0, None), None, None), Ok(OpSeq(0)));
        assert_eq!(open(pull(4, Some(3)), Some(3), Some(3)), Ok(OpSeq(4)));
        assert_eq!(open(pull(5, Some(4)), Some(3), None), Err(Refusal::Behind));
        assert_eq!(open(pull(4, Some(9)), Some(3), Some(3)), Err(Refusal::Diverged));
        assert_eq!(open(pull(1, Some(0)), Some(3), None), Ok(OpSeq(1)), "what was pruned can't be compared");
    }

    #[test]
    fn what_is_recent_comes_from_the_ring_and_the_rest_from_the_log() {
        let session = Session::open(pull(4, None), Some(head(9)), None).unwrap();
        assert_eq!(session.step(Some(head(9)), Some(OpSeq(5))), Step::Log(OpSeq(4)));
        assert_eq!(session.step(Some(head(9)), Some(OpSeq(4))), Step::Ring(OpSeq(4)));
        assert_eq!(session.step(Some(head(9)), None), Step::Log(OpSeq(4)));
        assert_eq!(session.step(Some(head(3)), None), Step::Wait);
    }

    #[test]
    fn an_acknowledgement_of_what_was_not_sent_is_a_violation() {
        let mut session = Session::open(pull(0, None), Some(head(0)), None).unwrap();
        assert_eq!(session.applied(head(0)), Err(Unsent));
        session.sent(OpSeq(0));
        assert_eq!(session.applied(head(0)), Ok(()));
        assert_eq!(session.durable(), Some(head(0)));
    }
}
