//! Logging in at real NATS servers, and several of them in a list.

mod auth;
mod connect;
mod servers;
