use std::collections::VecDeque;

use bytes::Bytes;
use p2panda_core::SigningKey;
use proptest::prelude::*;

use super::*;
use crate::id::LogId;
use crate::log::body::Body;
use crate::log::operation::{MAX_OPERATION_LEN, Operation};
use crate::log::writer::Writer;

fn key(name: &str) -> ObjectKey {
    ObjectKey::new(name).unwrap()
}

fn signer() -> SigningKey {
    SigningKey::from_bytes(&[1; 32])
}

const LOG: LogId = LogId::from_bytes([5; 32]);

fn put(name: &str) -> Put {
    let pairs = [("content-type", "text/plain"), ("x-amz-meta-colour", "rot, grün")];
    Put {
        key: key(name),
        hash: BlobHash::from_bytes([9; 32]),
        size: 300,
        modified: 1_700_000_000_456,
        etag: "d41d8cd98f00b204e9800998ecf8427e".to_owned(),
        attributes: Attributes::all(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into()).unwrap(),
    }
}

fn entries() -> Vec<Entry> {
    let bare = Put { size: 0, etag: String::new(), attributes: Attributes::default(), ..put("ä/b") };
    vec![Entry::Put(put("a")), Entry::Put(bare), Entry::Complete, Entry::Delete(key("a"))]
}

fn body(hex_of_entries: &str) -> Bytes {
    hex::decode(["0202000001", hex_of_entries].concat().replace(' ', "")).unwrap().into()
}

#[test]
fn the_formats_are_the_ones_that_were_agreed() {
    let vectors = include_str!("../../tests/vectors/catalog.txt");
    let mut writer = Writer::new(signer(), LOG, None, Total::default());
    writer.stage(Catalog::new(entries()).unwrap(), 1_700_000_000_000_000).unwrap();
    let first = writer.appended().unwrap();
    writer.stage(Catalog::new(vec![Entry::Complete]).unwrap(), 1_700_000_000_000_001).unwrap();
    let second = writer.appended().unwrap();
    let written = [
        ("body", hex::encode(first.body().encode())),
        ("operation-0", hex::encode(first.raw())),
        ("operation-1", hex::encode(second.raw())),
    ];
    let written: String = written.iter().map(|(name, text)| format!("{name} {text}\n")).collect();
    assert_eq!(written, vectors);
    for operation in [&first, &second] {
        assert_eq!(&Operation::verify(operation.raw().clone()).unwrap(), operation);
    }
}

#[test]
fn a_catalog_counts_what_its_log_has_said() {
    let before = Total { items: 7, bytes: 70 };
    let body = |before| Body { before, content: Catalog::new(entries()).unwrap().into() };
    assert_eq!(body(before).after(), Total { items: 11, bytes: 370 });
    let full = Total { items: u64::MAX, bytes: u64::MAX };
    assert_eq!(body(full).after(), full);
}

#[test]
fn an_operation_takes_as_much_as_fits() {
    let longest = Put {
        key: key(&"k".repeat(MAX_KEY_LEN)),
        size: MAX_OBJECT_SIZE,
        modified: u64::MAX,
        etag: "e".repeat(MAX_ETAG_LEN),
        attributes: Attributes::all(
            (0..MAX_ATTRIBUTES)
                .map(|n| {
                    let name = format!("x-amz-meta-{n}");
                    let value = "v".repeat(MAX_ATTRIBUTES_LEN / MAX_ATTRIBUTES - name.len());
                    (name, value)
                })
                .collect(),
        )
        .unwrap(),
        ..put("k")
    };
    // One below the target, and then the longest there is.
    let mut waiting: VecDeque<_> = [Entry::Put(longest.clone()), Entry::Put(longest.clone())].into();
    while waiting.iter().map(encoded_len).sum::<usize>() < TARGET_LEN - 4 {
        waiting.push_front(Entry::Delete(key("d")));
    }
    waiting.push_back(Entry::Put(longest));
    let mut writer = Writer::new(signer(), LOG, None, Total { items: u64::MAX, bytes: u64::MAX });
    let operation = writer.stage(Catalog::take(&mut waiting).unwrap(), u64::MAX).unwrap().clone();
    assert!(operation.raw().len() <= MAX_OPERATION_LEN, "{}", operation.raw().len());
    assert_eq!(Operation::verify(operation.raw().clone()).unwrap(), operation);

    let mut many: VecDeque<_> = vec![Entry::Complete; MAX_ENTRIES + 1].into();
    let taken: Vec<_> = std::iter::from_fn(|| Catalog::take(&mut many)).collect();
    assert_eq!(taken.iter().map(|catalog| catalog.entries().len()).collect::<Vec<_>>(), [MAX_ENTRIES, 1]);
}

#[test]
fn a_count_out_of_bounds_is_refused() {
    let (got, max) = (MAX_ENTRIES as u64 + 1, MAX_ENTRIES as u64);
    assert_eq!(Catalog::new(vec![]), Err(DecodeError::Invalid("entry count")));
    let many = vec![Entry::Complete; MAX_ENTRIES + 1];
    assert_eq!(Catalog::new(many), Err(DecodeError::TooLarge { what: "entry count", got, max }));
    let decode = |text: &str| Body::decode(hex::decode(text).unwrap().into()).unwrap_err();
    assert_eq!(decode("0202000000"), DecodeError::Invalid("entry count"));
    assert_eq!(decode("02020000810803"), DecodeError::TooLarge { what: "entry count", got, max });
    assert_eq!(decode("020200008008"), DecodeError::Truncated("entry tag"));
    assert_eq!(decode("020200000103ff"), DecodeError::Trailing(1));
}

#[test]
fn broken_entries_are_refused_with_the_reason() {
    let refused = |text: &str| Body::decode(body(text)).unwrap_err();
    let hash = "09".repeat(32);
    assert_eq!(refused("04"), DecodeError::Invalid("entry tag"));
    assert_eq!(refused("02 0000"), DecodeError::Invalid("key"));
    assert_eq!(refused("02 0001 ff"), DecodeError::Invalid("key"));
    assert_eq!(refused("02 0401"), DecodeError::TooLarge { what: "key", got: 1025, max: 1024 });
    assert_eq!(refused("02 0002 61"), DecodeError::Truncated("key"));
    let object = |rest: &str| refused(&format!("01 0001 61 {hash} {rest}"));
    let (got, max) = (MAX_OBJECT_SIZE + 1, MAX_OBJECT_SIZE);
    assert_eq!(object("8180808080808002"), DecodeError::TooLarge { what: "size", got, max });
    assert_eq!(object("00 00 0101"), DecodeError::TooLarge { what: "etag", got: 257, max: 256 });
    assert_eq!(object("00 00 0000 81"), DecodeError::TooLarge { what: "attribute count", got: 129, max: 128 });
    // Attributes: out of order, twice, one that may not travel.
    let (kind, meta) = (hex::encode("content-type"), hex::encode("x-amz-meta-a"));
    let (own, hidden) = (hex::encode("x-amz-meta-rhio-a"), hex::encode("host"));
    assert_eq!(
        object(&format!("00 00 0000 02 000c {meta} 0000 000c {kind} 0000")),
        DecodeError::Invalid("attribute order")
    );
    assert_eq!(
        object(&format!("00 00 0000 02 000c {kind} 0000 000c {kind} 0000")),
        DecodeError::Invalid("attribute order")
    );
    assert_eq!(object(&format!("00 00 0000 01 0011 {own} 0000")), DecodeError::Invalid("attributes"));
    assert_eq!(object(&format!("00 00 0000 01 0004 {hidden} 0000")), DecodeError::Invalid("attributes"));
    assert_eq!(object(&format!("00 00 0000 01 000c {kind} 0001 0a")), DecodeError::Invalid("attributes"));
    // The same ones in order are taken.
    assert!(Body::decode(body(&format!("01 0001 61 {hash} 00 00 0000 02 000c {kind} 0000 000c {meta} 0000"))).is_ok());
}

fn any_entry() -> impl Strategy<Value = Entry> {
    let attributes = prop::collection::vec(("x-amz-meta-[a-z]{1,3}", "[ -~é]{0,9}"), 0..4).prop_map(Attributes::keep);
    let object = (".{1,20}", any::<[u8; 32]>(), 0..=MAX_OBJECT_SIZE, any::<u64>(), ".{0,20}", attributes);
    let put = object.prop_map(|(name, hash, size, modified, etag, attributes)| {
        Entry::Put(Put { key: key(&name), hash: BlobHash::from_bytes(hash), size, modified, etag, attributes })
    });
    prop_oneof![put, ".{1,20}".prop_map(|name| Entry::Delete(key(&name))), Just(Entry::Complete)]
}

proptest! {
    #[test]
    fn catalogs_read_back(
        (items, bytes) in any::<(u64, u64)>(), said in prop::collection::vec(any_entry(), 1..12),
    ) {
        let bound: usize = 2 + 10 + 10 + 2 + said.iter().map(encoded_len).sum::<usize>();
        let body = Body { before: Total { items, bytes }, content: Catalog::new(said).unwrap().into() };
        let encoded = body.encode();
        prop_assert!(encoded.len() <= bound);
        prop_assert_eq!(Body::decode(encoded), Ok(body));
    }
}
