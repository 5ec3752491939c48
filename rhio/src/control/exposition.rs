//! The answer of `/metrics`, in Prometheus's text format. `docs/metrics.md` says what each one means.
//!
//! Counters and histograms of [`Metrics`](rhio_router::metrics::Metrics) are given out as they are. Everything that the status
//! tells as well comes from there, read at the moment of asking, so that both say the same.

use std::collections::BTreeMap;

use prometheus::core::Collector;
use prometheus::{CounterVec, GaugeVec, IntCounterVec, Opts, Registry, TextEncoder};

use super::model::{self, CheckState, EntryState, Kind, Verdict};
use super::overview::Overview;
use super::times::epoch_seconds;
use rhio_router::status::Refusal;
use rhio_router::trouble::Cause;

/// The content type of the answer.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

const ENTRY: &[&str] = &["kind", "name", "local"];
const SUBSCRIPTION: &[&str] = &["kind", "name", "local", "author"];

/// Collects one answer.
struct Page {
    registry: Registry,
}

impl Page {
    fn add<C: Collector + Clone + 'static>(&self, made: prometheus::Result<C>) -> prometheus::Result<C> {
        let made = made?;
        self.registry.register(Box::new(made.clone()))?;
        Ok(made)
    }

    fn gauge(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<GaugeVec> {
        self.add(GaugeVec::new(Opts::new(name, help), labels))
    }

    fn counter(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntCounterVec> {
        self.add(IntCounterVec::new(Opts::new(name, help), labels))
    }

    fn single(&self, name: &str, help: &str, value: Option<f64>) -> prometheus::Result<()> {
        if let Some(value) = value {
            self.gauge(name, help, &[])?.with_label_values::<&str>(&[]).set(value);
        }
        Ok(())
    }
}

/// Writes all metrics as they are now.
///
/// # Errors
/// When two of them have one name.
pub fn render(overview: &Overview) -> prometheus::Result<String> {
    let page = Page { registry: Registry::new() };
    let (publications, subscriptions) = (overview.publications(), overview.subscriptions());
    let known = overview.peers();
    node(&page, overview, &overview.judge(&publications, &subscriptions, &known))?;
    process(&page)?;
    published(&page, &publications)?;
    subscribed(&page, &subscriptions)?;
    peers(&page, &known)?;
    objects(&page, overview)?;
    let mut families = page.registry.gather();
    families.extend(overview.metrics.registry.gather());
    families.sort_by(|a, b| a.name().cmp(b.name()));
    TextEncoder::new().encode_to_string(&families)
}

fn node(page: &Page, overview: &Overview, health: &model::Health) -> prometheus::Result<()> {
    let build = page.gauge("rhio_build_info", "Always 1; the label is what counts", &["version"])?;
    build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1.0);
    page.single("rhio_ready", "1 when the node can do its work", Some(flag(health.ready)))?;
    let verdict = page.gauge("rhio_health", "1 for the present verdict, 0 for the others", &["status"])?;
    for status in [Verdict::Running, Verdict::Degraded, Verdict::Error] {
        verdict.with_label_values(&[&format!("{status:?}")]).set(flag(status == health.status));
    }
    let checks = page.gauge("rhio_check_ok", "1 when the last look at it went well", &["check", "name"])?;
    for (subject, check) in overview.checks.list() {
        checks.with_label_values(&[subject.kind(), &check.name]).set(flag(check.state == CheckState::Ok));
    }
    let nats = overview.running().map(|running| {
        let connected = running.node.client.is_connected();
        let connects = running.node.client.connects();
        (connected, connects)
    });
    let connected = nats.is_some_and(|(connected, _)| connected);
    page.single("rhio_nats_connected", "1 while connected with NATS", Some(flag(connected)))?;
    let connects = page.counter("rhio_nats_connects_total", "Connections made with NATS", &[])?;
    connects.with_label_values::<&str>(&[]).inc_by(nats.map_or(0, |(_, connects)| connects));
    let started = epoch_seconds(overview.started());
    page.single("rhio_start_time_seconds", "When the process started, since the Unix epoch", Some(started))
}

/// What the system says of the process; nothing where it says nothing.
fn process(page: &Page) -> prometheus::Result<()> {
    let Ok(me) = procfs::process::Process::myself() else { return Ok(()) };
    if let Ok(stat) = me.stat() {
        let resident = stat.rss * procfs::page_size();
        page.single("rhio_process_resident_memory_bytes", "Memory in RAM", Some(resident as f64))?;
        let ticks = (stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64;
        let opts = Opts::new("rhio_process_cpu_seconds_total", "Processor time");
        page.add(CounterVec::new(opts, &[]))?.with_label_values::<&str>(&[]).inc_by(ticks);
    }
    let open = me.fd_count().ok().map(|open| open as f64);
    page.single("rhio_process_open_fds", "Open files and sockets", open)
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Subject => "subject",
        Kind::Bucket => "bucket",
    }
}

fn flag(yes: bool) -> f64 {
    if yes { 1.0 } else { 0.0 }
}

const STATES: [(EntryState, &str); 3] =
    [(EntryState::Starting, "starting"), (EntryState::Active, "active"), (EntryState::Waiting, "waiting")];

/// Troubles by code. One is always there, so that the metric is known before anything happened.
fn met(troubles: &BTreeMap<String, u64>) -> impl Iterator<Item = (&str, u64)> {
    let met = troubles.iter().map(|(code, count)| (code.as_str(), *count));
    [(Cause::Internal.code(), 0)].into_iter().chain(met)
}

fn published(page: &Page, publications: &[model::Publication]) -> prometheus::Result<()> {
    let states = page.gauge(
        "rhio_publication_state",
        "1 for the present state of a publication, 0 for the others",
        &["kind", "name", "local", "state"],
    )?;
    let sealed = page.counter("rhio_sealed_messages_total", "Messages or catalog entries that were signed", ENTRY)?;
    let sealed_bytes = page.counter("rhio_sealed_bytes_total", "Bytes of what was signed", ENTRY)?;
    let operations = page.counter("rhio_sealed_operations_total", "Operations signed and stored", ENTRY)?;
    let sent = page.counter("rhio_sent_messages_total", "Messages or catalog entries sent to other nodes", ENTRY)?;
    let sent_bytes = page.counter("rhio_sent_bytes_total", "Bytes of what was sent to other nodes", ENTRY)?;
    let bad = page.counter("rhio_unreplicable_messages_total", "Messages that can't be replicated", ENTRY)?;
    let pending = page.gauge("rhio_publication_pending_messages", "What waits to be signed", ENTRY)?;
    let readers = page.gauge("rhio_publication_readers", "Nodes that read it now", ENTRY)?;
    let troubles = page.counter(
        "rhio_publication_troubles_total",
        "Times that it ran into a trouble, by code",
        &["kind", "name", "local", "code"],
    )?;
    let progress = page.gauge(
        "rhio_publication_last_progress_timestamp_seconds",
        "When something was last signed, since the Unix epoch",
        ENTRY,
    )?;
    for publication in publications {
        let local = publication.stream.as_ref().or(publication.bucket.as_ref()).map_or("", String::as_str);
        let labels = [kind(publication.kind), publication.name.as_str(), local];
        for (state, name) in STATES {
            let labels = [labels[0], labels[1], labels[2], name];
            states.with_label_values(&labels).set(flag(publication.state == state));
        }
        sealed.with_label_values(&labels).inc_by(publication.sealed.messages);
        sealed_bytes.with_label_values(&labels).inc_by(publication.sealed.bytes);
        operations.with_label_values(&labels).inc_by(publication.sealed_operations);
        sent.with_label_values(&labels).inc_by(publication.sent.messages);
        sent_bytes.with_label_values(&labels).inc_by(publication.sent.bytes);
        bad.with_label_values(&labels).inc_by(publication.unreplicable);
        if let Some(waiting) = publication.lag.messages.or(publication.lag.objects) {
            pending.with_label_values(&labels).set(waiting as f64);
        }
        let with = |code| [labels[0], labels[1], labels[2], code];
        for (code, count) in met(&publication.troubles) {
            troubles.with_label_values(&with(code)).inc_by(count);
        }
        readers.with_label_values(&labels).set(publication.readers.len() as f64);
        set_time(&progress, &labels, publication.last_progress.as_deref());
    }
    Ok(())
}

fn subscribed(page: &Page, subscriptions: &[model::Subscription]) -> prometheus::Result<()> {
    let states = page.gauge(
        "rhio_subscription_state",
        "1 for the present state of a subscription, 0 for the others",
        &["kind", "name", "local", "author", "state"],
    )?;
    let known = page.gauge("rhio_subscription_lag_known", "1 while it is known how far behind it is", SUBSCRIPTION)?;
    let messages = page.gauge("rhio_subscription_lag_messages", "Messages missing here", SUBSCRIPTION)?;
    let objects = page.gauge("rhio_subscription_lag_objects", "Changes of objects missing here", SUBSCRIPTION)?;
    let bytes = page.gauge("rhio_subscription_lag_bytes", "Bytes of what is missing here", SUBSCRIPTION)?;
    let seconds =
        page.gauge("rhio_subscription_lag_seconds", "The oldest missing one is at most this old", SUBSCRIPTION)?;
    let counter = |name: &str, help: &str| page.counter(name, help, SUBSCRIPTION);
    let verified = counter("rhio_verified_messages_total", "Messages or catalog entries whose proof was right")?;
    let verified_bytes = counter("rhio_verified_bytes_total", "Bytes of what was verified")?;
    let applied = counter("rhio_applied_messages_total", "Messages or objects that are durably stored here")?;
    let applied_bytes = counter("rhio_applied_bytes_total", "Bytes of what was stored")?;
    let gone = counter("rhio_gone_messages_total", "Messages that the author's stream no longer held")?;
    let restarts = counter("rhio_subscription_restarts_total", "Times it was begun anew as nothing moved")?;
    let refused = page.counter(
        "rhio_refused_total",
        "What the author sent and was not accepted",
        &["kind", "name", "local", "author", "reason"],
    )?;
    let held =
        page.gauge("rhio_subscription_held_deletes", "1 while a mass delete waits to be confirmed", SUBSCRIPTION)?;
    let troubles = page.counter(
        "rhio_subscription_troubles_total",
        "Times that it ran into a trouble, by code",
        &["kind", "name", "local", "author", "code"],
    )?;
    let progress = page.gauge(
        "rhio_subscription_last_progress_timestamp_seconds",
        "When something was last stored, since the Unix epoch",
        SUBSCRIPTION,
    )?;
    for subscription in subscriptions {
        let local = subscription.stream.as_ref().or(subscription.bucket.as_ref()).map_or("", String::as_str);
        let author = subscription.author.get(..10).unwrap_or_default();
        let labels = [kind(subscription.kind), subscription.name.as_str(), local, author];
        let with = |last: &'static str| [labels[0], labels[1], labels[2], labels[3], last];
        for (state, name) in STATES {
            states.with_label_values(&with(name)).set(flag(subscription.state == state));
        }
        let lag = &subscription.lag;
        known.with_label_values(&labels).set(flag(lag.messages.or(lag.objects).is_some()));
        let values = [
            (&messages, lag.messages.map(|n| n as f64)),
            (&objects, lag.objects.map(|n| n as f64)),
            (&bytes, lag.bytes.map(|n| n as f64)),
            (&seconds, lag.seconds),
        ];
        for (gauge, value) in values {
            if let Some(value) = value {
                gauge.with_label_values(&labels).set(value);
            }
        }
        let counts = [
            (&verified, subscription.verified.messages),
            (&verified_bytes, subscription.verified.bytes),
            (&applied, subscription.applied.messages),
            (&applied_bytes, subscription.applied.bytes),
            (&gone, subscription.gone),
            (&restarts, subscription.restarts),
        ];
        for (counter, value) in counts {
            counter.with_label_values(&labels).inc_by(value);
        }
        for (_, reason) in Refusal::ALL {
            let count = subscription.refused_by_reason.get(reason).copied().unwrap_or_default();
            refused.with_label_values(&with(reason)).inc_by(count);
        }
        for (code, count) in met(&subscription.troubles) {
            troubles.with_label_values(&[labels[0], labels[1], labels[2], labels[3], code]).inc_by(count);
        }
        held.with_label_values(&labels).set(flag(subscription.held_deletes));
        set_time(&progress, &labels, subscription.last_progress.as_deref());
    }
    Ok(())
}

fn peers(page: &Page, peers: &[model::Peer]) -> prometheus::Result<()> {
    let known = peers.iter().filter(|peer| peer.configured);
    page.single("rhio_peers_known", "Nodes that the configuration names", Some(known.count() as f64))?;
    let connected = peers.iter().filter(|peer| peer.connected).count() as f64;
    page.single("rhio_peers_connected", "Nodes that are connected", Some(connected))?;
    let is_connected = page.gauge("rhio_peer_connected", "1 while connected with the node", &["peer"])?;
    let wanted = page.gauge("rhio_peer_wanted", "1 when a connection with the node is kept", &["peer"])?;
    let rtt = page.gauge("rhio_peer_round_trip_seconds", "Round-trip time of the present connection", &["peer"])?;
    let received = page.counter("rhio_peer_received_bytes_total", "UDP payload received from the node", &["peer"])?;
    let sent = page.counter("rhio_peer_sent_bytes_total", "UDP payload sent to the node", &["peer"])?;
    let connects = page.counter("rhio_peer_connects_total", "Connections made with the node", &["peer"])?;
    // Strangers of an open network can make any number of keys.
    for peer in peers.iter().filter(|peer| peer.configured) {
        let label = [peer.public_key.get(..10).unwrap_or_default()];
        is_connected.with_label_values(&label).set(flag(peer.connected));
        wanted.with_label_values(&label).set(flag(peer.wanted));
        if let Some(seconds) = peer.round_trip_seconds {
            rtt.with_label_values(&label).set(seconds);
        }
        received.with_label_values(&label).inc_by(peer.received_bytes);
        sent.with_label_values(&label).inc_by(peer.sent_bytes);
        connects.with_label_values(&label).inc_by(peer.connects);
    }
    Ok(())
}

fn objects(page: &Page, overview: &Overview) -> prometheus::Result<()> {
    let objects = page.gauge("rhio_bucket_objects", "Objects of a published bucket with a known hash", &["local"])?;
    let bytes = page.gauge("rhio_bucket_bytes", "Bytes of those objects", &["local"])?;
    let running = page.gauge("rhio_transfers_running", "Transfers that go on", &["direction"])?;
    for direction in ["import", "send", "receive"] {
        running.with_label_values(&[direction]).set(0.0);
    }
    let Some(node) = overview.running().map(|running| &running.node) else { return Ok(()) };
    for publication in node.holdings.buckets() {
        let (name, inventory) = (publication.bucket.name(), publication.inventory());
        objects.with_label_values(&[name]).set(inventory.len() as f64);
        bytes.with_label_values(&[name]).set(inventory.bytes() as f64);
    }
    for transfer in node.blobs.transfers.list() {
        running.with_label_values(&[transfer.direction.name()]).inc();
    }
    Ok(())
}

fn set_time(gauge: &GaugeVec, labels: &[&str], at: Option<&str>) {
    use time::OffsetDateTime;
    use time::format_description::well_known::Rfc3339;
    if let Some(at) = at.and_then(|at| OffsetDateTime::parse(at, &Rfc3339).ok()) {
        gauge.with_label_values(labels).set(at.unix_timestamp_nanos() as f64 / 1e9);
    }
}
