//! A node's status as text for a terminal.

pub mod numbers;
mod sections;
pub mod table;
pub mod text;

use super::model::{Check, CheckState, Health, NodeStatus, Problem, Verdict};
use numbers::{bytes, count, counted, duration};
use text::{Tone, paint, plain, wrapped};

/// How a status is shown.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// Columns of the terminal.
    pub width: usize,
    /// Whether it shows colours.
    pub colour: bool,
    /// What the same node said before: what was done since is shown as a rate.
    pub before: Option<&'a NodeStatus>,
}

/// The whole status, worst first. Ends with a line end. Nothing in it steers the terminal, but for colours if the view
/// has them.
pub fn render(status: &NodeStatus, view: &View<'_>) -> String {
    // What another process has counted says nothing about this one.
    let before = view.before.filter(|before| before.started == status.started);
    let view = &View { before, ..*view };
    let mut lines = verdict(&status.health, view);
    lines.push(String::new());
    lines.extend(facts(status, view));
    for section in [
        sections::subscriptions(status, view),
        sections::publications(status, view),
        sections::transfers(status, view),
        sections::peers(status, view),
    ] {
        if !section.is_empty() {
            lines.push(String::new());
            lines.extend(section);
        }
    }
    lines.push(String::new());
    lines.join("\n")
}

fn verdict(health: &Health, view: &View<'_>) -> Vec<String> {
    let (word, tone) = match (health.status, health.ready) {
        (Verdict::Running, true) => ("Running", Tone::Good),
        (Verdict::Running, false) => ("Running", Tone::Odd),
        (Verdict::Degraded, _) => ("Degraded", Tone::Odd),
        (Verdict::Error, _) => ("Error", Tone::Bad),
    };
    let ready = if health.ready { "ready" } else { "not ready" };
    let how = match health.problems.len() {
        0 if health.status == Verdict::Running => "everything that is configured works".to_owned(),
        0 => "no problem is named".to_owned(),
        n => counted(n as u64, "problem"),
    };
    let mut lines = vec![format!("{}, {ready}: {how}", paint(view.colour, tone, word))];
    lines.extend(health.problems.iter().flat_map(|problem| problem_lines(problem, view)));
    lines
}

fn problem_lines(problem: &Problem, view: &View<'_>) -> Vec<String> {
    let what = plain(&format!("{}: {}", problem.what, problem.problem));
    let tone = if problem.blocks_readiness { Tone::Bad } else { Tone::Odd };
    let what = wrapped(&what, view.width, "  ", "    ");
    let mut lines: Vec<_> = what.iter().map(|line| paint(view.colour, tone, line)).collect();
    if !problem.remedy.is_empty() {
        lines.extend(wrapped(&plain(&problem.remedy), view.width, "    → ", "      "));
    }
    lines
}

/// Who the node is, and what it needs.
fn facts(status: &NodeStatus, view: &View<'_>) -> Vec<String> {
    let listens = if status.listens.is_empty() { "nothing".to_owned() } else { status.listens.join(", ") };
    let operations = status.operations.count.map_or_else(|| "unknown".to_owned(), count);
    let facts = [
        ("node", status.public_key.clone()),
        ("network", format!("{}, listens on {listens} (UDP)", status.network_id)),
        ("rhio", format!("{}, up {}", status.version, duration(status.uptime_seconds))),
        ("needs", needs(&status.health)),
        (
            "holds",
            format!(
                "{operations} signed operations; knows {} ({})",
                counted(status.blobs.count, "object"),
                bytes(status.blobs.bytes)
            ),
        ),
    ];
    let mut lines = Vec::new();
    for (name, fact) in facts {
        let name = format!("{name:<9}");
        // Painted only now: colours have no width.
        let mut wrapped = wrapped(&plain(&fact), view.width, &name, "         ").into_iter();
        let first = wrapped.next().unwrap_or_default();
        let fact = first.strip_prefix(name.as_str()).unwrap_or_default();
        lines.push(format!("{}{fact}", paint(view.colour, Tone::Dim, &name)));
        lines.extend(wrapped);
    }
    lines
}

/// What the node looks at, in short; what fails is among the problems.
fn needs(health: &Health) -> String {
    let word = |check: &Check| match check.state {
        CheckState::Ok => "ok",
        CheckState::Failing => "FAILING",
        CheckState::Unknown => "not looked at yet",
    };
    let many = |name: &str, checks: &[Check]| {
        let number = |state| checks.iter().filter(|check| check.state == state).count() as u64;
        let parts = [("ok", CheckState::Ok), ("FAILING", CheckState::Failing), ("unknown", CheckState::Unknown)];
        let parts = parts.map(|(word, state)| (number(state), word));
        let parts = parts.iter().filter(|(number, _)| *number > 0);
        let parts: Vec<_> = parts.map(|(number, word)| format!("{} {word}", count(*number))).collect();
        (!parts.is_empty()).then(|| format!("{name} {}", parts.join(", ")))
    };
    let single = [("NATS", &health.nats), ("state stream", &health.state), ("UDP port", &health.network)];
    let single = single.map(|(name, check)| Some(format!("{name} {}", word(check))));
    let all = single.into_iter().chain([many("streams", &health.streams), many("buckets", &health.buckets)]);
    all.flatten().collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests;
