//! One subscription to a bucket: follows the author's catalog, and has each object brought here.
//!
//! The invariant: an object is settled only when the local bucket has it whole, and which entries are settled is noted in
//! the state stream only then. After any crash what was settled and not noted is looked at again, and found there.
//! The catalog's operations are stored here too, so that a restart knows what there is without asking the author.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::OptionFuture;
use rhio_blobs::bucket::BucketError;
use rhio_core::id::PublicKey;
use rhio_core::object::ObjectKey;
use rhio_core::wire::{CloseCode, Interest};
use rhio_net::connection::Connection;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::follower::{Fault, Follower, Following, Watch};
use crate::node::Node;
use crate::supervise::{self, Supervised};
use crate::trouble::Trouble;

use super::fetching::Landing;
use super::follow_error::FollowError;
use super::following::{Driver, Noting, Storing};
use super::holding::{Held, show};
use super::land_error::LandError;
use super::subscription::BucketSubscription;
use super::upload_note;

/// How long the state stream may take to answer when a session ends.
const ANSWER: Duration = Duration::from_secs(10);

/// Follows one subscription until stopped.
pub async fn run(node: Node, subscription: Arc<BucketSubscription>) {
    supervise::run(Following::new(node, Objects { subscription })).await;
}

/// What is done with a bucket's log: each object that it tells of is brought here.
struct Objects {
    subscription: Arc<BucketSubscription>,
}

impl Follower for Objects {
    type Failure = FollowError;
    type Here = Held;

    fn entry(&self) -> &dyn Supervised {
        &*self.subscription
    }

    fn author(&self) -> PublicKey {
        self.subscription.author
    }

    fn interest(&self) -> Interest {
        Interest::Bucket(self.subscription.remote.clone())
    }

    async fn prepare(&self, node: &Node) -> Result<Held, FollowError> {
        let subscription = &self.subscription;
        let mut held = Held::load(node, subscription).await?;
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
        Ok(held)
    }

    async fn pass_time(&self, held: &mut Held) -> Infallible {
        let mut questions = self.subscription.desk.questions.lock().await;
        while let Some(question) = questions.recv().await {
            question.answer(&held.plan);
        }
        pending().await
    }

    async fn follow(
        &self,
        node: &Node,
        held: Held,
        connection: &Connection,
        watch: &mut Watch,
    ) -> Result<Infallible, FollowError> {
        let subscription = &self.subscription;
        let mut questions = subscription.desk.questions.lock().await;
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
            begun: Instant::now(),
            moved: Instant::now(),
            lagged: Instant::now(),
        };
        let (mut storing, mut noting): (Storing, Noting) = (None, None);
        let outcome = driver.run(watch, &mut questions, &mut storing, &mut noting).await;
        driver.running.shutdown().await;
        // What becomes of these must be known before anybody reads what is stored.
        let both = async { (OptionFuture::from(storing).await, OptionFuture::from(noting).await) };
        let _ = tokio::time::timeout(ANSWER, both).await;
        if let Some(mut pulling) = driver.writer.take() {
            pulling.reset(CloseCode::Done);
        }
        outcome
    }

    fn fault(failure: &FollowError) -> Fault<'_> {
        match failure {
            FollowError::Stream(error) => Fault::Stream(error),
            FollowError::State(error) => Fault::State(error),
            FollowError::Violation(why, _) => Fault::Violation(*why, CloseCode::Unverified),
            FollowError::Stalled => Fault::Stalled,
            FollowError::Land(LandError::Fetch(_) | LandError::Stream(_)) => Fault::Passing,
            FollowError::Bucket(_) | FollowError::Land(_) | FollowError::Silent(_) => Fault::Other,
        }
    }

    fn trouble(failure: &FollowError) -> Trouble {
        failure.into()
    }
}
