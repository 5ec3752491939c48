//! One suite for every kind of bucket: what holds for a real S3 server holds for folders.

mod conditions;
mod faulty;
mod folder;
mod keys;
mod multipart;
mod objects;
mod s3;
mod setup;
