//! What a look at one thing showed, and how it is printed.

use serde::Serialize;

use crate::control::render::text::{Tone, padded, paint, plain, width};

/// How it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// As it should be, as far as can be seen.
    Ok,
    /// It may work, or it could not be looked at.
    Warn,
    /// It does not work.
    Fail,
}

/// What is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The kind of check, for programs: see `docs/commands.md`.
    pub check: &'static str,
    /// A stream, bucket, address or file.
    pub name: String,
    /// The same for people, in a few words.
    pub label: String,
}

impl Item {
    /// Something of which there is one.
    pub fn single(check: &'static str, label: &str, name: impl Into<String>) -> Self {
        Self { check, name: name.into(), label: label.to_owned() }
    }

    /// One of several things of a kind.
    pub fn named(check: &'static str, kind: &str, name: &str) -> Self {
        Self { check, name: name.to_owned(), label: format!("{kind} '{name}'") }
    }
}

/// What was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// How it is.
    pub outcome: Outcome,
    /// What was found, in a sentence without its beginning.
    pub detail: String,
    /// The next thing to do.
    pub remedy: Option<String>,
}

impl Seen {
    /// Nothing to complain about.
    pub fn ok(detail: impl Into<String>) -> Self {
        Self { outcome: Outcome::Ok, detail: detail.into(), remedy: None }
    }

    /// Worth knowing.
    pub fn warn(detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { outcome: Outcome::Warn, detail: detail.into(), remedy: Some(remedy.into()) }
    }

    /// It does not work.
    pub fn fail(detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { outcome: Outcome::Fail, detail: detail.into(), remedy: Some(remedy.into()) }
    }

    /// It could not be looked at, because of something that another line tells of.
    pub fn skipped(reason: &str) -> Self {
        Self { outcome: Outcome::Warn, detail: format!("not looked at: {reason}"), remedy: None }
    }
}

/// An item of `rhio check --json`.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    check: &'static str,
    name: String,
    result: Outcome,
    detail: String,
    remedy: Option<String>,
    #[serde(skip)]
    label: String,
}

impl Finding {
    /// What was seen of an item.
    pub fn new(item: Item, seen: Seen) -> Self {
        let Item { check, name, label } = item;
        Self { check, name, result: seen.outcome, detail: seen.detail, remedy: seen.remedy, label }
    }

    /// Whether it does not work.
    pub fn is_failure(&self) -> bool {
        self.result == Outcome::Fail
    }

    /// One line, with labels in a column of this many characters. Nothing in it steers the terminal.
    pub fn line(&self, column: usize, colour: bool) -> String {
        let (word, tone) = match self.result {
            Outcome::Ok => ("ok  ", Tone::Good),
            Outcome::Warn => ("warn", Tone::Odd),
            Outcome::Fail => ("FAIL", Tone::Bad),
        };
        let label = padded(&plain(&self.label), column, false);
        let remedy = self.remedy.as_ref().map(|remedy| format!("  → {}", plain(remedy))).unwrap_or_default();
        format!("{} {label}  {}{remedy}", paint(colour, tone, word), plain(&self.detail))
    }
}

/// How wide a column of labels is: that of the longest, but a very long name does not push all others aside.
pub fn column<'a>(items: impl IntoIterator<Item = &'a Item>) -> usize {
    items.into_iter().map(|item| width(&item.label)).max().unwrap_or_default().min(28)
}

/// A word for a shell.
pub fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_one_line_and_one_object() {
        let seen = Seen::fail("does not\nexist\x1b[2J", "nats stream add workload");
        let finding = Finding::new(Item::named("publish_stream", "stream", "workload"), seen);
        assert_eq!(
            finding.line(20, false),
            "FAIL stream 'workload'     does not exist\u{fffd}[2J  → nats stream add workload"
        );
        assert_eq!(
            serde_json::to_value(&finding).unwrap(),
            serde_json::json!({
                "check": "publish_stream",
                "name": "workload",
                "result": "fail",
                "detail": "does not\nexist\u{1b}[2J",
                "remedy": "nats stream add workload",
            })
        );
        let fine = Finding::new(Item::single("nats", "NATS", "localhost:4222"), Seen::ok("2.15.1"));
        assert_eq!(fine.line(4, true), "\x1b[32mok  \x1b[0m NATS  2.15.1");
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
