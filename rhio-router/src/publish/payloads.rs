//! Where what a subscriber gets of a log about messages comes from: the ring, and the source's stream read again.

use std::sync::Arc;

use rhio_core::id::{LogId, PublicKey};
use rhio_core::log::operation::{Head, Operation};
use rhio_core::log::session::Refusal;
use rhio_core::record::{Position, SourceRecord};
use rhio_core::seal::Tail;
use rhio_core::select::{Selected, Selection};
use rhio_core::subject::Filter;
use rhio_core::wire::{CloseCode, Floor, encode_batch};
use rhio_nats::source::{History, SourceError, SourceStream};
use rhio_nats::state::LogSubject;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::warn;

use crate::node::Node;
use crate::serving::{CATCH_UP_PRIORITY, Parcel, Source};
use crate::session_error::SessionError;
use crate::status::{Count, Entry};
use crate::trouble::Trouble;

use super::live::{LiveLog, Progress, Recent};
use super::publication::{Logs, Publication};
use super::readership::Readership;

/// One subscriber's part of a log about messages.
pub struct Payloads {
    publication: Arc<Publication>,
    log: LogId,
    subject: LogSubject,
    /// What the log covers.
    filter: Filter,
    /// What the subscriber wants of it.
    selection: Selection,
    /// `None` for a log that is closed.
    live: Option<Arc<LiveLog>>,
    progress: watch::Receiver<Progress>,
    /// `None` when the stream is gone: every record is gone then.
    source: Option<SourceStream>,
}

impl Payloads {
    /// What a subscriber with this filter and these floors gets of one of the publication's logs.
    ///
    /// # Errors
    /// When the publication does not have the log any more, or NATS does not answer.
    pub async fn open(
        node: &Node,
        publication: Arc<Publication>,
        log: LogId,
        (filter, floors): (Filter, Vec<Floor>),
    ) -> Result<Self, SessionError> {
        let logs = publication.logs().borrow().clone();
        let subject = node.state.own(log);
        if let Some(live) = logs.live.filter(|live| live.log == log) {
            let covered = publication.filter.clone();
            return Ok(Self {
                selection: Selection::new(filter, floors, &covered),
                filter: covered,
                progress: live.progress(),
                source: Some(live.source.clone()),
                live: Some(live),
                publication,
                log,
                subject,
            });
        }
        let unavailable = || SessionError::Refused(CloseCode::Unavailable);
        let closed = logs.closed.into_iter().find(|closed| closed.descriptor.id() == log).ok_or_else(unavailable)?;
        let about = closed.descriptor.source().ok_or_else(unavailable)?;
        let source = match SourceStream::open(&node.client, &publication.stream, &publication.filter).await {
            Ok(source) if source.created() == about.created => Some(source),
            Ok(_) | Err(SourceError::Missing(_)) => None,
            Err(error) => return Err(error.into()),
        };
        let tail = Tail { head: closed.head, through: closed.through, total: closed.total };
        // The sender may go: the value stays, and nothing is added to a closed log.
        let (_, progress) = watch::channel(Progress { tail, pending: Some(0) });
        let covered = about.filter.clone();
        let selection = Selection::new(filter, floors, &covered);
        Ok(Self { publication, log, subject, filter: covered, selection, live: None, progress, source })
    }

    /// Says that the stream has another message than was signed.
    fn altered(&self, position: Position) -> SessionError {
        let error = SessionError::Altered { stream: self.publication.stream.clone(), position };
        self.publication.status.trouble(&Trouble::from(&error));
        error
    }
}

impl Source for Payloads {
    type Watch = (watch::Receiver<Progress>, watch::Receiver<Logs>);
    type Again = Option<History>;
    const PRIORITY: i32 = CATCH_UP_PRIORITY;

    fn status(&self) -> &Entry {
        &self.publication.status
    }

    fn readership(&self) -> &Readership {
        &self.publication.readership
    }

    fn subject(&self) -> &LogSubject {
        &self.subject
    }

    fn refuse(&self, peer: &PublicKey, refusal: Refusal) -> CloseCode {
        let (name, code) = (
            self.publication.status.name(),
            match refusal {
                Refusal::Behind => CloseCode::Unavailable,
                Refusal::Diverged => CloseCode::Diverged,
            },
        );
        // A subscriber that holds more of a closed log has what it can get.
        if self.live.is_some() {
            match refusal {
                Refusal::Behind => {
                    warn!(peer = %peer, "{name}: a subscriber holds more than this node");
                    self.publication.behind.notify_one();
                }
                Refusal::Diverged => {
                    warn!(peer = %peer, "{name}: a subscriber holds another log");
                    self.publication.diverged.notify_one();
                }
            }
        }
        code
    }

    fn watch(&self) -> Self::Watch {
        (self.progress.clone(), self.publication.logs())
    }

    fn head(&self, (progress, _): &mut Self::Watch) -> Result<Option<Head>, CloseCode> {
        Ok(progress.borrow_and_update().tail.head)
    }

    async fn moved(&self, (progress, logs): &mut Self::Watch) -> Result<(), CloseCode> {
        tokio::select! {
            changed = progress.changed(), if self.live.is_some() => changed.map_err(|_| CloseCode::Unavailable),
            changed = logs.changed() => {
                let over = changed.is_err() || !self.publication.has(self.log);
                let live = logs.borrow_and_update().live.as_ref().map(|live| live.log);
                let closed = self.live.is_some() && live != Some(self.log);
                if over || closed { Err(CloseCode::Unavailable) } else { Ok(()) }
            }
        }
    }

    fn again(&self) -> Option<History> {
        // A narrower filter reads less; a wider one must not read what the log does not cover.
        let wanted = self.selection.filter();
        let filter = if self.filter.covers(wanted) { wanted } else { &self.filter };
        self.source.as_ref().map(|source| source.history(filter))
    }

    async fn load(&self, again: &mut Option<History>, operation: &Operation) -> Result<Parcel, SessionError> {
        let records = match again {
            Some(history) => history.records(operation.records(), |p| self.selection.is_below_floors(p)).await?,
            None => Vec::new(),
        };
        // The stream was read under the subscriber's filter, so what it does not want looks as if it were gone.
        let selected = self.selection.select(operation, &records);
        check(operation, &selected, &records).map_err(|position| self.altered(position))?;
        let frame = encode_batch(operation.raw(), selected.iter().map(|slot| slot.slot(&records)));
        Ok(Parcel { frame, count: count(&selected, &records) })
    }

    fn live(&self) -> Option<&LiveLog> {
        self.live.as_deref()
    }

    /// The ring has the very bytes that were hashed when the operation was signed.
    fn pack(&self, recent: &Recent) -> Parcel {
        let selected = self.selection.select(&recent.operation, &recent.records);
        let all = selected.iter().all(|slot| matches!(slot, Selected::Record(_)));
        let frame = if all {
            recent.whole_frame()
        } else {
            encode_batch(recent.operation.raw(), selected.iter().map(|slot| slot.slot(&recent.records)))
        };
        Parcel { frame, count: count(&selected, &recent.records) }
    }

    fn sent(&self, node: &Node, operation: &Operation, peer: &PublicKey, begun: Instant, count: Count) {
        node.telemetry.sent(operation, peer, begun, count);
        failpoint::hit("operation-sent");
    }

    async fn applied(&self, node: &Node, head: Head) -> Result<(), SessionError> {
        failpoint::hit("applied-heard");
        let Some(live) = self.live.as_ref().filter(|live| live.source.is_queue()) else { return Ok(()) };
        let through = match live.recent(head.seq) {
            Some(recent) => Some(recent.operation.through().seq),
            None => {
                let stored = node.state.find(&self.subject, head.seq).await?;
                let operations = stored.map(|stored| stored.operations(&node.state)).transpose()?;
                let found = operations.into_iter().flatten().find(|operation| operation.hash() == head.hash);
                found.map(|operation| operation.through().seq)
            }
        };
        if let Some(through) = through {
            live.note_applied(self.selection.filter(), through);
        }
        Ok(())
    }
}

/// Whether every record that goes along is the one that was signed; else where the first is that is not.
fn check(operation: &Operation, selected: &[Selected], records: &[SourceRecord]) -> Result<(), Position> {
    for (signed, slot) in operation.records().iter().zip(selected) {
        if slot.slot(records).is_ok_and(|record| record.digest() != signed.digest) {
            return Err(signed.position);
        }
    }
    Ok(())
}

/// The records that go along.
fn count(selected: &[Selected], records: &[SourceRecord]) -> Count {
    let slots = selected.iter().filter_map(|slot| slot.slot(records).ok());
    slots.fold(Count::default(), |sum, record| Count {
        messages: sum.messages + 1,
        bytes: sum.bytes + record.as_bytes().len() as u64,
    })
}

#[cfg(test)]
mod tests {
    use p2panda_core::SigningKey;
    use rhio_core::id::SourceSeq;
    use rhio_core::log::body::Body;
    use rhio_core::log::total::Total;
    use rhio_core::manifest::{Entry, Manifest};
    use rhio_core::record::CanonicalRecord;

    use super::*;

    fn record(seq: u64, text: &str) -> SourceRecord {
        let record = CanonicalRecord::encode("s.x", b"", text.as_bytes()).unwrap();
        SourceRecord { position: Position { seq: SourceSeq(seq), time: seq }, record }
    }

    fn signed(records: &[SourceRecord]) -> Operation {
        let entry = |record: &SourceRecord| Entry { position: record.position, digest: record.record.digest() };
        let content = Manifest::new(10, records.iter().map(entry).collect()).unwrap().into();
        let body = Body { before: Total::default(), content };
        Operation::sign(&SigningKey::from_bytes(&[7; 32]), LogId::from_bytes([1; 32]), None, 1, body)
    }

    #[test]
    fn what_is_not_what_was_signed_is_not_sent() {
        let records = [record(1, "a"), record(2, "b"), record(4, "c")];
        let operation = signed(&records);
        let whole = Filter::parse("s.>").unwrap();
        let selection = Selection::new(whole.clone(), Vec::new(), &whole);
        let checked = |records: &[SourceRecord]| check(&operation, &selection.select(&operation, records), records);
        assert_eq!(checked(&records), Ok(()));
        assert_eq!(checked(&records[..2]), Ok(()), "one that is gone is not sent");
        let altered = [records[0].clone(), record(2, "B"), records[2].clone()];
        assert_eq!(checked(&altered), Err(records[1].position));
    }
}
