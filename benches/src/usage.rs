//! What processes used, and what the rest of the machine did meanwhile.

use std::fs;
use std::time::{Duration, Instant};

/// The unit of processor time in `/proc` on every Linux that Rust supports.
const TICKS_PER_SECOND: f64 = 100.0;

/// Processor seconds of one process, by the names of its threads.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Threads(pub Vec<(String, f64)>);

impl Threads {
    /// What a process used so far, by thread; threads that have ended are in none of them.
    fn of(pid: u32) -> Self {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        let mut sums = Self::default();
        for task in tasks {
            let Some((name, seconds)) = read_stat(&task.path().join("stat").to_string_lossy()) else { continue };
            sums.add(&name, seconds);
        }
        sums
    }

    fn add(&mut self, name: &str, seconds: f64) {
        // `worker-3` and `worker-4` do the same work.
        let name = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '-');
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, sum)) => *sum += seconds,
            None => self.0.push((name.to_owned(), seconds)),
        }
    }

    fn since(&self, before: &Self) -> Self {
        let earlier = |name: &str| before.0.iter().find(|(known, _)| known == name).map_or(0.0, |(_, sum)| *sum);
        let mut used: Vec<_> = self.0.iter().map(|(name, sum)| (name.clone(), sum - earlier(name))).collect();
        used.retain(|(_, sum)| *sum > 0.0);
        used.sort_by(|a, b| b.1.total_cmp(&a.1));
        Self(used)
    }
}

/// With more processors busy without us, numbers are worth little.
pub const QUIET: f64 = 0.1;

/// What one process used.
#[derive(Clone, Debug)]
pub struct Used {
    /// Its name in the report.
    pub who: &'static str,
    /// Processor seconds, user and system together.
    pub seconds: f64,
    /// The same by thread.
    pub threads: Threads,
}

/// A moment to count from.
#[derive(Clone, Debug)]
pub struct Meter {
    at: Instant,
    machine: f64,
    own: f64,
    processes: Vec<(&'static str, u32, f64, Threads)>,
}

/// What was used since a [`Meter`] began.
#[derive(Clone, Debug)]
pub struct Usage {
    /// By process.
    pub processes: Vec<Used>,
    /// Processor seconds of this program, which publishes and watches.
    pub own: f64,
    /// Processors that others kept busy, on average. What the kernel does for our own IO in threads of its own counts
    /// as others, too.
    pub others: f64,
}

impl Meter {
    /// Begins.
    pub fn start(processes: &[(&'static str, u32)]) -> Self {
        Self {
            at: Instant::now(),
            machine: machine(),
            own: seconds(std::process::id()),
            processes: processes.iter().map(|(who, pid)| (*who, *pid, seconds(*pid), Threads::of(*pid))).collect(),
        }
    }

    /// Reads. `born` are processes that did not exist when this began: all that they used counts.
    pub fn read(&self, born: &[(&'static str, u32)]) -> Usage {
        let of = |who: &'static str, pid: u32, before: f64, threads: &Threads| Used {
            who,
            seconds: seconds(pid) - before,
            threads: Threads::of(pid).since(threads),
        };
        let known = self.processes.iter().map(|(who, pid, before, threads)| of(who, *pid, *before, threads));
        let none = Threads::default();
        let processes: Vec<_> = known.chain(born.iter().map(|(who, pid)| of(who, *pid, 0.0, &none))).collect();
        let own = seconds(std::process::id()) - self.own;
        let ours: f64 = own + processes.iter().map(|used| used.seconds).sum::<f64>();
        let others = (machine() - self.machine - ours).max(0.0) / self.at.elapsed().as_secs_f64();
        Usage { processes, own, others }
    }
}

/// Processor seconds of one process.
pub fn seconds(pid: u32) -> f64 {
    read_stat(&format!("/proc/{pid}/stat")).map_or(0.0, |(_, seconds)| seconds)
}

/// Name and processor seconds of a process or thread.
fn read_stat(path: &str) -> Option<(String, f64)> {
    let text = fs::read_to_string(path).ok()?;
    // The name in brackets may hold spaces and brackets; what follows it is regular, beginning with field 3.
    let (front, rest) = text.rsplit_once(") ")?;
    let name = front.split_once('(')?.1;
    let ticks: f64 = rest.split(' ').skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    Some((name.to_owned(), ticks / TICKS_PER_SECOND))
}

/// Processor seconds that anybody used since the machine started, without the handling of interrupts.
fn machine() -> f64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let fields = text.lines().next().unwrap_or_default().split_whitespace().skip(1);
    fields.take(3).filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() / TICKS_PER_SECOND
}

/// Processors that are busy although we do nothing.
pub async fn noise() -> f64 {
    let meter = Meter::start(&[]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    meter.read(&[]).others
}

/// Waits until others leave the machine alone for a second, but not longer than this.
pub async fn quiet(longest: Duration) {
    let end = Instant::now() + longest;
    while Instant::now() < end && noise().await > QUIET {}
}

/// Lets the kernel write out what earlier measurements left behind, so that it does not do so during the next one.
pub async fn settle() {
    let _ = tokio::task::spawn_blocking(rustix::fs::sync).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_counted_where_it_is_done() {
        let meter = Meter::start(&[("me", std::process::id())]);
        let end = Instant::now() + Duration::from_secs(20);
        while meter.read(&[]).own <= 0.1 {
            assert!(Instant::now() < end, "nothing is counted");
        }
        let usage = meter.read(&[]);
        assert!(usage.processes[0].seconds > 0.1 && !usage.processes[0].threads.0.is_empty(), "{usage:?}");
    }

    #[test]
    fn threads_of_one_kind_are_added_up() {
        let mut threads = Threads::default();
        threads.add("worker-1", 1.0);
        threads.add("worker-12", 2.0);
        threads.add("main", 0.5);
        assert_eq!(threads.0, [("worker".to_owned(), 3.0), ("main".to_owned(), 0.5)]);
        let later = Threads(vec![("worker".to_owned(), 4.0), ("main".to_owned(), 0.5)]);
        assert_eq!(later.since(&threads).0, [("worker".to_owned(), 1.0)]);
    }
}
