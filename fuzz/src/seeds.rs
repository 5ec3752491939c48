//! Inputs to begin with, made by the code that writes the formats, so that they never grow old. The test vectors of
//! `rhio-core` are among them.

use arbitrary::Unstructured;
use bytes::Bytes;
use rhio_core::catalog::progress::{MAX_RANGES, Progress};
use rhio_core::catalog::{Catalog, Entry, Put};
use rhio_core::id::{BlobHash, LocalSeq};
use rhio_core::log::body::Body;
use rhio_core::log::commit::Commit;
use rhio_core::log::descriptor::LogDescriptor;
use rhio_core::log::total::Total;
use rhio_core::object::{Attributes, ObjectKey};
use rhio_core::record::CanonicalRecord;
use rhio_core::seal::Sealed;
use rhio_core::wire::{Batch, CloseCode, Floor, Frame, LogState, Pull, Want};

use crate::operation::{LOOSE, RAW, SIGNED};
use crate::world::World;
use crate::{applier, mutate, world};

const FRAMES: &str = include_str!("../../rhio-core/tests/vectors/frames.txt");
const OPERATIONS: [&str; 2] = [
    include_str!("../../rhio-core/tests/vectors/operation-0.hex"),
    include_str!("../../rhio-core/tests/vectors/operation-1.hex"),
];

fn unhex(text: &str) -> Vec<u8> {
    hex::decode(text.trim()).expect("a test vector is hex")
}

/// The same scripts each time, from which a [`World`] can be made.
fn random_bytes(number: u64, len: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(number);
    (0..len).map(|_| random.u8(..)).collect()
}

fn worlds() -> impl Iterator<Item = World> {
    (0..6).map(|number| {
        let script = random_bytes(number, 200);
        World::new(&mut Unstructured::new(&script)).expect("a script that is long enough")
    })
}

fn sealed() -> impl Iterator<Item = Sealed> {
    worlds().flat_map(|world| world.log)
}

/// Every operation of the seeds that the author signed.
pub fn signed_operations() -> Vec<Bytes> {
    let made = sealed().map(|sealed| sealed.operation.raw().clone());
    made.chain(OPERATIONS.map(|text| Bytes::from(unhex(text)))).collect()
}

pub fn operations() -> Vec<Vec<u8>> {
    let raw = signed_operations().into_iter().map(|raw| [&[RAW], &raw[..]].concat());
    // The script's fixed part takes about a hundred bytes; what is left of it becomes the body.
    let signed = bodies().into_iter().enumerate().map(|(number, body)| {
        let script = random_bytes(number as u64, 96);
        [&[SIGNED], &script[..], &body[..]].concat()
    });
    raw.chain(signed).chain([vec![LOOSE, 0, 1]]).collect()
}

pub fn bodies() -> Vec<Vec<u8>> {
    sealed().map(|sealed| sealed.operation.body().encode().to_vec()).chain(catalogs()).collect()
}

pub fn records() -> Vec<Vec<u8>> {
    let block =
        b"NATS/1.0\r\nNats-Msg-Id: 1\r\na: 1\r\na: \r\nb:x y\r\nx-rhio-Source: v\r\nnats-expected-stream: S\r\n\r\n";
    let rich = CanonicalRecord::encode("a.b.c", block, &[7; 40]).expect("a record");
    let all = sealed().flat_map(|sealed| sealed.records).map(|record| record.record);
    let mut seeds: Vec<_> = all.map(|record| record.as_bytes().to_vec()).collect();
    // Several behind one another, as in a batch.
    seeds.push(seeds.concat());
    seeds.push(rich.as_bytes().to_vec());
    // One that no record may have.
    seeds.push(b"\0\x03s s\0\0\0\0\0\0".to_vec());
    seeds
}

pub fn descriptors() -> Vec<Vec<u8>> {
    let bucket = LogDescriptor::bucket(world::author(), u64::MAX, "b");
    worlds().map(|world| world.descriptor).chain([bucket]).map(|log| log.encode().to_vec()).collect()
}

pub fn commits() -> Vec<Vec<u8>> {
    let commit = |world: World| {
        let operations = world.log.iter().map(|sealed| sealed.operation.raw().clone()).collect();
        Commit { local: LocalSeq(7), gone: 1, operations }.encode().to_vec()
    };
    let small = Commit { local: LocalSeq(0), gone: 0, operations: vec![Bytes::from_static(b"x"), Bytes::new()] };
    worlds().map(commit).chain([small.encode().to_vec()]).collect()
}

const CATALOGS: &str = include_str!("../../rhio-core/tests/vectors/catalog.txt");

fn catalog_vector(name: &str) -> Vec<u8> {
    let mut lines = CATALOGS.lines().filter_map(|line| line.split_once(' '));
    unhex(lines.find(|(found, _)| *found == name).expect("a test vector").1)
}

fn catalogs() -> Vec<Vec<u8>> {
    let put = |name: &str, pairs: &[(&str, &str)]| {
        let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Put {
            key: ObjectKey::new(name).expect("a key"),
            hash: BlobHash::from_bytes([5; 32]),
            size: 1 << 40,
            modified: 1,
            etag: "e".to_owned(),
            attributes: Attributes::keep(pairs),
        }
    };
    let rich = put("a/b c", &[("cache-control", ""), ("expires", "0"), ("x-amz-meta-a", "1"), ("x-amz-meta-b", "2")]);
    let entries = vec![Entry::Put(rich), Entry::Put(put("ä", &[])), Entry::Delete(put("ä", &[]).key), Entry::Complete];
    let catalog =
        |before, entries| Body { before, content: Catalog::new(entries).expect("a catalog").into() }.encode().to_vec();
    let late = Total { items: u64::MAX, bytes: 1 << 62 };
    vec![catalog_vector("body"), catalog(late, entries), catalog(Total::default(), vec![Entry::Complete; 1024])]
}

pub fn progresses() -> Vec<Vec<u8>> {
    let of = |entries: &mut dyn Iterator<Item = u64>| {
        let mut progress = Progress::default();
        entries.for_each(|entry| progress.insert(entry));
        progress.encode().to_vec()
    };
    let vector = unhex(include_str!("../../rhio-core/tests/vectors/progress.hex"));
    let full = of(&mut (0..MAX_RANGES as u64).map(|n| n * 2 + 1));
    vec![vector, of(&mut std::iter::empty()), of(&mut [7, u64::MAX - 1].into_iter()), full]
}

pub fn frames() -> Vec<Vec<u8>> {
    let vectors = FRAMES.lines().filter_map(|line| line.split_once(' ')).map(|(_, text)| unhex(text));
    let batches = sealed().map(|sealed| {
        let slots = sealed.records.iter().map(|record| applier::present(&record.record)).collect();
        Frame::Batch(Batch { operation: sealed.operation.raw().clone(), slots })
    });
    let others = worlds().flat_map(|world| {
        let tail = world.tail(world.log.len());
        let state = LogState {
            descriptor: world.descriptor.clone(),
            closed: false,
            head: tail.head,
            through: tail.through,
            total: tail.total,
            pending: Some(3),
        };
        let floor = Floor { filter: world.filter.clone(), through: tail.through };
        let pull = Pull {
            log: world.descriptor.id(),
            next: tail.head.map_or_else(Default::default, |head| head.seq.next()),
            held: tail.head.map(|head| head.hash),
            want: Want::Messages { filter: world.filter.clone(), floors: vec![floor.clone(), floor] },
        };
        let refused = Frame::Refused { code: CloseCode::Unavailable, reason: "later, später".to_owned() };
        [Frame::Logs(vec![state; 2]), Frame::Pull(pull), refused]
    });
    vectors.chain(batches.chain(others).map(|frame| frame.encode().to_vec())).collect()
}

pub fn filters() -> Vec<Vec<u8>> {
    [
        "a.*.c\na.>\na.b.c",
        ">\n*\na",
        "a.b\na.b\na.b",
        "*.*\n*.>\nx.y",
        "a.>\n>.a\na..b",
        "a*.b>\na*.>\na*.b>",
        " \n\t\n.",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

/// For the targets that read their input as a script, any bytes will do.
pub fn scripts() -> Vec<Vec<u8>> {
    (0..40).map(|number| random_bytes(number, mutate::MAX_LEN / 2)).collect()
}
