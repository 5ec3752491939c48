//! Batches as no honest provider sends them.

use arbitrary::{Result, Unstructured};
use bytes::Bytes;
use rhio_core::codec::Reader;
use rhio_core::id::LogId;
use rhio_core::log::operation::Operation;
use rhio_core::record::{CanonicalRecord, RecordParts, SourceRecord};
use rhio_core::wire::{Batch, Frame, FrameHeader, HEADER_LEN, Slot};

use super::game::Game;
use crate::world;

/// A batch with every record.
pub fn whole(operation: &Operation, records: &[SourceRecord]) -> Batch {
    Batch { operation: operation.raw().clone(), slots: records.iter().map(|r| present(&r.record)).collect() }
}

/// A record's slot.
pub fn present(record: &CanonicalRecord) -> Slot {
    let (record, parts) = CanonicalRecord::read(&mut Reader::new(record.as_bytes().clone())).expect("a record");
    Slot::Present(record, parts)
}

/// Over the wire.
pub fn travel(batch: Batch) -> Batch {
    let encoded = Frame::Batch(batch.clone()).encode();
    let Some(Frame::Batch(arrived)) = read(&encoded) else { panic!("a batch does not arrive") };
    assert_eq!(arrived, batch);
    arrived
}

fn read(bytes: &Bytes) -> Option<Frame> {
    let header = FrameHeader::decode(*bytes.first_chunk::<HEADER_LEN>()?).ok()?;
    Frame::decode(header, bytes.slice(HEADER_LEN..)).ok()
}

/// Spoils a batch in one way. Nothing is left when it can't be read any more.
pub fn batch(u: &mut Unstructured<'_>, game: &Game, mut batch: Batch) -> Result<Option<Batch>> {
    match u.int_in_range(0..=9u8)? {
        // Bytes change on the way.
        0 | 1 => {
            let mut bytes = Frame::Batch(batch).encode().to_vec();
            for _ in 0..u.int_in_range(1..=3u8)? {
                let at = u.choose_index(bytes.len())?;
                bytes[at] ^= u.int_in_range(1..=255u8)?;
            }
            return Ok(match read(&bytes.into()) {
                Some(Frame::Batch(batch)) => Some(batch),
                _ => None,
            });
        }
        2 => {
            let len = u.choose_index(batch.operation.len())?;
            batch.operation = batch.operation.slice(..len);
        }
        3 if !batch.slots.is_empty() => {
            let at = u.choose_index(batch.slots.len())?;
            batch.slots.remove(at);
        }
        4 => {
            let slot = slot(u, game)?;
            let at = u.int_in_range(0..=batch.slots.len())?;
            batch.slots.insert(at, slot);
        }
        5 if batch.slots.len() > 1 => {
            let (a, b) = (u.choose_index(batch.slots.len())?, u.choose_index(batch.slots.len())?);
            batch.slots.swap(a, b);
        }
        6 => batch.operation = again(u, game, &batch)?,
        // The parts and the record that was verified must be of one message: a peer can't tell them apart, since both
        // are made from the same bytes when they arrive.
        _ if !batch.slots.is_empty() => {
            let at = u.choose_index(batch.slots.len())?;
            batch.slots[at] = slot(u, game)?;
        }
        _ => {}
    }
    Ok(Some(batch))
}

/// A slot that leaves a record out, with the proof of its subject.
pub fn proven(record: &CanonicalRecord) -> Slot {
    Slot::Proven(Bytes::copy_from_slice(record.subject()), record.proof())
}

/// A slot of anything.
fn slot(u: &mut Unstructured<'_>, game: &Game) -> Result<Slot> {
    Ok(match u.int_in_range(0..=4u8)? {
        0 => Slot::Gone,
        1 => Slot::LeftOut,
        4 => {
            let sealed = &game.world().log[u.choose_index(game.world().log.len())?];
            proven(&sealed.records[u.choose_index(sealed.records.len())?].record)
        }
        2 => present(&world::record(u, &game.world().filter)?),
        _ => {
            let sealed = &game.world().log[u.choose_index(game.world().log.len())?];
            present(&sealed.records[u.choose_index(sealed.records.len())?].record)
        }
    })
}

/// The same manifest, signed by another key, for another log, or as another number.
fn again(u: &mut Unstructured<'_>, game: &Game, batch: &Batch) -> Result<Bytes> {
    let Ok(operation) = Operation::verify(batch.operation.clone()) else { return Ok(batch.operation.clone()) };
    let body = operation.body().clone();
    let (log, previous) = (game.world().descriptor.id(), game.expects_after(false));
    let stranger = world::key(2);
    Ok(match u.int_in_range(0..=2u8)? {
        0 => Operation::sign(&stranger, log, previous, 7, body),
        1 => Operation::sign(&stranger, LogId::from_bytes([3; 32]), previous, 7, body),
        _ => Operation::sign(&world::key(1), LogId::from_bytes([3; 32]), previous, 7, body),
    }
    .raw()
    .clone())
}

/// A record's canonical bytes, put together again from what was handed out.
pub fn recompose(parts: &RecordParts) -> CanonicalRecord {
    CanonicalRecord::encode(&parts.subject, &parts.headers, &parts.payload).expect("a record")
}
