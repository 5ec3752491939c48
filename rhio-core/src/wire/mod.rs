//! What nodes say to each other. One home for the frames, their bounds and the codes that close a conversation.
//!
//! A subscriber opens one stream to watch what an author publishes ([`Frame::Watch`], answered with [`Frame::Logs`] now
//! and whenever something changes), and one stream per log to pull it ([`Frame::Pull`], answered with batches, and
//! answered back with [`Frame::Applied`]). An author that may have lost the end of its own log opens a stream to ask a
//! subscriber for it ([`Frame::Recall`]).

mod bucket;
mod close;
mod frame;

pub use bucket::{BucketPull, CatalogState, HeldCatalog};
pub use close::CloseCode;
pub use frame::{
    Absent, Batch, Floor, Frame, FrameHeader, HEADER_LEN, LogState, MAX_BATCH_LEN, MAX_FLOORS, MAX_LOGS, Pull, Slot,
    TARGET_BATCH_LEN, encode_batch,
};

/// Protocol name for QUIC's ALPN. A change that old nodes can't read gets a new one.
pub const PROTOCOL: &[u8] = b"rhio/1";
/// Format version in every frame.
pub const VERSION: u8 = 1;
