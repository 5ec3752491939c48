//! Did everything arrive, once, in order, and unchanged?
//!
//! A [`Publisher`] puts messages with unique bodies into a stream, [`read_stream`] reads a stream as it is, and
//! [`compare`] sets what a source holds against what a destination holds. It knows the rules for headers from the
//! contract and shares no code with rhio, so that a mistake there is not made here too.

mod compare;
mod headers;
mod publisher;
mod record;
mod report;

pub use compare::{Check, compare, expected_of};
pub use publisher::{Publisher, Running};
pub use record::{Record, read_stream, subject_matches};
pub use report::{Findings, Report};
