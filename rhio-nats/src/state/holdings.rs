//! What the state stream holds, for whoever looks at it: counts, and operations in pages.

use std::collections::BTreeMap;

use futures_util::{StreamExt, TryStreamExt};
use rhio_core::id::{LogId, OpSeq, PublicKey};
use rhio_core::log::operation::Operation;

use super::subject::{StateSubject, prefix};
use super::{LogSubject, StateError, StateStore};

/// Logs that are looked at to count operations; a node has a few for each publication and subscription.
const MAX_LOGS: usize = 4096;
/// Requests under way at once.
const CONCURRENCY: usize = 16;

impl StateStore {
    /// How many operations are held, own and others'. What several subscriptions hold of one log counts once.
    ///
    /// # Errors
    /// When NATS does not answer, or a message is damaged.
    pub async fn count_operations(&self) -> Result<u64, StateError> {
        let filter = format!("{}.ops.>", prefix(self.node));
        let info = self.stream.info_with_subjects(filter).await.map_err(|e| self.failed(e))?;
        let subjects = info.take(MAX_LOGS).map(|found| found.map_err(|e| self.failed(e)));
        let ranges = subjects.map_ok(|(subject, _)| async move {
            let Some(log) = log_of(self.node, &subject) else { return Ok(None) };
            let subject = LogSubject(subject);
            match self.range(&subject).await {
                Ok(range) => Ok::<_, StateError>(range.map(|(first, last)| (log, first, last))),
                // Nobody reads it any more.
                Err(StateError::Format { .. }) => Ok(None),
                Err(error) => Err(error),
            }
        });
        let ranges: Vec<_> = ranges.try_buffer_unordered(CONCURRENCY).try_collect().await?;
        let mut logs: BTreeMap<LogId, (OpSeq, OpSeq)> = BTreeMap::new();
        for (log, first, last) in ranges.into_iter().flatten() {
            let known = logs.entry(log).or_insert((first, last));
            *known = (known.0.min(first), known.1.max(last));
        }
        Ok(logs.values().map(|(first, last)| last.0 - first.0 + 1).sum())
    }

    /// The first and the last operation under a subject.
    async fn range(&self, subject: &LogSubject) -> Result<Option<(OpSeq, OpSeq)>, StateError> {
        let Some(last) = self.last(subject).await? else { return Ok(None) };
        let Some(first) = self.first(subject, 1).await? else { return Ok(None) };
        Ok(Some((self.op_seq(&first, first.commit.operations.first())?, self.last_op(&last)?)))
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
    pub async fn operations(&self, log: LogId, after: Option<OpSeq>, max: usize) -> Result<Vec<Operation>, StateError> {
        let from = after.map_or(OpSeq(0), OpSeq::next);
        let mut found = Vec::new();
        let Some(subject) = self.subject_of(log).await? else { return Ok(found) };
        let Some(first) = self.find(&subject, from).await? else { return Ok(found) };
        let mut reader = self.read(&subject, first.seq).await?;
        while found.len() < max
            && let Some(stored) = reader.next().await?
        {
            for operation in stored.operations(self)? {
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
        let filter = format!("{}.ops.>", prefix(self.node));
        let info = self.stream.info_with_subjects(filter).await.map_err(|e| self.failed(e))?;
        let mut logs = Vec::new();
        let mut subjects = info.take(MAX_LOGS);
        while let Some(found) = subjects.next().await {
            let (subject, _) = found.map_err(|e| self.failed(e))?;
            logs.extend(log_of(self.node, &subject));
        }
        logs.sort_unstable();
        logs.dedup();
        Ok(logs)
    }

    /// Where a log is: the own one, or one of the copies.
    async fn subject_of(&self, log: LogId) -> Result<Option<LogSubject>, StateError> {
        let prefix = prefix(self.node);
        for filter in [format!("{prefix}.ops.*.{log}"), format!("{prefix}.ops.*.{log}.*")] {
            let mut subjects = self.stream.info_with_subjects(filter).await.map_err(|e| self.failed(e))?;
            if let Some(found) = subjects.next().await {
                return Ok(Some(LogSubject(found.map_err(|e| self.failed(e))?.0)));
            }
        }
        Ok(None)
    }
}

fn log_of(node: PublicKey, subject: &str) -> Option<LogId> {
    match StateSubject::parse(node, subject)? {
        StateSubject::Operations { log, .. } => Some(log),
        _ => None,
    }
}
