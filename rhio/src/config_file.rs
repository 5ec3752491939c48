//! Notices when the configuration file changes. Its content is compared, because in Kubernetes the path leads through
//! symbolic links that are exchanged, and no event tells of that.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// A file that is looked at now and then.
pub struct Watched {
    path: Option<PathBuf>,
    seen: Option<blake3::Hash>,
    interval: tokio::time::Interval,
}

impl Watched {
    /// Takes what is there now as seen.
    pub fn new(path: Option<PathBuf>, every: Duration) -> Self {
        let seen = path.as_deref().and_then(read);
        let mut interval = tokio::time::interval(every);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        Self { path, seen, interval }
    }

    /// Waits until the content is another one. A file that vanishes for a moment has not changed. Cancel-safe.
    pub async fn changed(&mut self) {
        loop {
            self.interval.tick().await;
            let Some(found) = self.path.as_deref().and_then(read) else { continue };
            if self.seen != Some(found) {
                self.seen = Some(found);
                return;
            }
        }
    }
}

fn read(path: &Path) -> Option<blake3::Hash> {
    std::fs::read(path).ok().map(|bytes| blake3::hash(&bytes))
}
