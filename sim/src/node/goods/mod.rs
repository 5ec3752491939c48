//! Buckets: the daemon's driver logic around rhio-core's catalogs, as thin as it can be.

pub mod author;
pub mod follower;
mod held;
mod landing;
mod publishing;
mod recover;
mod serve;

/// The one bucket that every node has.
pub const BUCKET: &str = "b";
