//! Follows one subscription: watches what the author publishes under its filter, and applies each log in its turn.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use rhio_core::apply::Violation;
use rhio_core::id::{LogId, PublicKey};
use rhio_core::log::descriptor::Kind;
use rhio_core::log::start::startable;
use rhio_core::wire::{CloseCode, Interest, LogState};
use rhio_net::connection::Connection;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::follower::{Fault, Follower, Following, Watch};
use crate::node::Node;
use crate::supervise::{self, Supervised};
use crate::trouble::{Cause, Trouble};
use rhio_nats::sink::Sink;
use rhio_net::stream::StreamError;

use super::apply_error::ApplyError;
use super::applying;
use super::subscription::Subscription;

/// How long the author may be without a log before that is a state worth a word.
const PATIENCE: Duration = Duration::from_secs(3);

/// Follows one subscription until stopped.
pub async fn run(node: Node, subscription: Arc<Subscription>) {
    supervise::run(Following::new(node, Messages { subscription })).await;
}

/// What is done with logs about messages: each is applied to the local stream.
struct Messages {
    subscription: Arc<Subscription>,
}

impl Follower for Messages {
    type Failure = ApplyError;
    /// When the local stream was created.
    type Here = u64;

    fn entry(&self) -> &dyn Supervised {
        &*self.subscription
    }

    fn author(&self) -> PublicKey {
        self.subscription.author
    }

    fn interest(&self) -> Interest {
        Interest::Messages(self.subscription.filter.clone())
    }

    async fn prepare(&self, node: &Node) -> Result<u64, ApplyError> {
        let Subscription { stream, filter, author, .. } = &*self.subscription;
        Ok(Sink::open(&node.client, stream, filter, *author).await?.created())
    }

    async fn follow(
        &self,
        node: &Node,
        local_created: u64,
        connection: &Connection,
        watch: &mut Watch,
    ) -> Result<Infallible, ApplyError> {
        attend(node, &self.subscription, connection, watch, local_created).await
    }

    fn fault(failure: &ApplyError) -> Fault<'_> {
        match failure {
            ApplyError::Stream(error) => Fault::Stream(error),
            ApplyError::State(error) => Fault::State(error),
            ApplyError::Violation(violation) => Fault::Violation(violation.into(), violation.code()),
            ApplyError::Stalled => Fault::Stalled,
            ApplyError::Recalled => Fault::Passing,
            ApplyError::Shared => Fault::Anew,
            ApplyError::Sink(_) | ApplyError::Silent(_) | ApplyError::Unacknowledged | ApplyError::Recreated => {
                Fault::Other
            }
        }
    }

    fn trouble(failure: &ApplyError) -> Trouble {
        failure.into()
    }
}

async fn attend(
    node: &Node,
    subscription: &Arc<Subscription>,
    connection: &Connection,
    watch: &mut Watch,
    local_created: u64,
) -> Result<Infallible, ApplyError> {
    let logs = watch::Sender::new(next_logs(subscription, watch).await?);
    let mut tasks: JoinSet<Result<LogId, ApplyError>> = JoinSet::new();
    let mut running: HashSet<LogId> = HashSet::new();
    let mut done: HashSet<LogId> = HashSet::new();
    loop {
        let list = logs.borrow().clone();
        let listed = |log: &LogId| list.iter().any(|state| state.descriptor.id() == *log);
        if running.iter().any(|log| !done.contains(log) && !listed(log)) {
            // Its messages may come through another log from now on, which must begin where this one ends.
            return Err(StreamError::Closed(CloseCode::Done).into());
        }
        for state in startable(&list, |state| done.contains(&state.descriptor.id())) {
            let log = state.descriptor.id();
            if running.insert(log) {
                let (node, subscription) = (node.clone(), Arc::clone(subscription));
                let (known, connection, descriptor) = (logs.subscribe(), connection.clone(), state.descriptor.clone());
                tasks.spawn(async move {
                    let id = subscription.cursor_id(local_created);
                    applying::apply(&node, &subscription, local_created, &id, descriptor, known, connection).await
                });
            }
        }
        tokio::select! {
            list = next_logs(subscription, watch) => {
                logs.send_replace(list?);
            }
            Some(ended) = tasks.join_next() => match ended {
                Ok(Ok(log)) => {
                    done.insert(log);
                }
                Ok(Err(error)) => return Err(error),
                Err(panic) => return Err(StreamError::Lost(format!("a task failed: {panic}")).into()),
            },
            // An author that has just started has its logs in a moment.
            () = tokio::time::sleep(PATIENCE), if list.is_empty() => {
                let words = "the author publishes nothing under this filter (yet)";
                subscription.status.waiting(Trouble::new(Cause::NothingPublished, words));
            }
        }
    }
}

async fn next_logs(subscription: &Subscription, watch: &mut Watch) -> Result<Vec<LogState>, ApplyError> {
    let logs = watch.next().await?;
    let ours =
        |state: &LogState| state.descriptor.author == subscription.author && state.descriptor.kind() == Kind::Messages;
    if !logs.iter().all(ours) {
        return Err(Violation::Frame("a log that was not asked for").into());
    }
    Ok(logs)
}
