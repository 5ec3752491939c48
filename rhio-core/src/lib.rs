//! The part of rhio that decides: formats, rules and state machines, without IO, clock or randomness.
#![forbid(unsafe_code)]

pub mod apply;
pub mod catalog;
pub mod codec;
pub mod headers;
pub mod id;
pub mod log;
pub mod manifest;
pub mod object;
pub mod policy;
pub mod record;
pub mod seal;
pub mod secret;
pub mod select;
pub mod subject;
pub mod wire;
