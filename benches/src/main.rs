//! The benchmark: `make bench`.
//!
//! Messages of 256 bytes go from cluster A to cluster B, both on this machine with file storage: once over NATS's own
//! leaf-node source, once over rhio, in turns. Each turn begins with new servers. Objects go from an S3 server A to an S3
//! server B: once by `rclone copy`, once over rhio, in turns, each time into a new bucket. Nothing is asserted about time;
//! what was measured is printed and written to `target/bench.json`.

#![forbid(unsafe_code)]

mod blobs;
mod footprint;
mod forwarder;
mod latency;
mod load;
mod options;
mod pair;
mod reconnect;
mod report;
mod stats;
mod throughput;
mod usage;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::bail;
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use options::{Options, Part, Side};
use report::Report;

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    let mut report = Report::default();
    let noise = usage::noise().await;
    if noise > usage::QUIET {
        report.note(format!("{noise:.2} processors were busy before this began: the numbers are worth little"));
        eprintln!("this machine is not quiet: {noise:.2} processors are busy");
    }
    let begun = Instant::now();
    let result = watched(&options, &mut report).await;
    if !report.is_empty() {
        println!("\n{}", report.table());
        match report.write(&options, noise) {
            Ok(path) => println!("{} s; written to {}", begun.elapsed().as_secs(), path.display()),
            Err(e) => eprintln!("{e:#}"),
        }
    }
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("bench: {e:#}");
            ExitCode::FAILURE
        }
    }
}

/// Measures until the end or a signal. Servers and rhios end with what owns them, whatever happens.
async fn watched(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        result = measure(options, report) => result,
        _ = interrupt.recv() => bail!("interrupted"),
        _ = terminate.recv() => bail!("interrupted"),
    }
}

async fn measure(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let mut failed = Vec::new();
    let rhio = options.wants_side(Side::Rhio);
    for turn in 0..options.repetitions() {
        report.turn = turn;
        for side in options.sides(turn) {
            let who = format!("turn {} of {}, {}", turn + 1, options.repetitions(), side.name());
            if options.wants(Part::CatchUp) || options.wants(Part::Live) {
                eprintln!("{who}: catch-up and live");
                keep(&mut failed, &who, throughput::run(options, side, report).await);
            }
            if options.wants(Part::CatchUp) {
                eprintln!("{who}: catch-up of what is sealed");
                keep(&mut failed, &who, throughput::run_sealed(options, side, report).await);
            }
            if options.wants(Part::Latency) {
                eprintln!("{who}: latency");
                keep(&mut failed, &who, latency::run(options, side, report).await);
            }
        }
    }
    if rhio && options.wants(Part::Footprint) {
        eprintln!("memory and state");
        keep(&mut failed, "footprint", footprint::run(options, report).await);
    }
    if rhio && options.wants(Part::Reconnect) {
        eprintln!("reconnect");
        keep(&mut failed, "reconnect", reconnect::run(options, report).await);
    }
    blobs::run(options, report, &mut failed).await;
    if failed.is_empty() { Ok(()) } else { bail!("{}", failed.join("; ")) }
}

/// One measurement that fails leaves the others standing.
pub fn keep(failed: &mut Vec<String>, what: &str, result: anyhow::Result<()>) {
    if let Err(e) = result {
        eprintln!("{what}: {e:#}");
        failed.push(format!("{what}: {e:#}"));
    }
}
