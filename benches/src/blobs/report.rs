//! What was measured of buckets.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::report::{spread, summary};

/// Who did it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// `rclone copy` as it is; for hashing alone, `b3sum`.
    Plain,
    /// rclone with what helps here; for hashing alone, `b3sum` with all processors.
    Tuned,
    /// rhio.
    Rhio,
}

impl Who {
    /// As the log of a run says it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "rclone",
            Self::Tuned => "rclone, tuned",
            Self::Rhio => "rhio",
        }
    }
}

/// Something that is measured: its name in the JSON, what it is, its unit, digits behind the point, and whether it is a
/// rate of which the table shows the ratios.
#[derive(Clone, Copy, Debug)]
struct Metric(&'static str, &'static str, &'static str, usize, bool);

/// Everything, in the order of the table. Keys of processor time and memory are put together from a phase and a process.
const METRICS: [Metric; 41] = [
    Metric("large", "large object, A knows nothing of it", "MiB/s", 0, true),
    Metric("large_seconds", "  time", "s", 2, false),
    Metric("large_ready", "large object, A has hashed it before", "MiB/s", 0, true),
    Metric("large_ready_seconds", "  time", "s", 2, false),
    Metric("small", "small objects, A knows nothing of them", "1/s", 0, true),
    Metric("small_seconds", "  time", "s", 2, false),
    Metric("small_ready", "small objects, A has hashed them before", "1/s", 0, true),
    Metric("small_ready_seconds", "  time", "s", 2, false),
    Metric("medium", "objects of 20 MiB, A knows nothing of them", "MiB/s", 0, true),
    Metric("medium_seconds", "  time", "s", 2, false),
    Metric("huge", "huge object, A knows nothing of it", "MiB/s", 0, true),
    Metric("huge_seconds", "  time", "s", 2, false),
    Metric("large_peak_a", "memory, peak, large object: rclone, or rhio A", "MiB", 0, false),
    Metric("large_peak_b", "  rhio B", "MiB", 0, false),
    Metric("medium_peak_a", "memory, peak, objects of 20 MiB: rclone, or rhio A", "MiB", 0, false),
    Metric("medium_peak_b", "  rhio B", "MiB", 0, false),
    Metric("small_peak_a", "memory, peak, small objects: rclone, or rhio A", "MiB", 0, false),
    Metric("small_peak_b", "  rhio B", "MiB", 0, false),
    Metric("huge_peak_a", "memory, peak, huge object: rclone, or rhio A", "MiB", 0, false),
    Metric("huge_peak_b", "  rhio B", "MiB", 0, false),
    Metric("large_cpu_s3_a", "CPU, large object: S3 server A", "s", 2, false),
    Metric("large_cpu_s3_b", "  S3 server B", "s", 2, false),
    Metric("large_cpu_a", "  rclone, or rhio A", "s", 2, false),
    Metric("large_cpu_b", "  rhio B", "s", 2, false),
    Metric("large_ready_cpu_a", "  rhio A, hashed before", "s", 2, false),
    Metric("large_ready_cpu_b", "  rhio B, hashed before", "s", 2, false),
    Metric("small_cpu_s3_a", "CPU, small objects: S3 server A", "s", 2, false),
    Metric("small_cpu_s3_b", "  S3 server B", "s", 2, false),
    Metric("small_cpu_nats", "  both NATS servers", "s", 2, false),
    Metric("small_cpu_a", "  rclone, or rhio A", "s", 2, false),
    Metric("small_cpu_b", "  rhio B", "s", 2, false),
    Metric("import", "a file into a bucket (rhio.import)", "MiB/s", 0, true),
    Metric("import_peak", "  memory, peak", "MiB", 0, false),
    Metric("hash", "hashing with outboard; beside it b3sum, 1 and all threads", "MiB/s", 0, true),
    Metric("hash_threads", "  on all processors; beside it the same", "MiB/s", 0, true),
    Metric("resume_at", "crash of B in mid transfer: written before", "MiB", 1, false),
    Metric("resume_there", "  in whole parts, found at the restart", "MiB", 1, false),
    Metric("resume_again", "  written to B's server again", "MiB", 1, false),
    Metric("resume_read_again", "  read from A's server again, at most", "MiB", 1, false),
    Metric("resume_seconds", "  from restart to the whole object", "s", 2, false),
    Metric("others", "processors that others kept busy meanwhile", "", 2, false),
];

#[derive(Clone, Debug)]
struct Sample {
    key: String,
    who: Who,
    turn: usize,
    value: f64,
}

/// What has been measured so far.
#[derive(Debug, Default)]
pub struct BlobReport {
    samples: Vec<Sample>,
}

impl BlobReport {
    /// Adds a sample.
    pub fn add(&mut self, key: &str, who: Who, turn: usize, value: f64) {
        debug_assert!(METRICS.iter().any(|metric| metric.0 == key), "{key} is in the table");
        self.samples.push(Sample { key: key.to_owned(), who, turn, value });
    }

    /// Whether nothing was measured.
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    fn of<'a>(&'a self, key: &'a str, who: Who) -> impl Iterator<Item = &'a Sample> {
        self.samples.iter().filter(move |sample| sample.key == key && sample.who == who)
    }

    fn values(&self, key: &str, who: Who) -> Vec<f64> {
        self.of(key, who).map(|sample| sample.value).collect()
    }

    /// Turn by turn, what rhio made of what another did. Each of both has at most one sample of a key in a turn.
    fn ratios(&self, key: &str, other: Who) -> Vec<f64> {
        let twin = |rhio: &Sample| self.of(key, other).find(|sample| sample.turn == rhio.turn);
        self.of(key, Who::Rhio).filter_map(|rhio| Some(rhio.value / twin(rhio)?.value)).collect()
    }

    /// For the terminal.
    pub fn table(&self) -> String {
        let mut out = String::new();
        let mut line = |text: String| writeln!(out, "{}", text.trim_end()).expect("writing to a string");
        let head = ["rclone", "rclone, tuned", "rhio", "rhio / rclone", "rhio / tuned"];
        let cells = |cells: [String; 5]| cells.map(|cell| format!("{cell:<26}")).concat();
        line(format!("{:<59}{:<7}{}", "", "", cells(head.map(str::to_owned))));
        for Metric(key, what, unit, digits, ratio) in METRICS {
            let values = [Who::Plain, Who::Tuned, Who::Rhio].map(|who| self.values(key, who));
            if values.iter().all(Vec::is_empty) {
                continue;
            }
            let [plain, tuned, rhio] = values.map(|values| spread(&values, digits));
            let ratio = |other| if ratio { spread(&self.ratios(key, other), 2) } else { String::new() };
            let row = cells([plain, tuned, rhio, ratio(Who::Plain), ratio(Who::Tuned)]);
            line(format!("{what:<59}{unit:<7}{row}"));
        }
        out
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let mut metrics = serde_json::Map::new();
        for Metric(key, what, unit, _, ratio) in METRICS {
            let of = |who| summary(&self.values(key, who));
            let mut entry = json!({
                "what": what.trim(),
                "unit": unit,
                "rclone": of(Who::Plain),
                "rclone_tuned": of(Who::Tuned),
                "rhio": of(Who::Rhio),
            });
            if ratio {
                entry["ratio"] = summary(&self.ratios(key, Who::Plain));
                entry["ratio_tuned"] = summary(&self.ratios(key, Who::Tuned));
            }
            if self.samples.iter().any(|sample| sample.key == key) {
                metrics.insert(key.to_owned(), entry);
            }
        }
        metrics.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_of_one_turn() {
        let mut report = BlobReport::default();
        report.add("large", Who::Plain, 0, 100.0);
        report.add("large", Who::Rhio, 0, 150.0);
        report.add("large", Who::Rhio, 1, 900.0);
        assert_eq!(report.ratios("large", Who::Plain), [1.5]);
        assert!(report.ratios("large", Who::Tuned).is_empty());
        let json = report.json();
        assert_eq!(json["large"]["ratio"]["median"], 1.5);
        assert!(report.table().contains("525 (150 .. 900)"), "{}", report.table());
    }
}
