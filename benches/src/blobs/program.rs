//! A program that runs once, with what it took.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use crate::usage::seconds;

/// How exactly the end of a program is seen.
const POLL: Duration = Duration::from_millis(2);

/// What a program took.
#[derive(Clone, Copy, Debug)]
pub struct Took {
    /// From its start to its end.
    pub time: Duration,
    /// Processor seconds.
    pub cpu: f64,
    /// The most memory that it had, in bytes, as seen every few milliseconds.
    pub peak: u64,
}

/// Where a program is, if it is installed.
pub fn find(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// Ends the child when the measurement is broken off.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a program to its end, which must be a success.
pub async fn run(mut command: Command) -> anyhow::Result<Took> {
    let name = command.get_program().to_string_lossy().into_owned();
    let errors = tempfile::NamedTempFile::new().context("cannot create a temporary file")?;
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors.reopen()?);
    let begun = Instant::now();
    let mut child = Guard(command.spawn().with_context(|| format!("cannot start {name}"))?);
    let pid = child.0.id();
    let mut peak = 0;
    // A program that has ended keeps its times until it is waited for.
    while !has_ended(pid) {
        peak = memory(pid).unwrap_or(peak);
        tokio::time::sleep(POLL).await;
    }
    let (time, cpu) = (begun.elapsed(), seconds(pid));
    let status = child.0.wait()?;
    ensure!(status.success(), "{name} failed ({status}): {}", fs::read_to_string(errors.path())?.trim());
    Ok(Took { time, cpu, peak })
}

fn has_ended(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !matches!(stat.rsplit(") ").next().and_then(|rest| rest.chars().next()), Some(state) if state != 'Z' && state != 'X')
}

/// The most memory so far.
fn memory(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn time_processor_and_memory_are_seen() {
        let mut command = Command::new("sh");
        command.args(["-c", "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; sleep 0.05"]);
        let took = run(command).await.expect("it ends well");
        assert!(took.time >= Duration::from_millis(50) && took.cpu > 0.0 && took.peak > 100_000, "{took:?}");
    }

    #[tokio::test]
    async fn a_failure_is_told() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo no such bucket >&2; exit 3"]);
        let error = run(command).await.expect_err("it fails").to_string();
        assert!(error.contains("no such bucket"), "{error}");
    }
}
