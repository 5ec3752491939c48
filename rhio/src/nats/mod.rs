//! The NATS side: connections, rhio's own state stream, the streams that are read from and those that are written to.

pub mod connect;
pub mod reader;
pub mod scan;
pub mod sink;
pub mod source;
pub mod state;
