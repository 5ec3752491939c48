//! What nodes say to each other. One home for the frames, their bounds and the codes that close a conversation.
//!
//! A subscriber opens one stream to watch what an author publishes ([`Frame::Watch`], answered with [`Frame::Logs`] now
//! and whenever something changes), and one stream per log to pull it ([`Frame::Pull`], answered with batches, and
//! answered back with [`Frame::Applied`]). An author that may have lost the end of its own log pulls it from a
//! subscriber, to settle ([`pull::Want::Settle`]).

pub mod batch;
pub mod close;
mod fields;
pub mod frame;
pub mod pull;
pub mod state;

pub use batch::{Absent, Batch, MAX_BATCH_LEN, Slot, TARGET_BATCH_LEN};
pub use close::CloseCode;
pub use frame::{Frame, FrameHeader, HEADER_LEN, MAX_LOGS, VERSION, encode_batch};
pub use pull::{Floor, Interest, MAX_FLOORS, Pull, Want};
pub use state::LogState;

/// Protocol name for QUIC's ALPN. A change that old nodes can't read gets a new one.
pub const PROTOCOL: &[u8] = b"rhio/1";
