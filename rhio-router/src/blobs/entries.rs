//! Where what a subscriber gets of a bucket's log comes from: the log itself, for its operations say everything.

use std::sync::Arc;

use rhio_core::id::{LogId, PublicKey};
use rhio_core::log::operation::{Head, Operation};
use rhio_core::log::session::Refusal;
use rhio_core::wire::CloseCode;
use rhio_nats::state::LogSubject;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::node::Node;
use crate::publish::readership::Readership;
use crate::serving::{LIVE_PRIORITY, Parcel, Source, bare};
use crate::session_error::SessionError;
use crate::status::{Count, Entry as Status};

use super::publication::{BucketPublication, View};

/// One subscriber's way through a bucket's log.
pub struct Entries {
    publication: Arc<BucketPublication>,
    log: LogId,
    subject: LogSubject,
}

impl Entries {
    /// The log with this name.
    pub fn of(node: &Node, publication: Arc<BucketPublication>, log: LogId) -> Self {
        Self { publication, log, subject: node.state.own(log) }
    }
}

impl Source for Entries {
    type Watch = watch::Receiver<Option<View>>;
    type Again = ();
    /// Catalogs are small, and tell what there is to do: they go with live messages.
    const PRIORITY: i32 = LIVE_PRIORITY;

    fn status(&self) -> &Status {
        &self.publication.status
    }

    fn readership(&self) -> &Readership {
        &self.publication.readership
    }

    fn subject(&self) -> &LogSubject {
        &self.subject
    }

    fn refuse(&self, peer: &PublicKey, _: Refusal) -> CloseCode {
        // Whatever it is that this node forgot: a new epoch says everything again.
        let name = self.publication.status.name();
        warn!(peer = %peer, "{name}: a subscriber holds more of the catalog than this node");
        self.publication.doubted.notify_one();
        CloseCode::Unavailable
    }

    fn forgotten(&self) {
        // It was durable, so the state stream is another one now, or has forgotten it: nothing else would tell as long as
        // the bucket does not change.
        if self.publication.view().borrow().as_ref().is_some_and(|now| now.log == self.log) {
            debug!("{}: the state stream lost the catalog's end", self.publication.status.name());
            self.publication.doubted.notify_one();
        }
    }

    fn watch(&self) -> Self::Watch {
        self.publication.view()
    }

    fn head(&self, watch: &mut Self::Watch) -> Result<Option<Head>, CloseCode> {
        let view = watch.borrow_and_update();
        view.as_ref().filter(|view| view.log == self.log).map(|view| view.head).ok_or(CloseCode::Unavailable)
    }

    async fn moved(&self, watch: &mut Self::Watch) -> Result<(), CloseCode> {
        watch.changed().await.map_err(|_| CloseCode::Unavailable)
    }

    fn again(&self) {}

    async fn load(&self, (): &mut (), operation: &Operation) -> Result<Parcel, SessionError> {
        let count = Count { messages: operation.entries().len() as u64, bytes: operation.raw().len() as u64 };
        Ok(bare(operation, count))
    }

    fn sent(&self, _: &Node, _: &Operation, _: &PublicKey, _: Instant, _: Count) {
        failpoint::hit("catalog-sent");
    }
}
