//! Nodes and what is between them: who may read what, networks that fail, and peers that break the protocol.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by a panic")]

mod access;
mod partitions;
mod protocol_author;
mod protocol_blobs;
mod protocol_blobs_content;
mod protocol_blobs_reader;
mod protocol_reader;
mod same_key;
