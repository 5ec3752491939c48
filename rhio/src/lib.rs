//! rhio's daemon as a library: what `main.rs` puts together, and what integration tests look at.

#![forbid(unsafe_code)]

pub mod app;
pub mod apply;
pub mod blobs;
pub mod check;
pub mod cli;
pub mod config;
pub mod config_file;
pub mod control;
pub mod failpoint;
pub mod identity;
pub mod logging;
pub mod metrics;
pub mod nats;
pub mod node;
pub mod peer;
pub mod publish;
pub mod quiet;
pub mod shutdown;
pub mod status;
pub mod telemetry;
