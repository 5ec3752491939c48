//! What is counted besides the entries of [`status`](crate::status). `docs/metrics.md` names every metric.

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry, exponential_buckets,
    register_histogram_vec_with_registry, register_histogram_with_registry, register_int_counter_vec_with_registry,
};

use rhio_net::links::{Counters, TurnedAway};

/// Counters and histograms. Their registry gives them out as they are now.
#[derive(Debug)]
pub struct Metrics {
    /// All of them.
    pub registry: Registry,
    /// From an operation's signature to the state stream's acknowledgement.
    pub seal_seconds: Histogram,
    /// From a batch's arrival to its commit.
    pub apply_seconds: Histogram,
    /// From a message's time in the author's stream to its commit here.
    pub replication_seconds: Histogram,
    /// Transfers that ended, by direction and outcome.
    pub transfers: IntCounterVec,
    /// Bytes of contents that were moved, by direction.
    pub transfer_bytes: IntCounterVec,
    /// How long transfers took that ended well, by direction.
    pub transfer_seconds: HistogramVec,
    /// Connections that were refused, by whom.
    pub connections_refused: IntCounterVec,
    /// Spans of traces, by what became of them.
    pub spans: IntCounterVec,
}

impl Metrics {
    /// All of them, at zero.
    ///
    /// # Errors
    /// When two of them have one name, which a test would show.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let histogram = |name: &str, help: &str, buckets: Vec<f64>| {
            register_histogram_with_registry!(HistogramOpts::new(name, help).buckets(buckets), registry)
        };
        // 250 µs to 4 s, and for what may be days old 1 ms to 12 days.
        let (work, age) = (exponential_buckets(0.000_25, 2.0, 15)?, exponential_buckets(0.001, 4.0, 16)?);
        let transfer = exponential_buckets(0.01, 4.0, 10)?;
        let metrics = Self {
            seal_seconds: histogram(
                "rhio_seal_duration_seconds",
                "From an operation's signature to the state stream's acknowledgement",
                work.clone(),
            )?,
            apply_seconds: histogram(
                "rhio_apply_duration_seconds",
                "From a batch's arrival to its commit in the state stream",
                work,
            )?,
            replication_seconds: histogram(
                "rhio_replication_latency_seconds",
                "From a message's time in the author's stream to its commit here, by two clocks",
                age,
            )?,
            transfers: register_int_counter_vec_with_registry!(
                Opts::new("rhio_transfers_total", "Transfers of contents that ended"),
                &["direction", "outcome"],
                registry
            )?,
            transfer_bytes: register_int_counter_vec_with_registry!(
                Opts::new("rhio_transfer_bytes_total", "Bytes of contents that were moved"),
                &["direction"],
                registry
            )?,
            transfer_seconds: register_histogram_vec_with_registry!(
                HistogramOpts::new("rhio_transfer_duration_seconds", "How long transfers took that ended well")
                    .buckets(transfer),
                &["direction"],
                registry
            )?,
            connections_refused: register_int_counter_vec_with_registry!(
                Opts::new("rhio_connections_refused_total", "Connections that were refused, by us or by the peer"),
                &["by"],
                registry
            )?,
            spans: register_int_counter_vec_with_registry!(
                Opts::new("rhio_tracing_spans_total", "Spans that were exported, or dropped"),
                &["outcome"],
                registry
            )?,
            registry,
        };
        metrics.begin_at_zero();
        Ok(metrics)
    }

    /// A counter that is not there yet looks to an alert as if it could not rise.
    fn begin_at_zero(&self) {
        for direction in ["import", "send", "receive"] {
            for outcome in ["done", "failed"] {
                self.transfers.with_label_values(&[direction, outcome]);
            }
            self.transfer_bytes.with_label_values(&[direction]);
            self.transfer_seconds.with_label_values(&[direction]);
        }
        for by in ["us", "peer"] {
            self.connections_refused.with_label_values(&[by]);
        }
        for outcome in ["exported", "dropped"] {
            self.spans.with_label_values(&[outcome]);
        }
    }
}

impl Counters for Metrics {
    fn refused(&self, by: TurnedAway) {
        let by = match by {
            TurnedAway::ByUs => "us",
            TurnedAway::ByPeer => "peer",
        };
        self.connections_refused.with_label_values(&[by]).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_used_once_and_counters_begin_at_zero() {
        let metrics = Metrics::new().unwrap();
        let text = prometheus::TextEncoder::new().encode_to_string(&metrics.registry.gather()).unwrap();
        assert!(text.contains("rhio_transfers_total{direction=\"send\",outcome=\"failed\"} 0"), "{text}");
    }
}
