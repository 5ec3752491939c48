//! What to measure, and how much of it.

use clap::{Parser, ValueEnum};

/// Measures rhio beside NATS's own leaf-node source: both in one run, in turns, on this machine.
///
/// Numbers are worth something only while nothing else runs here; the report says how much did.
#[derive(Clone, Debug, Parser)]
#[command(name = "bench", version)]
pub struct Options {
    /// Small numbers: a look at everything in under a minute
    #[arg(long)]
    pub quick: bool,
    /// Measure only this (may be given several times)
    #[arg(long, value_enum, value_name = "NAME")]
    pub only: Vec<Part>,
    /// Measure only one of the two
    #[arg(long, value_enum)]
    pub side: Option<Side>,
    /// Messages in each throughput measurement [default: 500000, quick: 50000]
    #[arg(long)]
    messages: Option<u64>,
    /// Turns of each of the two [default: 5, quick: 1]
    #[arg(long)]
    repetitions: Option<usize>,
    /// Messages that both clusters hold before they reconnect [default: 1000000, quick: 50000]
    #[arg(long)]
    common: Option<u64>,
    /// Messages in each latency measurement, at 1,000 a second [default: 10000, quick: 2000]
    #[arg(long)]
    latency_messages: Option<u64>,
}

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Messages that are there before the link is
    CatchUp,
    /// Messages published while the link runs
    Live,
    /// Time from publishing to arrival at 1,000 messages a second
    Latency,
    /// Bytes and time to reconnect with everything in common
    Reconnect,
    /// Memory when nothing happens, and the state of messages that come one by one
    Footprint,
}

/// One of the two that are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Side {
    /// NATS's own leaf-node source
    Source,
    /// rhio
    Rhio,
}

impl Side {
    /// As the table says it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Source => "NATS source",
            Self::Rhio => "rhio",
        }
    }
}

impl Options {
    /// Whether to measure this.
    pub fn wants(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }

    /// The sides to measure in one turn; every other turn begins with the other one.
    pub fn sides(&self, turn: usize) -> Vec<Side> {
        let mut sides = vec![Side::Source, Side::Rhio];
        if turn % 2 == 1 {
            sides.reverse();
        }
        sides.retain(|side| self.side.is_none_or(|only| only == *side));
        sides
    }

    /// Messages in each throughput measurement.
    pub fn messages(&self) -> u64 {
        self.messages.unwrap_or(if self.quick { 50_000 } else { 500_000 }).max(1)
    }

    /// Turns of each side.
    pub fn repetitions(&self) -> usize {
        self.repetitions.unwrap_or(if self.quick { 1 } else { 5 }).max(1)
    }

    /// Messages in common before a reconnect.
    pub fn common(&self) -> u64 {
        self.common.unwrap_or(if self.quick { 50_000 } else { 1_000_000 }).max(1)
    }

    /// Messages in each latency measurement.
    pub fn latency_messages(&self) -> u64 {
        self.latency_messages.unwrap_or(if self.quick { 2_000 } else { 10_000 }).max(100)
    }

    /// Messages that are published one by one.
    pub fn single_messages(&self) -> u64 {
        if self.quick { 500 } else { 2_000 }
    }
}
