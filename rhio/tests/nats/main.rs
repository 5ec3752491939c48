//! NATS as it is in the field: logins, several servers, permissions, limits, and messages of any bytes.

mod auth;
mod connect;
mod exact;
mod forbidden;
mod limits;
mod servers;
mod streams;
