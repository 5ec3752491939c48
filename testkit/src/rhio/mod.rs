//! A real rhio process under test.

mod builder;
mod config;
mod http;
mod log;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use p2panda_core::SigningKey;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::eventually::Poll;
use crate::ports::PortLease;
use crate::process::{Ended, Process, cpu_time, memory, print_tail, tail};

pub use builder::RhioBuilder;
pub use config::{Node, Publish, PublishBucket, RhioConfig, S3Section, Subscribe, SubscribeBucket};
pub use http::Answer;
use log::LogFile;
pub use log::LogLine;

/// How long a start may take until the log says that the node is ready.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// How long a graceful end may take before a test counts it as hanging. The contract says 10 s.
const ENDED_WITHIN: Duration = Duration::from_secs(15);

/// The rhio to run: what `RHIO_BIN` names, else the one that cargo built beside this program.
pub fn find_rhio() -> anyhow::Result<PathBuf> {
    if let Some(named) = std::env::var_os("RHIO_BIN").filter(|value| !value.is_empty()).map(PathBuf::from) {
        ensure!(named.is_file(), "RHIO_BIN names {}, which is no file", named.display());
        return Ok(named);
    }
    let this = std::env::current_exe().context("cannot tell where this program lies")?;
    // Programs lie in target/<profile>, tests and examples one folder below.
    let found = this.ancestors().skip(1).take(2).map(|folder| folder.join("rhio")).find(|path| path.is_file());
    found.with_context(|| format!("rhio is missing beside {}: `cargo build -p rhio` builds it", this.display()))
}

/// A rhio with a key, a port and a folder of its own, which it keeps over restarts.
///
/// When the test is over, [`finish`](Self::finish) or dropping it fails the test if the log holds a warning, an error
/// or a panic that the test did not [allow](Self::allow_log).
#[derive(Debug)]
pub struct Rhio {
    name: String,
    binary: PathBuf,
    folder: TempDir,
    key: SigningKey,
    port: PortLease,
    /// What the next written `config.yaml` says.
    pub config: RhioConfig,
    /// When set, the `config.yaml` is this text and `config` is ignored.
    text: Option<String>,
    env: BTreeMap<String, String>,
    arguments: Vec<String>,
    ready_log: String,
    process: Option<Process>,
    log: LogFile,
    /// Where the log of the present start begins.
    started_at: u64,
    allowed: Vec<String>,
}

impl Rhio {
    /// A rhio to be; the name appears in failures.
    pub fn builder(name: &str) -> RhioBuilder {
        RhioBuilder::new(name)
    }

    /// Writes the configuration, starts the process and waits until its log says that it is ready.
    pub async fn start(&mut self) {
        self.try_start().await.unwrap_or_else(|e| panic!("{e:#}"));
    }

    /// The same, for a caller that handles the failure.
    pub async fn try_start(&mut self) -> anyhow::Result<()> {
        self.spawn()?;
        let mut poll = Poll::new(READY_WITHIN);
        while !self.has_logged(&self.ready_log) {
            if let Some(status) = self.process.as_mut().and_then(Process::ended) {
                self.process = None;
                bail!("rhio {} ended at its start ({status}):\n{}", self.name, tail(&self.log.path, 20));
            }
            if poll.is_over() {
                self.kill();
                bail!("rhio {} never logged {:?}:\n{}", self.name, self.ready_log, tail(&self.log.path, 20));
            }
            poll.pause().await;
        }
        Ok(())
    }

    /// Writes the configuration and starts the process, without waiting for anything.
    pub fn spawn(&mut self) -> anyhow::Result<()> {
        assert!(!self.is_running(), "rhio {} runs already", self.name);
        self.write_config();
        let mut command = Command::new(&self.binary);
        command.arg("--config").arg(self.config_path()).args(&self.arguments).current_dir(self.folder.path());
        // Variables that begin so are configuration; those of the test run are not meant for it.
        for (variable, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("RHIO_")) {
            command.env_remove(variable);
        }
        command.envs(&self.env);
        self.started_at = self.log.end();
        let process = Process::spawn(command, &self.log.path, &self.folder)
            .with_context(|| format!("cannot start {}", self.binary.display()))?;
        self.process = Some(process);
        Ok(())
    }

    /// Ends it like a crash: SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// Asks it to end with SIGTERM and waits.
    pub async fn terminate(&mut self) -> Ended {
        let process = self.process.as_mut().expect("a running rhio");
        let ended = process.terminate(ENDED_WITHIN).await;
        let ended = ended.unwrap_or_else(|| panic!("rhio {} did not end within {ENDED_WITHIN:?}", self.name));
        self.process = None;
        ended
    }

    /// Waits until it ends by itself; `None` when it still runs after the deadline.
    pub async fn wait_exit(&mut self, deadline: Duration) -> Option<ExitStatus> {
        let status = self.process.as_mut().expect("a running rhio").wait(deadline).await?;
        self.process = None;
        Some(status)
    }

    /// Starts it again, after ending it in order if it runs.
    pub async fn restart(&mut self) {
        if self.is_running() {
            self.terminate().await;
        }
        self.start().await;
    }

    /// Whether its process exists, paused or not.
    pub fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| process.ended().is_none())
    }

    /// Freezes it.
    pub fn pause(&mut self) {
        self.process.as_mut().expect("a running rhio").signal(Signal::STOP);
    }

    /// Lets it go on after [`pause`](Self::pause).
    pub fn resume(&mut self) {
        self.process.as_mut().expect("a running rhio").signal(Signal::CONT);
    }

    /// Changes the configuration and writes the file, which a running rhio may notice by itself.
    pub fn rewrite_config(&mut self, change: impl FnOnce(&mut RhioConfig)) {
        change(&mut self.config);
        self.write_config();
    }

    /// Sends SIGHUP.
    pub fn reload(&mut self) {
        self.process.as_mut().expect("a running rhio").signal(Signal::HUP);
    }

    /// Sets an environment variable from the next start on.
    pub fn set_env(&mut self, name: &str, value: &str) {
        self.env.insert(name.into(), value.into());
    }

    /// Removes an environment variable from the next start on.
    pub fn remove_env(&mut self, name: &str) {
        self.env.remove(name);
    }

    /// Writes `config.yaml` as a whole: nobody reads half of it.
    fn write_config(&self) {
        let key_file = self.key_path().to_string_lossy().into_owned();
        let text = self.text.clone().unwrap_or_else(|| self.config.render(&key_file));
        let (path, beside) = (self.config_path(), self.folder.path().join("config.yaml.new"));
        fs::write(&beside, text)
            .and_then(|()| fs::rename(&beside, &path))
            .unwrap_or_else(|e| panic!("cannot write {}: {e}", path.display()));
    }

    /// Replaces the whole configuration file by a text of the caller's, now and at every later start.
    pub fn write_config_text(&mut self, text: &str) {
        self.text = Some(text.into());
        self.write_config();
    }

    /// The name it was given.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its private key.
    pub fn signing_key(&self) -> &SigningKey {
        &self.key
    }

    /// Its public key, 64 hex digits.
    pub fn public_key(&self) -> String {
        self.key.verifying_key().to_hex()
    }

    /// Its UDP port.
    pub fn port(&self) -> u16 {
        self.port.port()
    }

    /// `127.0.0.1:<UDP port>`.
    pub fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.port())
    }

    /// `http://127.0.0.1:<HTTP port>`.
    pub fn http_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.config.http_bind_port)
    }

    /// Asks it over HTTP. `None` when it does not answer.
    pub async fn try_get(&self, path: &str) -> Option<Answer> {
        http::get(&format!("{}{path}", self.http_url())).await
    }

    /// Asks it over HTTP; it must answer.
    pub async fn get(&self, path: &str) -> Answer {
        self.try_get(path).await.unwrap_or_else(|| panic!("rhio {} does not answer to {path}", self.name))
    }

    /// An entry of `nodes` that names this one.
    pub fn as_node(&self) -> Node {
        Node { public_key: self.public_key(), endpoints: vec![self.endpoint()] }
    }

    /// Its folder: configuration, key, log, and its working directory.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its `config.yaml`.
    pub fn config_path(&self) -> PathBuf {
        self.folder.path().join("config.yaml")
    }

    /// Its private key file.
    pub fn key_path(&self) -> PathBuf {
        self.folder.path().join("private-key.txt")
    }

    /// Its log file, which goes on over restarts.
    pub fn log_path(&self) -> &Path {
        &self.log.path
    }

    /// The process id. Panics when it is down.
    pub fn process_id(&self) -> u32 {
        self.process.as_ref().expect("a running rhio").id()
    }

    /// The most memory that it has used since its start, in bytes.
    pub fn rss_peak_bytes(&self) -> u64 {
        memory(self.process_id(), "VmHWM")
    }

    /// The memory that it uses now, in bytes.
    pub fn rss_bytes(&self) -> u64 {
        memory(self.process_id(), "VmRSS")
    }

    /// Processor time that it has used since its start.
    pub fn cpu_time(&self) -> Duration {
        cpu_time(self.process_id())
    }

    /// The end of its log as text.
    pub fn log_tail(&self, lines: usize) -> String {
        tail(&self.log.path, lines)
    }

    /// Every line of its log, over all starts.
    pub fn logs(&self) -> Vec<LogLine> {
        self.log.lines_from(0)
    }

    /// The end of the log as it is now, for [`wait_for_log_after`](Self::wait_for_log_after).
    pub fn log_mark(&self) -> u64 {
        self.log.end()
    }

    /// Whether a line since the last start holds these words, in its message or anywhere else.
    pub fn has_logged(&self, words: &str) -> bool {
        self.log.lines_from(self.started_at).iter().any(|line| line.raw.contains(words) || line.message.contains(words))
    }

    /// Waits for a line since the last start that holds these words.
    pub async fn wait_for_log(&self, words: &str, deadline: Duration) -> LogLine {
        self.wait_for_log_after(self.started_at, words, deadline).await
    }

    /// Waits for a line after a [`log_mark`](Self::log_mark) that holds these words.
    pub async fn wait_for_log_after(&self, mark: u64, words: &str, deadline: Duration) -> LogLine {
        let what = format!("{:?} in the log of rhio {}", words, self.name);
        crate::eventually!(deadline, what, {
            self.log.lines_from(mark).into_iter().find(|line| line.raw.contains(words) || line.message.contains(words))
        })
    }

    /// Warnings and errors that hold these words are expected.
    pub fn allow_log(&mut self, words: &str) {
        self.allowed.push(words.into());
    }

    /// The lines that nobody allowed.
    pub fn loud_lines(&self) -> Vec<LogLine> {
        let allowed = |line: &LogLine| self.allowed.iter().any(|words| line.raw.contains(words.as_str()));
        self.logs().into_iter().filter(|line| line.is_loud() && !allowed(line)).collect()
    }

    /// Ends it in order, and fails the test unless it returned 0 within 10 s and its log is quiet.
    pub async fn finish(mut self) {
        if self.is_running() {
            let ended = self.terminate().await;
            assert_eq!(ended.code(), Some(0), "rhio {} ended with {}", self.name, ended.status);
            let allowed = crate::patience(Duration::from_secs(10));
            assert!(ended.took <= allowed, "rhio {} took {:?} to end", self.name, ended.took);
        }
        // Dropping it looks at the log.
    }

    fn assert_quiet(&self) {
        let loud: Vec<_> = self.loud_lines().into_iter().map(|line| line.raw).collect();
        assert!(
            loud.is_empty(),
            "rhio {} logged {} warnings or errors that the test does not allow:\n{}",
            self.name,
            loud.len(),
            loud[..loud.len().min(20)].join("\n")
        );
    }
}

impl Drop for Rhio {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            print_tail(&format!("rhio {}", self.name), &self.log.path);
        } else {
            self.assert_quiet();
        }
    }
}
