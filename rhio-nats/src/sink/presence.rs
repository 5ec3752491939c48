//! What the local stream holds of an author's messages, and whether anything may still be on its way there.

use std::time::Duration;

use bytes::Bytes;
use rhio_core::apply::Found;
use rhio_core::headers::{self, read_source};
use rhio_core::id::LocalSeq;
use rhio_core::record::Position;
use rhio_core::subject::Filter;
use tokio::time::Instant;

use super::super::raw::exchange::AskError;
use super::super::raw::js::{GetRequest, is_nobody};
use super::super::reader::first_after;
use super::super::reader::single::get;
use super::super::scan::Scan;
use super::{Presence, Sink, SinkError};

/// How long an earlier connection may take to end.
const CLAIM: Duration = Duration::from_secs(5);
/// How long one question after it may take; nobody answers.
const ASK: Duration = Duration::from_millis(50);

impl Sink {
    /// Makes sure that no earlier connection can write the same messages any more, and claims them for this one. What a
    /// process sent before it was killed may wait in a socket for as long as the server stands still. The server reads
    /// a connection to its end before it drops what the connection listens to, so when nobody listens to the claim,
    /// everything has been read. Returns whether there was an earlier connection.
    ///
    /// # Errors
    /// When there still is one, or NATS does not answer.
    pub async fn claim(&mut self, what: &str) -> Result<bool, SinkError> {
        let hash = blake3::hash(what.as_bytes()).to_hex();
        let prefix = &self.client.pool.settings().inbox_prefix;
        let subject = format!("{prefix}.rhio-writes.{}", &hash[..32]);
        let begun = Instant::now();
        let mut waited = false;
        loop {
            match self.exchange.ask(&subject, Bytes::new(), ASK).await {
                Ok(answer) if is_nobody(&answer) => break,
                Ok(_) | Err(AskError::TimedOut(_)) => {}
                Err(error) => return Err(error.into()),
            }
            waited = true;
            if begun.elapsed() > CLAIM {
                return Err(SinkError::Occupied(self.name.clone()));
            }
            tokio::time::sleep(ASK / 5).await;
        }
        // Sent before anything else on this connection, so it is known before anything else arrives.
        self.exchange.subscribe(subject.as_bytes()).await?;
        Ok(waited)
    }

    /// Whether the stream still has, at `local`, a record from this life of the author's stream that is not behind
    /// `through`, as a commit says that was stored at `committed`, in nanoseconds since the Unix epoch.
    ///
    /// # Errors
    /// When NATS does not answer.
    pub async fn holds(
        &self,
        local: LocalSeq,
        life: &str,
        through: Position,
        committed: u64,
    ) -> Result<Presence, SinkError> {
        if local.0 == 0 {
            return Ok(Presence::Held);
        }
        if let Some(message) = get(&self.client, &self.name, GetRequest { seq: local.0, filter: None }).await? {
            let ours = mark(&message.headers).is_some_and(|(of, position)| {
                of == life.as_bytes() && position.seq <= through.seq && position.time <= through.time
            });
            return Ok(if ours { Presence::Held } else { Presence::Lost });
        }
        if self.last().await? < local {
            return Ok(Presence::Lost);
        }
        // Consumed, expired or deleted since is no sign that the stream forgot. But if it gave the number again, whatever
        // was stored since the commit has numbers that the commit had seen.
        if self.is_queue() {
            return Ok(Presence::Held);
        }
        let later = first_after(&self.client, &self.stream, committed).await?;
        Ok(if later.is_some_and(|seq| seq <= local.0) { Presence::Lost } else { Presence::Held })
    }

    /// The records from this life of the author's stream behind `after`, in the local stream's order; and where the
    /// author's stream had the first of them.
    ///
    /// # Errors
    /// When NATS does not answer.
    pub async fn find(
        &self,
        filters: (&Filter, &Filter),
        life: &str,
        after: LocalSeq,
    ) -> Result<(Found, Option<Position>), SinkError> {
        let (mut found, mut first) = (Found::default(), None);
        if self.last().await? <= after {
            return Ok((found, first));
        }
        let (asked, covered) = filters;
        if self.is_queue() {
            return self.find_in_queue(filters, life, after).await;
        }
        let mut scan = Scan::open(&self.client, &self.stream, asked.as_str(), after.0 + 1, true).await?;
        while let Some(message) = scan.next().await? {
            if let Some((of, position)) = mark(&message.headers)
                && of == life.as_bytes()
                && covered.matches(&message.subject)
            {
                found.push_at(position, LocalSeq(message.seq));
                first = first.or(Some(position));
            }
        }
        Ok((found, first))
    }
}

impl Sink {
    /// A work queue refuses consumers that take nothing, so its messages are looked at one by one.
    async fn find_in_queue(
        &self,
        (asked, covered): (&Filter, &Filter),
        life: &str,
        after: LocalSeq,
    ) -> Result<(Found, Option<Position>), SinkError> {
        let (mut found, mut first, mut next) = (Found::default(), None, after.next());
        loop {
            let question = GetRequest { seq: next.0, filter: Some(asked.as_str()) };
            let Some(message) = get(&self.client, &self.name, question).await? else { return Ok((found, first)) };
            if let Some((of, position)) = mark(&message.headers)
                && of == life.as_bytes()
                && covered.matches(&message.subject.unwrap_or_default())
            {
                found.push_at(position, LocalSeq(message.seq));
                first = first.or(Some(position));
            }
            next = LocalSeq(message.seq).next();
        }
    }
}

/// Where the author's stream had a message: the life of that stream, and the place.
fn mark(block: &[u8]) -> Option<(&[u8], Position)> {
    headers::get(block, headers::SOURCE).and_then(read_source)
}
