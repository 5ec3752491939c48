//! The part of rhio that decides: formats, rules and state machines, without IO, clock or randomness.
#![forbid(unsafe_code)]

pub mod apply;
pub mod catalog;
pub mod codec;
pub mod commit;
pub mod headers;
pub mod id;
pub mod manifest;
pub mod object;
pub mod operation;
pub mod policy;
pub mod provide;
pub mod record;
pub mod seal;
pub mod secret;
pub mod subject;
pub mod wire;
