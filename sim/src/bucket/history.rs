//! What became of objects: what apps put where, what authors signed, and what rhio wrote and removed. Written by the fake
//! servers. What must hold at every moment is checked here, as it happens.

use std::collections::{BTreeMap, BTreeSet};

use rhio_core::catalog::Entry;
use rhio_core::id::PublicKey;
use rhio_core::object::ObjectKey;

use super::{Bucket, Object, Version};
use crate::base::{NodeId, name};
use crate::jetstream::Message;

/// What became of a version in the bucket where an app put it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Made {
    /// An object under its key was removed, or replaced by one from elsewhere, after it was put.
    ended: bool,
    /// It was signed.
    signed: bool,
}

/// One key of one author's.
#[derive(Clone, Debug, Default)]
struct Line {
    /// Every version that an app put, in order. Contents are never used twice for one key.
    versions: Vec<(Version, Made)>,
}

/// Everything that happened to objects.
#[derive(Clone, Debug, Default)]
pub struct Goods {
    lines: BTreeMap<(NodeId, ObjectKey), Line>,
    authors: BTreeMap<PublicKey, NodeId>,
    /// The latest version of an author's that rhio wrote at a node, by its place among those that were put.
    levels: BTreeMap<(NodeId, ObjectKey), (NodeId, usize)>,
    /// Keys of which a node's state stream has forgotten what it knew.
    pub doubted: BTreeSet<(NodeId, ObjectKey)>,
    /// Objects that rhio wrote and apps removed or replaced.
    pub taken: BTreeMap<(NodeId, ObjectKey), Version>,
    /// What must never happen and did.
    pub failures: Vec<String>,
}

impl Goods {
    /// Nothing has happened.
    pub fn new(authors: BTreeMap<PublicKey, NodeId>) -> Self {
        Self { authors, ..Self::default() }
    }

    fn fail(&mut self, text: String) {
        self.failures.push(text);
    }

    /// An app put an object into its bucket, over what was there.
    pub fn put(&mut self, site: NodeId, key: &ObjectKey, version: Version, before: Option<&Object>) {
        self.lines.entry((site, key.clone())).or_default().versions.push((version, Made::default()));
        self.take(site, key, before);
    }

    /// An app removed an object from its bucket.
    pub fn deleted(&mut self, site: NodeId, key: &ObjectKey, object: &Object) {
        self.end(site, key);
        self.take(site, key, Some(object));
    }

    /// An app took away what rhio had brought: it does not come back.
    fn take(&mut self, site: NodeId, key: &ObjectKey, object: Option<&Object>) {
        if let Some(object) = object.filter(|object| object.origin.is_some()) {
            self.taken.insert((site, key.clone()), object.version);
        }
    }

    /// Whether all that an app has in its bucket, and nothing else, was signed.
    pub fn all_signed(&self, site: NodeId, bucket: &Bucket) -> bool {
        let is_signed = |(key, object): (&ObjectKey, &Object)| {
            let line = self.lines.get(&(site, key.clone()));
            line.is_some_and(|line| line.versions.iter().any(|(v, made)| *v == object.version && made.signed))
        };
        bucket.iter().all(is_signed)
    }

    /// A node's state stream has nothing any more.
    pub fn all_forgotten(&mut self, site: NodeId) {
        let keys: Vec<_> = self.levels.keys().filter(|(at, _)| *at == site).cloned().collect();
        for place in keys {
            self.levels.remove(&place);
            self.doubted.insert(place);
        }
    }

    /// Whatever an author had under a key is gone.
    fn end(&mut self, site: NodeId, key: &ObjectKey) {
        if let Some(line) = self.lines.get_mut(&(site, key.clone())) {
            line.versions.iter_mut().for_each(|(_, made)| made.ended = true);
        }
    }

    /// A catalog's entries were stored in a state stream: its author's, or a copy.
    pub fn signed(&mut self, site: NodeId, message: &Message, author: PublicKey, entries: &[Entry]) {
        if self.authors.get(&author) != Some(&site) {
            return;
        }
        for entry in entries {
            let Entry::Put(put) = entry else { continue };
            let version = Version::of(put);
            let line = self.lines.get_mut(&(site, put.key.clone()));
            let made = line.and_then(|line| line.versions.iter_mut().find(|(made, _)| Some(*made) == version));
            match made {
                Some((_, made)) => made.signed = true,
                None => {
                    let at = message.seq;
                    self.fail(format!(
                        "{} signs {} as {version:?}, which no app put there ({at})",
                        name(site),
                        put.key
                    ));
                }
            }
        }
    }

    /// A node's state stream forgot entries that it had acted upon.
    pub fn forgotten(&mut self, site: NodeId, author: PublicKey, entries: &[Entry]) {
        if self.authors.get(&author) == Some(&site) {
            return;
        }
        for entry in entries {
            let (Entry::Put(rhio_core::catalog::Put { key, .. }) | Entry::Delete(key)) = entry else { continue };
            self.levels.remove(&(site, key.clone()));
            self.doubted.insert((site, key.clone()));
        }
    }

    /// rhio wrote an object.
    pub fn landed(
        &mut self,
        site: NodeId,
        key: &ObjectKey,
        version: Version,
        author: PublicKey,
        before: Option<&Object>,
    ) {
        let to = name(site);
        if before.is_some_and(|object| object.origin.is_none()) {
            self.fail(format!("{to} writes {key} over an object of somebody else's"));
        }
        // Both directions on one bucket: an own object gave way to it.
        self.end(site, key);
        self.taken.remove(&(site, key.clone()));
        let of = self.authors.get(&author).copied().unwrap_or(usize::MAX);
        let line = self.lines.get(&(of, key.clone()));
        let place = line.and_then(|line| line.versions.iter().position(|(made, m)| *made == version && m.signed));
        let Some(place) = place else {
            return self.fail(format!("{to} shows {key} as {version:?}, which its author did not sign"));
        };
        if let Some((before, level)) = self.levels.insert((site, key.clone()), (of, place))
            && before == of
            && level > place
        {
            self.fail(format!("{to} replaces version {level} of {key} by version {place}"));
        }
    }

    /// rhio removed an object.
    pub fn removed(&mut self, site: NodeId, key: &ObjectKey, object: &Object, follow: bool) {
        let at = name(site);
        let Some((_, author)) = object.origin else {
            return self.fail(format!("{at} removes {key}, which is somebody else's"));
        };
        if !follow {
            self.fail(format!("{at} removes {key} although deletes are kept"));
        }
        let of = self.authors.get(&author).copied().unwrap_or(usize::MAX);
        let line = self.lines.get(&(of, key.clone()));
        let made = line.and_then(|line| line.versions.iter().find(|(made, _)| *made == object.version));
        // A copy of the catalog that lost its end may end with a delete, until its author has been heard again.
        let doubted = self.doubted.contains(&(site, key.clone()));
        if !doubted && !made.is_some_and(|(_, made)| made.ended) {
            self.fail(format!("{at} removes {key}, which its author did not delete"));
        }
    }
}
