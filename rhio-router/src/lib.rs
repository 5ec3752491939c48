//! The data path: what is published and how it is sent, what is subscribed to and how it is stored, for messages and
//! for buckets. It knows no HTTP, no configuration file and no command line.

#![forbid(unsafe_code)]

pub mod apply;
pub mod blobs;
pub mod deadlines;
pub mod follower;
pub mod holdings;
pub mod metrics;
pub mod node;
pub mod publish;
pub mod quiet;
pub mod serving;
pub mod session_error;
pub mod settings;
pub mod status;
pub mod supervise;
pub mod telemetry;
pub mod trouble;
