//! Blobs on their way: what a provider sends and what a getter makes of it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by a panic")]

mod dishonest;
mod provider;
mod quic;
mod support;
mod whole;
