//! What a comparison found.

use std::fmt;

/// How many findings of a kind a report describes.
const DESCRIBED: usize = 5;

/// Findings of one kind: all counted, the first few described.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// How many there are.
    pub count: usize,
    /// The first ones.
    pub first: Vec<String>,
}

impl Findings {
    pub(super) fn add(&mut self, describe: impl FnOnce() -> String) {
        self.count += 1;
        if self.first.len() < DESCRIBED {
            self.first.push(describe());
        }
    }
}

/// What a comparison found. Its text is for a person who wants to know what went wrong first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[must_use]
pub struct Report {
    /// How many messages should be there.
    pub expected: usize,
    /// How many of that author's are there.
    pub arrived: usize,
    /// Expected and not there.
    pub lost: Findings,
    /// There more often than expected.
    pub duplicated: Findings,
    /// There after a message that it should precede.
    pub reordered: Findings,
    /// There with another payload, subject or headers.
    pub altered: Findings,
    /// There and never published.
    pub unexpected: Findings,
    /// Without well-formed marks of rhio's own.
    pub malformed: Findings,
}

impl Report {
    fn kinds(&self) -> [(&'static str, &Findings); 6] {
        [
            ("lost", &self.lost),
            ("duplicated", &self.duplicated),
            ("reordered", &self.reordered),
            ("altered", &self.altered),
            ("unexpected", &self.unexpected),
            ("malformed", &self.malformed),
        ]
    }

    /// Whether everything is there exactly once, in order and unchanged.
    pub fn is_clean(&self) -> bool {
        self.kinds().iter().all(|(_, findings)| findings.count == 0)
    }

    /// Whether something is still missing but nothing is wrong.
    pub fn is_clean_so_far(&self) -> bool {
        self.kinds().iter().all(|(kind, findings)| findings.count == 0 || *kind == "lost")
    }

    /// Fails the test with the whole report unless it is clean.
    #[track_caller]
    pub fn assert_clean(&self) {
        assert!(self.is_clean(), "{self}");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} messages arrived", self.arrived, self.expected)?;
        if self.is_clean() {
            return f.write_str(", each once, in order and unchanged");
        }
        for (kind, findings) in self.kinds().into_iter().filter(|(_, findings)| findings.count > 0) {
            write!(f, "\n{} {kind}:", findings.count)?;
            for text in &findings.first {
                write!(f, "\n  {text}")?;
            }
            if findings.count > findings.first.len() {
                f.write_str("\n  …")?;
            }
        }
        Ok(())
    }
}
