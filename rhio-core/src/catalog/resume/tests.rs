use std::cell::RefCell;
use std::convert::Infallible;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::vec::IntoIter;

use p2panda_core::SigningKey;

use crate::catalog::inventory::Ended;
use crate::catalog::{Catalog, Put};
use crate::id::BlobHash;
use crate::log::writer::Writer;
use crate::object::{Attributes, ObjectKey};

use super::*;

fn key() -> SigningKey {
    SigningKey::from_bytes(&[1; 32])
}

fn author() -> PublicKey {
    key().verifying_key().into()
}

fn log(epoch: u64) -> LogDescriptor {
    LogDescriptor::bucket(author(), epoch, "b")
}

fn put(name: &str) -> Entry {
    Entry::Put(Put {
        key: ObjectKey::new(name).unwrap(),
        hash: BlobHash::from_bytes([1; 32]),
        size: 1,
        modified: 1,
        etag: "e".to_owned(),
        attributes: Attributes::default(),
    })
}

/// A state stream with catalogs, each an operation a list of entries.
#[derive(Default)]
struct Node {
    logs: RefCell<Vec<(LogDescriptor, Vec<Operation>)>>,
    certain: RefCell<Vec<LogId>>,
}

impl Node {
    fn with(mut self, epoch: u64, operations: &[&[Entry]]) -> Self {
        let mut writer = Writer::new(key(), log(epoch).id(), None, Total::default());
        let mut sign = |entries: &&[Entry]| {
            writer.stage(Catalog::new(entries.to_vec()).unwrap(), 0);
            writer.appended().unwrap()
        };
        let signed = operations.iter().map(&mut sign).collect();
        self.logs.get_mut().push((log(epoch), signed));
        self
    }

    fn certain(self) -> Self {
        let last = self.logs.borrow().last().unwrap().0.id();
        self.certain.borrow_mut().push(last);
        self
    }

    fn resume(&self, doubted: bool) -> Resumed {
        let wanted = Wanted { author: author(), bucket: "b", doubted, now: 5 };
        match pin!(resume(self, wanted)).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(found)) => found,
            Poll::Pending => panic!("nothing is waited for"),
        }
    }
}

struct Reader(IntoIter<(u64, Operation)>);

impl Commits for Reader {
    type Error = Infallible;

    async fn next(&mut self) -> Result<Option<(u64, Vec<Operation>)>, Infallible> {
        Ok(self.0.next().map(|(seq, operation)| (seq, vec![operation])))
    }
}

impl Catalogs for Node {
    type Error = Infallible;
    type Commits = Reader;

    async fn known(&self) -> Result<Vec<LogDescriptor>, Infallible> {
        Ok(self.logs.borrow().iter().map(|(log, _)| log.clone()).collect())
    }

    async fn is_certain(&self, log: LogId) -> Result<bool, Infallible> {
        Ok(self.certain.borrow().contains(&log))
    }

    async fn read(&self, log: &LogDescriptor) -> Result<Reader, Infallible> {
        let logs = self.logs.borrow();
        let (_, operations) = logs.iter().find(|(other, _)| other == log).unwrap();
        Ok(Reader((7..).zip(operations.clone()).collect::<Vec<_>>().into_iter()))
    }

    async fn begin(&self, log: &LogDescriptor) -> Result<(), Infallible> {
        self.logs.borrow_mut().push((log.clone(), Vec::new()));
        Ok(())
    }
}

fn epochs(logs: &[LogDescriptor]) -> Vec<u64> {
    logs.iter().map(|log| log.epoch).collect()
}

#[test]
fn a_catalog_whose_end_is_certain_is_continued_with_what_older_ones_say_until_it_is_complete() {
    let node = Node::default().with(2, &[&[put("a"), put("b")], &[Entry::Complete]]).with(3, &[&[put("a")]]).certain();
    let found = node.resume(false);
    assert_eq!((found.descriptor.epoch, found.begun, epochs(&found.older)), (3, false, vec![2]));
    assert_eq!((found.inventory.len(), found.remembered.len()), (1, 2));
    let end = node.logs.borrow()[1].1[0].clone();
    let expected = End { head: Some(end.head()), total: end.after(), state_seq: 7, complete: false };
    assert_eq!(found.end, expected);
}

#[test]
fn a_catalog_in_doubt_is_followed_by_a_new_epoch_in_which_an_empty_bucket_proves_nothing() {
    let said: &[&[Entry]] = &[&[put("a")], &[Entry::Complete]];
    let restarted = Node::default().with(2, said).with(9, said);
    let doubted = Node::default().with(2, said).with(9, said).certain();
    for mut found in [restarted.resume(false), doubted.resume(true)] {
        assert_eq!((found.descriptor.epoch, found.begun, epochs(&found.older)), (10, true, vec![2, 9]));
        assert_eq!((found.end, found.inventory.len(), found.remembered.len()), (End::default(), 0, 1));
        found.inventory.begin_listing();
        assert_eq!(found.inventory.end_listing(true), Ended::Empty { known: 1 });
    }
    assert_eq!(restarted.logs.borrow().len(), 3, "the new one is stored");
    let first = Node::default().resume(false);
    assert_eq!((first.descriptor.epoch, first.begun), (5, true));
}

#[test]
fn a_catalog_that_is_mostly_outdated_is_followed_by_a_new_epoch() {
    let many = vec![put("a"); 1000];
    let mut operations: Vec<&[Entry]> = vec![&many; 11];
    operations.push(&[Entry::Complete]);
    let found = Node::default().with(2, &operations).certain().resume(false);
    assert_eq!((found.begun, epochs(&found.older), found.remembered.len()), (true, vec![2], 1));
    // Not before it has said everything.
    operations.pop();
    assert!(!Node::default().with(2, &operations).certain().resume(false).begun);
}
