//! What to measure, and how much of it.

use std::time::Duration;

use clap::{Parser, ValueEnum};

/// Measures rhio beside what one would use without it: messages beside NATS's own leaf-node source, buckets beside
/// `rclone copy`. All in one run, in turns, on this machine.
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
    /// Measure only rhio, or only what it is compared with
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
    /// Seconds to wait at most, before each measurement of buckets, for others to leave the machine alone
    #[arg(long, default_value_t = 0, value_name = "SECONDS")]
    wait: u64,
    /// MiB of the large object [default: 1024, quick: 128]
    #[arg(long, value_name = "MIB")]
    object: Option<u64>,
    /// Small objects, of 10 KiB [default: 2000, quick: 200]
    #[arg(long)]
    objects: Option<u64>,
}

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Everything about messages
    Messages,
    /// Everything about buckets, but the huge object
    Blobs,
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
    /// One large object from bucket to bucket
    Large,
    /// Objects of 20 MiB from bucket to bucket, as many at once as there are
    Medium,
    /// Many small objects from bucket to bucket
    Small,
    /// A file into a bucket, and hashing
    Import,
    /// What is fetched again after a crash in the middle of a large object
    Resume,
    /// An object of 5 GiB: only when it is named, for its time and disk space
    Huge,
}

impl Part {
    /// What it is a part of.
    fn group(self) -> Option<Self> {
        match self {
            Self::CatchUp | Self::Live | Self::Latency | Self::Reconnect | Self::Footprint => Some(Self::Messages),
            Self::Large | Self::Medium | Self::Small | Self::Import | Self::Resume => Some(Self::Blobs),
            Self::Messages | Self::Blobs | Self::Huge => None,
        }
    }
}

/// One of the two that are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Side {
    /// NATS's own leaf-node source, and rclone
    #[value(alias = "rclone")]
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
        if self.only.is_empty() {
            return part != Part::Huge;
        }
        self.only.contains(&part) || part.group().is_some_and(|group| self.only.contains(&group))
    }

    /// Whether to measure rhio, or else what it is compared with.
    pub fn wants_side(&self, side: Side) -> bool {
        self.side.is_none_or(|only| only == side)
    }

    /// The sides to measure in one turn; every other turn begins with the other one.
    pub fn sides(&self, turn: usize) -> Vec<Side> {
        let mut sides = vec![Side::Source, Side::Rhio];
        if turn % 2 == 1 {
            sides.reverse();
        }
        sides.retain(|side| self.wants_side(*side));
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

    /// How long to wait for a quiet machine.
    pub fn wait(&self) -> Duration {
        Duration::from_secs(self.wait)
    }

    /// Bytes of the large object.
    pub fn object_size(&self) -> u64 {
        self.object.unwrap_or(if self.quick { 128 } else { 1024 }).max(16) << 20
    }

    /// Objects of 20 MiB.
    pub fn medium(&self) -> u64 {
        if self.quick { 10 } else { 50 }
    }

    /// Small objects.
    pub fn objects(&self) -> u64 {
        self.objects.unwrap_or(if self.quick { 200 } else { 2_000 }).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_measured_can_be_chosen_one_by_one_or_by_group() {
        let wanted = |arguments: &[&str], part| {
            Options::parse_from(std::iter::once("bench").chain(arguments.iter().copied())).wants(part)
        };
        assert!(wanted(&[], Part::Live) && wanted(&[], Part::Large) && !wanted(&[], Part::Huge));
        assert!(wanted(&["--only", "blobs"], Part::Small) && !wanted(&["--only", "blobs"], Part::Live));
        assert!(wanted(&["--only", "messages"], Part::Live) && !wanted(&["--only", "messages"], Part::Small));
        assert!(wanted(&["--only", "huge"], Part::Huge) && !wanted(&["--only", "large"], Part::Small));
    }
}
