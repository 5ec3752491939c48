//! Objects from bucket to bucket, beside `rclone copy` between the same two servers.
//!
//! Both get the same: two S3 servers that run, what is to be copied in a bucket of A's, a new bucket in B. The clock runs
//! from the start of rclone, or of rhio, until everything is whole in B. Then all of it is compared byte for byte.

mod import;
mod nodes;
mod program;
mod proxy;
mod rclone;
mod report;
mod resume;
mod servers;

use std::time::{Duration, Instant};

use crate::options::{Options, Part, Side};
use crate::report::Report;
use crate::usage::{Meter, Usage, quiet, settle};

use nodes::{Bucket, Nodes};
use rclone::Rclone;
pub use report::BlobReport;
use report::Who;
use servers::{Place, Servers, Source};

const MIB: f64 = 1024.0 * 1024.0;
/// Bytes of the huge object.
const HUGE: u64 = 5 << 30;

/// Measures what is wanted of it.
pub async fn run(options: &Options, report: &mut Report, failed: &mut Vec<String>) {
    if [Part::Large, Part::Medium, Part::Small, Part::Import, Part::Resume, Part::Huge]
        .iter()
        .any(|part| options.wants(*part))
    {
        let result = measure(options, report, failed).await;
        crate::keep(failed, "buckets", result);
    }
}

async fn measure(options: &Options, report: &mut Report, failed: &mut Vec<String>) -> anyhow::Result<()> {
    let rclone = Rclone::find().filter(|_| options.wants_side(Side::Source));
    if rclone.is_none() && options.wants_side(Side::Source) {
        eprintln!("{}", rclone::MISSING);
        report.note(rclone::MISSING.to_owned());
    }
    let mut servers = Servers::start().await?;
    let mut sources = Vec::new();
    if options.wants(Part::Large) || options.wants(Part::Resume) {
        eprintln!("puts an object of {} MiB into A", options.object_size() >> 20);
        let large = servers.one("large", options.object_size()).await?;
        sources.extend(options.wants(Part::Large).then(|| large.clone()));
        if options.wants(Part::Resume) && options.wants_side(Side::Rhio) {
            eprintln!("a crash in mid transfer");
            for turn in 0..options.repetitions() {
                let result = resume::run(&mut servers, &large, turn, report).await;
                crate::keep(failed, "a crash in mid transfer", result);
            }
        }
    }
    if options.wants(Part::Small) {
        eprintln!("puts {} objects of {} KiB into A", options.objects(), servers::SMALL >> 10);
        sources.push(servers.many("small", options.objects(), servers::SMALL).await?);
    }
    if options.wants(Part::Medium) {
        eprintln!("puts {} objects of {} MiB into A", options.medium(), servers::MEDIUM >> 20);
        sources.push(servers.many("medium", options.medium(), servers::MEDIUM).await?);
    }
    for turn in 0..options.repetitions() {
        for source in &sources {
            compare(options, &mut servers, source, rclone.as_ref(), turn, report, failed).await;
        }
        if options.wants(Part::Import) {
            eprintln!("turn {}, import", turn + 1);
            let result = import::run(options, &mut servers, rclone.as_ref(), turn, report).await;
            crate::keep(failed, "import", result);
        }
    }
    if options.wants(Part::Huge) {
        eprintln!("puts an object of {} GiB into A", HUGE >> 30);
        let huge = servers.one("huge", HUGE).await?;
        compare(options, &mut servers, &huge, rclone.as_ref(), 0, report, failed).await;
    }
    Ok(())
}

/// One turn of everybody, every other turn in reverse order.
async fn compare(
    options: &Options,
    servers: &mut Servers,
    source: &Source,
    rclone: Option<&Rclone>,
    turn: usize,
    report: &mut Report,
    failed: &mut Vec<String>,
) {
    // What A knows before, where it matters.
    let mut runs = vec![(Who::Plain, false), (Who::Tuned, false), (Who::Rhio, false), (Who::Rhio, true)];
    if turn % 2 == 1 {
        runs.reverse();
    }
    for (who, ready) in runs {
        if is_brief(source) && ready || source.key == "huge" && who == Who::Tuned {
            continue;
        }
        let what = format!("turn {}, {}, {}{}", turn + 1, source.key, who.name(), if ready { ", ready" } else { "" });
        let bucket = servers.bucket(Place::B).await;
        settle().await;
        quiet(options.wait()).await;
        let result = match (who, rclone) {
            (Who::Rhio, _) if options.wants_side(Side::Rhio) => {
                eprintln!("{what}");
                by_rhio(servers, source, &bucket, ready, turn, report).await
            }
            (Who::Plain | Who::Tuned, Some(rclone)) => {
                eprintln!("{what}");
                by_rclone(servers, source, &bucket, (rclone, who), turn, report).await
            }
            _ => Ok(()),
        };
        crate::keep(failed, &what, result);
        servers.remove(Place::B, &bucket).await;
    }
}

async fn by_rclone(
    servers: &Servers,
    source: &Source,
    bucket: &str,
    (rclone, who): (&Rclone, Who),
    turn: usize,
    report: &mut Report,
) -> anyhow::Result<()> {
    let meter = Meter::start(&s3(servers));
    let took = rclone.copy(who, (&servers.a, &source.bucket), (&servers.b, bucket)).await?;
    let usage = meter.read(&[]);
    servers.check(source, bucket).await?;
    // It has no preparation: what it does is beside both of what rhio does.
    let keys = [source.key.to_owned(), format!("{}_ready", source.key)];
    for key in &keys[..if is_brief(source) { 1 } else { 2 }] {
        note_time(report, key, who, turn, source, took.time);
    }
    let key = source.key;
    report.blobs.add(&format!("{key}_peak_a"), who, turn, took.peak as f64 / MIB);
    if !is_brief(source) {
        report.blobs.add(&format!("{key}_cpu_a"), who, turn, took.cpu);
        note_servers(report, key, who, turn, &usage);
    }
    report.blobs.add("others", who, turn, (usage.others - took.cpu / took.time.as_secs_f64()).max(0.0));
    Ok(())
}

async fn by_rhio(
    servers: &Servers,
    source: &Source,
    bucket: &str,
    ready: bool,
    turn: usize,
    report: &mut Report,
) -> anyhow::Result<()> {
    let (from, to) = (Bucket::new(&servers.a, &source.bucket), Bucket::new(&servers.b, bucket));
    let mut nodes = Nodes::new(&from, &to).await?;
    if ready {
        nodes.prepare().await?;
        settle().await;
    }
    let known: Vec<_> = s3(servers).into_iter().chain(nodes.servers()).chain(nodes.helpers()).collect();
    let meter = Meter::start(&known);
    let begun = Instant::now();
    nodes.start().await?;
    let arrived = nodes.arrived(source.len(), time_for(source.bytes)).await?;
    let mut born = nodes.helpers();
    born.retain(|process| !known.contains(process));
    let usage = meter.read(&born);
    servers.check(source, bucket).await?;
    let (key, rhio) = (source.key, Who::Rhio);
    let phase = if ready { format!("{key}_ready") } else { key.to_owned() };
    note_time(report, &phase, rhio, turn, source, arrived - begun);
    if !ready {
        report.blobs.add(&format!("{key}_peak_a"), rhio, turn, nodes.of_a.rss_peak_bytes() as f64 / MIB);
        report.blobs.add(&format!("{key}_peak_b"), rhio, turn, nodes.of_b.rss_peak_bytes() as f64 / MIB);
    }
    if !is_brief(source) && (!ready || key == "large") {
        report.blobs.add(&format!("{phase}_cpu_a"), rhio, turn, of(&usage, "rhio A"));
        report.blobs.add(&format!("{phase}_cpu_b"), rhio, turn, of(&usage, "rhio B"));
    }
    if !is_brief(source) && !ready {
        note_servers(report, key, rhio, turn, &usage);
    }
    if key == "small" && !ready {
        report.blobs.add("small_cpu_nats", rhio, turn, of(&usage, "nats A") + of(&usage, "nats B"));
    }
    for used in &usage.processes {
        report.threads(&phase, used.who, &used.threads.0);
    }
    report.blobs.add("others", rhio, turn, usage.others);
    note_complaints(report, nodes.finish().await?);
    Ok(())
}

/// Whether only time and memory are told of it.
fn is_brief(source: &Source) -> bool {
    matches!(source.key, "medium" | "huge")
}

fn note_complaints(report: &mut Report, complaints: Vec<String>) {
    if let Some(first) = complaints.first() {
        report.note(format!("{} warnings and errors in rhio's logs, such as {first}", complaints.len()));
    }
}

fn note_time(report: &mut Report, key: &str, who: Who, turn: usize, source: &Source, time: Duration) {
    let seconds = time.as_secs_f64();
    let rate = if source.in_bytes { source.bytes as f64 / MIB } else { source.len() as f64 } / seconds;
    report.blobs.add(key, who, turn, rate);
    report.blobs.add(&format!("{key}_seconds"), who, turn, seconds);
}

fn note_servers(report: &mut Report, key: &str, who: Who, turn: usize, usage: &Usage) {
    report.blobs.add(&format!("{key}_cpu_s3_a"), who, turn, of(usage, "s3 A"));
    report.blobs.add(&format!("{key}_cpu_s3_b"), who, turn, of(usage, "s3 B"));
}

/// Processor seconds of one process.
fn of(usage: &Usage, who: &str) -> f64 {
    usage.processes.iter().filter(|used| used.who == who).map(|used| used.seconds).sum()
}

fn s3(servers: &Servers) -> [(&'static str, u32); 2] {
    [("s3 A", servers.a.process_id()), ("s3 B", servers.b.process_id())]
}

/// How long so many bytes may take before it counts as a stall.
fn time_for(bytes: u64) -> Duration {
    Duration::from_secs(60 + bytes / 5_000_000)
}
