//! Fuzz targets for everything of rhio that reads bytes from a peer, from a server or from storage.
//!
//! A target is a function of any bytes. It panics when the code under test panics, or does what it must never do. The
//! same functions run in two ways:
//!
//! - `tests/short.rs` runs each for some seconds, on seeds and on random changes of them, as an ordinary test of
//!   `make test`. What failed once lies in `corpus/` and runs first.
//! - `make fuzz TARGET=applier SECONDS=600` runs one under libFuzzer, which is led by the branches that are taken. It
//!   takes a C++ compiler and the stable toolchain, nothing more.

#![forbid(unsafe_code)]

mod applier;
mod blob_request;
mod decode;
mod filter;
mod landing;
pub mod mutate;
mod nats;
mod operation;
mod seeds;
mod session;
mod world;

/// Something that takes any bytes.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name.
    pub name: &'static str,
    /// Takes an input; panics when what it tests is broken.
    pub run: fn(&[u8]),
    /// Inputs to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// Every target.
pub const TARGETS: [Target; 13] = [
    Target { name: "frame", run: decode::frame, seeds: seeds::frames },
    Target { name: "record", run: decode::record, seeds: seeds::records },
    Target { name: "body", run: decode::body, seeds: seeds::bodies },
    Target { name: "descriptor", run: decode::descriptor, seeds: seeds::descriptors },
    Target { name: "commit", run: decode::commit, seeds: seeds::commits },
    Target { name: "operation", run: operation::run, seeds: seeds::operations },
    Target { name: "progress", run: decode::progress, seeds: seeds::progresses },
    Target { name: "blob_request", run: blob_request::run, seeds: blob_request::seeds },
    Target { name: "filter", run: filter::run, seeds: seeds::filters },
    Target { name: "nats", run: nats::run, seeds: nats::seeds },
    Target { name: "session", run: session::run, seeds: seeds::scripts },
    Target { name: "landing", run: landing::run, seeds: seeds::scripts },
    Target { name: "applier", run: applier::run, seeds: seeds::scripts },
];

/// The target of this name.
pub fn target(name: &str) -> Option<Target> {
    TARGETS.into_iter().find(|target| target.name == name)
}
