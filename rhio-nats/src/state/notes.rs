//! Notes in the state stream, of which only the last version counts: what has landed, and uploads in parts.

use async_nats::HeaderMap;
use async_nats::jetstream::context::PublishErrorKind;
use bytes::Bytes;
use rhio_core::id::LogId;

use crate::scan::Scan;

use super::subject::StateSubject;
use super::{StateError, StateStore};

/// Old versions of a note are dropped after so many new ones.
const PURGE_EVERY: u64 = 64;

/// A note that is written often: only its last version counts.
#[derive(Clone, Debug)]
pub struct Note {
    pub(super) subject: String,
    /// Sequence number of its last version, 0 for none.
    seq: u64,
    written: u64,
}

impl StateStore {
    /// How far a subscription has landed a catalog's objects.
    ///
    /// # Errors
    /// When NATS does not answer.
    pub async fn landed(&self, log: LogId, subscription: &str) -> Result<(Note, Option<Bytes>), StateError> {
        self.note(&StateSubject::Landed { log, subscription: subscription.to_owned() }).await
    }

    /// What is known of an upload in parts. `name` is one token of a subject.
    ///
    /// # Errors
    /// When NATS does not answer.
    pub async fn upload(&self, name: &str) -> Result<(Note, Option<Bytes>), StateError> {
        self.note(&StateSubject::Upload(name.to_owned())).await
    }

    /// Everything that is known of uploads in parts.
    ///
    /// # Errors
    /// When NATS does not answer.
    pub async fn uploads(&self) -> Result<Vec<Bytes>, StateError> {
        let filter = StateSubject::Upload("*".to_owned()).of(self.node);
        let mut scan = Scan::open(&self.client, &self.stream, &filter, 1, false).await?;
        let mut last = std::collections::BTreeMap::new();
        while let Some(message) = scan.next().await? {
            last.insert(message.subject.clone(), message.payload);
        }
        Ok(last.into_values().collect())
    }

    async fn note(&self, subject: &StateSubject) -> Result<(Note, Option<Bytes>), StateError> {
        let subject = subject.of(self.node);
        let found = self.last_message(&subject).await?;
        let seq = found.as_ref().map_or(0, |((seq, _), _)| *seq);
        Ok((Note { subject, seq, written: 0 }, found.map(|(_, payload)| payload)))
    }

    /// Writes a note's next version.
    ///
    /// # Errors
    /// [`StateError::Refused`] when somebody else has written it; any other error leaves open whether it was stored.
    pub async fn write_note(&self, note: &mut Note, payload: Bytes) -> Result<(), StateError> {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Expected-Last-Subject-Sequence", note.seq.to_string());
        let sent = self.context.publish_with_headers(note.subject.clone(), headers, payload).await;
        let ack = match sent {
            Ok(ack) => ack.await,
            Err(error) => Err(error),
        };
        note.seq = match ack {
            Ok(ack) => ack.sequence,
            Err(error) if error.kind() == PublishErrorKind::WrongLastSequence => {
                return Err(StateError::Refused { stream: self.name.clone() });
            }
            Err(error) => return Err(self.failed(error)),
        };
        note.written += 1;
        if note.written % PURGE_EVERY == 1 {
            self.purge(&note.subject, note.seq).await?;
        }
        Ok(())
    }

    /// Drops a note.
    ///
    /// # Errors
    /// When NATS does not answer.
    pub async fn drop_note(&self, note: &mut Note) -> Result<(), StateError> {
        self.stream.purge().filter(note.subject.clone()).await.map_err(|e| self.failed(e))?;
        (note.seq, note.written) = (0, 0);
        Ok(())
    }
}
