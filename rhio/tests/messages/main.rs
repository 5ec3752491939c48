//! Messages of one cluster in another: once, in order, unchanged but for headers that would steer JetStream twice.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by a panic")]

mod formats;
mod headers;
mod replication;
mod sizes;
