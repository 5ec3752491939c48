//! What the local stream holds of an author's messages, and whether anything may still be on its way there.

use std::fmt::Write;
use std::time::Duration;

use async_nats::jetstream::stream::RawMessageErrorKind;
use async_nats::{HeaderValue, RequestErrorKind};
use rhio_core::apply::Found;
use rhio_core::headers;
use rhio_core::id::{LocalSeq, SourceSeq};
use rhio_core::record::Position;
use rhio_core::subject::Filter;
use tokio::time::Instant;

use super::super::reader::first_after;
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
        let subject = format!("_INBOX.rhio-writes.{}", &hash[..32]);
        let begun = Instant::now();
        let mut waited = false;
        loop {
            let question = async_nats::Request::new().timeout(Some(ASK));
            match self.client.sdk.send_request(subject.clone(), question).await {
                Err(error) if error.kind() == RequestErrorKind::NoResponders => break,
                Err(error) if error.kind() == RequestErrorKind::TimedOut => {}
                Err(error) => return Err(self.failed(error)),
                Ok(_) => {}
            }
            waited = true;
            if begun.elapsed() > CLAIM {
                return Err(SinkError::Occupied(self.name.clone()));
            }
            tokio::time::sleep(ASK / 5).await;
        }
        // Sent before anything else on this connection, so it is known before anything else arrives.
        self.claim = Some(self.client.sdk.subscribe(subject).await.map_err(|e| self.failed(e))?);
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
        match self.stream.get_raw_message(local.0).await {
            Ok(message) => {
                let source = message.headers.get(headers::SOURCE).map(HeaderValue::as_str);
                let ours = source.and_then(read_mark).is_some_and(|(of, position)| {
                    of == life && position.seq <= through.seq && position.time <= through.time
                });
                Ok(if ours { Presence::Held } else { Presence::Lost })
            }
            Err(error) if matches!(error.kind(), RawMessageErrorKind::NoMessageFound) => {
                if self.last().await? < local {
                    return Ok(Presence::Lost);
                }
                // Consumed, expired or deleted since is no sign that the stream forgot. But if it gave the number again,
                // whatever was stored since the commit has numbers that the commit had seen.
                if self.is_queue() {
                    return Ok(Presence::Held);
                }
                let later = first_after(&self.stream, committed).await?;
                Ok(if later.is_some_and(|seq| seq <= local.0) { Presence::Lost } else { Presence::Held })
            }
            Err(error) => Err(self.failed(error)),
        }
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
            let source = message.headers.as_ref().and_then(|h| h.get(headers::SOURCE)).map(HeaderValue::as_str);
            if let Some((of, position)) = source.and_then(read_mark)
                && of == life
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
            let get = self.stream.raw_message_builder().sequence(next.0).next_by_subject(asked.as_str());
            let message = match get.send().await {
                Ok(message) => message,
                Err(error) if matches!(error.kind(), RawMessageErrorKind::NoMessageFound) => return Ok((found, first)),
                Err(error) => return Err(self.failed(error)),
            };
            let source = message.headers.get(headers::SOURCE).map(HeaderValue::as_str);
            if let Some((of, position)) = source.and_then(read_mark)
                && of == life
                && covered.matches(&message.subject)
            {
                found.push_at(position, LocalSeq(message.sequence));
                first = first.or(Some(position));
            }
            next = LocalSeq(message.sequence).next();
        }
    }
}

/// The value of [`headers::SOURCE`].
pub(super) fn mark(life: &str, position: Position) -> String {
    let mut text = String::with_capacity(life.len() + 40);
    text.push_str(life);
    // Writing into a string does not fail.
    let _ = write!(text, "{}/{}", position.seq, position.time);
    text
}

fn read_mark(text: &str) -> Option<(&str, Position)> {
    let (life, place) = text.split_once('/')?;
    let (seq, time) = place.split_once('/')?;
    Some((life, Position { seq: SourceSeq(seq.parse().ok()?), time: time.parse().ok()? }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_mark_says_can_be_read_back() {
        let position = Position { seq: SourceSeq(17), time: 1_790_000_000_000_000_001 };
        let text = mark("0123456789abcdef/", position);
        assert_eq!(text, "0123456789abcdef/17/1790000000000000001");
        assert_eq!(read_mark(&text), Some(("0123456789abcdef", position)));
        for bad in ["", "a", "a/1", "a/b/1", "a/1/", "a/1/2/3"] {
            assert_eq!(read_mark(bad), None, "{bad}");
        }
    }
}
