//! The publisher's side: sealing, and serving what was sealed.
//!
//! [`sealing`] follows a stream and appends operations to the log in the state stream; each one that is durable goes
//! into the [`live::LiveLog`]'s ring, where [`session`]s pick it up. A session that is behind the ring reads the log
//! and the source's stream again. [`watching`] tells subscribers which logs there are.

pub mod live;
pub mod pulling;
pub mod readership;
pub mod recall;
pub mod registry;
pub mod sealing;
pub mod session;
pub mod watching;

mod recovery;
mod seal_error;
