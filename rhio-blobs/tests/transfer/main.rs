//! Blobs on their way: what a provider sends and what a getter makes of it.

mod dishonest;
mod provider;
mod quic;
mod support;
mod whole;
