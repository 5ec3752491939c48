//! rhio's daemon as a library: what `main.rs` puts together, and what integration tests look at.

#![forbid(unsafe_code)]

pub mod cli;
pub mod config;
pub mod identity;
pub mod logging;
pub mod nats;
