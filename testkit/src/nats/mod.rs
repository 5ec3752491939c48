//! A real `nats-server` of one's own.

mod options;
mod store;

use std::fs;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::eventually::Poll;
use crate::ports::PortLease;
use crate::process::{Ended, Process, memory, on_path, print_tail, tail};

pub(crate) use options::Login;
pub use options::NatsOptions;
pub use store::StoreCopy;

/// How long a server may take to answer, also with a large store to recover.
const READY_WITHIN: Duration = Duration::from_secs(30);
const STOPPED_WITHIN: Duration = Duration::from_secs(15);
/// Another program may bind a leased port before we do. That many are tried.
const PORTS_TRIED: usize = 3;

/// The `nats-server` to use: what `RHIO_TEST_NATS_SERVER` names, else one on PATH, else the one that
/// `make servers` installs.
pub fn find_nats_server() -> anyhow::Result<PathBuf> {
    const VARIABLE: &str = "RHIO_TEST_NATS_SERVER";
    if let Some(named) = std::env::var_os(VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from) {
        ensure!(named.is_file(), "{VARIABLE} names {}, which is no file", named.display());
        return Ok(named);
    }
    if let Some(found) = on_path("nats-server") {
        return Ok(found);
    }
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name(".servers").join("bin/nats-server");
    ensure!(
        installed.is_file(),
        "nats-server is missing: `make servers` installs it (or name one in {VARIABLE}, or put one on PATH)"
    );
    Ok(installed)
}

/// A `nats-server` with JetStream on 127.0.0.1, with its own store in a temporary folder.
///
/// It keeps port and store over [`restart`](Self::restart), and is killed when dropped.
#[derive(Debug)]
pub struct NatsServer {
    options: NatsOptions,
    binary: PathBuf,
    folder: TempDir,
    port: PortLease,
    leaf_port: Option<PortLease>,
    process: Option<Process>,
}

impl NatsServer {
    /// Starts a server and waits until it answers.
    pub async fn start(options: NatsOptions) -> Self {
        Self::try_start(options).await.unwrap_or_else(|e| panic!("{e:#}"))
    }

    /// The same, for a caller that handles the failure.
    pub async fn try_start(options: NatsOptions) -> anyhow::Result<Self> {
        let mut server = Self {
            binary: find_nats_server()?,
            folder: TempDir::with_prefix("rhio-nats-").context("cannot create a temporary folder")?,
            port: PortLease::take(),
            leaf_port: options.leaf_listener.then(PortLease::take),
            process: None,
            options,
        };
        for _ in 1..PORTS_TRIED {
            match server.launch().await {
                Err(_) if server.log_holds("address already in use") => {
                    server.port = PortLease::take();
                    server.leaf_port = server.options.leaf_listener.then(PortLease::take);
                    fs::write(server.log_path(), "")?;
                }
                result => return result.map(|()| server),
            }
        }
        server.launch().await.map(|()| server)
    }

    async fn launch(&mut self) -> anyhow::Result<()> {
        let config = self.folder.path().join("nats.conf");
        let leaf_port = self.leaf_port.as_ref().map(PortLease::port);
        let text = self.options.render(self.port.port(), leaf_port, &self.store_path().to_string_lossy());
        fs::write(&config, text).with_context(|| format!("cannot write {}", config.display()))?;
        let mut command = Command::new(&self.binary);
        command.arg("--config").arg(&config);
        let process = Process::spawn(command, &self.log_path(), &self.folder)
            .with_context(|| format!("cannot start {}", self.binary.display()))?;
        let process = self.process.insert(process);

        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port.port()));
        let mut poll = Poll::new(READY_WITHIN);
        loop {
            let answers = greets(address);
            if let Some(status) = process.ended() {
                self.process = None;
                bail!("nats-server ended at its start ({status}):\n{}", tail(&self.log_path(), 20));
            }
            if answers {
                return Ok(());
            }
            if poll.is_over() {
                self.process = None;
                bail!("nats-server did not answer on {address}:\n{}", tail(&self.log_path(), 20));
            }
            poll.pause().await;
        }
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
        assert!(ended.is_some(), "nats-server did not stop within {STOPPED_WITHIN:?}");
        ended
    }

    /// Starts it again on the same port and store, after stopping it if it runs.
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

    /// Changes its settings: at the next [`restart`](Self::restart).
    pub fn configure(&mut self, change: impl FnOnce(NatsOptions) -> NatsOptions) {
        self.options = change(std::mem::take(&mut self.options));
        if self.options.leaf_listener && self.leaf_port.is_none() {
            self.leaf_port = Some(PortLease::take());
        }
    }

    /// Copies the store. The server must be stopped, killed or paused, so that the copy is of one moment.
    pub fn snapshot_store(&self) -> StoreCopy {
        assert!(
            self.process.as_ref().is_none_or(Process::is_paused),
            "a store is copied while its server is stopped or paused"
        );
        StoreCopy::take(&self.store_path())
    }

    /// Makes the store what it was, as if whatever came later had never reached the disk. The server must be down.
    pub fn restore_store(&mut self, copy: &StoreCopy) {
        assert!(self.process.is_none(), "a store is put back while its server is down");
        copy.restore(&self.store_path());
    }

    /// Makes one stream what it was and leaves the others. The server must be down.
    pub fn restore_stream(&mut self, copy: &StoreCopy, stream: &str) {
        assert!(self.process.is_none(), "a store is put back while its server is down");
        copy.restore_stream(&self.store_path(), stream);
    }

    /// `nats://127.0.0.1:<port>`.
    pub fn url(&self) -> String {
        format!("nats://{}", self.address())
    }

    /// `127.0.0.1:<port>`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port())
    }

    /// The port for clients.
    pub fn port(&self) -> u16 {
        self.port.port()
    }

    /// Where leaf nodes connect to, for a server with [`NatsOptions::leaf_listener`].
    pub fn leaf_url(&self) -> String {
        let port = self.leaf_port.as_ref().expect("a server that listens for leaf nodes");
        format!("nats-leaf://127.0.0.1:{}", port.port())
    }

    /// A client of its own, logged in as the server's options want it. It reconnects by itself.
    pub async fn client(&self) -> async_nats::Client {
        let options = async_nats::ConnectOptions::new();
        let options = match &self.options.login {
            Login::Open => options,
            Login::Password { user, password } => options.user_and_password(user.clone(), password.clone()),
            Login::Token(token) => options.token(token.clone()),
            Login::Nkey { seed, .. } => options.nkey(seed.clone()),
            Login::Creds(path) => options
                .credentials_file(path)
                .await
                .unwrap_or_else(|e| panic!("cannot read credentials from {}: {e}", path.display())),
        };
        self.client_with(options).await
    }

    /// A client with options of the caller's.
    pub async fn client_with(&self, options: async_nats::ConnectOptions) -> async_nats::Client {
        options
            .name("testkit")
            .reconnect_delay_callback(|_| Duration::from_millis(50))
            .connect(self.url())
            .await
            .unwrap_or_else(|e| panic!("cannot connect to {}: {e}", self.url()))
    }

    pub(crate) fn login(&self) -> &Login {
        &self.options.login
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
        self.folder.path().join("nats.log")
    }

    /// JetStream's store.
    pub fn store_path(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    fn log_holds(&self, words: &str) -> bool {
        fs::read_to_string(self.log_path()).is_ok_and(|text| text.contains(words))
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            print_tail("nats-server", &self.log_path());
        }
    }
}

/// Whether a NATS server says hello at this address. It does so once JetStream has recovered its streams.
fn greets(address: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) else { return false };
    let mut hello = [0; 5];
    stream.set_read_timeout(Some(Duration::from_millis(500))).is_ok()
        && stream.read_exact(&mut hello).is_ok()
        && &hello == b"INFO "
}
