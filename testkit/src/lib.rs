//! What rhio's tests and its demo stand on: real `nats-server`, SeaweedFS and versitygw processes, real rhio processes, and a checker
//! that compares what one cluster published with what another one holds.
//!
//! Everything listens on 127.0.0.1, keeps its data in a temporary folder, and goes away with its owner, also
//! when a test panics or the test process is killed. Methods panic with a sentence that says what went wrong:
//! in a test that is the failure. What a program other than a test may want to handle has a `try_` twin.

#![forbid(unsafe_code)]

pub mod checker;
mod chromium;
mod cluster;
mod eventually;
mod link;
pub mod login;
mod nats;
mod ports;
mod process;
mod rhio;
mod versity;
mod weed;

pub use chromium::{Chromium, Look, Page, find_chromium};
pub use cluster::{Cluster, create_stream, link};
pub use eventually::{Poll, Verdict, patience};
pub use link::LossyLink;
pub use nats::{NatsOptions, NatsServer, StoreCopy, find_nats_server};
pub use ports::PortLease;
pub use process::Ended;
pub use rhio::{
    Answer, LogLine, Node, Publish, PublishBucket, Rhio, RhioBuilder, RhioConfig, S3Section, Subscribe,
    SubscribeBucket, find_rhio,
};
pub use versity::{VersityServer, find_versitygw};
pub use weed::{Bucket, Headers, WeedServer, find_weed};
