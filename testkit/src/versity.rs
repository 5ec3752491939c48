//! A second real S3 server of one's own, which keeps objects as files: versitygw.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use tempfile::TempDir;

use crate::eventually::Poll;
use crate::ports::PortLease;
use crate::process::{Process, on_path, print_tail, tail};
use crate::weed::{ACCESS_KEY, Bucket, REGION, SECRET_KEY, list_buckets};

/// How long it may take to answer.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// The `versitygw` to use: what `RHIO_TEST_VERSITYGW` names, else one on PATH, else the one that `make servers` builds.
pub fn find_versitygw() -> anyhow::Result<PathBuf> {
    const VARIABLE: &str = "RHIO_TEST_VERSITYGW";
    if let Some(named) = std::env::var_os(VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from) {
        ensure!(named.is_file(), "{VARIABLE} names {}, which is no file", named.display());
        return Ok(named);
    }
    if let Some(found) = on_path("versitygw") {
        return Ok(found);
    }
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name(".servers").join("bin/versitygw");
    ensure!(
        installed.is_file(),
        "versitygw is missing: `make servers` builds it (or name one in {VARIABLE}, or put one on PATH)"
    );
    Ok(installed)
}

/// A versitygw on 127.0.0.1 with its data in a temporary folder. It takes the same credentials as
/// [`WeedServer`](crate::WeedServer), only the region that rhio names by default, and is killed when dropped.
#[derive(Debug)]
pub struct VersityServer {
    folder: TempDir,
    port: PortLease,
    // Ends with this.
    _process: Process,
}

impl VersityServer {
    /// Starts a server and waits until it answers. `options` are further ones of its posix backend, such as
    /// `--data-integrity-etag`.
    pub async fn start(options: &[&str]) -> Self {
        Self::try_start(options).await.unwrap_or_else(|e| panic!("{e:#}"))
    }

    async fn try_start(options: &[&str]) -> anyhow::Result<Self> {
        let folder = TempDir::with_prefix("rhio-versity-").context("cannot create a temporary folder")?;
        let port = PortLease::take();
        let path = |name: &str| folder.path().join(name);
        for name in ["data", "sidecar"] {
            fs::create_dir(path(name)).context("cannot create a folder")?;
        }
        let binary = find_versitygw()?;
        let mut command = Command::new(&binary);
        command
            .current_dir(folder.path())
            .args(["--access", ACCESS_KEY, "--secret", SECRET_KEY, "--region", REGION, "--quiet"]);
        command.arg("--port").arg(format!("127.0.0.1:{}", port.port()));
        // Not every file system that tests run on has extended attributes.
        command.arg("posix").arg("--sidecar").arg(path("sidecar")).args(options).arg(path("data"));
        let log = path("versitygw.log");
        let mut process =
            Process::spawn(command, &log, &folder).with_context(|| format!("cannot start {}", binary.display()))?;
        let endpoint = format!("http://127.0.0.1:{}", port.port());
        let mut poll = Poll::new(READY_WITHIN);
        while let Err(reason) = list_buckets(&endpoint).await {
            if let Some(status) = process.ended() {
                bail!("versitygw ended at its start ({status}):\n{}", tail(&log, 20));
            }
            ensure!(!poll.is_over(), "versitygw is not ready at {endpoint} ({reason}):\n{}", tail(&log, 20));
            poll.pause().await;
        }
        Ok(Self { folder, port, _process: process })
    }

    /// `http://127.0.0.1:<port>`: what `s3.endpoint` says. Buckets are folders of it (path style).
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port.port())
    }

    /// Creates a bucket and yields a client for it.
    pub async fn create_bucket(&self, name: &str) -> Bucket {
        let bucket = Bucket::new(&self.endpoint(), name);
        bucket.create().await;
        bucket
    }
}

impl Drop for VersityServer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            print_tail("versitygw", &self.folder.path().join("versitygw.log"));
        }
    }
}
