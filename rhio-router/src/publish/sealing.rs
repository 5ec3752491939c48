//! Drives the sealer of one publication: stream in, state stream and ring out.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::OptionFuture;
use rhio_core::id::{OpSeq, SourceSeq};
use rhio_core::log::commit::Commit;
use rhio_core::record::SourceRecord;
use rhio_core::seal::Sealer;
use rhio_nats::client::Ack;
use tokio::time::Instant;
use tracing::error;

use crate::node::{Node, now_micros};
use crate::status::{Count, Entry};
use crate::supervise::{self, Duty, Supervised, Verdict};
use rhio_nats::source::{Delivered, SourceError, SourceStream};
use rhio_nats::state::{LogSubject, StateError, StateStore};

use super::live::{Applied, LiveLog};
use super::publication::{Logs, Publication};
use super::recovery::{Recovered, find_log};
use super::seal_error::{Doubt, SealError};

/// A refusal less than this after the last one is another writer's doing.
const REFUSED_AGAIN: Duration = Duration::from_secs(10);
/// How long NATS may take to take an acknowledgement over.
const SEND: Duration = Duration::from_secs(10);
/// How often the stream and the server are looked at.
const CHECK: Duration = Duration::from_secs(1);
/// How often the log is pruned.
const PRUNE: Duration = Duration::from_secs(30);
/// Messages taken at once before anything else is looked at.
const BURST: usize = 512;

/// Seals one publication until stopped.
pub async fn run(node: Node, publication: Arc<Publication>) {
    supervise::run(Sealing { node, publication, doubt: Doubt::None, refused: None }).await;
}

/// What a publication of messages does.
struct Sealing {
    node: Node,
    publication: Arc<Publication>,
    /// What the last attempt left in doubt.
    doubt: Doubt,
    /// When an append was refused that may have been this process's own.
    refused: Option<Instant>,
}

impl Duty for Sealing {
    type Failure = SealError;

    fn entry(&self) -> &dyn Supervised {
        &*self.publication
    }

    async fn attempt(&mut self) -> Result<Infallible, SealError> {
        let doubt = std::mem::replace(&mut self.doubt, Doubt::None);
        seal(&self.node, &self.publication, doubt).await
    }

    fn suspend(&self) {
        self.publication.suspend();
    }

    fn judge(&mut self, failure: &SealError) -> Verdict {
        match failure {
            SealError::Recover(_, why) => {
                self.doubt = *why;
                Verdict::AtOnce
            }
            SealError::Source(SourceError::Interrupted) => Verdict::Soon,
            // Once it may be this process's own: sent, cut off from its answer, and stored after all.
            SealError::OtherWriter if self.refused.is_none_or(|at| at.elapsed() > REFUSED_AGAIN) => {
                self.refused = Some(Instant::now());
                Verdict::Soon
            }
            SealError::OtherWriter => Verdict::StandBack(failure.into()),
            SealError::Source(_) | SealError::State(_) | SealError::Stuck => Verdict::Trouble(failure.into()),
        }
    }
}

type Pending<T> = Option<Pin<Box<dyn Future<Output = T> + Send>>>;

/// A message of a queue that no subscriber has yet.
struct Waiting {
    subject: Vec<u8>,
    ack: Ack,
}

/// What the loop holds besides the sealer.
struct Driver<'a> {
    node: &'a Node,
    entry: &'a Entry,
    live: Arc<LiveLog>,
    subject: LogSubject,
    state_seq: u64,
    /// Messages of a queue that wait for a subscriber, and how to acknowledge them.
    waiting: BTreeMap<SourceSeq, Waiting>,
}

async fn seal(node: &Node, publication: &Publication, doubt: Doubt) -> Result<Infallible, SealError> {
    // Whatever is read from here on must come from this one.
    let server = node.server_id();
    node.state.ensure().await?;
    let source = SourceStream::open(&node.client, &publication.stream, &publication.filter).await?;
    let recovered = find_log(node, publication, &source, doubt).await?;
    let Recovered { descriptor, tail, after, state_seq, closed, .. } = recovered;
    let mut follower = source.follow(node.me, &publication.filter, after.seq.next()).await?;
    let live = Arc::new(LiveLog::new(descriptor.clone(), source, tail));
    if node.server_id() != server {
        return Err(restarted());
    }
    live.set_pending(Some(follower.pending));
    publication.set_logs(Logs { closed, live: Some(Arc::clone(&live)) });
    publication.status.active();

    let subject = node.state.own(live.log);
    let entry = &publication.status;
    let mut driver = Driver { node, entry, live, subject, state_seq, waiting: BTreeMap::new() };
    let mut sealer = Sealer::new(node.key.clone(), descriptor, tail, after);
    let mut append: Pending<Result<u64, StateError>> = None;
    let mut signed = Instant::now();
    let mut upkeep: Pending<Result<(), SealError>> = None;
    let mut applied = driver.live.applied();
    let mut check = tokio::time::interval(CHECK);
    check.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut pruned = Instant::now();
    let prune_every = failpoint::setting("RHIO_TEST_PRUNE_SECONDS").map_or(PRUNE, Duration::from_secs);
    loop {
        let ahead = driver.live.is_ahead();
        if append.is_none()
            && !ahead
            && let Some(operation) = sealer.seal(now_micros())
        {
            append = Some(driver.append(operation.raw().clone()));
            signed = Instant::now();
        }
        tokio::select! {
            biased;
            Some(stored) = OptionFuture::from(append.as_mut()) => {
                append = None;
                driver.state_seq = stored.map_err(|error| match error {
                    // A server that forgot the end of the log refuses as well.
                    StateError::Refused { .. } if node.server_id() != server => restarted(),
                    error => error.into(),
                })?;
                failpoint::hit("operation-stored");
                if let Some(sealed) = sealer.appended() {
                    let bytes = sealed.operation.body().content.amount().bytes;
                    entry.progress(Count { messages: sealed.records.len() as u64, bytes });
                    entry.sealed_operation();
                    node.metrics.seal_seconds.observe(signed.elapsed().as_secs_f64());
                    node.telemetry.sealed(&driver.live.descriptor, &sealed, signed);
                    driver.live.release(sealed);
                    failpoint::hit("operation-released");
                }
            }
            _ = applied.changed() => {
                let applied = applied.borrow_and_update().clone();
                driver.acknowledge(&applied).await?;
            }
            () = publication.behind.notified() => {
                return Err(SealError::Recover("a subscriber holds more of the log", Doubt::Behind));
            }
            () = publication.diverged.notified() => {
                return Err(SealError::Recover("a subscriber holds another log", Doubt::Diverged));
            }
            Some(result) = OptionFuture::from(upkeep.as_mut()) => {
                upkeep = None;
                result?;
            }
            () = driver.live.wait_for_pace(), if ahead => {}
            _ = check.tick(), if upkeep.is_none() => {
                if node.server_id() != server {
                    return Err(restarted());
                }
                let prune = pruned.elapsed() >= prune_every;
                if prune {
                    pruned = Instant::now();
                }
                upkeep = Some(driver.upkeep(prune));
            }
            delivered = follower.next(), if sealer.has_room() => {
                let delivered = delivered?;
                // What a server that was started anew delivers may have taken the place of what was sealed.
                if node.server_id() != server {
                    return Err(restarted());
                }
                driver.take(&mut sealer, delivered).await?;
                for _ in 0..BURST {
                    if !sealer.has_room() {
                        break;
                    }
                    match follower.next().now_or_never() {
                        Some(delivered) => driver.take(&mut sealer, delivered?).await?,
                        None => break,
                    }
                }
            }
        }
    }
}

fn restarted() -> SealError {
    SealError::Recover("NATS was started anew", Doubt::None)
}

impl Driver<'_> {
    fn append(&self, raw: Bytes) -> Pin<Box<dyn Future<Output = Result<u64, StateError>> + Send>> {
        let (state, subject, expected) = (Arc::clone(&self.node.state), self.subject.clone(), self.state_seq);
        let commit = Commit::own(raw);
        Box::pin(async move { state.append(&subject, &commit, expected).await })
    }

    async fn take(&mut self, sealer: &mut Sealer, delivered: Delivered) -> Result<(), SealError> {
        self.live.set_pending(Some(delivered.pending));
        let position = delivered.position;
        match delivered.record {
            Ok(Some(record)) => {
                if let Some(ack) = delivered.ack {
                    let waiting = Waiting { subject: record.subject().to_vec(), ack };
                    let applied = self.live.applied().borrow().clone();
                    if is_applied(&applied, position.seq, &waiting.subject) {
                        self.send_ack(waiting.ack).await?;
                    } else {
                        self.waiting.insert(position.seq, waiting);
                    }
                }
                sealer.deliver(SourceRecord { position, record });
            }
            // Came through rhio: not ours to pass on, and on a queue not ours to take.
            Ok(None) => {}
            Err(reason) => {
                error!(sequence = position.seq.0, %reason, "{}: a message can't be replicated", self.entry.name());
                self.entry.unreplicable(&format!("message {} can't be replicated: {reason}", position.seq.0));
            }
        }
        Ok(())
    }

    /// Subscribers have more of it durably: a queue may drop that now.
    async fn acknowledge(&mut self, applied: &Applied) -> Result<(), SealError> {
        let Some(furthest) = applied.iter().map(|(_, through)| *through).max() else { return Ok(()) };
        let within: Vec<SourceSeq> = self
            .waiting
            .range(..=furthest)
            .filter(|(seq, waiting)| is_applied(applied, **seq, &waiting.subject))
            .map(|(seq, _)| *seq)
            .collect();
        for seq in within {
            if let Some(waiting) = self.waiting.remove(&seq) {
                self.send_ack(waiting.ack).await?;
                failpoint::hit("queue-acknowledged");
            }
        }
        Ok(())
    }

    async fn send_ack(&self, ack: Ack) -> Result<(), SealError> {
        // One that gets lost is delivered again after the consumer's wait, and acknowledged then.
        let sent = tokio::time::timeout(SEND, self.node.client.acknowledge(ack)).await;
        sent.map_err(|_| SealError::Stuck)
    }

    fn upkeep(&self, prune: bool) -> Pin<Box<dyn Future<Output = Result<(), SealError>> + Send>> {
        let (live, state, subject) = (Arc::clone(&self.live), Arc::clone(&self.node.state), self.subject.clone());
        Box::pin(async move {
            let (created, first, last) = live.source.bounds().await?;
            if created != live.source.created() {
                return Err(SealError::Recover("the stream was deleted and created again", Doubt::None));
            }
            let tail = live.progress().borrow().tail;
            if tail.head.is_some() && last < tail.through.seq {
                return Err(SealError::Recover("the stream lost messages that were sealed", Doubt::None));
            }
            if prune && let Some(head) = tail.head {
                prune_log(&state, &subject, first, head.seq).await?;
            }
            Ok(())
        })
    }
}

fn is_applied(applied: &Applied, seq: SourceSeq, subject: &[u8]) -> bool {
    applied.iter().any(|(filter, through)| seq <= *through && filter.matches(subject))
}

/// Drops operations whose records the stream no longer holds. The last one stays: it is where the log ends.
async fn prune_log(
    state: &StateStore,
    subject: &LogSubject,
    first_held: SourceSeq,
    head: OpSeq,
) -> Result<(), SealError> {
    let read = async |seq: OpSeq| -> Result<Option<(u64, OpSeq, SourceSeq)>, SealError> {
        let Some(stored) = state.find(subject, seq).await? else { return Ok(None) };
        let operation = stored.operations(state)?.into_iter().next();
        Ok(operation.map(|op| (stored.seq, op.seq(), op.through().seq)))
    };
    let Some((oldest, first, last)) = read(OpSeq(0)).await? else { return Ok(()) };
    if last >= first_held {
        return Ok(());
    }
    // Invariant: everything at or before `low` is prunable, `high` is kept.
    let (mut low, mut high, mut keep) = (first.0, head.0, None);
    while low + 1 < high {
        let middle = low + (high - low) / 2;
        match read(OpSeq(middle)).await? {
            Some((_, _, last)) if last < first_held => low = middle,
            Some((seq, _, _)) => (high, keep) = (middle, Some(seq)),
            None => break,
        }
    }
    let keep = match keep {
        Some(seq) => seq,
        None => match read(OpSeq(high)).await? {
            Some((seq, _, _)) => seq,
            None => return Ok(()),
        },
    };
    if keep > oldest {
        state.prune(subject, keep).await?;
        failpoint::hit("log-pruned");
    }
    Ok(())
}
