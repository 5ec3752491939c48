//! `rclone copy`, as somebody would run it who knows it well. Configured by its environment alone.

use std::path::{Path, PathBuf};
use std::process::Command;

use testkit::WeedServer;

use super::program::{self, Took};
use super::report::Who;

/// What is said when it is missing.
pub const MISSING: &str = "rclone is missing, so buckets are measured beside nothing: apt-get install rclone";

/// What helps on a short way to servers like these: more at once, larger parts, and nothing asked that is known.
const TUNED: [&str; 8] = [
    "--transfers=16",
    "--checkers=16",
    "--s3-upload-concurrency=8",
    "--s3-chunk-size=16M",
    "--s3-no-head",
    "--s3-no-check-bucket",
    "--s3-disable-checksum",
    "--fast-list",
];

/// An installed rclone.
#[derive(Clone, Debug)]
pub struct Rclone(PathBuf);

impl Rclone {
    /// The one on PATH.
    pub fn find() -> Option<Self> {
        program::find("rclone").map(Self)
    }

    /// Copies all of a bucket of A into one of B.
    pub async fn copy(&self, who: Who, a: (&WeedServer, &str), b: (&WeedServer, &str)) -> anyhow::Result<Took> {
        let mut command = self.command(who, &[("A", a.0), ("B", b.0)]);
        command.arg("copy").arg(format!("A:{}", a.1)).arg(format!("B:{}", b.1));
        program::run(command).await
    }

    /// Copies a file into a bucket of A.
    pub async fn upload(&self, who: Who, file: &Path, a: (&WeedServer, &str)) -> anyhow::Result<Took> {
        let mut command = self.command(who, &[("A", a.0)]);
        command.arg("copyto").arg(file).arg(format!("A:{}/file", a.1));
        program::run(command).await
    }

    fn command(&self, who: Who, remotes: &[(&str, &WeedServer)]) -> Command {
        let mut command = Command::new(&self.0);
        // No configuration file: everything is in the environment, and nothing of what the caller has there for others.
        command.arg("--config=");
        for (name, _) in std::env::vars_os() {
            if ["AWS_", "RCLONE_"].iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
                command.env_remove(name);
            }
        }
        if who == Who::Tuned {
            command.args(TUNED);
        }
        for (name, server) in remotes {
            for (field, value) in [
                ("TYPE", "s3"),
                ("PROVIDER", "SeaweedFS"),
                ("ENDPOINT", &server.endpoint()),
                ("ACCESS_KEY_ID", server.access_key()),
                ("SECRET_ACCESS_KEY", server.secret_key()),
            ] {
                command.env(format!("RCLONE_CONFIG_{name}_{field}"), value);
            }
        }
        command
    }
}
