//! Objects of one cluster's buckets in another's, on S3 servers and in plain folders.

mod access;
mod imports;
mod replication;
mod semantics;
mod sizes;
mod trouble;
mod watch;
