//! The edge to the local NATS.

pub mod connect;
