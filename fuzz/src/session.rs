//! A provider's session with a peer that asks for anything: what goes out is what was asked for, of what is there.

use arbitrary::{Result, Unstructured};
use rhio_core::id::{OpHash, OpSeq};
use rhio_core::log::operation::Head;
use rhio_core::log::session::{Session, Step};
use rhio_core::record::{Position, SourceRecord};
use rhio_core::select::{Selected, Selection};
use rhio_core::subject::Filter;
use rhio_core::wire::Floor;

use crate::world::{self, World};

/// A script of what the peer says and what the source still holds.
pub fn run(input: &[u8]) {
    // A script that ends early is a short one.
    let _ = script(&mut Unstructured::new(input));
}

/// What the peer wants of the log.
struct Asked {
    filter: Filter,
    floors: Vec<Floor>,
}

fn number(u: &mut Unstructured<'_>) -> Result<OpSeq> {
    Ok(OpSeq(if u.ratio(1u8, 8u8)? { u.arbitrary()? } else { u.int_in_range(0..=7)? }))
}

fn hash(u: &mut Unstructured<'_>, world: &World, seq: OpSeq) -> Result<OpHash> {
    let forged = u.ratio(1u8, 4u8)?;
    let genuine = world.hash_before(seq).filter(|_| !forged);
    genuine.map_or_else(|| u.arbitrary().map(OpHash::from_bytes), Ok)
}

fn script(u: &mut Unstructured<'_>) -> Result<()> {
    let world = World::new(u)?;
    let next = number(u)?;
    let held = if u.arbitrary()? { Some(hash(u, &world, next)?) } else { None };
    let asked = Asked { filter: world::filter(u)?, floors: world::floors(u)? };
    let before = world.hash_before(next).filter(|_| u.ratio(7u8, 8u8).unwrap_or(true));
    let opened = Session::open((next, held), world.head(), before);
    let Ok(mut session) = opened else {
        let forked = before.zip(held).is_some_and(|(ours, theirs)| ours != theirs);
        assert!(forked || next.0 > world.log.len() as u64, "a peer with a beginning of the log was refused");
        return Ok(());
    };
    assert!(next.0 <= world.log.len() as u64, "a peer that holds more than the log was served");

    while !u.is_empty() {
        match u.int_in_range(0..=3u8)? {
            0 => skip(u, &mut session)?,
            1 => applied(u, &world, &mut session)?,
            _ => send(u, &world, &asked, &mut session)?,
        }
    }
    Ok(())
}

fn skip(u: &mut Unstructured<'_>, session: &mut Session) -> Result<()> {
    let (before, to) = (session.next(), number(u)?);
    session.skip_to(to);
    assert_eq!(session.next(), before.max(to));
    Ok(())
}

fn applied(u: &mut Unstructured<'_>, world: &World, session: &mut Session) -> Result<()> {
    let seq = number(u)?;
    let head = Head { seq, hash: hash(u, world, seq)? };
    let before = session.durable();
    let result = session.applied(head);
    assert_eq!(result.is_ok(), seq < session.next(), "{seq} when {} comes next", session.next());
    let durable = session.durable().map(|durable| durable.seq);
    assert!(durable >= before.map(|before| before.seq), "what is durable does not become less");
    assert!(durable.is_none_or(|durable| durable < session.next()));
    Ok(())
}

fn send(u: &mut Unstructured<'_>, world: &World, asked: &Asked, session: &mut Session) -> Result<()> {
    let ring = if u.arbitrary()? { Some(number(u)?) } else { None };
    let seq = match session.step(world.head(), ring) {
        Step::Wait => {
            assert!(world.at(session.next()).is_none(), "it waits although there is more");
            return Ok(());
        }
        Step::Ring(seq) => {
            assert!(ring.is_some_and(|first| first <= seq));
            seq
        }
        Step::Log(seq) => seq,
    };
    assert_eq!(seq, session.next());
    let sealed = world.at(seq).expect("what is to be sent is there");
    let there = source(u, &sealed.records)?;
    let selection = Selection::new(asked.filter.clone(), asked.floors.clone(), &world.filter);
    let selected = selection.select(&sealed.operation, &there);
    session.sent(seq);
    assert_eq!(session.next(), seq.next());
    let entries = sealed.operation.records();
    assert_eq!(selected.len(), entries.len());
    for (entry, selected) in entries.iter().zip(selected) {
        let Selected::Record(index) = selected else { continue };
        let record = &there[index];
        assert_eq!(record.position, entry.position, "another message was sent in place of the record");
        assert!(asked.filter.matches(record.record.subject()) || asked.filter.covers(&world.filter));
        let held = asked.floors.iter().any(|floor| floor.holds(entry.position, record.record.subject()));
        assert!(!held, "a record that the subscriber has was sent");
    }
    Ok(())
}

/// What the source still holds of a batch's records: some are gone, and some numbers were given to other messages.
pub fn source(u: &mut Unstructured<'_>, records: &[SourceRecord]) -> Result<Vec<SourceRecord>> {
    let mut there = Vec::new();
    for record in records {
        match u.int_in_range(0..=15u8)? {
            0 => {}
            1 => {
                let position = Position { time: record.position.time + 1, ..record.position };
                there.push(SourceRecord { position, record: record.record.clone() });
            }
            _ => there.push(record.clone()),
        }
    }
    Ok(there)
}
