//! Reads typed values out of a tree, and collects everything that is wrong instead of stopping at the first error.

use std::cell::RefCell;
use std::fmt::Display;
use std::path::PathBuf;

use super::error::Problem;
use super::tree::{Key, Node, Origin, Value};

/// What reading leaves behind besides values.
#[derive(Default)]
pub(super) struct Notes {
    pub file: Option<PathBuf>,
    pub problems: RefCell<Vec<Problem>>,
    pub warnings: RefCell<Vec<String>>,
}

impl Notes {
    pub fn problem(&self, origin: &Origin, key: &str, message: String) {
        self.problems.borrow_mut().push(Problem::new(self.file.as_ref(), origin, key, message));
    }

    pub fn warning(&self, origin: &Origin, key: &str, message: String) {
        let warning = Problem::new(self.file.as_ref(), origin, key, message).to_string();
        self.warnings.borrow_mut().push(warning);
    }
}

/// A place in the configuration, to come back to after reading it.
#[derive(Clone)]
pub(super) struct At {
    pub origin: Origin,
    pub key: String,
}

impl At {
    /// How another message refers to this place.
    pub fn describe(&self) -> String {
        match &self.origin {
            Origin::File(line) => format!("{} in line {line}", self.key),
            Origin::Env(name) => format!("{} from {name}", self.key),
            Origin::Flag(name) => format!("{} from {name}", self.key),
        }
    }
}

/// A section: keys and values. [`Table::done`] reports the keys that nobody asked for.
pub(super) struct Table<'a> {
    notes: &'a Notes,
    at: At,
    entries: &'a [(Key, Node)],
    asked: RefCell<Vec<&'static str>>,
}

/// A value at a key.
pub(super) struct Item<'a> {
    notes: &'a Notes,
    at: At,
    node: &'a Node,
    secret: bool,
}

impl<'a> Table<'a> {
    pub fn root(notes: &'a Notes, node: &'a Node) -> Option<Self> {
        let at = At { origin: node.origin.clone(), key: String::new() };
        match &node.value {
            Value::Map(entries) => Some(Self { notes, at, entries, asked: RefCell::default() }),
            Value::Null => Some(Self { notes, at, entries: &[], asked: RefCell::default() }),
            other => {
                let message = format!("found {}, expected keys such as \"nats\" and their values", other.kind());
                notes.problem(&node.origin, "", message);
                None
            }
        }
    }

    pub fn at(&self) -> &At {
        &self.at
    }

    /// The value of a key; `None` when it is not there or null.
    pub fn get(&self, key: &'static str) -> Option<Item<'a>> {
        self.asked.borrow_mut().push(key);
        let (_, node) = self.entries.iter().find(|(entry, _)| entry.name == key)?;
        if matches!(node.value, Value::Null) {
            return None;
        }
        let at = At { origin: node.origin.clone(), key: self.path(key) };
        Some(Item { notes: self.notes, at, node, secret: false })
    }

    /// The value of a key that must never be shown.
    pub fn get_secret(&self, key: &'static str) -> Option<Item<'a>> {
        self.get(key).map(Item::hidden)
    }

    /// Every key, whatever it is called, with its value, which must never be shown.
    pub fn all_secret(&self) -> Vec<(&'a str, Item<'a>)> {
        let item = |(key, node): &'a (Key, Node)| {
            let at = At { origin: node.origin.clone(), key: self.path(&key.name) };
            (key.name.as_str(), Item { notes: self.notes, at, node, secret: true })
        };
        self.entries.iter().map(item).collect()
    }

    /// The value of a key that must be there.
    pub fn require(&self, key: &'static str, expected: &str) -> Option<Item<'a>> {
        let item = self.get(key);
        if item.is_none() {
            self.notes.problem(&self.at.origin, &self.at.key, format!("has no \"{key}\", expected {expected}"));
        }
        item
    }

    /// A key that the original rhio knew and that has no meaning here.
    pub fn accept(&self, key: &'static str, why: &str) {
        if let Some(item) = self.get(key) {
            self.notes.warning(&item.at.origin, &item.at.key, format!("has no effect: {why}"));
        }
    }

    pub fn problem(&self, message: String) {
        self.notes.problem(&self.at.origin, &self.at.key, message);
    }

    /// Warns about this section.
    pub fn warning(&self, message: &str) {
        self.notes.warning(&self.at.origin, &self.at.key, message.to_owned());
    }

    /// Reports every key that was not asked for. `hidden` keys are accepted but not advertised.
    pub fn done(self, hidden: &[&str]) {
        let asked = self.asked.borrow();
        for (key, _) in self.entries {
            if asked.contains(&key.name.as_str()) {
                continue;
            }
            let shown: Vec<&str> = asked.iter().copied().filter(|key| !hidden.contains(key)).collect();
            let guess = nearest(&key.name, &shown).map(|guess| format!(" (did you mean \"{guess}\"?)"));
            let message =
                format!("is not a key of rhio{}, expected one of {}", guess.unwrap_or_default(), shown.join(", "));
            self.notes.problem(&key.origin, &self.path(&key.name), message);
        }
    }

    fn path(&self, key: &str) -> String {
        if self.at.key.is_empty() { key.to_owned() } else { format!("{}.{key}", self.at.key) }
    }
}

impl<'a> Item<'a> {
    pub fn at(&self) -> &At {
        &self.at
    }

    pub fn problem(&self, message: String) {
        self.notes.problem(&self.at.origin, &self.at.key, message);
    }

    /// The same, but never shown in a message: it may hold a secret.
    fn hidden(self) -> Self {
        Self { secret: true, ..self }
    }

    pub fn table(&self, expected: &str) -> Option<Table<'a>> {
        match &self.node.value {
            Value::Map(entries) => {
                Some(Table { notes: self.notes, at: self.at.clone(), entries, asked: RefCell::default() })
            }
            _ => self.unexpected(expected),
        }
    }

    pub fn list(&self, expected: &str) -> Vec<Item<'a>> {
        let Value::List(nodes) = &self.node.value else {
            return self.unexpected(expected).unwrap_or_default();
        };
        let item = |(i, node): (usize, &'a Node)| {
            let at = At { origin: node.origin.clone(), key: format!("{}[{i}]", self.at.key) };
            Item { notes: self.notes, at, node, secret: self.secret }
        };
        nodes.iter().enumerate().map(item).collect()
    }

    pub fn is_text(&self) -> bool {
        matches!(self.node.value, Value::Text { .. })
    }

    pub fn text(&self, expected: &str) -> Option<&'a str> {
        match &self.node.value {
            Value::Text { text, .. } => Some(text),
            _ => self.unexpected(expected),
        }
    }

    /// Text that a function turns into a value or says why not.
    pub fn parse<T, E: Display>(&self, expected: &str, parse: impl FnOnce(&str) -> Result<T, E>) -> Option<T> {
        let text = self.text(expected)?;
        match parse(text) {
            Ok(value) => Some(value),
            Err(why) => {
                self.problem(format!("{} {why}, expected {expected}", self.shown(text)));
                None
            }
        }
    }

    /// A whole number, not in quotes.
    pub fn number(&self, min: u64, max: u64, what: &str) -> Option<u64> {
        let expected = format!("{what} from {min} to {max}");
        let Value::Text { text, plain } = &self.node.value else {
            return self.unexpected(&expected);
        };
        if !plain {
            self.problem(format!("{} is text, expected {expected}, without quotes", self.shown(text)));
            return None;
        }
        let number = text.parse::<u64>().ok().filter(|number| (min..=max).contains(number));
        if number.is_none() {
            self.problem(format!("found {}, expected {expected}", self.shown(text)));
        }
        number
    }

    fn unexpected<T>(&self, expected: &str) -> Option<T> {
        let found = match &self.node.value {
            Value::Text { text, .. } => self.shown(text),
            other => other.kind().to_owned(),
        };
        self.problem(format!("found {found}, expected {expected}"));
        None
    }

    fn shown(&self, text: &str) -> String {
        if self.secret {
            return "the value".into();
        }
        let mut short: String = text.chars().take(80).collect();
        if short.len() < text.len() {
            short.push('…');
        }
        format!("{short:?}")
    }
}

/// The candidate that a mistyped word most likely means: at most two edits away, or one for short words.
pub(super) fn nearest<'c>(word: &str, candidates: &[&'c str]) -> Option<&'c str> {
    let limit = if word.len() <= 4 { 1 } else { 2 };
    let close = candidates.iter().map(|candidate| (distance(word, candidate), *candidate));
    close.filter(|(distance, _)| *distance <= limit).min().map(|(_, candidate)| candidate)
}

/// How many single letters to add, drop, change or swap with their neighbour to get from one word to the other.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().take(64).collect());
    // rows[i][j] is the distance between the first i letters of a and the first j of b.
    let mut rows: Vec<Vec<usize>> = (0..=a.len()).map(|i| (i..=i + b.len()).collect()).collect();
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let change = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = change.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typing_mistake_finds_its_word() {
        assert_eq!(nearest("bind_prot", &["bind_port", "http_bind_port"]), Some("bind_port"));
        assert_eq!(nearest("endpoin", &["endpoint", "region"]), Some("endpoint"));
        assert_eq!(nearest("s4", &["s3", "nats"]), Some("s3"));
        assert_eq!(nearest("colour", &["endpoint", "region"]), None);
    }
}
