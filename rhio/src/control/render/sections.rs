//! The tables of a status.

use super::super::model::{
    Direction, EntryState, Kind, Lag, NodeStatus, Peer, Publication, Side, Subscription, Totals, Transfer,
};
use super::View;
use super::numbers::{bytes, count, counted, duration, rate, round_trip, seconds_between};
use super::table::{Cell, Column, Row, table};
use super::text::{Tone, paint};

/// Transfers that are shown one by one.
const MAX_TRANSFERS: usize = 10;
/// Characters of a transfer's bar.
const BAR: usize = 12;
/// An error that is older is not shown under an entry that works.
const OLD_ERROR: f64 = 600.0;

fn section(title: &str, columns: &[Column], rows: &[Row], view: &View<'_>) -> Vec<String> {
    if rows.is_empty() {
        return Vec::new();
    }
    let title = format!("{title} ({})", count(rows.len() as u64));
    let mut lines = vec![paint(view.colour, Tone::Bold, &title)];
    lines.extend(table(columns, rows, view.width, view.colour));
    lines
}

/// The first ten digits, as in the log.
fn short(public_key: &str) -> String {
    public_key.chars().take(10).collect()
}

fn state(state: EntryState) -> Cell {
    match state {
        EntryState::Starting => Cell::toned(Tone::Odd, "starting"),
        EntryState::Active => Cell::toned(Tone::Good, "active"),
        EntryState::Waiting => Cell::toned(Tone::Bad, "waiting"),
    }
}

/// `1,234 messages, 56 MiB, 3 s`, `none`, or `unknown`.
fn lag(lag: &Lag) -> Cell {
    if lag.messages.or(lag.objects) == Some(0) {
        return Cell::toned(Tone::Good, "none");
    }
    let number = lag.messages.map(|n| counted(n, "message")).or(lag.objects.map(|n| counted(n, "change")));
    let parts = [number, lag.bytes.map(bytes), lag.seconds.map(duration)];
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    if parts.is_empty() { Cell::toned(Tone::Odd, "unknown") } else { Cell::toned(Tone::Odd, parts.join(", ")) }
}

fn noun(kind: Kind) -> &'static str {
    match kind {
        Kind::Subject => "message",
        Kind::Bucket => "object",
    }
}

fn done(kind: Kind, totals: &Totals) -> String {
    format!("{}, {}", counted(totals.messages, noun(kind)), bytes(totals.bytes))
}

/// Why an entry waits, unless the verdict has said so already; else its last trouble, if that was lately.
fn trouble(
    status: &NodeStatus,
    waits_for: Option<&str>,
    remedy: Option<&str>,
    last_error: Option<&str>,
    last_error_at: Option<&str>,
) -> Vec<(Tone, String)> {
    if let Some(reason) = waits_for {
        if status.health.problems.iter().any(|problem| problem.problem == reason) {
            return Vec::new();
        }
        // One problem may hold up many entries.
        let told = |remedy: &&str| status.health.problems.iter().any(|problem| problem.remedy == **remedy);
        let remedy = remedy.filter(|remedy| !told(remedy)).map(|remedy| (Tone::Plain, format!("→ {remedy}")));
        return [(Tone::Odd, format!("waits: {reason}"))].into_iter().chain(remedy).collect();
    }
    let age = last_error_at.and_then(|at| seconds_between(at, &status.time)).filter(|age| *age < OLD_ERROR);
    let last = last_error.zip(age);
    last.map(|(error, age)| (Tone::Dim, format!("{} ago: {error}", duration(age)))).into_iter().collect()
}

/// What was done a second since the last look.
fn speed(view: &View<'_>, uptime: f64, kind: Kind, before: Option<Totals>, now: Totals) -> Option<(Tone, String)> {
    let seconds = uptime - view.before?.uptime_seconds;
    // Two looks at the same moment.
    if seconds < 0.05 {
        return None;
    }
    let before = before.unwrap_or_default();
    let number = now.messages.saturating_sub(before.messages) as f64 / seconds;
    let volume = (now.bytes.saturating_sub(before.bytes) as f64 / seconds).round() as u64;
    Some((Tone::Dim, format!("now {} {}s/s, {}/s", rate(number), noun(kind), bytes(volume))))
}

pub(super) fn subscriptions(status: &NodeStatus, view: &View<'_>) -> Vec<String> {
    let columns =
        [Column::name("WHAT"), Column::text("OF"), Column::name("INTO"), Column::text("STATE"), Column::text("BEHIND")];
    let row = |entry: &Subscription| {
        let into = match (&entry.bucket, &entry.stream) {
            (Some(bucket), _) => format!("bucket {bucket}"),
            (None, stream) => format!("stream {}", stream.as_deref().unwrap_or("?")),
        };
        let mut notes = trouble(
            status,
            entry.waits_for.as_deref(),
            entry.remedy.as_deref(),
            entry.last_error.as_deref(),
            entry.last_error_at.as_deref(),
        );
        if let (true, Some(bucket)) = (entry.held_deletes, &entry.bucket) {
            notes.push((Tone::Odd, "many objects would be deleted at once; nothing is until you say so".to_owned()));
            notes.push((Tone::Plain, format!("→ nats request rhio.deletes {bucket}")));
        }
        let odd = [
            (entry.gone, "gone at the author before they were fetched"),
            (entry.refused, "refused because they failed verification"),
            (entry.restarts, "begun anew because nothing moved"),
        ];
        let odd: Vec<_> = odd.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{} {what}", count(*n))).collect();
        if !odd.is_empty() {
            notes.push((Tone::Dim, odd.join("; ")));
        }
        let before = view.before.and_then(|before| before.subscriptions.iter().find(|other| other.id == entry.id));
        notes.extend(speed(view, status.uptime_seconds, entry.kind, before.map(|b| b.applied), entry.applied));
        let cells = vec![
            Cell::new(&entry.name),
            Cell::new(short(&entry.author)),
            Cell::new(into),
            state(entry.state),
            lag(&entry.lag),
        ];
        Row { cells, notes }
    };
    let rows: Vec<_> = status.subscriptions.iter().map(row).collect();
    section("Subscriptions", &columns, &rows, view)
}

pub(super) fn publications(status: &NodeStatus, view: &View<'_>) -> Vec<String> {
    let columns = [
        Column::name("WHAT"),
        Column::name("FROM"),
        Column::text("STATE"),
        Column::text("SEALED"),
        Column::number("READERS"),
    ];
    let row = |entry: &Publication| {
        let from = match (&entry.stream, entry.kind) {
            (Some(stream), _) => format!("stream {stream}"),
            (None, Kind::Bucket) => "bucket".to_owned(),
            (None, Kind::Subject) => "stream ?".to_owned(),
        };
        let mut notes = trouble(
            status,
            entry.waits_for.as_deref(),
            entry.remedy.as_deref(),
            entry.last_error.as_deref(),
            entry.last_error_at.as_deref(),
        );
        if entry.unreplicable > 0 {
            let what = counted(entry.unreplicable, noun(entry.kind));
            notes.push((Tone::Odd, format!("{what} can't be replicated; the log says why")));
        }
        let before = view.before.and_then(|before| before.publications.iter().find(|other| other.id == entry.id));
        notes.extend(speed(view, status.uptime_seconds, entry.kind, before.map(|b| b.sealed), entry.sealed));
        let cells = vec![
            Cell::new(&entry.name),
            Cell::new(from),
            state(entry.state),
            Cell::new(done(entry.kind, &entry.sealed)),
            Cell::new(count(entry.readers.len() as u64)),
        ];
        Row { cells, notes }
    };
    let rows: Vec<_> = status.publications.iter().map(row).collect();
    section("Publications", &columns, &rows, view)
}

/// `#######-----  58 %`.
fn bar(done: u64, size: u64) -> String {
    let part = if size == 0 { 1.0 } else { (done.min(size) as f64) / (size as f64) };
    // Full only when it is.
    let full = ((part * BAR as f64) as usize).min(BAR);
    format!("{}{} {:>3} %", "█".repeat(full), "░".repeat(BAR - full), (part * 100.0) as u64)
}

pub(super) fn transfers(status: &NodeStatus, view: &View<'_>) -> Vec<String> {
    let columns = [
        Column::name("OBJECT"),
        Column::text("DONE"),
        Column::number("OF"),
        Column::number("RATE"),
        Column::text("TIME LEFT"),
    ];
    let row = |transfer: &Transfer| {
        let way = match transfer.direction {
            Direction::Import => "+",
            Direction::Send => "↑",
            Direction::Receive => "↓",
        };
        let volume = if transfer.bytes_per_second.is_finite() { transfer.bytes_per_second.max(0.0) as u64 } else { 0 };
        let cells = vec![
            Cell::new(format!("{way} {}/{}", transfer.bucket, transfer.key)),
            Cell::new(bar(transfer.done, transfer.size)),
            Cell::new(bytes(transfer.size)),
            Cell::new(format!("{}/s", bytes(volume))),
            Cell::new(transfer.seconds_left.map_or_else(|| "unknown".to_owned(), duration)),
        ];
        Row { cells, notes: Vec::new() }
    };
    let rows: Vec<_> = status.transfers.iter().take(MAX_TRANSFERS).map(row).collect();
    let mut lines = section("Transfers", &columns, &rows, view);
    let hidden = status.transfers.len().saturating_sub(MAX_TRANSFERS);
    if hidden > 0 {
        lines.push(format!("  and {} more", count(hidden as u64)));
    }
    lines
}

pub(super) fn peers(status: &NodeStatus, view: &View<'_>) -> Vec<String> {
    let columns = [
        Column::text("NODE"),
        Column::text("STATE"),
        Column::name("ADDRESS"),
        Column::number("ROUND TRIP"),
        Column::number("RECEIVED"),
        Column::number("SENT"),
    ];
    let row = |peer: &Peer| {
        let (state, tone) = match (peer.connected, peer.wanted) {
            (true, _) => ("connected", Tone::Good),
            (false, true) => ("away", Tone::Bad),
            // Nothing is subscribed there, so it is for that node to connect.
            (false, false) => ("not here", Tone::Dim),
        };
        let address = match (&peer.remote_address, peer.direction) {
            (Some(address), Some(Side::In)) => format!("from {address}"),
            (Some(address), _) => address.clone(),
            (None, _) if peer.addresses.is_empty() => "none configured".to_owned(),
            (None, _) => peer.addresses.join(", "),
        };
        let error = peer.last_error.as_ref().filter(|_| !peer.connected && peer.wanted);
        let cells = vec![
            Cell::new(short(&peer.public_key)),
            Cell::toned(tone, state),
            Cell::new(address),
            Cell::new(peer.round_trip_seconds.map_or_else(|| "-".to_owned(), round_trip)),
            Cell::new(bytes(peer.received_bytes)),
            Cell::new(bytes(peer.sent_bytes)),
        ];
        Row { cells, notes: error.map(|error| (Tone::Odd, error.clone())).into_iter().collect() }
    };
    let rows: Vec<_> = status.peers.iter().map(row).collect();
    section("Peers", &columns, &rows, view)
}
