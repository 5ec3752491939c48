//! NATS as it is in the field: logins, several servers, permissions, limits, and messages of any bytes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by a panic")]

mod auth;
mod connect;
mod exact;
mod forbidden;
mod limits;
mod servers;
mod streams;
