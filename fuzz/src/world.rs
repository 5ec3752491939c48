//! An author, its log, and the records behind it: what scripts of the structured targets play with.

use arbitrary::{Result, Unstructured};
use p2panda_core::SigningKey;
use rhio_core::id::{OpHash, OpSeq, PublicKey, SourceSeq};
use rhio_core::log::chain::Chain;
use rhio_core::log::descriptor::{Kind, LogDescriptor, Source};
use rhio_core::log::operation::{Head, Operation};
use rhio_core::record::{CanonicalRecord, Position, SourceRecord};
use rhio_core::seal::{Sealed, Sealer, Tail};
use rhio_core::subject::Filter;
use rhio_core::wire::Floor;

/// Subjects of the records.
const SUBJECTS: [&str; 4] = ["a.x", "a.y", "a.y.z", "b.x"];
/// Filters of logs, subscriptions and floors.
const FILTERS: [&str; 6] = [">", "a.>", "a.*", "a.x", "*.x", "b.>"];
/// The smallest sum of records and operations that shows everything; more only takes time.
const MAX_OPERATIONS: usize = 6;
const MAX_RECORDS: usize = 4;

/// A private key for a number.
pub fn key(fill: u8) -> SigningKey {
    SigningKey::from_bytes(&[fill; 32])
}

/// The author of every honest log.
pub fn author() -> PublicKey {
    key(1).verifying_key().into()
}

/// A filter out of a few.
pub fn filter(u: &mut Unstructured<'_>) -> Result<Filter> {
    Ok(parse(u.choose(&FILTERS)?))
}

pub fn parse(text: &str) -> Filter {
    Filter::parse(text).expect("a filter")
}

/// A record with a subject and payload of the script's choice.
pub fn record(u: &mut Unstructured<'_>, log_filter: &Filter) -> Result<CanonicalRecord> {
    let under: Vec<_> = SUBJECTS.into_iter().filter(|subject| log_filter.matches(subject)).collect();
    let subject = *u.choose(&under)?;
    let payload = [u.int_in_range(0..=3u8)?];
    let block: &[u8] = if u.ratio(1u8, 8u8)? { b"NATS/1.0\r\nH: v\r\n\r\n" } else { b"" };
    Ok(CanonicalRecord::encode(subject, block, &payload).expect("a record"))
}

/// Some floors.
pub fn floors(u: &mut Unstructured<'_>) -> Result<Vec<Floor>> {
    let count = u.int_in_range(0..=2u8)?;
    let floor = |u: &mut Unstructured<'_>| {
        let through = Position { seq: SourceSeq(u.int_in_range(0..=12)?), time: u.int_in_range(0..=80)? };
        Ok(Floor { filter: filter(u)?, through })
    };
    (0..count).map(|_| floor(u)).collect()
}

/// An honest author's log.
#[derive(Debug)]
pub struct World {
    pub descriptor: LogDescriptor,
    /// What it takes of the stream.
    pub filter: Filter,
    /// Its operations with their records, in order.
    pub log: Vec<Sealed>,
}

impl World {
    /// The log that a script asks for.
    pub fn new(u: &mut Unstructured<'_>) -> Result<Self> {
        let filter = filter(u)?;
        let source = Source { stream: "s".to_owned(), created: 1, filter: filter.clone() };
        let descriptor = LogDescriptor::messages(author(), u64::from(u.arbitrary::<u8>()?), source);
        let mut sealer = Sealer::new(key(1), descriptor.clone(), Tail::default(), Position::default());
        let mut log = Vec::new();
        let (mut seq, mut time) = (0, 0);
        for _ in 0..u.int_in_range(1..=MAX_OPERATIONS)? {
            for _ in 0..u.int_in_range(1..=MAX_RECORDS)? {
                seq += u.int_in_range(1..=2u64)?;
                time += u.int_in_range(1..=10u64)?;
                let position = Position { seq: SourceSeq(seq), time };
                sealer.deliver(SourceRecord { position, record: record(u, &filter)? });
            }
            sealer.seal(log.len() as u64).expect("records wait");
            log.push(sealer.appended().expect("an operation is under way"));
        }
        Ok(Self { descriptor, filter, log })
    }

    /// The log, of which nothing is known yet.
    pub fn chain(&self) -> Chain {
        Chain::new(author(), self.descriptor.id(), Kind::Messages)
    }

    /// Where the log ends before its operation with this number.
    pub fn tail(&self, before: usize) -> Tail {
        before.checked_sub(1).map_or_else(Tail::default, |last| Tail::after(&self.log[last].operation))
    }

    /// The log's own operation behind this head, if this is a head of the log's.
    pub fn behind(&self, head: Option<Head>) -> Option<&Sealed> {
        let next = match head {
            None => 0,
            Some(head) => self.place(head.seq).filter(|_| self.holds(head))? + 1,
        };
        self.log.get(next)
    }

    /// The log's own operation with this number.
    pub fn at(&self, seq: OpSeq) -> Option<&Sealed> {
        self.log.get(self.place(seq)?)
    }

    /// Whether this is a head of the log's.
    pub fn holds(&self, head: Head) -> bool {
        self.at(head.seq).is_some_and(|sealed| sealed.operation.head() == head)
    }

    fn place(&self, seq: OpSeq) -> Option<usize> {
        usize::try_from(seq.0).ok().filter(|place| *place < self.log.len())
    }

    /// Where the author's stream has the records.
    pub fn positions(&self) -> impl Iterator<Item = Position> {
        self.log.iter().flat_map(|sealed| &sealed.records).map(|record| record.position)
    }

    /// The last operation.
    pub fn head(&self) -> Option<Head> {
        self.log.last().map(|sealed| sealed.operation.head())
    }

    /// The hash of the operation before this one.
    pub fn hash_before(&self, next: OpSeq) -> Option<OpHash> {
        let before = OpSeq(next.0.checked_sub(1)?);
        self.at(before).map(|sealed| sealed.operation.hash())
    }

    /// Whether the author signed these bytes.
    pub fn signed(&self, operation: &Operation) -> bool {
        self.log.iter().any(|sealed| sealed.operation.raw() == operation.raw())
    }
}
