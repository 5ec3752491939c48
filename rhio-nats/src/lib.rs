//! Everything that rhio does with NATS.

#![forbid(unsafe_code)]

pub mod raw;
