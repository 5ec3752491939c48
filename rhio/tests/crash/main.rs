//! Processes die at chosen points and at random; nothing is lost, nothing comes twice, and the order holds.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by a panic")]

mod bounded;
mod buckets;
mod dice;
mod points;
mod power_cut;
mod random;
mod streams;
mod support;
