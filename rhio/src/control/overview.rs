//! Puts together what the node says of itself.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use rhio_core::id::{LogId, OpSeq, PublicKey};
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use rhio_nats::state::StateError;
use rhio_router::apply::subscription::Subscription;
use rhio_router::blobs::publication::BucketPublication;
use rhio_router::blobs::subscription::BucketSubscription;
use rhio_router::metrics::Metrics;
use rhio_router::node::Node;

use super::checks::Checks;
use super::describe;
use super::health::{self, Evidence};
use super::history::{INTERVAL, Recorder, Sample};
use super::model;
use super::times::rfc3339;

/// How long the state stream may take to answer what an answer needs.
const DEADLINE: Duration = Duration::from_secs(2);
/// Operations are counted again after this long: it costs two requests for each log.
const COUNT_AGAIN: Duration = Duration::from_secs(2);

/// The node's tasks, once they run.
pub struct Running {
    /// What they share.
    pub node: Node,
    /// Subscriptions to subjects.
    pub subscriptions: watch::Receiver<Vec<Arc<Subscription>>>,
    /// Subscriptions to buckets.
    pub buckets: watch::Receiver<Vec<Arc<BucketSubscription>>>,
}

/// Where everything about the node can be asked, from the process's first moment on.
pub struct Overview {
    me: PublicKey,
    network_id: String,
    listens: Vec<String>,
    started: SystemTime,
    /// What the node needs, and how that is.
    pub checks: Checks,
    /// The last minutes.
    pub recorder: Recorder,
    /// Counters.
    pub metrics: Arc<Metrics>,
    running: OnceLock<Running>,
    counted: Mutex<Option<(Instant, Option<u64>)>>,
}

/// A page of objects, and where the next one begins.
pub struct BlobPage {
    /// The objects.
    pub blobs: Vec<model::Blob>,
    /// The next page's cursor; `None` at the end.
    pub next: Option<String>,
}

impl Overview {
    /// An overview of a node that has not begun.
    pub fn new(me: PublicKey, network_id: String, listens: Vec<String>, metrics: Arc<Metrics>) -> Self {
        Self {
            me,
            network_id,
            listens,
            started: SystemTime::now(),
            checks: Checks::default(),
            recorder: Recorder::default(),
            metrics,
            running: OnceLock::new(),
            counted: Mutex::default(),
        }
    }

    /// The tasks run.
    pub fn set_running(&self, running: Running) {
        // A node starts once.
        let _ = self.running.set(running);
    }

    /// The tasks; `None` while the node has not reached NATS for the first time.
    pub fn running(&self) -> Option<&Running> {
        self.running.get()
    }

    /// When the process started.
    pub fn started(&self) -> SystemTime {
        self.started
    }

    /// The node's public key.
    pub fn public_key(&self) -> PublicKey {
        self.me
    }

    /// Known nodes.
    pub fn peers(&self) -> Vec<model::Peer> {
        let Some(running) = self.running() else { return Vec::new() };
        running.node.links.report().into_iter().map(describe::peer).collect()
    }

    /// What the node offers.
    pub fn publications(&self) -> Vec<model::Publication> {
        let Some(running) = self.running() else { return Vec::new() };
        let node = &running.node;
        let subjects = node.holdings.messages();
        let buckets = node.holdings.buckets();
        subjects
            .iter()
            .map(|p| describe::subject_publication(p))
            .chain(buckets.iter().map(|p| describe::bucket_publication(p)))
            .collect()
    }

    /// What the node wants.
    pub fn subscriptions(&self) -> Vec<model::Subscription> {
        let Some(running) = self.running() else { return Vec::new() };
        let (subjects, buckets) = (running.subscriptions.borrow().clone(), running.buckets.borrow().clone());
        subjects
            .iter()
            .map(|s| describe::subject_subscription(s))
            .chain(buckets.iter().map(|s| describe::bucket_subscription(s)))
            .collect()
    }

    /// Content on its way.
    pub fn transfers(&self) -> Vec<model::Transfer> {
        let Some(running) = self.running() else { return Vec::new() };
        running.node.blobs.transfers.list().iter().map(describe::transfer).collect()
    }

    /// How the node is.
    pub fn health(&self) -> model::Health {
        let (publications, subscriptions) = (self.publications(), self.subscriptions());
        self.judge(&publications, &subscriptions, &self.peers())
    }

    /// The verdict on what was asked for already.
    pub fn judge(
        &self,
        publications: &[model::Publication],
        subscriptions: &[model::Subscription],
        peers: &[model::Peer],
    ) -> model::Health {
        let checks = self.checks.list();
        health::judge(&Evidence { checks: &checks, publications, subscriptions, peers })
    }

    /// Everything.
    pub async fn status(&self) -> model::NodeStatus {
        let operations = self.operation_count().await;
        let (publications, subscriptions, peers) = (self.publications(), self.subscriptions(), self.peers());
        let now = SystemTime::now();
        model::NodeStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            public_key: self.me.to_string(),
            network_id: self.network_id.clone(),
            time: rfc3339(now),
            started: rfc3339(self.started),
            uptime_seconds: now.duration_since(self.started).unwrap_or_default().as_secs_f64(),
            listens: self.listens.clone(),
            health: self.judge(&publications, &subscriptions, &peers),
            peers,
            publications,
            subscriptions,
            transfers: self.transfers(),
            operations,
            blobs: self.blob_totals(),
        }
    }

    /// How many operations the node holds.
    pub async fn operation_count(&self) -> model::OperationCount {
        // Whoever asks meanwhile waits for the same answer.
        let mut counted = self.counted.lock().await;
        if let Some((at, count)) = *counted
            && at.elapsed() < COUNT_AGAIN
        {
            return model::OperationCount { count };
        }
        let count = match self.running() {
            Some(running) => tokio::time::timeout(DEADLINE, running.node.state.count_operations()).await,
            None => return model::OperationCount { count: None },
        };
        let count = count.ok().and_then(Result::ok);
        *counted = Some((Instant::now(), count));
        model::OperationCount { count }
    }

    /// Operations of a log behind operation `after`. `None` while the state stream does not answer.
    pub async fn operations(&self, log: LogId, after: Option<OpSeq>, max: usize) -> Option<Vec<model::Operation>> {
        let state = &self.running()?.node.state;
        let held = tokio::time::timeout(DEADLINE, state.operations(log, after, max)).await.ok()?.ok()?;
        Some(held.iter().map(describe::operation).collect())
    }

    /// The first operations that are held of every log, at most `max` in all. `None` while the state stream does not
    /// answer.
    pub async fn first_operations(&self, max: usize) -> Option<Vec<model::Operation>> {
        let state = &self.running()?.node.state;
        let read = async {
            let mut held = Vec::new();
            for log in state.logs().await? {
                if held.len() >= max {
                    break;
                }
                held.extend(state.operations(log, None, max - held.len()).await?);
            }
            Ok::<_, StateError>(held)
        };
        let held = tokio::time::timeout(DEADLINE, read).await.ok()?.ok()?;
        Some(held.iter().map(describe::operation).collect())
    }

    /// All objects that are known.
    pub fn blob_totals(&self) -> model::BlobTotals {
        let Some(running) = self.running() else { return model::BlobTotals::default() };
        let published = running.node.holdings.buckets();
        let published = published.iter().map(|publication| {
            let inventory = publication.inventory();
            (inventory.len() as u64, inventory.bytes())
        });
        let buckets = running.buckets.borrow().clone();
        let landed = buckets.iter().map(|subscription| {
            let here = subscription.here();
            (here.messages, here.bytes)
        });
        let sum = |total: model::BlobTotals, (count, bytes): (u64, u64)| model::BlobTotals {
            count: total.count + count,
            bytes: total.bytes + bytes,
        };
        published.chain(landed).fold(model::BlobTotals::default(), sum)
    }

    /// A page of the objects that are known: first those of published buckets, then those of subscribed ones.
    /// `cursor` is what came with the page before. `None` while a subscription does not answer, or for a cursor that
    /// is none of ours.
    pub async fn blobs(&self, bucket: Option<&str>, cursor: Option<&str>, max: usize) -> Option<BlobPage> {
        let Some(running) = self.running() else { return Some(BlobPage { blobs: Vec::new(), next: None }) };
        let (mut place, mut from) = match cursor {
            Some(cursor) => {
                let (place, from) = cursor.split_once('.')?;
                (place.parse::<usize>().ok()?, from.parse::<usize>().ok()?)
            }
            None => (0, 0),
        };
        let published = running.node.holdings.buckets();
        let subscribed = running.buckets.borrow().clone();
        let mut blobs = Vec::new();
        while blobs.len() < max && place < published.len() + subscribed.len() {
            let left = max - blobs.len();
            let next = if let Some(publication) = published.get(place) {
                let name = publication.bucket.name();
                match bucket.is_none_or(|wanted| wanted == name) {
                    true => self.published_page(publication, from, left, &mut blobs),
                    false => None,
                }
            } else if let Some(subscription) = subscribed.get(place - published.len()) {
                match bucket.is_none_or(|wanted| wanted == subscription.bucket.name()) {
                    true => landed_page(subscription, from, left, &mut blobs).await?,
                    false => None,
                }
            } else {
                None
            };
            match next {
                Some(next) => from = next,
                None => (place, from) = (place + 1, 0),
            }
        }
        let more = place < published.len() + subscribed.len();
        Some(BlobPage { blobs, next: more.then(|| format!("{place}.{from}")) })
    }

    fn published_page(
        &self,
        publication: &BucketPublication,
        from: usize,
        max: usize,
        blobs: &mut Vec<model::Blob>,
    ) -> Option<usize> {
        let (page, next) = publication.inventory().page(from, max);
        blobs.extend(page.into_iter().filter_map(|entry| match entry {
            rhio_core::catalog::Entry::Put(put) => Some(model::Blob {
                hash: put.hash.to_string(),
                size: put.size,
                bucket: publication.bucket.name().to_owned(),
                key: put.key.to_string(),
                origin: self.me.to_string(),
                here: true,
            }),
            _ => None,
        }));
        next
    }
}

/// Keeps the last minutes, until stopped.
pub async fn record(overview: Arc<Overview>, stop: CancellationToken) {
    let mut tick = tokio::time::interval(INTERVAL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        let sample = |done: model::Totals, lag: model::Lag| Sample {
            messages: done.messages,
            bytes: done.bytes,
            lag: lag.messages.or(lag.objects),
            lag_seconds: lag.seconds,
        };
        let publications = overview.publications().into_iter().map(|p| (p.id, sample(p.sealed, p.lag)));
        let subscriptions = overview.subscriptions().into_iter().map(|s| (s.id, sample(s.applied, s.lag)));
        overview.recorder.record(SystemTime::now(), publications.chain(subscriptions));
    }
}

async fn landed_page(
    subscription: &BucketSubscription,
    from: usize,
    max: usize,
    blobs: &mut Vec<model::Blob>,
) -> Option<Option<usize>> {
    let page = tokio::time::timeout(DEADLINE, subscription.desk.page(from, max)).await.ok()?;
    let (page, next) = page?;
    blobs.extend(page.into_iter().map(|listed| model::Blob {
        hash: listed.hash.to_string(),
        size: listed.size,
        bucket: subscription.bucket.name().to_owned(),
        key: listed.key.to_string(),
        origin: subscription.author.to_string(),
        here: listed.here,
    }));
    Some(next)
}
