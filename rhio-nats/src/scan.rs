//! Reads what a stream holds now, in order, up to the end that it had when reading began.
//!
//! A stream's messages may vanish while they are read (limits, purges, deletes), so their number cannot be counted on.
//! The server says with every message how many are left, and with a new consumer when none arrives.

use std::time::Duration;

use async_nats::jetstream::stream::Stream;

use super::client::Client;
use super::reader::{ReadError, Reader, Scanned, Start};

/// How long nothing may arrive before the server is asked whether anything is left.
const IDLE: Duration = Duration::from_millis(500);
/// How often in a row it may say that something is left while nothing arrives.
const MAX_IDLE: usize = 20;

/// A reader of what a stream holds under a filter.
pub struct Scan {
    reader: Reader,
}

impl Scan {
    /// Starts at sequence number `from`. With `headers_only`, payloads stay where they are.
    ///
    /// # Errors
    /// When NATS does not answer.
    pub async fn open(
        client: &Client,
        stream: &Stream,
        filter: &str,
        from: u64,
        headers_only: bool,
    ) -> Result<Self, ReadError> {
        let reader = Reader::open(client, stream, filter, Start::At(from), headers_only).await?;
        Ok(Self { reader })
    }

    /// The next message; `None` at the end.
    ///
    /// # Errors
    /// When NATS does not answer, or stops delivering.
    pub async fn next(&mut self) -> Result<Option<Scanned>, ReadError> {
        for _ in 0..MAX_IDLE {
            if self.reader.left() == 0 {
                return Ok(None);
            }
            match tokio::time::timeout(IDLE, self.reader.next()).await {
                Ok(scanned) => return scanned.map(Some),
                Err(_) => self.reader.again().await?,
            }
        }
        Err(ReadError::Stalled)
    }
}
