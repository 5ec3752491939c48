//! Buckets and blobs: where objects are, how they are hashed, and how they travel between nodes verified.
//!
//! [`bucket`] is the one way to S3 servers and folders. [`hashing`] reads an object once and makes its hash and its
//! outboard, which [`outboard`] keeps. [`serve`] answers requests of the iroh-blobs protocol from them, and [`fetch`]
//! asks and verifies what comes.

#![forbid(unsafe_code)]

pub mod bucket;
pub mod fetch;
pub mod hashing;
pub mod outboard;
pub mod serve;
