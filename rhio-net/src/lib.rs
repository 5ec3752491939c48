//! The network between nodes: one QUIC endpoint, connections by public key, framed streams.

#![forbid(unsafe_code)]

mod accept;
pub mod connection;
pub mod endpoint;
pub mod links;
pub mod records;
pub mod settings;
pub mod stream;
mod windows;
