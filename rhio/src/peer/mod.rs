//! The network between nodes: one QUIC endpoint, connections by public key, framed streams.

pub mod endpoint;
pub mod links;
pub mod records;
pub mod stream;
