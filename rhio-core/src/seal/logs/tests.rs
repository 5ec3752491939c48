use std::cell::RefCell;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use p2panda_core::SigningKey;

use crate::id::{OpHash, OpSeq, SourceSeq};
use crate::log::operation::Head;
use crate::subject::Filter;

use super::*;

/// A state stream, and readers that all answer or do not.
#[derive(Default)]
struct Node {
    logs: RefCell<Vec<LogDescriptor>>,
    ends: BTreeMap<u64, Tail>,
    noted: RefCell<BTreeMap<LogId, Position>>,
    answers: bool,
    asked: RefCell<Vec<u64>>,
}

impl OwnLogs for Node {
    type Error = Infallible;

    async fn descriptors(&self) -> Result<Vec<LogDescriptor>, Infallible> {
        Ok(self.logs.borrow().clone())
    }

    async fn end(&self, log: &LogDescriptor) -> Result<Option<(Tail, u64)>, Infallible> {
        Ok(self.ends.get(&log.epoch).map(|tail| (*tail, log.epoch)))
    }

    async fn noted(&self, log: LogId) -> Result<Option<Position>, Infallible> {
        Ok(self.noted.borrow().get(&log).copied())
    }

    async fn note(&self, log: LogId, after: Position) -> Result<(), Infallible> {
        self.noted.borrow_mut().insert(log, after);
        Ok(())
    }

    async fn describe(&self, log: &LogDescriptor) -> Result<(), Infallible> {
        self.logs.borrow_mut().push(log.clone());
        Ok(())
    }

    async fn forget(&self, log: &LogDescriptor) -> Result<(), Infallible> {
        self.logs.borrow_mut().retain(|other| other != log);
        Ok(())
    }

    async fn take_back(&self, log: &mut Known) -> Result<bool, Infallible> {
        self.asked.borrow_mut().push(log.descriptor.epoch);
        Ok(self.answers)
    }
}

/// A stream that has forgotten nothing, and lost the first messages to their age.
struct Whole;

impl SourceEnd for Whole {
    type Error = Infallible;

    async fn first_after(&self, _time: u64) -> Result<Option<SourceSeq>, Infallible> {
        Ok(None)
    }

    async fn last(&self) -> Result<SourceSeq, Infallible> {
        Ok(SourceSeq(1000))
    }

    async fn time_of(&self, _seq: SourceSeq) -> Result<Option<u64>, Infallible> {
        Ok(None)
    }
}

fn author() -> PublicKey {
    SigningKey::from_bytes(&[1; 32]).verifying_key().into()
}

fn about(created: u64) -> Source {
    Source { stream: "s".to_owned(), created, filter: Filter::parse(">").unwrap() }
}

fn log(epoch: u64, created: u64) -> LogDescriptor {
    LogDescriptor::messages(author(), epoch, about(created))
}

fn at(seq: u64) -> Position {
    Position { seq: SourceSeq(seq), time: seq * 10 }
}

fn tail(seq: u64) -> Tail {
    let head = Some(Head { seq: OpSeq(seq), hash: OpHash::from_bytes([seq as u8; 32]) });
    Tail { head, through: at(seq), ..Tail::default() }
}

impl Node {
    /// Logs of these epochs, each with an end at ten times its epoch.
    fn with(epochs: &[u64]) -> Self {
        let logs = epochs.iter().map(|epoch| log(*epoch, 1)).collect();
        let ends = epochs.iter().map(|epoch| (*epoch, tail(epoch * 10))).collect();
        Self { logs: RefCell::new(logs), ends, ..Self::default() }
    }

    fn empty(self, epoch: u64, created: u64, noted: bool) -> Self {
        let descriptor = log(epoch, created);
        if noted {
            self.noted.borrow_mut().insert(descriptor.id(), at(7));
        }
        self.logs.borrow_mut().push(descriptor);
        self
    }

    fn note_last(self) -> Self {
        let last = self.logs.borrow().last().unwrap().id();
        self.noted.borrow_mut().insert(last, at(1));
        self
    }

    fn find(&self, doubt: Option<Refusal>, max_closed: usize) -> Writable {
        let wanted = Wanted { author: author(), about: about(1), doubt, now: 5, max_closed };
        match pin!(find_log(self, &Whole, &wanted)).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(found)) => found,
            Poll::Pending => panic!("nothing is waited for"),
        }
    }

    fn epochs(&self) -> Vec<u64> {
        self.logs.borrow().iter().map(|log| log.epoch).collect()
    }
}

fn closed(found: &Writable) -> Vec<u64> {
    assert!(found.closed.iter().all(|state| state.closed && state.head.is_some()));
    found.closed.iter().map(|state| state.descriptor.epoch).collect()
}

#[test]
fn with_the_server_that_was_noted_the_newest_log_is_continued_unasked() {
    let node = Node::with(&[2, 3]).note_last();
    let found = node.find(None, 32);
    assert_eq!((found.descriptor.epoch, found.state_seq, found.after), (3, 3, at(30)));
    assert_eq!((found.origin, closed(&found)), (Origin::Continued, vec![2]));
    assert!(node.asked.borrow().is_empty());
}

#[test]
fn readers_are_asked_when_the_server_is_another_or_one_of_them_knows_more() {
    let answering = Node { answers: true, ..Node::with(&[2, 3]) };
    assert_eq!(answering.find(None, 32).origin, Origin::Continued);
    assert_eq!(*answering.asked.borrow(), [3]);
    let doubted = Node { answers: true, ..Node::with(&[3]).note_last() };
    assert_eq!(doubted.find(Some(Refusal::Behind), 32).origin, Origin::Continued);
    assert_eq!(*doubted.asked.borrow(), [3]);
    let silent = Node::with(&[2, 9]).find(None, 32);
    assert_eq!((silent.origin, silent.after), (Origin::Begun(Unsettled::ReaderSilent), at(90)));
    assert_eq!((silent.descriptor.epoch, closed(&silent)), (10, vec![2, 9]), "later than any, whatever the clock says");
}

#[test]
fn a_log_that_parted_from_its_readers_is_followed_by_one_from_the_beginning() {
    let node = Node { answers: true, ..Node::with(&[3]).note_last() };
    let found = node.find(Some(Refusal::Diverged), 32);
    assert_eq!((found.origin, found.after), (Origin::Begun(Unsettled::ReaderSilent), Position::default()));
}

#[test]
fn a_log_that_was_begun_and_not_used_is_used_if_nothing_has_changed_since() {
    let node = Node::with(&[2]).empty(3, 1, false).empty(4, 1, true);
    let found = node.find(None, 32);
    assert_eq!((found.descriptor.epoch, found.origin, found.after), (4, Origin::Spare, at(7)));
    assert_eq!((closed(&found), node.epochs()), (vec![2], vec![2, 4]));
    assert!(node.asked.borrow().is_empty(), "that the log before can't be continued is known");
    // Another server, another life of the stream, a log in use behind it.
    for node in [Node::with(&[2]).empty(4, 1, false), Node::with(&[2]).empty(4, 9, true)] {
        let found = node.find(None, 32);
        assert_eq!((found.descriptor.epoch, node.epochs()), (5, vec![2, 5]));
    }
    let node = Node::default().empty(1, 1, true);
    let node = Node { ends: [(2, tail(20))].into(), ..node };
    node.logs.borrow_mut().push(log(2, 1));
    assert_eq!(node.note_last().find(None, 32).origin, Origin::Continued);
}

#[test]
fn too_many_closed_logs_are_forgotten_and_everything_is_said_again() {
    let node = Node::with(&[1, 2, 3]);
    let found = node.find(None, 3);
    assert_eq!((found.after, closed(&found)), (Position::default(), vec![]));
    assert_eq!(node.epochs(), [found.descriptor.epoch]);
}

#[test]
fn logs_of_an_earlier_life_of_the_stream_are_closed() {
    let node = Node { logs: RefCell::new(vec![log(2, 0)]), ..Node::with(&[2]) };
    let found = node.find(None, 32);
    assert_eq!(
        (found.origin, found.after, closed(&found)),
        (Origin::Begun(Unsettled::First), Position::default(), vec![2])
    );
}
