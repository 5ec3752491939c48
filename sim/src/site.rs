//! What a cluster has besides rhio.

use crate::bucket::Bucket;
use crate::jetstream::Stream;

/// A cluster's NATS server, and its bucket.
#[derive(Debug)]
pub struct Site {
    /// Whether it answers.
    pub up: bool,
    /// Which run of the server this is.
    pub identity: u64,
    /// Until when a process may act on what was true before its server lost something.
    pub unnoticed: u64,
    /// The users' stream.
    pub data: Stream,
    /// rhio's own stream.
    pub state: Stream,
    /// The bucket beside it.
    pub bucket: Bucket,
}
