//! One child process that never outlives its owner.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::eventually::Poll;

/// How long a process that was told to stop may go on.
const STOPPED_WITHIN: Duration = Duration::from_secs(5);

/// How a process ended, and how long it took to after it was asked.
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    /// What it returned.
    pub status: ExitStatus,
    /// From the request to the end.
    pub took: Duration,
}

impl Ended {
    /// The exit status, `None` when a signal ended it.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// The signal that ended it, if one did.
    pub fn signal(&self) -> Option<i32> {
        self.status.signal()
    }
}

/// A running child whose output goes to a file.
///
/// It is killed when this is dropped. In case this process is killed itself, so that nothing is dropped any more, a
/// small shell waits at the other end of a pipe: when the pipe closes without a word, it kills the child and removes
/// its folder.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    watchdog: Child,
    paused: bool,
}

impl Process {
    /// Starts the command, appending its output and errors to the log file. The temporary folder is its owner's.
    pub(crate) fn spawn(mut command: Command, log: &Path, folder: &TempDir) -> io::Result<Self> {
        let log = File::options().create(true).append(true).open(log)?;
        // Its own process group: Ctrl-C in a terminal reaches us alone, and we end our children in order.
        let mut child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0).spawn()?;
        match watch(child.id(), folder.path()) {
            Ok(watchdog) => Ok(Self { child, watchdog, paused: false }),
            Err(e) => {
                child.kill()?;
                child.wait()?;
                Err(e)
            }
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.paused
    }

    /// The status if it has ended.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    /// The signal reaches one thread; on a busy machine the others work on for a while.
    fn wait_until_stopped(&mut self) {
        let tasks = PathBuf::from(format!("/proc/{}/task", self.child.id()));
        // The state is the first word after the name, which is in brackets and may hold any.
        let state = |stat: &str| stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
        let stopped = |task: io::Result<std::fs::DirEntry>| match task.map(|task| task.path().join("stat")) {
            Ok(path) => std::fs::read_to_string(path).is_ok_and(|stat| matches!(state(&stat), Some('T' | 't'))),
            Err(_) => false,
        };
        let mut poll = Poll::new(STOPPED_WITHIN);
        while self.ended().is_none() && !std::fs::read_dir(&tasks).is_ok_and(|mut tasks| tasks.all(stopped)) {
            poll.check(&format!("process {} to stop", self.child.id()), "a thread of it runs");
            poll.pause_blocking();
        }
    }

    /// Sends a signal, unless the process has ended. After one that stops it, all of it stands still.
    pub(crate) fn signal(&mut self, signal: Signal) {
        if self.ended().is_some() {
            return;
        }
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(pid, signal).unwrap_or_else(|e| panic!("cannot signal process {}: {e}", self.child.id()));
        match signal {
            Signal::STOP => {
                self.paused = true;
                self.wait_until_stopped();
            }
            Signal::CONT => self.paused = false,
            _ => {}
        }
    }

    /// Kills it, as a crash would, and waits until it is gone.
    pub(crate) fn kill(&mut self) -> ExitStatus {
        // Fails only when it has ended already.
        let _ = self.child.kill();
        self.child.wait().expect("a child can be waited for")
    }

    /// Asks it to end and waits; `None` when it has not ended in time.
    pub(crate) async fn terminate(&mut self, deadline: Duration) -> Option<Ended> {
        let asked = Instant::now();
        self.signal(Signal::TERM);
        if self.paused {
            self.signal(Signal::CONT);
        }
        let status = self.wait(deadline).await?;
        Some(Ended { status, took: asked.elapsed() })
    }

    /// Waits for its end; `None` when it has not ended in time.
    pub(crate) async fn wait(&mut self, deadline: Duration) -> Option<ExitStatus> {
        let mut poll = Poll::new(deadline);
        loop {
            if let Some(status) = self.ended() {
                return Some(status);
            }
            if poll.is_over() {
                return None;
            }
            poll.pause().await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if let Some(mut pipe) = self.watchdog.stdin.take() {
            let _ = pipe.write_all(b"done\n");
        }
        let _ = self.watchdog.wait();
    }
}

/// Starts the shell that cleans up when our end of its pipe closes unexpectedly.
fn watch(pid: u32, folder: &Path) -> io::Result<Child> {
    const SCRIPT: &str = r#"trap '' INT TERM HUP; read -r word || { kill -KILL "$0"; rm -rf -- "$1"; }"#;
    Command::new("sh")
        .args(["-c", SCRIPT, &pid.to_string()])
        .arg(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
}

/// The last lines of a log file, for a failure message.
pub(crate) fn tail(log: &Path, lines: usize) -> String {
    let bytes = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// Prints the end of a log beside the message of the test that fails.
pub(crate) fn print_tail(who: &str, log: &Path) {
    eprintln!("--- the last lines of {who}'s log\n{}\n---", tail(log, 40));
}

/// The executable of this name in one of the folders on PATH.
pub(crate) fn on_path(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// A number of bytes from `/proc/<pid>/status`, such as `VmHWM`.
pub(crate) fn memory(pid: u32, field: &str) -> u64 {
    let path = format!("/proc/{pid}/status");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("cannot read {path}: {e}"));
    let kib = text
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':')?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.unwrap_or_else(|| panic!("{path} has no {field}")) * 1024
}

/// Processor time that a process has used so far, in user and system mode together.
pub(crate) fn cpu_time(pid: u32) -> Duration {
    /// The unit of `/proc/<pid>/stat` on every Linux that Rust supports.
    const TICKS_PER_SECOND: u64 = 100;
    let path = format!("/proc/{pid}/stat");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("cannot read {path}: {e}"));
    // The name in brackets may hold spaces; what follows it is regular, beginning with field 3.
    let rest = text.rsplit(") ").next().unwrap_or_default();
    let fields: Vec<u64> = rest.split(' ').skip(11).take(2).filter_map(|field| field.parse().ok()).collect();
    Duration::from_millis(fields.iter().sum::<u64>() * 1000 / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper(folder: &TempDir) -> Process {
        let mut command = Command::new("sleep");
        command.arg("600");
        Process::spawn(command, &folder.path().join("log"), folder).expect("sleep starts")
    }

    /// Whether the process still runs; one that ended and that nobody waits for counts as gone.
    fn runs(pid: u32) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        !matches!(stat.rsplit(") ").next().and_then(|rest| rest.chars().next()), None | Some('Z' | 'X'))
    }

    #[tokio::test]
    async fn a_process_can_be_paused_resumed_and_terminated() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut process = sleeper(&folder);
        process.signal(Signal::STOP);
        assert!(process.is_paused());
        let ended = process.terminate(Duration::from_secs(5)).await.expect("it ends although it was paused");
        assert_eq!(ended.signal(), Some(Signal::TERM.as_raw()));
        assert!(!process.is_paused());
    }

    #[tokio::test]
    async fn a_dropped_process_is_gone() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let process = sleeper(&folder);
        let pid = process.id();
        assert!(runs(pid));
        drop(process);
        assert!(!runs(pid));
    }

    #[tokio::test]
    async fn the_watchdog_kills_when_its_pipe_closes_without_a_word() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut process = sleeper(&folder);
        // What the kernel does to the pipe when this process is killed.
        drop(process.watchdog.stdin.take());
        let status = process.wait(Duration::from_secs(5)).await.expect("the watchdog ended it");
        assert_eq!(status.signal(), Some(Signal::KILL.as_raw()));
        crate::eventually!(Duration::from_secs(5), "the folder to be removed", !folder.path().exists());
    }
}
