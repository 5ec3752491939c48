//! Sets what arrived against what should have.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use async_nats::Client;

use super::headers::{PUBLIC_KEY, SOURCE, differences, operation};
use super::{Record, Report, read_stream, subject_matches};
use crate::eventually::Poll;

/// Of a source stream's messages, those that a subscriber with this filter should have: all that match and that
/// did not come from another cluster themselves.
pub fn expected_of(source: &[Record], filter: &str) -> Vec<Record> {
    let wanted =
        |record: &&Record| subject_matches(filter, &record.subject) && !record.headers.contains_key(PUBLIC_KEY);
    source.iter().filter(wanted).cloned().collect()
}

/// Compares the messages that should be there, in their order, with what a destination stream holds. Of that, only
/// messages of the author that match the filter count; the stream may hold others.
pub fn compare(expected: &[Record], destination: &[Record], filter: &str, author: &str) -> Report {
    let arrived: Vec<&Record> = destination
        .iter()
        .filter(|record| record.header(PUBLIC_KEY) == Some(author) && subject_matches(filter, &record.subject))
        .collect();
    let mut report = Report { expected: expected.len(), arrived: arrived.len(), ..Report::default() };
    check_marks(&arrived, &mut report);

    let mut places: HashMap<(&str, &[u8]), VecDeque<usize>> = HashMap::new();
    for (index, record) in expected.iter().enumerate() {
        places.entry((&record.subject, &record.payload)).or_default().push_back(index);
    }
    let mut found = vec![false; expected.len()];
    // Arrived messages like no expected one, each with the place after which it stands.
    let mut strange = Vec::new();
    let mut last: Option<usize> = None;
    for record in &arrived {
        let Some(candidates) = places.get_mut(&(record.subject.as_str(), record.payload.as_ref())) else {
            strange.push((last, *record));
            continue;
        };
        let Some(index) = candidates.pop_front() else {
            report.duplicated.add(|| record.describe());
            continue;
        };
        found[index] = true;
        if let Some(before) = last.filter(|last| *last > index) {
            report.reordered.add(|| format!("{} came after {}", record.describe(), expected[before].describe()));
        }
        last = last.max(Some(index));
        for difference in differences(&expected[index], record) {
            report.altered.add(|| format!("{}: {difference}", record.describe()));
        }
    }
    for (after, record) in strange {
        // It stands where an expected one is missing: most likely that one, altered.
        let place = after.map_or(0, |index| index + 1);
        match found.get_mut(place) {
            Some(there) if !*there => {
                *there = true;
                report.altered.add(|| changed(&expected[place], record));
            }
            _ => report.unexpected.add(|| record.describe()),
        }
    }
    for (index, _) in found.iter().enumerate().filter(|(_, found)| !**found) {
        report.lost.add(|| expected[index].describe());
    }
    report
}

/// Checks what rhio itself puts into each message.
fn check_marks(arrived: &[&Record], report: &mut Report) {
    let mut ids = HashSet::new();
    let mut operations = HashSet::new();
    let mut current: Option<(&str, u64)> = None;
    for record in arrived {
        if record.headers.get(PUBLIC_KEY).is_some_and(|values| values.len() != 1) {
            report.malformed.add(|| format!("{}: several values of {PUBLIC_KEY}", record.describe()));
        }
        if let Some(id) = record.header(SOURCE)
            && !ids.insert(id)
        {
            report.malformed.add(|| format!("{}: {SOURCE} {id} a second time", record.describe()));
        }
        let (hash, index) = match operation(record) {
            Ok(mark) => mark,
            Err(e) => {
                report.malformed.add(|| format!("{}: {e}", record.describe()));
                continue;
            }
        };
        let in_order = match current {
            Some((same, before)) if same == hash => before < index,
            _ => operations.insert(hash),
        };
        if !in_order {
            report.malformed.add(|| format!("{}: {hash}/{index} goes back in its operation", record.describe()));
        }
        current = Some((hash, index));
    }
}

/// Says how a message differs from the one that was published.
fn changed(published: &Record, arrived: &Record) -> String {
    let mut parts = Vec::new();
    if published.subject != arrived.subject {
        parts.push(format!("the subject is {}", arrived.subject));
    }
    if published.payload != arrived.payload {
        let same = published.payload.iter().zip(&arrived.payload).take_while(|(a, b)| a == b).count();
        parts.push(format!("{} bytes, different from byte {same} on", arrived.payload.len()));
    }
    parts.extend(differences(published, arrived));
    format!("{} became #{}: {}", published.describe(), arrived.sequence, parts.join(", "))
}

/// A subscription to check: where it comes from, where it goes, whose it is.
#[derive(Debug, Clone)]
pub struct Check {
    /// A client of the source's NATS, and the stream there.
    pub source: (Client, String),
    /// A client of the destination's NATS, and the stream there.
    pub destination: (Client, String),
    /// The subscription's filter.
    pub filter: String,
    /// The author's public key.
    pub author: String,
}

impl Check {
    /// Compares both streams as they are now.
    pub async fn now(&self) -> anyhow::Result<Report> {
        let source = read_stream(&self.source.0, &self.source.1, &self.filter).await?;
        self.against(&expected_of(&source, &self.filter)).await
    }

    /// Compares the destination with an explicit list, for a source that no longer holds everything.
    pub async fn against(&self, expected: &[Record]) -> anyhow::Result<Report> {
        let destination = read_stream(&self.destination.0, &self.destination.1, &self.filter).await?;
        Ok(compare(expected, &destination, &self.filter, &self.author))
    }

    /// Waits until everything that the source holds has arrived; fails the test when it has not in time, or at once
    /// when anything is wrong.
    pub async fn until_clean(&self, deadline: Duration) -> Report {
        self.wait(None, deadline).await
    }

    /// The same for an explicit list.
    pub async fn until_clean_against(&self, expected: &[Record], deadline: Duration) -> Report {
        self.wait(Some(expected), deadline).await
    }

    async fn wait(&self, expected: Option<&[Record]>, deadline: Duration) -> Report {
        let mut poll = Poll::new(deadline);
        loop {
            let report = match expected {
                Some(expected) => self.against(expected).await,
                None => self.now().await,
            };
            match report {
                Ok(report) if report.is_clean() => return report,
                Ok(report) => {
                    assert!(report.is_clean_so_far(), "{report}");
                    poll.check(&"everything to arrive", &report.to_string());
                }
                // A server may be on its way back.
                Err(e) => poll.check(&"both streams to be readable", &format!("{e:#}")),
            }
            poll.pause().await;
        }
    }
}
