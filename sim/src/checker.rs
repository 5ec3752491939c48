//! What must hold when everything has come to rest.

use std::collections::{BTreeMap, BTreeSet};

use rhio_core::subject::Filter;

use crate::base::{NodeId, name};
use crate::history::created_of;
use crate::history::{id_of, is_replica, operations_of};
use crate::world::World;

/// What is not as it must be. Empty when the run is good.
pub fn problems(world: &World) -> Vec<String> {
    let mut problems = world.history.failures.clone();
    for (reader, author, filter) in world.history.subscriptions() {
        check(world, reader, author, filter, &mut problems);
    }
    problems
}

fn check(world: &World, reader: NodeId, author: NodeId, filter: &Filter, problems: &mut Vec<String>) {
    let history = &world.history;
    let (from, to) = (name(author), name(reader));
    let replicas = world.sites[reader].data.from(0).filter(|m| is_replica(m)).map(id_of);
    let here: Vec<_> = replicas.filter(|id| history.published[*id].site == author).collect();
    let mut seen = BTreeSet::new();
    let mut last = BTreeMap::new();
    for id in &here {
        let published = &history.published[*id];
        if !filter.matches(&published.subject) {
            problems.push(format!("{to} holds message {id} of {from}, which it did not ask for"));
        }
        if !seen.insert(*id) {
            problems.push(format!("{to} holds message {id} of {from} twice"));
        }
        // Numbers are given in the order of publishing, so they must grow within each life of the author's stream.
        if let Some(before) = last.insert(published.created, *id)
            && before > *id
        {
            problems.push(format!("{to} holds message {id} of {from} after message {before}"));
        }
    }
    let mut first: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    for published in here.iter().map(|id| &history.published[*id]) {
        first.entry(published.created).and_modify(|at| *at = published.place.min(*at)).or_insert(published.place);
    }
    let mut gone = Vec::new();
    let covered = covered(world, reader, author);
    for (id, published) in history.published.iter().enumerate() {
        let wanted = published.site == author && filter.matches(&published.subject);
        if !wanted || published.returned || seen.contains(&id) || history.removed.contains(&(reader, id)) {
            continue;
        }
        if !published.gone {
            problems.push(format!("{to} lacks message {id} of {from}"));
        } else if published.kept_by.contains(&reader) {
            problems.push(format!("{to} had message {id} of {from} and lost it"));
        } else if !published.forgotten
            && covered.contains(&(published.created, published.place))
            && !(history.begun_anew.contains(&reader)
                && first.get(&published.created).is_some_and(|first| published.place < *first))
        {
            gone.push(id);
        }
    }
    let counted = counted(world, reader, author);
    // Under a narrower filter nobody can say whether a record that is gone was wanted, so those are not counted.
    let published = world.config.nodes[author].publishes.as_ref();
    if published.is_some_and(|all| !filter.covers(all)) {
        return;
    }
    if counted < gone.len() as u64 {
        problems.push(format!("{to} counts {counted} messages of {from} as gone, and lacks {gone:?}"));
    }
}

/// The places in the author's stream that the reader's cursors cover. (A cursor that went back covers less than what is
/// stored of its log; the rest may be gone together with the author's own copy of that log.)
fn covered(world: &World, reader: NodeId, author: NodeId) -> BTreeSet<(u64, (u64, u64))> {
    let site = &world.sites[reader];
    // Copies of earlier lives of the reader's stream say nothing of what it holds now.
    let life = format!(".{}", site.data.created);
    let copies = site.state.from(0).filter(|message| message.subject.ends_with(&life));
    let operations: Vec<_> = copies.flat_map(operations_of).collect();
    let cursors: BTreeMap<_, _> = operations.iter().map(|operation| (operation.log(), operation.seq())).collect();
    let mut covered = BTreeSet::new();
    for operation in operations.iter().filter(|operation| operation.seq() <= cursors[&operation.log()]) {
        if let Some((site, descriptor)) = world.history.logs.get(&operation.log())
            && *site == author
        {
            let places = operation.records().iter().map(|e| (e.position.seq.0, e.position.time));
            covered.extend(places.map(|place| (created_of(descriptor), place)));
        }
    }
    covered
}

/// How many records the reader says were gone before it got them.
fn counted(world: &World, reader: NodeId, author: NodeId) -> u64 {
    let site = &world.sites[reader];
    let logs = world.history.logs.iter().filter(|(_, (site, _))| *site == author);
    let subjects = logs.map(|(id, (_, descriptor))| format!("ops.{}.{id}.{}", descriptor.author, site.data.created));
    let last = subjects.filter_map(|subject| site.state.last_of(&subject));
    last.filter_map(|m| rhio_core::log::commit::Commit::decode(m.payload.clone()).ok()).map(|commit| commit.gone).sum()
}
