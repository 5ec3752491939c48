//! rhio's daemon as a library: what `main.rs` puts together, and what integration tests look at.

#![forbid(unsafe_code)]

pub mod app;
pub mod check;
pub mod cli;
pub mod config;
pub mod config_file;
pub mod control;
pub mod identity;
pub mod logging;
pub mod otlp;
pub mod shutdown;
