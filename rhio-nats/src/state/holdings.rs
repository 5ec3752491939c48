//! What the state stream holds, for whoever looks at it: counts, and operations in pages.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use rhio_core::catalog::CatalogOperation;
use rhio_core::id::{LogId, OpSeq};
use rhio_core::operation::Operation;

use super::{LogSubject, StateError, StateStore, Stored};

/// Logs that are looked at to count operations; a node has a few for each publication and subscription.
const MAX_LOGS: usize = 4096;
/// Requests under way at once.
const CONCURRENCY: usize = 16;

/// An operation of either kind.
#[derive(Clone, Debug)]
pub enum Held {
    /// It describes messages.
    Messages(Operation),
    /// It describes a bucket's objects.
    Catalog(CatalogOperation),
}

impl StateStore {
    /// How many operations are held, own and others'. What several subscriptions hold of one log counts once.
    ///
    /// # Errors
    /// When NATS does not answer, or a message is damaged.
    pub async fn count_operations(&self) -> Result<u64, StateError> {
        let filter = format!("{}.ops.>", self.prefix);
        let info = self.stream.info_with_subjects(filter).await.map_err(|e| self.failed(e))?;
        let subjects = info.take(MAX_LOGS).map(|found| found.map_err(|e| self.failed(e)));
        let ranges = subjects.map_ok(|(subject, _)| async move {
            let log = subject.split('.').nth(4).unwrap_or_default().to_owned();
            let subject = LogSubject(subject);
            let Some(last) = self.last(&subject).await? else { return Ok(None) };
            let Some(first) = self.first(&subject, 1).await? else { return Ok(None) };
            Ok::<_, StateError>(Some((
                log,
                self.op_seq(&first, first.commit.operations.first())?,
                self.last_op(&last)?,
            )))
        });
        let ranges: Vec<_> = ranges.try_buffer_unordered(CONCURRENCY).try_collect().await?;
        let mut logs: BTreeMap<String, (OpSeq, OpSeq)> = BTreeMap::new();
        for (log, first, last) in ranges.into_iter().flatten() {
            let known = logs.entry(log).or_insert((first, last));
            *known = (known.0.min(first), known.1.max(last));
        }
        Ok(logs.values().map(|(first, last)| last.0 - first.0 + 1).sum())
    }

    /// Whether the state stream is there.
    ///
    /// # Errors
    /// When it is not, or NATS does not answer.
    pub async fn look(&self) -> Result<(), StateError> {
        self.stream.get_info().await.map(|_| ()).map_err(|e| self.failed(e))
    }

    /// Operations of one log behind operation `after`, at most `max`, in order. Empty when none is held.
    ///
    /// # Errors
    /// When NATS does not answer, or a message is damaged.
    pub async fn operations(&self, log: LogId, after: Option<OpSeq>, max: usize) -> Result<Vec<Held>, StateError> {
        let from = after.map_or(OpSeq(0), OpSeq::next);
        let mut found = Vec::new();
        let Some(subject) = self.subject_of(log).await? else { return Ok(found) };
        let Some(first) = self.find(&subject, from).await? else { return Ok(found) };
        let mut reader = self.read(&subject, first.seq).await?;
        while found.len() < max
            && let Some(stored) = reader.next().await?
        {
            for operation in self.held(&stored)? {
                if operation.seq() >= from && found.len() < max {
                    found.push(operation);
                }
            }
        }
        Ok(found)
    }

    /// The logs that are held.
    ///
    /// # Errors
    /// When NATS does not answer.
    pub async fn logs(&self) -> Result<Vec<LogId>, StateError> {
        let filter = format!("{}.ops.>", self.prefix);
        let info = self.stream.info_with_subjects(filter).await.map_err(|e| self.failed(e))?;
        let mut logs = Vec::new();
        let mut subjects = info.take(MAX_LOGS);
        while let Some(found) = subjects.next().await {
            let (subject, _) = found.map_err(|e| self.failed(e))?;
            logs.extend(subject.split('.').nth(4).and_then(|log| log.parse::<LogId>().ok()));
        }
        logs.sort_unstable();
        logs.dedup();
        Ok(logs)
    }

    /// Where a log is: the own one, or one of the copies.
    async fn subject_of(&self, log: LogId) -> Result<Option<LogSubject>, StateError> {
        for filter in [format!("{}.ops.*.{log}", self.prefix), format!("{}.ops.*.{log}.*", self.prefix)] {
            let mut subjects = self.stream.info_with_subjects(filter).await.map_err(|e| self.failed(e))?;
            if let Some(found) = subjects.next().await {
                return Ok(Some(LogSubject(found.map_err(|e| self.failed(e))?.0)));
            }
        }
        Ok(None)
    }

    fn held(&self, stored: &Stored) -> Result<Vec<Held>, StateError> {
        let read = |raw: &Bytes| match Operation::read_stored(raw.clone()) {
            Ok(operation) => Ok(Held::Messages(operation)),
            Err(_) => CatalogOperation::read_stored(raw.clone()).map(Held::Catalog),
        };
        let all: Result<Vec<_>, _> = stored.commit.operations.iter().map(read).collect();
        all.map_err(|error| self.damaged(stored.seq, error.to_string()))
    }
}

impl Held {
    /// Its number in its log.
    pub fn seq(&self) -> OpSeq {
        match self {
            Self::Messages(operation) => operation.seq(),
            Self::Catalog(operation) => operation.seq(),
        }
    }
}
