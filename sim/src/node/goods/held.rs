//! What a subscription to a bucket holds: its copy of the author's catalog, and what there is to do.

use rhio_core::catalog::landing::{Deletes, Landing as Plan};
use rhio_core::catalog::progress::Progress;
use rhio_core::id::{LogId, PublicKey};
use rhio_core::log::chain::Chain;
use rhio_core::log::descriptor::{Kind, LogDescriptor};
use rhio_core::log::operation::{Operation, OperationError};
use rhio_core::wire::{Pull, Want};

use crate::base::MS;
use crate::config::Broken;
use crate::exec::Cx;
use crate::nats::{Lost, Nats};
use crate::node::store::{Stored, catalog_copy_subject, catalogs_of, landed_subject};

/// What this node holds of one catalog.
pub struct Copy {
    pub descriptor: LogDescriptor,
    pub chain: Chain,
    /// Sequence number of the last message of the copy; 0 for none.
    pub state_seq: u64,
    /// The same for the note of what is settled.
    pub note_seq: u64,
}

impl Copy {
    /// Nothing of this log yet.
    pub fn new(descriptor: LogDescriptor) -> Self {
        let chain = Chain::new(descriptor.author, descriptor.id(), Kind::Bucket);
        Self { descriptor, chain, state_seq: 0, note_seq: 0 }
    }

    pub fn log(&self) -> LogId {
        self.chain.log()
    }

    /// Takes an operation if it is the next one. Returns the number of its first entry.
    pub fn accept(&mut self, operation: &Operation) -> Result<u64, OperationError> {
        self.chain.accept(operation)?;
        Ok(operation.before().items)
    }

    /// What the author is asked for.
    pub fn pull(&self) -> Pull {
        let held = self.chain.head().map(|head| head.hash);
        Pull { log: self.chain.log(), next: self.chain.next(), held, want: Want::Bucket }
    }
}

/// What this node holds, and what there is to do.
pub struct Held {
    pub plan: Plan,
    pub copy: Option<Copy>,
    /// Older epochs, until the newest is complete.
    pub older: Vec<LogDescriptor>,
}

/// What a delete at the author means here.
pub fn rule(cx: &Cx) -> Deletes {
    let (follow, broken) = cx.with(|w| (w.config.buckets.as_ref().is_some_and(|b| b.follow), w.config.broken));
    if follow || broken == Some(Broken::FollowAlways) { Deletes::Follow } else { Deletes::Keep }
}

/// The plan for a new epoch.
pub fn succeed(cx: &Cx, plan: Plan) -> Plan {
    if cx.with(|w| w.config.broken) == Some(Broken::SkipSucceed) {
        return Plan::new(rule(cx));
    }
    Plan::succeed(plan)
}

/// Reads what is stored. An honest copy is a chain; one that is not is noted as a failure.
pub async fn load(cx: &Cx, nats: &Nats, author: PublicKey) -> Result<Held, Lost> {
    let mut plan = Plan::new(rule(cx));
    let mut copies: Vec<Copy> = Vec::new();
    let messages = nats.state(None).await?;
    let now = cx.now() / MS;
    for descriptor in catalogs_of(&messages, author) {
        let log = descriptor.id();
        let mut copy = Copy::new(descriptor);
        if !copies.is_empty() {
            plan = succeed(cx, plan);
        }
        let note = messages.iter().rfind(|message| *message.subject == landed_subject(log));
        copy.note_seq = note.map_or(0, |note| note.seq);
        let noted = note.and_then(|note| Progress::decode(note.payload.clone()).ok());
        plan.restore(noted.unwrap_or_default());
        let subject = catalog_copy_subject(author, log);
        for message in messages.iter().filter(|message| *message.subject == subject) {
            for operation in Stored::read(message).operations {
                match copy.accept(&operation) {
                    Ok(first) => plan.receive(first, operation.entries(), now),
                    Err(error) => {
                        let node = cx.node;
                        cx.with(|w| w.history.fail(format!("node {node} has a copy that is no chain: {error}")));
                    }
                }
            }
            copy.state_seq = message.seq;
        }
        copies.push(copy);
    }
    plan.start();
    let copy = copies.pop();
    Ok(Held { plan, copy, older: copies.into_iter().map(|copy| copy.descriptor).collect() })
}
