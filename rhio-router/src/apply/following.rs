//! Follows one subscription: watches what the author publishes under its filter, and applies each log in its turn.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use rhio_core::apply::Violation;
use rhio_core::id::LogId;
use rhio_core::log::descriptor::Kind;
use rhio_core::log::start::startable;
use rhio_core::wire::{CloseCode, Frame, Interest, LogState};
use rhio_net::connection::Connection;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::debug;

use crate::node::Node;
use crate::trouble::{Cause, Trouble};
use rhio_nats::sink::Sink;
use rhio_nats::state::StateError;
use rhio_net::stream::{self, FrameReader, StreamError};

use super::apply_error::ApplyError;
use super::applying;
use super::subscription::Subscription;

/// Waits between attempts after a failure.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// How long this process stands back after another one has moved its cursor.
const STAND_BACK: Duration = Duration::from_secs(10);
/// How long the author may be out of reach, or without a log, before that is a state worth a word.
const PATIENCE: Duration = Duration::from_secs(3);

/// Follows one subscription until stopped.
pub async fn run(node: Node, subscription: Arc<Subscription>) {
    let stop = subscription.stop.clone();
    let mut wait = BACKOFF.0;
    while !stop.is_cancelled() {
        let begun = Instant::now();
        let outcome = tokio::select! {
            () = stop.cancelled() => break,
            outcome = follow(&node, &subscription) => outcome,
        };
        if begun.elapsed() > BACKOFF.1 {
            wait = BACKOFF.0;
        }
        let Err(error) = outcome else { continue };
        let pause = match &error {
            // The connection went; a new one is waited for.
            ApplyError::Stream(StreamError::Lost(_) | StreamError::Closed(CloseCode::Done | CloseCode::Shutdown)) => {
                debug!("{}: {error}", subscription.status.name());
                BACKOFF.0
            }
            ApplyError::Recalled => {
                debug!("{}: {error}", subscription.status.name());
                BACKOFF.0
            }
            ApplyError::Shared => {
                debug!("{}: {error}", subscription.status.name());
                Duration::ZERO
            }
            // The author's log is being recovered, or a newer one takes over.
            ApplyError::Stream(StreamError::Closed(CloseCode::Unavailable)) if wait == BACKOFF.0 => {
                debug!("{}: {error}", subscription.status.name());
                wait *= 2;
                BACKOFF.0
            }
            ApplyError::State(StateError::Refused { .. }) => {
                subscription.status.waiting(Trouble::new(
                    Cause::SameKey,
                    "another process with the same private key writes for this subscription; this one stands back. \
                     Run one rhio per key, or give each its own key",
                ));
                STAND_BACK
            }
            error => {
                subscription.status.waiting(error.into());
                let pause = wait;
                wait = (wait * 2).min(BACKOFF.1);
                pause
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn follow(node: &Node, subscription: &Arc<Subscription>) -> Result<(), ApplyError> {
    node.state.ensure().await?;
    // First of all the local stream: without it there is no point in asking the author.
    let author = subscription.author;
    let sink = Sink::open(&node.client, &subscription.stream, &subscription.filter, author).await?;
    let local_created = sink.created();
    drop(sink);
    let connection = node.reach(&author, &subscription.status).await;
    let outcome = attend(node, subscription, &connection, local_created).await;
    if let Err(error) = &outcome {
        applying::refuse(subscription, &connection, error);
    }
    outcome
}

async fn attend(
    node: &Node,
    subscription: &Arc<Subscription>,
    connection: &Connection,
    local_created: u64,
) -> Result<(), ApplyError> {
    let (mut writer, mut reader) = stream::open(connection).await?;
    writer.send(&Frame::Watch(Interest::Messages(subscription.filter.clone()))).await?;
    let logs = watch::Sender::new(next_logs(subscription, &mut reader).await?);
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
            list = next_logs(subscription, &mut reader) => {
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

async fn next_logs(subscription: &Subscription, reader: &mut FrameReader) -> Result<Vec<LogState>, ApplyError> {
    let logs = match reader.next().await? {
        Some(Frame::Logs(logs)) => logs,
        Some(Frame::Refused { code, reason }) => return Err(StreamError::Refused { code, reason }.into()),
        Some(_) => return Err(StreamError::Unexpected.into()),
        None => return Err(StreamError::Closed(CloseCode::Done).into()),
    };
    let ours =
        |state: &LogState| state.descriptor.author == subscription.author && state.descriptor.kind() == Kind::Messages;
    if !logs.iter().all(ours) {
        return Err(Violation::Frame("a log that was not asked for").into());
    }
    Ok(logs)
}
