//! Writes a log.
//!
//! The invariant it keeps: **an operation leaves the node only after the state stream has acknowledged it**, and the
//! next one is signed only then. So a crash between any two steps leaves either nothing of an operation, or the whole of
//! it in the state stream, from where every reader gets it; and no two operations with one number are ever signed. The
//! state stream takes an operation only behind the one that the writer knows as last (compare-and-set), so of two
//! processes with one key one is refused.

use p2panda_core::SigningKey;

use crate::id::LogId;

use super::body::{Body, Content};
use super::operation::{Head, Operation};
use super::total::Total;

/// Writes one log.
#[derive(Debug)]
pub struct Writer {
    key: SigningKey,
    log: LogId,
    head: Option<Head>,
    total: Total,
    /// Signed, and not known to be durable.
    staged: Option<Operation>,
}

impl Writer {
    /// Continues a log at its durable end.
    pub fn new(key: SigningKey, log: LogId, head: Option<Head>, total: Total) -> Self {
        Self { key, log, head, total, staged: None }
    }

    /// The log.
    pub fn log(&self) -> LogId {
        self.log
    }

    /// The last operation that is durable.
    pub fn head(&self) -> Option<Head> {
        self.head
    }

    /// What the log holds durably.
    pub fn total(&self) -> Total {
        self.total
    }

    /// The operation that waits for the state stream's acknowledgement.
    pub fn staged(&self) -> Option<&Operation> {
        self.staged.as_ref()
    }

    /// Signs the next operation, unless one is staged. It must go to the state stream, which answers with
    /// [`Writer::appended`]; on any other answer this writer is dropped and the log recovered. `now` is in microseconds
    /// since the Unix epoch.
    pub fn stage(&mut self, content: impl Into<Content>, now: u64) -> Option<&Operation> {
        if self.staged.is_some() {
            return None;
        }
        let body = Body { before: self.total, content: content.into() };
        Some(self.staged.insert(Operation::sign(&self.key, self.log, self.head, now, body)))
    }

    /// The state stream has the operation: it may leave the node now.
    pub fn appended(&mut self) -> Option<Operation> {
        let operation = self.staged.take()?;
        (self.head, self.total) = (Some(operation.head()), operation.after());
        Some(operation)
    }
}

#[cfg(test)]
mod tests {
    use crate::catalog::{Catalog, Entry};
    use crate::log::chain::Chain;
    use crate::log::descriptor::Kind;

    use super::*;

    #[test]
    fn one_operation_is_under_way_at_a_time_and_the_next_one_follows_it() {
        let key = SigningKey::from_bytes(&[1; 32]);
        let mut chain = Chain::new(key.verifying_key().into(), LogId::from_bytes([5; 32]), Kind::Bucket);
        let mut writer = Writer::new(key, chain.log(), None, Total::default());
        let content = || Catalog::new(vec![Entry::Complete]).unwrap();
        assert!(writer.appended().is_none());
        for _ in 0..3 {
            assert!(writer.stage(content(), 0).is_some());
            assert!(writer.stage(content(), 0).is_none(), "the one before is not durable yet");
            assert_eq!(writer.head(), chain.head());
            chain.accept(&writer.appended().unwrap()).unwrap();
        }
        assert_eq!((writer.head(), writer.total()), (chain.head(), chain.total()));
    }
}
