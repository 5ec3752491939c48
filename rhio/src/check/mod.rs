//! `rhio check`: looks at everything that the configuration names, without starting a daemon.
//!
//! Nothing is created, written or deleted anywhere. Probes run at once, each with a deadline, and are printed in a fixed
//! order as they become known. While a daemon with this node's key runs, it is asked who is connected; else the other
//! nodes are dialled with that key.

mod buckets;
mod finding;
mod local;
mod nats;
mod peers;
mod ports;
mod streams;
mod world;

use std::io::{self, Write};
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::config::Loaded;
use crate::control::show;

pub use finding::{Finding, Item, Outcome, Seen};
use world::World;

/// How long everything may take.
const ALL: Duration = Duration::from_secs(18);

/// A look at one thing.
type Probe = Pin<Box<dyn Future<Output = Seen> + Send>>;

/// What is to be looked at, in the order in which it is printed.
#[derive(Default)]
struct Plan(Vec<(Item, Probe)>);

impl Plan {
    fn add(&mut self, item: Item, probe: impl Future<Output = Seen> + Send + 'static) {
        self.0.push((item, Box::pin(probe)));
    }

    /// Something that is known already.
    fn known(&mut self, item: Item, seen: Seen) {
        self.add(item, std::future::ready(seen));
    }
}

/// Looks at everything and prints what it finds. Failure when anything fails.
pub async fn run(loaded: Loaded, json: bool) -> ExitCode {
    let end = Instant::now() + ALL;
    let Loaded { config, file, warnings } = loaded;
    let world = Arc::new(World::new(config));
    let mut plan = Plan::default();
    local::plan(&mut plan, &world, file.as_deref(), &warnings);
    ports::plan(&mut plan, &world);
    nats::plan(&mut plan, &world);
    streams::plan(&mut plan, &world);
    buckets::plan(&mut plan, &world);
    local::plan_folders(&mut plan, &world);
    peers::plan(&mut plan, &world);

    let column = finding::column(plan.0.iter().map(|(item, _)| item));
    let running: Vec<_> = plan.0.into_iter().map(|(item, probe)| (item, tokio::spawn(probe))).collect();
    let mut findings = Vec::new();
    let mut read = true;
    for (item, task) in running {
        let seen = match tokio::time::timeout_at(end, task).await {
            Ok(Ok(seen)) => seen,
            Ok(Err(error)) => Seen::fail(format!("the check itself failed: {error}"), "report this as a bug"),
            Err(_) => Seen::fail(format!("no answer within {} s", ALL.as_secs()), "try again"),
        };
        let finding = Finding::new(item, seen);
        if !json && read {
            read = print(&finding.line(column, show::colour())).is_ok();
        }
        findings.push(finding);
    }
    let failures = findings.iter().filter(|finding| finding.is_failure()).count();
    let written = if json {
        serde_json::to_string_pretty(&findings).map_err(io::Error::from).and_then(|text| print(&text))
    } else if read {
        print(&summary(findings.len(), failures))
    } else {
        Ok(())
    };
    world.close().await;
    // Nobody reads any more: that changes nothing about what was found.
    let _ = written;
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn summary(all: usize, failures: usize) -> String {
    match failures {
        0 => format!("\n{all} checks, none failed"),
        n => format!("\n{all} checks, {n} failed"),
    }
}

fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}
