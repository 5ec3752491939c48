use std::cell::RefCell;
use std::convert::Infallible;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use p2panda_core::SigningKey;

use crate::id::{LogId, OpHash};
use crate::log::descriptor::Source;
use crate::log::operation::Head;
use crate::log::total::Total;
use crate::subject::Filter;

use super::*;

fn log(epoch: u64, filter: &str) -> LogDescriptor {
    let author = SigningKey::from_bytes(&[1; 32]).verifying_key().into();
    let source = Source { stream: "s".to_owned(), created: 1, filter: Filter::parse(filter).unwrap() };
    LogDescriptor::messages(author, epoch, source)
}

fn at(seq: u64) -> Position {
    Position { seq: SourceSeq(seq), time: seq * 10 }
}

fn head(op: u64) -> Head {
    Head { seq: OpSeq(op), hash: OpHash::from_bytes([op as u8; 32]) }
}

/// Operation `op` covers the author's stream up to ten times its number.
fn cursor(op: u64, local: u64) -> Cursor {
    Cursor { head: Some(head(op)), through: at(op * 10), local: LocalSeq(local), ..Cursor::default() }
}

/// A node's state stream and its local stream.
#[derive(Default)]
struct Node {
    known: Vec<LogDescriptor>,
    commits: RefCell<Vec<(LogId, Committed)>>,
    /// Numbers in the local stream that commits may name, and how far its records reach in the author's.
    held: Vec<(u64, Position)>,
    /// What successive looks at the local stream find, the last for ever.
    finds: RefCell<Vec<Vec<u64>>>,
    rests: RefCell<usize>,
    drops_consumed: bool,
}

impl Node {
    /// A node with commits of these operations, which end at these local numbers, of one log.
    fn with(log: &LogDescriptor, commits: &[(u64, u64)], held: &[u64]) -> Self {
        let mut node = Self { known: vec![log.clone()], ..Self::default() };
        node.commit(log, commits);
        node.held = held.iter().map(|local| (*local, Position::default())).collect();
        node
    }

    fn commit(&mut self, log: &LogDescriptor, commits: &[(u64, u64)]) {
        let mut all = self.commits.borrow_mut();
        for (op, local) in commits {
            let seq = all.len() as u64 + 1;
            all.push((log.id(), Committed { seq, time: seq, cursor: cursor(*op, *local) }));
        }
    }

    fn load(&self, log: &LogDescriptor, disturbed: bool) -> Standing {
        match pin!(load(self, self, log, disturbed)).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(standing)) => standing,
            Poll::Pending => panic!("nothing is waited for"),
        }
    }
}

impl Copies for Node {
    type Error = Infallible;

    async fn known(&self) -> Result<Vec<LogDescriptor>, Infallible> {
        Ok(self.known.clone())
    }

    async fn last(&self, log: &LogDescriptor) -> Result<Option<Committed>, Infallible> {
        Ok(self.all(log).await?.pop())
    }

    async fn all(&self, log: &LogDescriptor) -> Result<Vec<Committed>, Infallible> {
        let commits = self.commits.borrow();
        Ok(commits.iter().filter(|(of, _)| *of == log.id()).map(|(_, commit)| *commit).collect())
    }

    async fn repeat(&self, log: &LogDescriptor, commit: u64, end: u64) -> Result<Option<u64>, Infallible> {
        let all = self.all(log).await?;
        assert_eq!(all.last().map(|last| last.seq), Some(end), "behind the last one");
        let Some(again) = all.into_iter().find(|other| other.seq == commit) else { return Ok(None) };
        let seq = self.commits.borrow().len() as u64 + 1;
        self.commits.borrow_mut().push((log.id(), Committed { seq, time: seq, ..again }));
        Ok(Some(seq))
    }

    async fn forget(&self, log: &LogDescriptor, end: u64) -> Result<(), Infallible> {
        self.commits.borrow_mut().retain(|(of, commit)| *of != log.id() || commit.seq > end);
        Ok(())
    }
}

impl LocalStream for Node {
    type Error = Infallible;

    async fn holds(
        &self,
        _log: &LogDescriptor,
        local: LocalSeq,
        through: Position,
        _committed: u64,
    ) -> Result<bool, Infallible> {
        Ok(self.held.iter().any(|(number, reach)| *number == local.0 && reach.seq <= through.seq))
    }

    async fn find(&self, _log: &LogDescriptor, after: LocalSeq) -> Result<(Found, Option<Position>), Infallible> {
        let mut finds = self.finds.borrow_mut();
        let now = if finds.len() > 1 { finds.remove(0) } else { finds.first().cloned().unwrap_or_default() };
        let mut found = Found::default();
        (1..).zip(&now).for_each(|(n, seq)| found.push_at(at(*seq), LocalSeq(after.0 + n)));
        Ok((found, now.first().map(|seq| at(*seq))))
    }

    async fn rest(&self) {
        *self.rests.borrow_mut() += 1;
    }

    fn drops_consumed(&self) -> bool {
        self.drops_consumed
    }
}

#[test]
fn a_commit_that_the_local_stream_bears_out_is_the_cursor() {
    let log = log(1, ">");
    let node = Node::with(&log, &[(0, 5), (1, 9)], &[9]);
    let standing = node.load(&log, false);
    assert_eq!((standing.cursor, standing.state_seq), (cursor(1, 9), 2));
    assert!(standing.floors.is_empty() && standing.found.is_empty());
    assert_eq!((node.commits.borrow().len(), *node.rests.borrow()), (2, 0));
}

#[test]
fn a_cursor_goes_back_to_the_last_commit_that_holds_and_is_committed_again() {
    let log = log(1, ">");
    let node = Node::with(&log, &[(0, 5), (1, 9), (2, 12)], &[5, 9]);
    let standing = node.load(&log, false);
    assert_eq!((standing.cursor, standing.state_seq), (cursor(1, 9), 4));
    assert_eq!(node.commits.borrow().last().unwrap().1.cursor, cursor(1, 9));
}

#[test]
fn a_commit_behind_one_that_is_refuted_is_refuted_whatever_has_its_place() {
    let log = log(1, ">");
    let node = Node::with(&log, &[(0, 3), (1, 6), (2, 8), (1, 7)], &[3, 6, 8]);
    assert_eq!(node.load(&log, false).cursor, cursor(0, 3));
}

#[test]
fn without_any_commit_that_holds_what_comes_first_here_was_preceded_by_everything_before_it() {
    let (log, floor) = (log(1, "a.>"), |seq| Floor { filter: Filter::parse("a.>").unwrap(), through: at(seq) });
    let node = Node::with(&log, &[(0, 5)], &[]);
    node.finds.borrow_mut().push(vec![7, 8]);
    let standing = node.load(&log, false);
    assert_eq!((standing.cursor, standing.state_seq), (Cursor::default(), 0));
    assert!(node.commits.borrow().is_empty(), "what can't be borne out is dropped");
    let expected = Floor { through: Position { time: 70, ..at(6) }, ..floor(6) };
    assert_eq!(standing.floors, std::slice::from_ref(&expected));
    // A log that is not even known; and one that is, and has never been committed.
    let unknown = Node { known: vec![], ..node };
    assert_eq!(unknown.load(&log, false).floors, std::slice::from_ref(&expected));
    let fresh = Node { known: vec![log.clone()], ..unknown };
    assert!(fresh.load(&log, false).floors.is_empty());
    let queue = Node { drops_consumed: true, ..fresh };
    assert_eq!(queue.load(&log, false).floors, [expected]);
}

#[test]
fn what_another_log_brought_of_the_same_messages_is_left_out_and_must_still_be_there() {
    let (old, new, elsewhere) = (log(1, "a.>"), log(2, ">"), log(3, "b.x"));
    let mut node = Node::with(&old, &[(4, 20)], &[]);
    node.known.extend([new.clone(), elsewhere]);
    node.commit(&new, &[(0, 20)]);
    // The record at 20 is the old log's, behind what the new one covers itself.
    node.held = vec![(20, at(40))];
    let standing = node.load(&new, false);
    assert_eq!(standing.cursor, cursor(0, 20));
    assert_eq!(standing.floors, [Floor { filter: Filter::parse("a.>").unwrap(), through: at(40) }]);
    // A cursor of its own that ends earlier here begins where the other log's records end.
    let mut node = Node::with(&old, &[(4, 20)], &[20]);
    node.known.push(new.clone());
    assert_eq!(node.load(&new, false).cursor, Cursor { local: LocalSeq(20), ..Cursor::default() });
}

#[test]
fn the_local_stream_is_looked_at_until_nothing_more_arrives() {
    let log = log(1, ">");
    let looks = |finds: &[&[u64]], disturbed| {
        let node = Node::with(&log, &[], &[]);
        *node.finds.borrow_mut() = finds.iter().map(|find| find.to_vec()).collect();
        let found = node.load(&log, disturbed).found.len();
        (found, *node.rests.borrow())
    };
    assert_eq!(looks(&[&[]], false), (0, 0));
    assert_eq!(looks(&[&[]], true), (0, 1));
    assert_eq!(looks(&[&[1], &[1, 2], &[1, 2, 3]], false), (3, 3));
}

#[test]
fn a_closed_log_is_done_when_nothing_behind_the_cursor_is_left() {
    let state = |closed, head: Option<Head>| LogState {
        descriptor: log(1, ">"),
        closed,
        head,
        through: Position::default(),
        total: Total::default(),
        pending: None,
    };
    assert!(!is_done(&state(false, Some(head(3))), &cursor(3, 1)));
    assert!(!is_done(&state(true, Some(head(3))), &cursor(2, 1)));
    assert!(is_done(&state(true, Some(head(3))), &cursor(3, 1)));
    assert!(is_done(&state(true, Some(head(3))), &cursor(9, 1)), "its author has forgotten the rest");
    assert!(is_done(&state(true, None), &Cursor::default()));
}
