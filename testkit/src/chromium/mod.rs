//! A real Chromium without a window.

mod page;
mod wire;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::json;
use tempfile::TempDir;
use tokio::net::unix::pipe;

use crate::eventually::Poll;
use crate::process::{Process, on_path, print_tail, tail};

pub use page::{Look, Page};
use wire::Wire;

/// How long it may take to start.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// The Chromium to use: what `RHIO_TEST_CHROMIUM` names, else one on PATH.
pub fn find_chromium() -> anyhow::Result<PathBuf> {
    const VARIABLE: &str = "RHIO_TEST_CHROMIUM";
    if let Some(named) = std::env::var_os(VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from) {
        ensure!(named.is_file(), "{VARIABLE} names {}, which is no file", named.display());
        return Ok(named);
    }
    on_path("chromium").with_context(|| {
        format!("chromium is missing: install it (Debian's package is `chromium`) or name one in {VARIABLE}")
    })
}

/// A headless Chromium with an empty profile of its own. It is killed when dropped.
///
/// It is driven through its DevTools protocol over two named pipes in its folder: no port is open, and when this
/// process goes away, so does Chromium.
#[derive(Debug)]
pub struct Chromium {
    // First, so that it goes before its folder.
    process: Process,
    wire: Wire,
    folder: TempDir,
}

impl Chromium {
    /// Starts it and waits until it answers.
    pub async fn start() -> Self {
        Self::try_start().await.unwrap_or_else(|e| panic!("{e:#}"))
    }

    /// The same, for a caller that handles the failure.
    pub async fn try_start() -> anyhow::Result<Self> {
        // Chromium reads commands from descriptor 3 and writes answers to 4.
        const SCRIPT: &str = r#"mkfifo commands answers && exec "$0" "$@" 3<commands 4>answers"#;
        let folder = TempDir::with_prefix("rhio-chromium-").context("cannot create a temporary folder")?;
        let path = |name: &str| folder.path().join(name);
        let mut command = Command::new("sh");
        command.arg("-c").arg(SCRIPT).arg(find_chromium()?).args([
            "--headless",
            "--remote-debugging-pipe",
            "--no-first-run",
            "--disable-gpu",
            // Tests run as root too, where its sandbox does not work. It shows nothing but what rhio serves.
            "--no-sandbox",
            // Machines for tests may have little shared memory.
            "--disable-dev-shm-usage",
            // Nothing goes to anybody but who is tested.
            "--disable-quic",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-breakpad",
        ]);
        command.arg(format!("--user-data-dir={}", path("profile").display())).arg("about:blank");
        command.current_dir(folder.path()).env("HOME", folder.path()).env("DBUS_SESSION_BUS_ADDRESS", "disabled:");
        let mut process = Process::spawn(command, &path("log"), &folder).context("cannot start chromium")?;

        let mut poll = Poll::new(READY_WITHIN);
        let sender = loop {
            // It can be opened as soon as the other side reads.
            match pipe::OpenOptions::new().open_sender(path("commands")) {
                Ok(sender) => break sender,
                Err(error) => {
                    let ended = process.ended().is_some();
                    ensure!(!ended && !poll.is_over(), "chromium does not start: {error}\n{}", tail(&path("log"), 20));
                }
            }
            poll.pause().await;
        };
        // Also for writing, so that nobody writing yet does not count as the end.
        let receiver = pipe::OpenOptions::new().read_write(true).open_receiver(path("answers"));
        let wire = Wire::new(sender, receiver.context("cannot open chromium's pipe")?);
        let chromium = Self { process, wire, folder };
        tokio::time::timeout(crate::patience(READY_WITHIN), chromium.wire.call(None, "Browser.getVersion", json!({})))
            .await
            .with_context(|| format!("chromium does not answer:\n{}", tail(&chromium.log_path(), 20)))??;
        Ok(chromium)
    }

    /// Opens a page, in a profile of its own, and waits until it is loaded.
    pub async fn open(&self, url: &str, look: Look) -> Page {
        Page::open(&self.wire, url, look, "").await
    }

    /// The same; the script runs before any of the page's own.
    pub async fn open_with(&self, url: &str, look: Look, script: &str) -> Page {
        Page::open(&self.wire, url, look, script).await
    }

    /// The process id.
    pub fn process_id(&self) -> u32 {
        self.process.id()
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("log")
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        if std::thread::panicking() {
            print_tail("chromium", &self.log_path());
        }
        self.process.kill();
        // Its helpers write into the profile until they notice.
        for _ in 0..40 {
            if std::fs::remove_dir_all(self.folder.path()).is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(25));
        }
    }
}
