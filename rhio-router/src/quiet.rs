//! Holds still whatever applies an author's logs, while that author takes back what it lost of them.
//!
//! What has arrived and is not stored yet would be stored after the author was told where its log ends; it would sign
//! those numbers again, and the log would be forked.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use rhio_core::id::PublicKey;
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};
use tokio_util::sync::CancellationToken;

/// Who applies what, by author.
#[derive(Debug, Default)]
pub struct Quiet {
    authors: Mutex<HashMap<PublicKey, Gate>>,
}

#[derive(Clone, Debug, Default)]
struct Gate {
    halt: CancellationToken,
    lock: Arc<RwLock<()>>,
}

impl Quiet {
    fn gate(&self, author: PublicKey) -> Gate {
        self.authors.lock().unwrap_or_else(PoisonError::into_inner).entry(author).or_default().clone()
    }

    /// Begins to apply something of this author's. Whoever does must end when the token is cancelled, and let go of the
    /// guard when nothing is under way any more.
    pub async fn enter(&self, author: PublicKey) -> (CancellationToken, OwnedRwLockReadGuard<()>) {
        let lock = self.gate(author).lock;
        let guard = lock.read_owned().await;
        // Asked for last: whoever was halted while it waited begins afresh.
        (self.gate(author).halt, guard)
    }

    /// Waits until nothing of this author's is under way, and keeps it so while the guard is held.
    pub async fn hold(&self, author: PublicKey) -> OwnedRwLockWriteGuard<()> {
        let lock = {
            let mut authors = self.authors.lock().unwrap_or_else(PoisonError::into_inner);
            let gate = authors.entry(author).or_default();
            std::mem::take(&mut gate.halt).cancel();
            Arc::clone(&gate.lock)
        };
        lock.write_owned().await
    }
}
