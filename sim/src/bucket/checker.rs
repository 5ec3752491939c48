//! What must hold of buckets when everything has come to rest.

use std::collections::BTreeSet;

use rhio_core::object::ObjectKey;

use crate::base::{NodeId, name};
use crate::world::World;

/// What is not as it must be.
pub fn problems(world: &World) -> Vec<String> {
    let mut problems = world.goods.failures.clone();
    for (reader, author) in world.config.catalog_readers() {
        check(world, reader, author, &mut problems);
    }
    problems
}

fn check(world: &World, reader: NodeId, author: NodeId, problems: &mut Vec<String>) {
    let (from, to) = (&world.sites[author].bucket, &world.sites[reader].bucket);
    let (at, key_of_author) = (name(reader), world.public_key(author));
    let follow = world.config.buckets.as_ref().is_some_and(|buckets| buckets.follow);
    let keys: BTreeSet<&ObjectKey> = from.iter().chain(to.iter()).map(|(key, _)| key).collect();
    for key in keys {
        let wanted = from.get(key).filter(|object| object.origin.is_none()).map(|object| object.version);
        let place = (reader, key.clone());
        match to.get(key).map(|object| (object.version, object.origin.map(|(_, author)| author))) {
            // Somebody else's, or an object that came here from a third node.
            Some((_, origin)) if origin != Some(key_of_author) => {}
            Some((version, _)) => match wanted {
                Some(wanted) if wanted == version => {}
                Some(wanted) => problems.push(format!("{at} holds {key} as {version:?} instead of {wanted:?}")),
                // What a state stream forgot of a key, nobody knows any more.
                None if !follow || world.goods.doubted.contains(&place) => {}
                None => problems.push(format!("{at} holds {key}, which its author has deleted")),
            },
            None => {
                if let Some(wanted) = wanted
                    && world.goods.taken.get(&place) != Some(&wanted)
                {
                    problems.push(format!("{at} lacks {key}: {wanted:?}"));
                }
            }
        }
    }
}
