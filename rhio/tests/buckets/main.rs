//! Objects of one cluster's buckets in another's, on S3 servers and in plain folders.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by a panic")]

mod access;
mod imports;
mod replication;
mod semantics;
mod sizes;
mod trouble;
mod watch;
