//! What a sealer does before it seals: find out where its log really ends, and whether it may be continued.
//!
//! JetStream's acknowledgement is no fsync, so a power cut can take back the end of the state stream, of the source
//! stream, or of both. Two dangers follow. Signing a number again that a subscriber holds already would fork the log;
//! and the source stream gives sequence numbers again that the log covers already, so messages would be passed over.

use crate::id::SourceSeq;
use crate::record::Position;

use super::Tail;

/// Whether the source's stream still holds the record that the log covers last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TailRecord {
    /// It does, or the log is empty.
    Held,
    /// It is no longer there, as happens to old messages; the stream has gone at least that far.
    Expired,
    /// The stream ends before it, or holds another message in its place: the stream forgot. Up to this position it
    /// still holds what the log covers.
    Forgotten(Position),
}

/// What is known when a sealer starts.
#[derive(Clone, Copy, Debug)]
pub struct Evidence {
    /// Where the log ends: the state stream's word, with what readers gave back added.
    pub tail: Option<Tail>,
    /// The NATS server is the one that acknowledged the end of the log, and has run ever since.
    pub same_server: bool,
    /// Every node that may hold more of the log than the state stream does has answered.
    pub all_answered: bool,
    /// What the source's stream says about the last record.
    pub record: TailRecord,
}

/// Why a log is closed and another begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsettled {
    /// There was none yet.
    First,
    /// The source's stream lost messages that the log covers.
    SourceForgot,
    /// The server was started anew, and some reader that may know better did not answer.
    ReaderSilent,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Go on behind this end.
    Continue(Tail),
    /// Begin a log of a new epoch with the first message behind this position.
    Begin {
        /// The position.
        after: Position,
        /// The reason, for the operator.
        reason: Unsettled,
    },
}

/// Decides.
pub fn recover(evidence: Evidence) -> Plan {
    let Some(tail) = evidence.tail else {
        return Plan::Begin { after: Position::default(), reason: Unsettled::First };
    };
    if let TailRecord::Forgotten(held) = evidence.record {
        return Plan::Begin { after: held, reason: Unsettled::SourceForgot };
    }
    if evidence.same_server || evidence.all_answered {
        return Plan::Continue(tail);
    }
    // Some reader may hold operations that this node signed and forgot. In a new log nothing can be signed twice, and
    // the positions tell readers what they have already.
    Plan::Begin { after: tail.through, reason: Unsettled::ReaderSilent }
}

impl Plan {
    /// The first sequence number that the consumer asks for.
    pub fn start(&self) -> SourceSeq {
        match self {
            Self::Continue(tail) => tail.through.seq.next(),
            Self::Begin { after, .. } => after.seq.next(),
        }
    }
}
