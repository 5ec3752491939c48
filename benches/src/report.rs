//! What was measured, as a table and as JSON.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::blobs::BlobReport;
use crate::options::{Options, Side};
use crate::stats::{median, range};

/// Something that is measured.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name in the JSON.
    pub key: &'static str,
    /// What it is, for the table.
    pub what: &'static str,
    pub unit: &'static str,
    /// Digits behind the point.
    pub digits: usize,
    /// Whether the table compares the two sides.
    pub ratio: bool,
}

const fn metric(key: &'static str, what: &'static str, unit: &'static str, digits: usize, ratio: bool) -> Metric {
    Metric { key, what, unit, digits, ratio }
}

/// Everything, in the order of the table.
const METRICS: [Metric; 45] = [
    metric("catch_up", "catch-up, nothing sealed before", "msg/s", 0, true),
    metric("catch_up_flow", "  from first to last arrival", "msg/s", 0, true),
    metric("catch_up_sealed", "catch-up, A has sealed it", "msg/s", 0, true),
    metric("catch_up_sealed_flow", "  from first to last arrival", "msg/s", 0, true),
    metric("live", "live, until the last is in B", "msg/s", 0, true),
    metric("live_published", "  published meanwhile in A", "msg/s", 0, true),
    metric("live_behind", "  missing in B when A has all", "msg", 0, false),
    metric("plain_p50", "plain publish in B, p50", "ms", 3, false),
    metric("plain_p90", "  p90", "ms", 3, false),
    metric("plain_p99", "  p99", "ms", 3, false),
    metric("latency_p50", "published in A, seen in B, p50", "ms", 3, false),
    metric("latency_p90", "  p90", "ms", 3, false),
    metric("latency_p99", "  p99", "ms", 3, false),
    metric("added_p50", "added over plain, p50", "ms", 3, false),
    metric("start_ms", "restart of B: process until first datagram", "ms", 1, false),
    metric("reconnect_ms", "  first datagram until new message in B", "ms", 1, false),
    metric("reconnect_bytes", "  UDP bytes until then", "bytes", 0, false),
    metric("reconnect_bytes_settled", "  UDP bytes one second later", "bytes", 0, false),
    metric("crash_start_ms", "kill -9 of B: process until first datagram", "ms", 1, false),
    metric("crash_reconnect_ms", "  first datagram until new message in B", "ms", 1, false),
    metric("crash_reconnect_bytes", "  UDP bytes until then", "bytes", 0, false),
    metric("crash_reconnect_bytes_settled", "  UDP bytes one second later", "bytes", 0, false),
    metric("reconnect_around", "datagrams that went around the forwarder", "", 0, false),
    metric("idle_a", "memory, idle, rhio A", "MiB", 1, false),
    metric("idle_b", "  rhio B", "MiB", 1, false),
    metric("peak_a", "memory, peak of catch-up and live, rhio A", "MiB", 1, false),
    metric("peak_b", "  rhio B", "MiB", 1, false),
    metric("after_a", "memory, 3 s after that, rhio A", "MiB", 1, false),
    metric("after_b", "  rhio B", "MiB", 1, false),
    metric("common_peak_a", "memory, peak with everything in common, rhio A", "MiB", 1, false),
    metric("common_peak_b", "  rhio B", "MiB", 1, false),
    metric("state_full_a", "state per message at full load, A", "bytes", 1, false),
    metric("state_full_b", "  B", "bytes", 1, false),
    metric("state_single_a", "state per message, one by one, A", "bytes", 1, false),
    metric("state_single_b", "  B", "bytes", 1, false),
    metric("catch_up_cpu_nats_a", "CPU per million messages, catch-up, nats A", "s", 2, false),
    metric("catch_up_cpu_nats_b", "  nats B", "s", 2, false),
    metric("catch_up_cpu_rhio_a", "  rhio A", "s", 2, false),
    metric("catch_up_cpu_rhio_b", "  rhio B", "s", 2, false),
    metric("live_cpu_nats_a", "CPU per million messages, live, nats A", "s", 2, false),
    metric("live_cpu_nats_b", "  nats B", "s", 2, false),
    metric("live_cpu_rhio_a", "  rhio A", "s", 2, false),
    metric("live_cpu_rhio_b", "  rhio B", "s", 2, false),
    metric("live_cpu_publisher", "  the publisher", "s", 2, false),
    metric("others", "processors that others kept busy meanwhile", "", 2, false),
];

#[derive(Clone, Copy, Debug)]
struct Sample {
    key: &'static str,
    side: Side,
    turn: usize,
    value: f64,
}

/// What has been measured so far.
#[derive(Debug, Default)]
pub struct Report {
    samples: Vec<Sample>,
    /// The turn under way, so that what is compared was measured in one.
    pub turn: usize,
    notes: Vec<String>,
    /// Processor seconds per thread, by phase and process.
    threads: Vec<Value>,
    /// Every datagram of each reconnect.
    datagrams: Vec<Value>,
    /// What was measured of buckets.
    pub blobs: BlobReport,
}

impl Report {
    /// Adds a sample.
    pub fn add(&mut self, key: &'static str, side: Side, value: f64) {
        debug_assert!(METRICS.iter().any(|metric| metric.key == key), "{key} is in the table");
        self.samples.push(Sample { key, side, turn: self.turn, value });
    }

    /// Adds a sentence that a reader must know.
    pub fn note(&mut self, text: String) {
        if !self.notes.contains(&text) {
            self.notes.push(text);
        }
    }

    /// Adds how a process's threads shared its work.
    pub fn threads(&mut self, phase: &str, who: &str, threads: &[(String, f64)]) {
        let threads: serde_json::Map<_, _> = threads.iter().map(|(name, sum)| (name.clone(), json!(sum))).collect();
        self.threads.push(json!({"phase": phase, "process": who, "seconds": threads}));
    }

    /// Adds what was said at a reconnect: milliseconds since the first datagram, whether to A, bytes.
    pub fn datagrams(&mut self, crash: bool, datagrams: impl Iterator<Item = (Duration, bool, usize)>) {
        let one = |(at, to_a, bytes): (Duration, bool, usize)| json!([at.as_secs_f64() * 1e3, to_a, bytes]);
        self.datagrams.push(json!({"crash": crash, "ms_to_a_bytes": datagrams.map(one).collect::<Vec<_>>()}));
    }

    /// The samples of one side, in the order in which they were taken.
    pub fn samples(&self, key: &str, side: Side) -> Vec<f64> {
        self.of(key, side).map(|sample| sample.value).collect()
    }

    fn of<'a>(&'a self, key: &'a str, side: Side) -> impl Iterator<Item = &'a Sample> {
        self.samples.iter().filter(move |sample| sample.key == key && sample.side == side)
    }

    /// Whether nothing was measured.
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty() && self.blobs.is_empty()
    }

    /// Turn by turn, what rhio made of what NATS did.
    fn ratios(&self, key: &str) -> Vec<f64> {
        let twin = |rhio: &Sample| self.of(key, Side::Source).find(|source| source.turn == rhio.turn);
        self.of(key, Side::Rhio).filter_map(|rhio| Some(rhio.value / twin(rhio)?.value)).collect()
    }

    /// For the terminal.
    pub fn table(&self) -> String {
        let mut out = String::new();
        let mut line = |text: String| writeln!(out, "{}", text.trim_end()).expect("writing to a string");
        if !self.samples.is_empty() {
            line(format!("{:<49}{:<7}{:<30}{:<30}{}", "", "", "NATS source", "rhio", "rhio / NATS source"));
        }
        for metric in METRICS {
            let (source, rhio) = (self.samples(metric.key, Side::Source), self.samples(metric.key, Side::Rhio));
            if source.is_empty() && rhio.is_empty() {
                continue;
            }
            let ratio = if metric.ratio { spread(&self.ratios(metric.key), 2) } else { String::new() };
            let (source, rhio) = (spread(&source, metric.digits), spread(&rhio, metric.digits));
            line(format!("{:<49}{:<7}{source:<30}{rhio:<30}{ratio}", metric.what, metric.unit));
        }
        if !self.blobs.is_empty() {
            line(String::new());
            line(self.blobs.table());
        }
        for note in &self.notes {
            line(format!("! {note}"));
        }
        out
    }

    /// For programs.
    pub fn json(&self, options: &Options, noise: f64) -> Value {
        let mut metrics = serde_json::Map::new();
        for metric in METRICS {
            let side = |side| summary(&self.samples(metric.key, side));
            let mut entry = json!({
                "what": metric.what.trim(),
                "unit": metric.unit,
                "nats_source": side(Side::Source),
                "rhio": side(Side::Rhio),
            });
            if metric.ratio {
                entry["ratio"] = summary(&self.ratios(metric.key));
            }
            if !(entry["nats_source"].is_null() && entry["rhio"].is_null()) {
                metrics.insert(metric.key.to_owned(), entry);
            }
        }
        json!({
            "rhio": env!("CARGO_PKG_VERSION"),
            "processors": std::thread::available_parallelism().map_or(0, usize::from),
            "busy_before": noise,
            "messages": options.messages(),
            "repetitions": options.repetitions(),
            "common": options.common(),
            "object_bytes": options.object_size(),
            "objects": options.objects(),
            "quick": options.quick,
            "metrics": metrics,
            "blobs": self.blobs.json(),
            "threads": self.threads,
            "datagrams": self.datagrams,
            "notes": self.notes,
        })
    }

    /// Writes the JSON into cargo's target folder and says where.
    pub fn write(&self, options: &Options, noise: f64) -> anyhow::Result<PathBuf> {
        let this = std::env::current_exe().context("cannot tell where this program lies")?;
        // It lies in target/<profile>.
        let target = this.ancestors().nth(2).context("a program lies in a folder")?;
        let path = target.join("bench.json");
        let text = serde_json::to_string_pretty(&self.json(options, noise))?;
        std::fs::write(&path, text + "\n").with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }
}

/// Samples in JSON.
pub fn summary(samples: &[f64]) -> Value {
    if samples.is_empty() {
        return Value::Null;
    }
    let (min, max) = range(samples);
    json!({"median": median(samples), "min": min, "max": max, "samples": samples})
}

/// Median, smallest and largest.
pub fn spread(samples: &[f64], digits: usize) -> String {
    match samples {
        [] => "-".into(),
        [one] => number(*one, digits),
        _ => {
            let (min, max) = range(samples);
            format!("{} ({} .. {})", number(median(samples), digits), number(min, digits), number(max, digits))
        }
    }
}

/// A number with thousands set apart.
fn number(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let mut out = String::new();
    for (at, digit) in whole.chars().enumerate() {
        let left = whole.len() - at;
        if at > 0 && left.is_multiple_of(3) && digit.is_ascii_digit() && !out.ends_with('-') {
            out.push(',');
        }
        out.push(digit);
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_easy_to_read() {
        assert_eq!(number(1_234_567.0, 0), "1,234,567");
        assert_eq!(number(-123.456, 1), "-123.5");
        assert_eq!(number(999.0, 2), "999.00");
        assert_eq!(spread(&[3.0, 1.0, 2.0], 0), "2 (1 .. 3)");
    }

    #[test]
    fn ratios_are_of_one_turn() {
        let mut report = Report::default();
        let samples = [(0, Side::Source, 10.0), (0, Side::Rhio, 20.0), (1, Side::Rhio, 30.0), (1, Side::Source, 10.0)];
        // One that failed on the other side is compared with nothing.
        for (turn, side, value) in samples.into_iter().chain([(2, Side::Rhio, 99.0)]) {
            report.turn = turn;
            report.add("live", side, value);
        }
        assert_eq!(report.ratios("live"), [2.0, 3.0]);
        assert!(report.table().contains("2.50 (2.00 .. 3.00)"), "{}", report.table());
    }
}
