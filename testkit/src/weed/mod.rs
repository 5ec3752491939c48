//! A real S3 server of one's own: SeaweedFS.

mod bucket;
mod xml;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use rustix::process::Signal;
use serde_json::json;
use tempfile::TempDir;

use crate::eventually::Poll;
use crate::ports::PortLease;
use crate::process::{Ended, Process, memory, on_path, print_tail, tail};

pub(crate) use bucket::list_buckets;
pub use bucket::{Bucket, Headers};

/// How long a server may take to answer, also with data to recover.
const READY_WITHIN: Duration = Duration::from_secs(60);
const STOPPED_WITHIN: Duration = Duration::from_secs(30);
/// Another program may bind a leased port before we do. That many are tried.
const PORTS_TRIED: usize = 3;
/// What it accepts; a constant, since it listens on 127.0.0.1 only.
pub(crate) const ACCESS_KEY: &str = "rhio-test";
/// The region that requests name: what rhio names where the configuration does not. SeaweedFS takes any.
pub(crate) const REGION: &str = "eu-central-1";
pub(crate) const SECRET_KEY: &str = "rhio-test-secret";

/// The `weed` to use: what `RHIO_TEST_WEED` names, else one on PATH, else the one that `make servers` installs.
pub fn find_weed() -> anyhow::Result<PathBuf> {
    const VARIABLE: &str = "RHIO_TEST_WEED";
    if let Some(named) = std::env::var_os(VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from) {
        ensure!(named.is_file(), "{VARIABLE} names {}, which is no file", named.display());
        return Ok(named);
    }
    if let Some(found) = on_path("weed") {
        return Ok(found);
    }
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name(".servers").join("bin/weed");
    ensure!(
        installed.is_file(),
        "weed is missing: `make servers` installs it (or name one in {VARIABLE}, or put one on PATH)"
    );
    Ok(installed)
}

/// A SeaweedFS with its S3 gateway on 127.0.0.1 and its data in a temporary folder. Requests must be signed; see
/// [`access_key`](Self::access_key).
///
/// It keeps ports and data over [`restart`](Self::restart), and is killed when dropped.
#[derive(Debug)]
pub struct WeedServer {
    binary: PathBuf,
    folder: TempDir,
    ports: Ports,
    process: Option<Process>,
}

/// Each of its parts listens twice. Whatever is not given a port here takes a fixed one.
#[derive(Debug)]
struct Ports {
    master: [PortLease; 2],
    volume: [PortLease; 2],
    filer: [PortLease; 2],
    s3: [PortLease; 2],
    admin: [PortLease; 2],
}

impl Ports {
    fn take() -> Self {
        let pair = || [PortLease::take(), PortLease::take()];
        Self { master: pair(), volume: pair(), filer: pair(), s3: pair(), admin: pair() }
    }

    fn all(&self) -> [(&'static str, &[PortLease; 2]); 5] {
        [
            ("master", &self.master),
            ("volume", &self.volume),
            ("filer", &self.filer),
            ("s3", &self.s3),
            ("admin", &self.admin),
        ]
    }
}

impl WeedServer {
    /// Starts a server and waits until it takes objects.
    pub async fn start() -> Self {
        Self::try_start().await.unwrap_or_else(|e| panic!("{e:#}"))
    }

    /// The same, for a caller that handles the failure.
    pub async fn try_start() -> anyhow::Result<Self> {
        let mut server = Self {
            binary: find_weed()?,
            folder: TempDir::with_prefix("rhio-weed-").context("cannot create a temporary folder")?,
            ports: Ports::take(),
            process: None,
        };
        for _ in 1..PORTS_TRIED {
            match server.launch().await {
                Err(_) if server.log_holds("address already in use") => {
                    server.remove_sockets();
                    server.ports = Ports::take();
                    fs::write(server.log_path(), "")?;
                }
                result => return result.map(|()| server),
            }
        }
        server.launch().await.map(|()| server)
    }

    async fn launch(&mut self) -> anyhow::Result<()> {
        let identities = self.folder.path().join("s3.json");
        let credentials = json!([{ "accessKey": ACCESS_KEY, "secretKey": SECRET_KEY }]);
        let actions = ["Admin", "Read", "Write", "List", "Tagging"];
        let text = json!({ "identities": [{ "name": "test", "credentials": credentials, "actions": actions }] });
        fs::write(&identities, text.to_string()).with_context(|| format!("cannot write {}", identities.display()))?;
        fs::create_dir_all(self.data_path()).context("cannot create the data folder")?;

        // All parts in one process; `weed server` does the same but takes several times longer to start.
        let mut command = Command::new(&self.binary);
        command.current_dir(self.folder.path()).args(["-logtostderr", "mini", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]);
        for (part, [http, grpc]) in self.ports.all() {
            command.arg(format!("-{part}.port={}", http.port())).arg(format!("-{part}.port.grpc={}", grpc.port()));
        }
        let path = |name: &str| self.folder.path().join(name).display().to_string();
        command.args([
            format!("-dir={}", self.data_path().display()),
            format!("-s3.config={}", identities.display()),
            format!("-s3.localSocket={}", path("s3.sock")),
            format!("-filer.localSocket={}", path("filer.sock")),
        ]);
        command.args([
            // A bucket that does not exist is to be missed, as by other servers.
            "-s3.autoCreateBucket=false",
            "-master.telemetry=false",
            "-master.electionTimeout=100ms",
            "-master.heartbeatInterval=50ms",
            "-master.volumeSizeLimitMB=1024",
            "-volume.preStopSeconds=0",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-webdav=false",
            "-admin.ui=false",
        ]);
        let process = Process::spawn(command, &self.log_path(), &self.folder)
            .with_context(|| format!("cannot start {}", self.binary.display()))?;
        self.process = Some(process);

        let mut poll = Poll::new(READY_WITHIN);
        loop {
            let answers = self.takes_objects().await;
            if let Some(status) = self.process.as_mut().and_then(Process::ended) {
                self.process = None;
                bail!("weed ended at its start ({status}):\n{}", tail(&self.log_path(), 20));
            }
            match answers {
                Ok(()) => return Ok(()),
                Err(reason) if poll.is_over() => {
                    self.process = None;
                    bail!("weed is not ready at {} ({reason}):\n{}", self.endpoint(), tail(&self.log_path(), 20));
                }
                Err(_) => poll.pause().await,
            }
        }
    }

    /// Whether it takes signed requests and has a place for what they bring.
    async fn takes_objects(&self) -> Result<(), String> {
        let master = format!("http://127.0.0.1:{}/dir/status", self.ports.master[0].port());
        let places = bucket::get_text(&master).await?;
        let places: serde_json::Value = serde_json::from_str(&places).map_err(|e| e.to_string())?;
        if places["Topology"]["Free"].as_u64().unwrap_or(0) == 0 {
            return Err("it has no place for data".into());
        }
        bucket::list_buckets(&self.endpoint()).await
    }

    /// Ends it like a crash: SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// Ends it in order and waits.
    pub async fn stop(&mut self) -> Option<Ended> {
        let mut process = self.process.take()?;
        let ended = process.terminate(STOPPED_WITHIN).await;
        assert!(ended.is_some(), "weed did not stop within {STOPPED_WITHIN:?}");
        ended
    }

    /// Starts it again on the same ports and data, after stopping it if it runs.
    pub async fn restart(&mut self) {
        self.stop().await;
        self.launch().await.unwrap_or_else(|e| panic!("{e:#}"));
    }

    /// Freezes it: connections stay open and nothing answers.
    pub fn pause(&mut self) {
        self.process.as_mut().expect("a running server").signal(Signal::STOP);
    }

    /// Lets it go on after [`pause`](Self::pause).
    pub fn resume(&mut self) {
        self.process.as_mut().expect("a running server").signal(Signal::CONT);
    }

    /// Whether its process exists, paused or not.
    pub fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| process.ended().is_none())
    }

    /// `http://127.0.0.1:<port>`: what `s3.endpoint` says. Buckets are folders of it (path style).
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.s3[0].port())
    }

    /// Half of the only credentials that it accepts.
    pub fn access_key(&self) -> &str {
        ACCESS_KEY
    }

    /// The other half.
    pub fn secret_key(&self) -> &str {
        SECRET_KEY
    }

    /// A client for one of its buckets, which need not exist yet.
    pub fn bucket(&self, name: &str) -> Bucket {
        Bucket::new(&self.endpoint(), name)
    }

    /// Creates a bucket and yields a client for it.
    pub async fn create_bucket(&self, name: &str) -> Bucket {
        let bucket = self.bucket(name);
        bucket.create().await;
        bucket
    }

    /// The process id. Panics when it is down.
    pub fn process_id(&self) -> u32 {
        self.process.as_ref().expect("a running server").id()
    }

    /// The most memory that it has used since its start, in bytes.
    pub fn rss_peak_bytes(&self) -> u64 {
        memory(self.process_id(), "VmHWM")
    }

    /// Its log file, which goes on over restarts.
    pub fn log_path(&self) -> PathBuf {
        self.folder.path().join("weed.log")
    }

    /// Where it keeps its data.
    pub fn data_path(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn log_holds(&self, words: &str) -> bool {
        fs::read_to_string(self.log_path()).is_ok_and(|text| text.contains(words))
    }

    /// Its parts also talk over sockets with fixed names, which stay behind when it is killed.
    fn remove_sockets(&self) {
        for (part, [_, grpc]) in self.ports.all() {
            let _ = fs::remove_file(format!("/tmp/seaweedfs-{part}-grpc-{}.sock", grpc.port()));
        }
    }
}

impl Drop for WeedServer {
    fn drop(&mut self) {
        self.kill();
        self.remove_sockets();
        if std::thread::panicking() {
            print_tail("weed", &self.log_path());
        }
    }
}
