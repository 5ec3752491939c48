//! The part of rhio that decides: formats, rules and state machines, without IO, clock or randomness.
#![forbid(unsafe_code)]

pub mod codec;
pub mod headers;
pub mod id;
pub mod manifest;
pub mod operation;
pub mod record;
pub mod subject;
