//! One subscription to a bucket: follows the author's catalog, and has each object brought here.
//!
//! The invariant: an object is settled only when the local bucket has it whole, and which entries are settled is noted in
//! the state stream only then. After any crash what was settled and not noted is looked at again, and found there.
//! The catalog's operations are stored here too, so that a restart knows what there is without asking the author.

use std::collections::{HashMap, VecDeque};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::OptionFuture;
use rhio_blobs::bucket::BucketError;
use rhio_core::object::ObjectKey;
use rhio_core::wire::{CloseCode, Frame, Interest};
use rhio_net::connection::Connection;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::node::Node;
use crate::status::Refusal;
use crate::trouble::{Cause, Trouble};
use rhio_nats::state::StateError;
use rhio_net::stream::{self, StreamError};

use super::fetching::Landing;
use super::follow_error::FollowError;
use super::following::{Driver, Noting, Storing};
use super::holding::{Held, show};
use super::land_error::LandError;
use super::subscription::BucketSubscription;
use super::upload_note;

/// Waits between attempts after a failure.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// How long this process stands back after another one has moved its cursor.
const STAND_BACK: Duration = Duration::from_secs(10);
/// How long the state stream may take to answer when a session ends.
const ANSWER: Duration = Duration::from_secs(10);

/// Follows one subscription until stopped.
pub async fn run(node: Node, subscription: Arc<BucketSubscription>) {
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
            FollowError::Stream(StreamError::Lost(_) | StreamError::Closed(CloseCode::Done | CloseCode::Shutdown)) => {
                debug!("{}: {error}", subscription.status.name());
                BACKOFF.0
            }
            FollowError::Land(LandError::Fetch(_) | LandError::Stream(_)) => {
                debug!("{}: {error}", subscription.status.name());
                BACKOFF.0
            }
            // The author begins a new epoch.
            FollowError::Stream(StreamError::Closed(CloseCode::Unavailable)) if wait == BACKOFF.0 => {
                debug!("{}: {error}", subscription.status.name());
                wait *= 2;
                BACKOFF.0
            }
            FollowError::State(StateError::Refused { .. }) => {
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

async fn follow(node: &Node, subscription: &Arc<BucketSubscription>) -> Result<(), FollowError> {
    node.state.ensure().await?;
    let mut held = Held::load(node, subscription).await?;
    // First of all the local bucket: without it there is no point in asking the author.
    if let Err(error) = subscription.bucket.list(None).await {
        if matches!(error, BucketError::Missing(_)) {
            held.forget(node, subscription).await?;
        }
        return Err(error.into());
    }
    let known = |record: &upload_note::Record| {
        record.bucket != subscription.bucket.name()
            || record.is_import()
            || ObjectKey::new(record.key.clone())
                .is_ok_and(|key| held.plan.wanted(&key).is_some_and(|put| record.is_of(&put)))
    };
    upload_note::sweep(node, known).await.map_err(FollowError::Land)?;
    show(subscription, &mut held);
    let mut questions = subscription.desk.questions.lock().await;
    let connection = {
        let mut reach = pin!(node.reach(&subscription.author, &subscription.status));
        loop {
            tokio::select! {
                connection = &mut reach => break connection,
                Some(question) = questions.recv() => question.answer(&held.plan),
            }
        }
    };
    let (mut writer, mut reader) = stream::open(&connection).await?;
    writer.send(&Frame::Watch(Interest::Bucket(subscription.remote.clone()))).await?;
    let landing =
        Landing { node: node.clone(), subscription: Arc::clone(subscription), connection: connection.clone() };
    let mut driver = Driver {
        node,
        subscription,
        landing: Arc::new(landing),
        held,
        author: None,
        writer: None,
        unstored: VecDeque::new(),
        storing: 0,
        in_flight: HashMap::new(),
        running: JoinSet::new(),
        changed: false,
        moved: Instant::now(),
        lagged: Instant::now(),
    };
    let (mut storing, mut noting): (Storing, Noting) = (None, None);
    let outcome = driver.run(&mut reader, &mut questions, &mut storing, &mut noting).await;
    driver.running.shutdown().await;
    // What becomes of these must be known before anybody reads what is stored.
    let both = async { (OptionFuture::from(storing).await, OptionFuture::from(noting).await) };
    let _ = tokio::time::timeout(ANSWER, both).await;
    match &outcome {
        Err(FollowError::Stalled) => {
            subscription.status.restarted();
            warn!(peer = %subscription.author, "{}: no progress", subscription.status.name());
            stream::close(&connection, CloseCode::Stalled);
        }
        Err(error @ FollowError::Violation(why, _)) => {
            subscription.status.refused(*why, &error.into());
            refuse(subscription, &connection, error, CloseCode::Unverified);
        }
        Err(error @ FollowError::Stream(violation)) if violation.is_violation() => {
            subscription.status.refused(Refusal::Protocol, &error.into());
            refuse(subscription, &connection, error, violation.code());
        }
        _ => {}
    }
    writer.reset(CloseCode::Done);
    if let Some(mut pulling) = driver.writer.take() {
        pulling.reset(CloseCode::Done);
    }
    outcome
}

fn refuse(subscription: &BucketSubscription, connection: &Connection, error: &FollowError, code: CloseCode) {
    warn!(peer = %subscription.author, "{}: refused: {error}", subscription.status.name());
    stream::close(connection, code);
}
