//! A JetStream that can forget.
//!
//! Modelled: streams with sequence numbers and times, compare-and-set on the last message of a subject, deletes, and an
//! acknowledgement that is no fsync: [`Stream::forget`] takes back the last changes (appended messages *and* deletes),
//! as a power cut does, and the sequence numbers are given again.
//!
//! Not modelled: replicas (one server stands for the cluster; what a leader change does to requests under way is in
//! [`crate::nats`]), the duplicate window (rhio sets no `Nats-Msg-Id`), work queues, limits by size or age (a run deletes
//! and expires messages explicitly), and clocks that go back.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use bytes::Bytes;

/// A stored message.
#[derive(Clone, Debug)]
pub struct Message {
    /// Its sequence number.
    pub seq: u64,
    /// When it was stored, in nanoseconds.
    pub time: u64,
    /// Its subject.
    pub subject: Rc<str>,
    /// Its headers.
    pub headers: Rc<[(String, String)]>,
    /// Its payload.
    pub payload: Bytes,
}

impl Message {
    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

/// What happened to a stream, so that it can be taken back.
#[derive(Clone, Debug)]
enum Change {
    Appended(u64),
    Deleted(Message),
    /// All at once.
    Purged(Vec<Message>),
}

/// Something that a power cut took back.
#[derive(Clone, Debug)]
pub enum Forgotten {
    /// A message is gone.
    Message(Message),
    /// A deleted message is there again.
    Delete(Message),
}

/// The last message of the subject is another one than was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrongLast;

/// A stream.
#[derive(Clone, Debug)]
pub struct Stream {
    /// When it was created, in nanoseconds.
    pub created: u64,
    messages: BTreeMap<u64, Message>,
    last: u64,
    /// The greatest number that it ever gave.
    peak: u64,
    again: BTreeSet<u64>,
    changes: Vec<Change>,
}

impl Stream {
    /// An empty stream.
    pub fn new(created: u64) -> Self {
        Self { created, messages: BTreeMap::new(), last: 0, peak: 0, again: BTreeSet::new(), changes: Vec::new() }
    }

    /// The last sequence number that it gave.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// The first sequence number that is still there, or the next one that it will give.
    pub fn first(&self) -> u64 {
        self.messages.keys().next().copied().unwrap_or(self.last + 1)
    }

    /// The message with this number.
    pub fn get(&self, seq: u64) -> Option<&Message> {
        self.messages.get(&seq)
    }

    /// Everything that is there, from a number on.
    pub fn from(&self, seq: u64) -> impl DoubleEndedIterator<Item = &Message> {
        self.messages.range(seq..).map(|(_, message)| message)
    }

    /// Whether this number was given to another message before, which the stream forgot.
    pub fn is_again(&self, seq: u64) -> bool {
        self.again.contains(&seq)
    }

    /// The last message of a subject.
    pub fn last_of(&self, subject: &str) -> Option<&Message> {
        self.messages.values().rev().find(|message| &*message.subject == subject)
    }

    /// Appends a message, when the last one of its subject has the number `expected` (0: there is none).
    pub fn append(
        &mut self,
        now: u64,
        subject: &str,
        headers: Vec<(String, String)>,
        payload: Bytes,
        expected: Option<u64>,
    ) -> Result<Message, WrongLast> {
        if expected.is_some_and(|expected| self.last_of(subject).map_or(0, |last| last.seq) != expected) {
            return Err(WrongLast);
        }
        self.last += 1;
        if self.last <= self.peak {
            self.again.insert(self.last);
        }
        self.peak = self.peak.max(self.last);
        let (subject, headers) = (subject.into(), headers.into());
        let message = Message { seq: self.last, time: now, subject, headers, payload };
        self.messages.insert(self.last, message.clone());
        self.changes.push(Change::Appended(self.last));
        Ok(message)
    }

    /// Removes a message.
    pub fn delete(&mut self, seq: u64) -> Option<Message> {
        let message = self.messages.remove(&seq)?;
        self.changes.push(Change::Deleted(message.clone()));
        Some(message)
    }

    /// Removes everything under a subject below a number, all at once.
    pub fn purge(&mut self, subject: &str, below: u64) -> Vec<Message> {
        let old = self.messages.range(..below).filter(|(_, message)| *message.subject == *subject);
        let seqs: Vec<_> = old.map(|(seq, _)| *seq).collect();
        let gone: Vec<_> = seqs.iter().filter_map(|seq| self.messages.remove(seq)).collect();
        if !gone.is_empty() {
            self.changes.push(Change::Purged(gone.clone()));
        }
        gone
    }

    /// Takes back the last `count` changes, the latest first.
    pub fn forget(&mut self, count: usize) -> Vec<Forgotten> {
        let mut forgotten = Vec::new();
        for _ in 0..count {
            match self.changes.pop() {
                None => break,
                Some(Change::Appended(seq)) => {
                    self.last = seq - 1;
                    forgotten.extend(self.messages.remove(&seq).map(Forgotten::Message));
                }
                Some(Change::Deleted(message)) => self.restore(message, &mut forgotten),
                Some(Change::Purged(messages)) => {
                    messages.into_iter().for_each(|message| self.restore(message, &mut forgotten));
                }
            }
        }
        forgotten
    }

    /// A message is there again.
    fn restore(&mut self, message: Message, forgotten: &mut Vec<Forgotten>) {
        self.messages.insert(message.seq, message.clone());
        forgotten.push(Forgotten::Delete(message));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn append(stream: &mut Stream, subject: &str, expected: Option<u64>) -> Result<u64, WrongLast> {
        stream.append(1, subject, vec![], Bytes::new(), expected).map(|message| message.seq)
    }

    #[test]
    fn an_append_is_refused_when_another_message_came_first() {
        let mut stream = Stream::new(0);
        assert_eq!(append(&mut stream, "a", Some(0)), Ok(1));
        assert_eq!(append(&mut stream, "b", Some(0)), Ok(2));
        assert_eq!(append(&mut stream, "a", Some(0)), Err(WrongLast));
        assert_eq!(append(&mut stream, "a", Some(1)), Ok(3));
        stream.delete(3);
        assert_eq!(append(&mut stream, "a", Some(1)), Ok(4), "a deleted message is no longer the last");
    }

    #[test]
    fn what_is_forgotten_is_as_if_it_had_never_been() {
        let mut stream = Stream::new(0);
        (0..3).for_each(|_| assert!(append(&mut stream, "a", None).is_ok()));
        stream.delete(1);
        append(&mut stream, "a", None).unwrap();
        stream.forget(2);
        assert_eq!((stream.first(), stream.last()), (1, 3));
        stream.forget(1);
        assert_eq!(append(&mut stream, "b", None), Ok(3), "the number is given again");
    }
}
