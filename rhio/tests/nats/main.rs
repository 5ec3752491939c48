//! Logging in at real NATS servers.

mod auth;
mod connect;
