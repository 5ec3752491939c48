//! JetStream streams as they are in the field: missing, full, purged, work queues.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by a panic")]

mod altered;
mod source;
mod troubles;
