//! What this node can serve: its own logs, and the copies that it has committed of others'.

use std::sync::Arc;

use rhio_core::id::{LogId, PublicKey};
use rhio_core::subject::Filter;
use rhio_nats::state::{LogSubject, StateError, StateStore};
use tokio::sync::watch;

use crate::blobs::publication::BucketPublication;
use crate::publish::publication::Publication;

/// What is held of one log.
#[derive(Debug)]
pub enum Holding {
    /// An own log, about messages.
    Messages(Arc<Publication>),
    /// An own log, about a bucket.
    Bucket(Arc<BucketPublication>),
    /// Copies of another author's log: where each one's operations are. They are given back to their author only.
    Copies(Vec<LogSubject>),
}

/// Everything that is held.
#[derive(Debug)]
pub struct Holdings {
    me: PublicKey,
    state: Arc<StateStore>,
    messages: watch::Sender<Vec<Arc<Publication>>>,
    buckets: watch::Sender<Vec<Arc<BucketPublication>>>,
}

impl Holdings {
    /// The holdings of a node that publishes nothing yet.
    pub fn new(me: PublicKey, state: Arc<StateStore>) -> Self {
        Self { me, state, messages: watch::Sender::default(), buckets: watch::Sender::default() }
    }

    /// What is held of an author's log. `None` for an own one that is not served now.
    ///
    /// # Errors
    /// When another's log is asked for and NATS does not answer.
    pub async fn find(&self, author: PublicKey, log: LogId) -> Result<Option<Holding>, StateError> {
        if author != self.me {
            return Ok(Some(Holding::Copies(self.state.copies(author, log).await?)));
        }
        if let Some(publication) = self.messages.borrow().iter().find(|publication| publication.has(log)) {
            return Ok(Some(Holding::Messages(Arc::clone(publication))));
        }
        let buckets = self.buckets.borrow();
        let found = buckets.iter().find(|publication| publication.is_of(log));
        Ok(found.map(|publication| Holding::Bucket(Arc::clone(publication))))
    }

    /// The publications of messages, now and whenever they change.
    pub fn watch_messages(&self) -> watch::Receiver<Vec<Arc<Publication>>> {
        self.messages.subscribe()
    }

    /// The publications of messages.
    pub fn messages(&self) -> Vec<Arc<Publication>> {
        self.messages.borrow().clone()
    }

    /// Replaces them.
    pub fn set_messages(&self, publications: Vec<Arc<Publication>>) {
        self.messages.send_replace(publications);
    }

    /// The published buckets.
    pub fn buckets(&self) -> Vec<Arc<BucketPublication>> {
        self.buckets.borrow().clone()
    }

    /// Replaces them.
    pub fn set_buckets(&self, publications: Vec<Arc<BucketPublication>>) {
        self.buckets.send_replace(publications);
    }

    /// The publication of a bucket.
    pub fn bucket(&self, name: &str) -> Option<Arc<BucketPublication>> {
        self.buckets.borrow().iter().find(|publication| publication.bucket.name() == name).cloned()
    }

    /// Those under which a subscription's filter finds anything: first what this node may read, then what it may not.
    /// Of what it may read, one that another covers on the same stream is left out: its messages come through the
    /// wider one.
    pub fn matching(&self, filter: &Filter, reader: &PublicKey) -> (Vec<Arc<Publication>>, Vec<Arc<Publication>>) {
        let list = self.messages.borrow();
        let matching = list.iter().filter(|p| p.filter.overlaps(filter)).cloned();
        let (admitted, refused): (Vec<_>, Vec<_>) = matching.partition(|p| p.readership.admits(reader));
        let wider = |p: &Publication| {
            admitted
                .iter()
                .any(|other| other.stream == p.stream && other.filter != p.filter && other.filter.covers(&p.filter))
        };
        (admitted.iter().filter(|p| !wider(p)).cloned().collect(), refused)
    }
}
