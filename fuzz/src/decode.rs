//! Formats that are read without a signature: nothing panics, and what is read writes back to the same bytes.

use bytes::Bytes;
use rhio_core::catalog::progress::{MAX_RANGES, Progress};
use rhio_core::catalog::{Catalog, Entry, MAX_ENTRIES, MAX_OBJECT_SIZE};
use rhio_core::codec::Reader;
use rhio_core::headers::{Stamp, restore};
use rhio_core::id::OpHash;
use rhio_core::log::body::{Body, Content, MAX_BODY_LEN};
use rhio_core::log::commit::{Commit, MAX_OPERATIONS};
use rhio_core::log::descriptor::LogDescriptor;
use rhio_core::log::operation::MAX_OPERATION_LEN;
use rhio_core::log::total::Total;
use rhio_core::manifest::MAX_RECORDS;
use rhio_core::object::{Attributes, MAX_ATTRIBUTES, MAX_ATTRIBUTES_LEN, MAX_ETAG_LEN, MAX_KEY_LEN, OWN_PREFIX};
use rhio_core::record::{CanonicalRecord, Position, RecordParts};
use rhio_core::wire::{CloseCode, Frame, FrameHeader, HEADER_LEN, MAX_FLOORS, MAX_LOGS, Pull, Want};

use crate::world;

/// A header and what follows it, as a peer's stream delivers it.
pub fn frame(input: &[u8]) {
    let bytes = Bytes::copy_from_slice(input);
    let Some(header) = input.first_chunk::<HEADER_LEN>() else { return };
    let payload = bytes.slice(HEADER_LEN..);
    if let Ok(header) = FrameHeader::decode(*header) {
        // The daemon reads as many bytes as the header says. Less or more must not hurt either.
        read_frame(header, payload.clone());
        if payload.len() >= header.len {
            read_frame(header, payload.slice(..header.len));
        }
    }
    // The same payload under a header that fits, so that a change of the length is no dead end.
    let mut fitting = *header;
    fitting[2..].copy_from_slice(&(payload.len() as u32).to_be_bytes());
    if let Ok(header) = FrameHeader::decode(fitting) {
        read_frame(header, payload);
    }
}

fn read_frame(header: FrameHeader, payload: Bytes) {
    let Ok(frame) = Frame::decode(header, payload.clone()) else { return };
    match &frame {
        Frame::Logs(logs) => assert!(logs.len() <= MAX_LOGS),
        Frame::Pull(Pull { want: Want::Messages { floors, .. }, .. }) => assert!(floors.len() <= MAX_FLOORS),
        Frame::Batch(batch) => {
            assert!(batch.operation.len() <= MAX_OPERATION_LEN && batch.slots.len() <= MAX_RECORDS);
        }
        _ => {}
    }
    let encoded = frame.encode();
    let (head, body) = encoded.split_first_chunk::<HEADER_LEN>().expect("a frame has a header");
    let again = FrameHeader::decode(*head).expect("what was read is within its bounds");
    assert_eq!(again.len, body.len());
    // A close code of a newer program is read as one that this program knows.
    if !matches!(&frame, Frame::Refused { code: CloseCode::Unavailable, .. }) {
        assert_eq!(body, payload, "{frame:?} is written as other bytes than it was read from");
    }
    assert_eq!(Frame::decode(again, encoded.slice(HEADER_LEN..)), Ok(frame));
}

/// Records one behind the other.
pub fn record(input: &[u8]) {
    let mut reader = Reader::new(Bytes::copy_from_slice(input));
    while reader.remaining() > 0 {
        let before = reader.peek();
        let Ok((record, parts)) = CanonicalRecord::read(&mut reader) else { return };
        let len = before.len() - reader.remaining();
        assert_eq!(record.as_bytes(), &before[..len]);
        check_record(&record, &parts);
    }
}

fn check_record(record: &CanonicalRecord, parts: &RecordParts) {
    let (subject, block) = (&parts.subject[..], &parts.headers[..]);
    assert_eq!((record.subject(), record.headers()), (subject, block));
    let again = CanonicalRecord::encode(subject, block, &parts.payload).expect("a record can be written again");
    assert_eq!(&again, record, "one message has two encodings");
    assert_eq!(record.proof().digest(subject), record.digest());
    // It goes into a line of the NATS protocol.
    assert!(!subject.iter().any(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n')));
    check_headers(block);
}

/// A block of headers as a peer sent it: what is written of it steers nothing, and gives it back.
fn check_headers(block: &[u8]) {
    let author = world::author();
    let (life, operation) = ("0123456789abcdef", OpHash::from_bytes([9; 32]));
    for ttl_allowed in [false, true] {
        let mut stored = Vec::new();
        Stamp::new(author, life, operation).put(&mut stored, block, 1, Position::default(), ttl_allowed);
        let (restored, _) = restore(&stored).expect("what was written can be read");
        assert_eq!(restored, block, "the record at its source can't be got back");
        let steers: [&[u8]; 6] =
            [b"Nats-Msg-Id:", b"Nats-Rollup:", b"Nats-Expected-", b"Nats-Batch-", b"Nats-Schedule", b"Nats-Incr:"];
        // A server finds a header behind any end of a line.
        for at in (2..stored.len()).filter(|at| stored[..*at].ends_with(b"\r\n")) {
            assert!(!steers.iter().any(|name| stored[at..].starts_with(name)), "it would steer the local JetStream");
        }
    }
}

/// An operation's body, of any kind.
pub fn body(input: &[u8]) {
    let bytes = Bytes::copy_from_slice(input);
    let Ok(body) = Body::decode(bytes.clone()) else { return };
    assert_eq!(body.encode(), bytes);
    assert!(bytes.len() <= MAX_BODY_LEN);
    check_body(&body);
}

/// What holds for every body that was read.
pub fn check_body(body: &Body) {
    assert!(body.after().covers(body.before));
    match &body.content {
        Content::Messages(manifest) => {
            let entries = manifest.entries();
            assert!((1..=MAX_RECORDS).contains(&entries.len()));
            assert!(entries.windows(2).all(|pair| pair[0].position.seq < pair[1].position.seq));
            assert!(body.entries().is_empty());
        }
        Content::Bucket(catalog) => {
            assert!(body.manifest().is_none());
            check_catalog(body.before, catalog);
        }
    }
}

fn check_catalog(before: Total, catalog: &Catalog) {
    let entries = catalog.entries();
    assert!((1..=MAX_ENTRIES).contains(&entries.len()));
    for entry in entries {
        let Entry::Put(put) = entry else { continue };
        assert!((1..=MAX_KEY_LEN).contains(&put.key.as_str().len()));
        assert!(put.size <= MAX_OBJECT_SIZE && put.etag.len() <= MAX_ETAG_LEN);
        check_attributes(&put.attributes);
    }
    // An author that publishes the same can write it: in one operation, or in several.
    let mut waiting = entries.to_vec().into();
    let mut said = before;
    while let Some(part) = Catalog::take(&mut waiting) {
        let part = Body { before: said, content: part.into() };
        assert!(part.encode().len() <= MAX_BODY_LEN);
        assert_eq!(Body::decode(part.encode()).as_ref(), Ok(&part));
        said = part.after();
    }
    assert_eq!(said, before.plus(catalog.amount()));
}

/// They become headers of HTTP requests.
fn check_attributes(attributes: &Attributes) {
    assert!(attributes.iter().len() <= MAX_ATTRIBUTES);
    assert!(attributes.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() <= MAX_ATTRIBUTES_LEN);
    for (name, value) in attributes.iter() {
        assert!(!name.starts_with(OWN_PREFIX), "an attribute of rhio's own came from a peer");
        assert!(name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':' && !byte.is_ascii_uppercase()));
        assert!(!value.chars().any(char::is_control) && value.trim() == value);
    }
    let kept = Attributes::keep(attributes.iter().map(|(name, value)| (name.to_owned(), value.to_owned())));
    assert_eq!(&kept, attributes, "what came would not travel on");
}

/// What of a catalog is settled.
pub fn progress(input: &[u8]) {
    let bytes = Bytes::copy_from_slice(input);
    let Ok(mut progress) = Progress::decode(bytes.clone()) else { return };
    assert_eq!(progress.encode(), bytes);
    let ranges: Vec<_> = progress.above().collect();
    assert!(ranges.len() <= MAX_RANGES);
    assert!(!progress.contains(progress.low()));
    let mut count = progress.low();
    for range in &ranges {
        let (first, last) = (*range.start(), *range.end());
        assert!(progress.low() < first && first <= last && last < progress.received());
        assert!(progress.contains(first) && progress.contains(last));
        assert!(!progress.contains(first - 1) && !progress.contains(last + 1));
        count += last - first + 1;
    }
    assert_eq!(progress.count(), count);
    // Noted once more in the middle, and taken back again.
    let low = progress.low();
    progress.insert(low);
    assert!(low == u64::MAX || progress.count() == count + 1);
    progress.truncate(low);
    assert_eq!((progress.low(), progress.count()), (low, low));
}

/// What a log is about.
pub fn descriptor(input: &[u8]) {
    let bytes = Bytes::copy_from_slice(input);
    let mut reader = Reader::new(bytes.clone());
    let Ok(descriptor) = LogDescriptor::read(&mut reader) else { return };
    let len = bytes.len() - reader.remaining();
    assert_eq!(descriptor.encode(), bytes.slice(..len));
    let again = LogDescriptor::read(&mut Reader::new(descriptor.encode())).expect("it was read before");
    assert_eq!((again.id(), again.same_origin(&descriptor) && again.overlaps(&descriptor)), (descriptor.id(), true));
}

/// A message of the state stream.
pub fn commit(input: &[u8]) {
    let bytes = Bytes::copy_from_slice(input);
    let Ok(commit) = Commit::decode(bytes.clone()) else { return };
    assert!((1..=MAX_OPERATIONS).contains(&commit.operations.len()));
    assert!(commit.operations.iter().all(|operation| operation.len() <= MAX_OPERATION_LEN));
    assert_eq!(commit.encode(), bytes);
}
