//! What an operator has in hand: the command line, the configuration, HTTP, traces, and the process itself.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by a panic")]

mod check;
mod cli;
mod config;
mod http;
mod lifecycle;
mod reload;
mod status;
mod tracing;
