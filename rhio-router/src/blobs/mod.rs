//! Buckets and blobs: what is put into a published bucket appears in the subscribers' buckets.
//!
//! The publisher's side: [`publishing`] compares listings of a bucket with its catalog, has what is new read and hashed
//! by [`importing`], and appends what changed to the catalog in the state stream. [`entries`] gives catalogs to
//! subscribers, and [`blob_session`] content.
//!
//! [`file_import`] puts files into buckets, and [`notifications`] hears what the S3 server itself tells of changes.
//!
//! The subscriber's side: [`subscribing`] follows an author's catalog and lets [`landing`] bring each object into the
//! local bucket, in one request or in parts ([`parts`]), and has [`checking`] see to it that the bucket has kept what it was
//! sent. [`events`] tells apps of what has arrived.

pub mod blob_session;
pub mod bucket_watch;
mod checking;
pub mod entries;
pub mod events;
pub mod failure;
mod fetching;
pub mod file_import;
mod follow_error;
mod following;
mod holding;
pub mod importing;
mod land_error;
mod landing;
pub mod listing;
pub mod notifications;
mod parts;
pub mod publication;
pub mod publishing;
pub mod store;
pub mod subscribing;
pub mod subscription;
pub mod transfers;
pub mod upload_note;
