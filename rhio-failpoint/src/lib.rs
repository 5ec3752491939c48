//! Places where tests kill the process. Release builds have none.
//!
//! `RHIO_FAILPOINTS=name:3,other:1` kills the process, as `kill -9` would, when it passes `name` for the third time or
//! `other` for the first.

#![forbid(unsafe_code)]

/// A number that tests set through the environment: intervals that are too long for a test. Release builds have none.
#[cfg(debug_assertions)]
pub fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// A number that tests set: never in a release build.
#[cfg(not(debug_assertions))]
pub fn setting(_name: &str) -> Option<u64> {
    None
}

/// Dies here when asked to.
#[cfg(debug_assertions)]
pub fn hit(name: &str) {
    use std::collections::HashMap;
    use std::sync::{Mutex, OnceLock, PoisonError};

    static LEFT: OnceLock<Mutex<HashMap<String, u64>>> = OnceLock::new();
    let left = LEFT.get_or_init(|| {
        let text = std::env::var("RHIO_FAILPOINTS").unwrap_or_default();
        let pairs = text.split(',').filter_map(|pair| pair.split_once(':'));
        Mutex::new(pairs.filter_map(|(name, n)| Some((name.to_owned(), n.parse().ok()?))).collect())
    });
    let mut left = left.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(count) = left.get_mut(name) else { return };
    *count = count.saturating_sub(1);
    if *count == 0 {
        // No unwinding, no destructors, no flushing.
        std::process::abort();
    }
}

/// Dies here when asked to: never in a release build.
#[cfg(not(debug_assertions))]
pub fn hit(_name: &str) {}
