//! One suite for every kind of bucket: what holds for a real S3 server holds for folders.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by a panic")]

mod conditions;
mod faulty;
mod folder;
mod keys;
mod multipart;
mod objects;
mod s3;
mod setup;
