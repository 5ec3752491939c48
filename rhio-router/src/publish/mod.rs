//! The publisher's side: sealing, and serving what was sealed.
//!
//! [`sealing`] follows a stream and appends operations to the log in the state stream; each one that is durable goes
//! into the [`live::LiveLog`]'s ring, where sessions pick it up. For one that is behind the ring, [`payloads`] reads the
//! source's stream again. [`watching`] tells subscribers which logs there are.

pub mod live;
pub mod payloads;
pub mod publication;
pub mod pulling;
pub mod readership;
pub mod recall;
pub mod sealing;
pub mod watching;

mod recovery;
mod seal_error;
