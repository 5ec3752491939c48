//! What is given to the process beside a file: options and environment variables.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// What the command line sets. `None` leaves it to environment, file and default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// The configuration file; it must exist.
    pub config: Option<PathBuf>,
    /// `--bind-port`
    pub bind_port: Option<u16>,
    /// `--http-bind-port`
    pub http_bind_port: Option<u16>,
    /// `--private-key-path`
    pub private_key_path: Option<PathBuf>,
    /// `--blobs-dir`
    pub blobs_dir: Option<PathBuf>,
    /// `--log-level`
    pub log_level: Option<String>,
}

/// Environment variables.
pub type Environment = BTreeMap<String, String>;

/// The process's own variables. One that is not UTF-8 is of no use to us and left out.
pub fn environment() -> Environment {
    std::env::vars_os().filter_map(|(name, text)| Some((name.into_string().ok()?, text.into_string().ok()?))).collect()
}
