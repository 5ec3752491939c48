//! What the state stream keeps about buckets: catalogs beside message logs, and notes, of which only the last counts.

use async_nats::HeaderMap;
use async_nats::jetstream::context::PublishErrorKind;
use bytes::Bytes;
use rhio_core::catalog::{CatalogDescriptor, CatalogOperation};
use rhio_core::codec::Reader;
use rhio_core::id::{LogId, OpSeq, PublicKey};

use crate::scan::Scan;

use super::{LogSubject, StateError, StateStore, Stored};

/// Old versions of a note are dropped after so many new ones.
const PURGE_EVERY: u64 = 64;

/// A note that is written often: only its last version counts.
#[derive(Clone, Debug)]
pub struct Note {
    subject: String,
    /// Sequence number of its last version, 0 for none.
    seq: u64,
    written: u64,
}

impl Stored {
    /// A catalog's operations, which were verified before they were stored.
    ///
    /// # Errors
    /// When the bytes were damaged since.
    pub fn catalog(&self, state: &StateStore) -> Result<Vec<CatalogOperation>, StateError> {
        let read = |raw: &Bytes| CatalogOperation::read_stored(raw.clone());
        let all: Result<Vec<_>, _> = self.commit.operations.iter().map(read).collect();
        all.map_err(|error| state.damaged(self.seq, error.to_string()))
    }
}

impl StateStore {
    /// Stores what a catalog is about, unless that is there already.
    ///
    /// # Errors
    /// When NATS does not answer.
    pub async fn put_catalog(&self, descriptor: &CatalogDescriptor) -> Result<(), StateError> {
        let subject = format!("{}.catalog.{}.{}", self.prefix, descriptor.author, descriptor.id());
        match self.last_message(&subject).await? {
            Some((_, payload)) if payload == descriptor.encode() => Ok(()),
            _ => self.put(subject, descriptor.encode()).await,
        }
    }

    /// The catalogs of an author's bucket that the node knows of, oldest epoch first.
    ///
    /// # Errors
    /// When NATS does not answer, or a descriptor is damaged.
    pub async fn catalogs(&self, author: PublicKey, bucket: &str) -> Result<Vec<CatalogDescriptor>, StateError> {
        let filter = format!("{}.catalog.{author}.*", self.prefix);
        let mut scan = Scan::open(&self.client, &self.stream, &filter, 1, false).await?;
        let mut found: Vec<CatalogDescriptor> = Vec::new();
        while let Some(message) = scan.next().await? {
            let read = CatalogDescriptor::read(&mut Reader::new(message.payload.clone()));
            let descriptor = read.map_err(|e| self.damaged(message.seq, e.to_string()))?;
            if descriptor.bucket == bucket && !found.contains(&descriptor) {
                found.push(descriptor);
            }
        }
        found.sort_by_key(|descriptor| descriptor.epoch);
        Ok(found)
    }

    /// One operation of a catalog.
    ///
    /// # Errors
    /// When NATS does not answer, or a message is damaged.
    pub async fn find_catalog(
        &self,
        subject: &LogSubject,
        wanted: OpSeq,
    ) -> Result<Option<CatalogOperation>, StateError> {
        let Some(stored) = self.find(subject, wanted).await? else { return Ok(None) };
        Ok(stored.catalog(self)?.into_iter().find(|operation| operation.seq() == wanted))
    }

    /// Drops a catalog, or this node's copy of one, and what is noted about it.
    ///
    /// # Errors
    /// When NATS does not answer.
    pub async fn forget_catalog(
        &self,
        descriptor: &CatalogDescriptor,
        subject: &LogSubject,
        note: Option<&Note>,
    ) -> Result<(), StateError> {
        let log = descriptor.id();
        let mut subjects = vec![subject.0.clone()];
        subjects.extend(note.map(|note| note.subject.clone()));
        // Two subscriptions may have a copy each; the descriptor goes with the last.
        let others = self.copies(descriptor.author, log).await?;
        if others.iter().all(|other| other == subject) {
            subjects.push(format!("{}.server.{log}", self.prefix));
            subjects.push(format!("{}.catalog.{}.{log}", self.prefix, descriptor.author));
        }
        for subject in subjects {
            self.stream.purge().filter(subject).await.map_err(|e| self.failed(e))?;
        }
        Ok(())
    }

    /// How far a subscription has landed a catalog's objects.
    ///
    /// # Errors
    /// When NATS does not answer.
    pub async fn landed(&self, log: LogId, subscription: &str) -> Result<(Note, Option<Bytes>), StateError> {
        self.note(format!("landed.{log}.{subscription}")).await
    }

    /// What is known of an upload in parts. `name` is one token of a subject.
    ///
    /// # Errors
    /// When NATS does not answer.
    pub async fn upload(&self, name: &str) -> Result<(Note, Option<Bytes>), StateError> {
        self.note(format!("upload.{name}")).await
    }

    /// Everything that is known of uploads in parts.
    ///
    /// # Errors
    /// When NATS does not answer.
    pub async fn uploads(&self) -> Result<Vec<Bytes>, StateError> {
        let filter = format!("{}.upload.*", self.prefix);
        let mut scan = Scan::open(&self.client, &self.stream, &filter, 1, false).await?;
        let mut last = std::collections::BTreeMap::new();
        while let Some(message) = scan.next().await? {
            last.insert(message.subject.clone(), message.payload);
        }
        Ok(last.into_values().collect())
    }

    async fn note(&self, tail: String) -> Result<(Note, Option<Bytes>), StateError> {
        let subject = format!("{}.{tail}", self.prefix);
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
