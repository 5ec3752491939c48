//! What a subscription to a bucket holds: its copy of the author's catalog, and what there is to do.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rhio_core::catalog::landing::{self, Landing as Plan};
use rhio_core::catalog::progress::Progress;
use rhio_core::log::chain::Chain;
use rhio_core::log::descriptor::{Kind, LogDescriptor};
use rhio_core::log::operation::{Operation, OperationError};
use rhio_core::wire::{Pull, Want};
use tracing::{debug, warn};

use crate::node::{Node, now_millis};
use crate::settings::Deletes;
use crate::status::{Count, LogEnd};
use rhio_nats::state::{LogSubject, Note};

use super::follow_error::FollowError;
use super::subscription::BucketSubscription;

/// What this node holds of the newest catalog.
pub(super) struct Copy {
    pub(super) descriptor: LogDescriptor,
    pub(super) subject: LogSubject,
    pub(super) chain: Chain,
    /// Sequence number of the last message of the copy; 0 for none.
    pub(super) state_seq: u64,
}

impl Copy {
    /// Nothing of this log yet.
    pub(super) fn new(descriptor: LogDescriptor, subject: LogSubject) -> Self {
        let chain = Chain::new(descriptor.author, descriptor.id(), Kind::Bucket);
        Self { descriptor, subject, chain, state_seq: 0 }
    }

    /// Takes an operation if it is the next one. Returns the number of its first entry.
    pub(super) fn accept(&mut self, operation: &Operation) -> Result<u64, OperationError> {
        self.chain.accept(operation)?;
        Ok(operation.before().items)
    }

    /// What the author is asked for.
    pub(super) fn pull(&self) -> Pull {
        let held = self.chain.head().map(|head| head.hash);
        Pull { log: self.chain.log(), next: self.chain.next(), held, want: Want::Bucket }
    }
}

/// What this node holds, and what there is to do.
pub(super) struct Held {
    pub(super) plan: Plan,
    pub(super) copy: Option<Copy>,
    pub(super) note: Option<Note>,
    /// Where the newest catalog's operations end, in entries, and when they were signed; those that are settled are
    /// left out.
    pub(super) told: VecDeque<(u64, SystemTime)>,
    /// Older epochs, until the newest is complete.
    pub(super) older: Vec<LogDescriptor>,
}

impl Held {
    pub(super) async fn load(node: &Node, subscription: &BucketSubscription) -> Result<Self, FollowError> {
        let id = subscription.id();
        let mut plan = Plan::new(rule(subscription.deletes));
        let mut older = Vec::new();
        let (mut last, mut note, mut told) = (None, None, VecDeque::new());
        for descriptor in node.state.bucket_logs(subscription.author, &subscription.remote).await? {
            let log = descriptor.id();
            let subject = node.state.applied(subscription.author, log, &id);
            let (its_note, noted) = node.state.landed(log, &id).await?;
            let mut copy = Copy::new(descriptor, subject);
            if let Some(before) = last.replace(log) {
                debug!(log = %before.short(), "an older epoch of the catalog");
                plan = Plan::succeed(plan);
                told.clear();
            }
            // One that can't be read counts as nothing settled: every object is looked for, and found.
            plan.restore(noted.and_then(|bytes| Progress::decode(bytes).ok()).unwrap_or_default());
            let mut reader = node.state.read(&copy.subject, 1).await?;
            while let Some(stored) = reader.next().await? {
                for operation in stored.operations(&node.state)? {
                    let first = copy.accept(&operation)?;
                    plan.receive(first, operation.entries(), now_millis());
                    told.push_back(signed(first, &operation));
                }
                copy.state_seq = stored.seq;
            }
            older.push(copy);
            note = Some(its_note);
        }
        plan.start();
        let copy = older.pop();
        Ok(Self { plan, copy, note, told, older: older.into_iter().map(|copy| copy.descriptor).collect() })
    }

    /// The local bucket is gone, with everything that was brought there.
    pub(super) async fn forget(&mut self, node: &Node, subscription: &BucketSubscription) -> Result<(), FollowError> {
        for descriptor in node.state.bucket_logs(subscription.author, &subscription.remote).await? {
            let (mut note, noted) = node.state.landed(descriptor.id(), &subscription.id()).await?;
            if noted.is_some() {
                warn!(
                    "{}: the local bucket is gone; when it is there again, every object is brought again",
                    subscription.status.name()
                );
                node.state.drop_note(&mut note).await?;
            }
        }
        Ok(())
    }
}

pub(super) fn rule(deletes: Deletes) -> landing::Deletes {
    match deletes {
        Deletes::Keep => landing::Deletes::Keep,
        Deletes::Follow => landing::Deletes::Follow,
    }
}

/// Shows what is here, and where the catalog ends.
pub(super) fn show(subscription: &BucketSubscription, held: &mut Held) {
    subscription.here.0.store(held.plan.landed() as u64, Ordering::Relaxed);
    subscription.here.1.store(held.plan.landed_bytes(), Ordering::Relaxed);
    let Some(copy) = &held.copy else { return };
    let (head, total) = (copy.chain.head(), copy.chain.total());
    let total = Count { messages: total.items, bytes: total.bytes };
    subscription.status.set_end(LogEnd { log: copy.descriptor.id(), head, total, source: None }, None);
    let settled = held.plan.settled_below();
    while held.told.pop_front_if(|(end, _)| *end <= settled).is_some() {}
    subscription.status.set_missing_since(held.told.front().map(|(_, at)| *at));
}

/// Where an operation's entries end, and when it was signed.
pub(super) fn signed(first: u64, operation: &Operation) -> (u64, SystemTime) {
    let end = first + operation.entries().len() as u64;
    (end, UNIX_EPOCH + Duration::from_micros(operation.signed_at()))
}
