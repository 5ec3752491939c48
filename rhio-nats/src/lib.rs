//! The NATS side: connections, rhio's own state stream, the streams that are read from and those that are written to.

#![forbid(unsafe_code)]

pub mod client;
pub mod connect;
pub mod fault;
pub mod raw;
pub mod reader;
pub mod scan;
pub mod service;
pub mod settings;
pub mod sink;
pub mod source;
pub mod state;
mod subjects;
pub mod survey;
