//! Nodes and what is between them: who may read what, networks that fail, and peers that break the protocol.

mod access;
mod partitions;
mod protocol_author;
mod protocol_blobs;
mod protocol_blobs_content;
mod protocol_blobs_reader;
mod protocol_reader;
mod same_key;
