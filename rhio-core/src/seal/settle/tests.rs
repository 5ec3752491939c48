use std::collections::VecDeque;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use p2panda_core::SigningKey;

use crate::id::{Digest, OpSeq, SourceSeq};
use crate::log::descriptor::Source;
use crate::log::writer::Writer;
use crate::manifest::{Entry, Manifest};
use crate::record::Position;
use crate::subject::Filter;

use super::*;

/// A reader that gives these answers, after which it is silent.
struct Reader {
    asked: Option<Pull>,
    answers: VecDeque<Given>,
}

impl Holder for Reader {
    async fn ask(&mut self, pull: Pull) -> bool {
        self.asked = Some(pull);
        !self.answers.is_empty()
    }

    async fn next(&mut self) -> Option<Given> {
        self.answers.pop_front()
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Full;

/// A state stream with room for so many commits.
struct Stream {
    commits: Vec<Commit>,
    room: usize,
}

impl OwnLog for Stream {
    type Error = Full;

    async fn append(&mut self, commit: Commit) -> Result<(), Full> {
        if self.commits.len() == self.room {
            return Err(Full);
        }
        self.commits.push(commit);
        Ok(())
    }
}

fn key(fill: u8) -> SigningKey {
    SigningKey::from_bytes(&[fill; 32])
}

fn descriptor() -> LogDescriptor {
    let source = Source { stream: "s".to_owned(), created: 1, filter: Filter::parse(">").unwrap() };
    LogDescriptor::messages(key(1).verifying_key().into(), 1, source)
}

/// A log of four operations, with records of these bytes each.
fn log(by: u8, bytes: u64) -> Vec<Operation> {
    let mut writer = Writer::new(key(by), descriptor().id(), None, Default::default());
    let content = |seq| {
        let position = Position { seq: SourceSeq(seq), time: seq };
        Manifest::new(bytes, vec![Entry { position, digest: Digest::from_bytes([0; 32]) }]).unwrap()
    };
    let operation = |seq| {
        writer.stage(content(seq), 0).unwrap();
        writer.appended().unwrap()
    };
    (1..=4).map(operation).collect()
}

fn given(operations: &[Operation]) -> Vec<Given> {
    operations.iter().map(|operation| Given::Operation(operation.raw().clone())).collect()
}

/// Runs what never waits.
fn at_once<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it waits"),
    }
}

/// An author that has the first two operations asks. Returns the answer, and how many operations it has then.
fn settle(answers: Vec<Given>, room: usize) -> (Result<Answer, Full>, u64) {
    let log = log(1, 5);
    let mut tail = Tail::after(&log[1]);
    let mut reader = Reader { asked: None, answers: answers.into() };
    let mut stream = Stream { commits: Vec::new(), room };
    let answer = at_once(take_back(&descriptor(), &mut tail, &mut reader, &mut stream));
    let pull = reader.asked.unwrap();
    assert_eq!((pull.next, pull.held, pull.want), (OpSeq(2), Some(log[1].hash()), Want::Settle));
    let stored: Vec<_> = stream.commits.iter().flat_map(|commit| &commit.operations).collect();
    let expected: Vec<_> = log[2..2 + stored.len()].iter().map(Operation::raw).collect();
    assert_eq!(stored, expected, "what is appended is the log's own");
    assert_eq!(tail, Tail::after(&log[1 + stored.len()]));
    (answer, 2 + stored.len() as u64)
}

#[test]
fn what_a_reader_still_holds_is_appended_once() {
    let all = [given(&log(1, 5)), vec![Given::End]].concat();
    assert_eq!(settle(all, 9), (Ok(Answer::Whole), 4), "what the author has is passed over");
    assert_eq!(settle(vec![Given::End], 9), (Ok(Answer::Whole), 2));
}

#[test]
fn a_reader_that_stops_halfway_has_not_answered_and_what_it_gave_is_kept() {
    assert_eq!(settle(vec![], 9), (Ok(Answer::Silent), 2));
    assert_eq!(settle(given(&log(1, 5)[2..3]), 9), (Ok(Answer::Silent), 3));
}

#[test]
fn nothing_is_taken_that_does_not_continue_the_log() {
    let end = vec![Given::End];
    let gap = [given(&log(1, 5)[3..]), end.clone()].concat();
    let fork = [given(&log(1, 6)[2..]), end.clone()].concat();
    let stranger = [given(&log(2, 5)[2..]), end.clone()].concat();
    for answers in [gap, fork, stranger] {
        assert_eq!(settle(answers, 9), (Ok(Answer::Astray), 2));
    }
    let noise = [vec![Given::Operation(Bytes::from_static(b"noise"))], end].concat();
    assert_eq!(settle(noise, 9), (Ok(Answer::Foreign), 2));
    assert!(Answer::Foreign.is_settled() && Answer::Whole.is_settled());
    assert!(!Answer::Astray.is_settled() && !Answer::Silent.is_settled());
}

#[test]
fn a_state_stream_that_refuses_ends_it() {
    assert_eq!(settle(given(&log(1, 5)), 1), (Err(Full), 3));
}
