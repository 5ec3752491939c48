//! What apps do to buckets, and what goes wrong there.

use rhio_core::object::ObjectKey;

use super::Version;
use crate::base::{MS, NodeId, SECOND, name};
use crate::config::Buckets;
use crate::jetstream::Stream;
use crate::world::World;

/// Always in an author's bucket, so that it is never really empty: nothing would be concluded from that.
const ANCHOR: &str = "anchor";

type Strike = fn(&mut World, &Buckets);

fn key(number: u64) -> ObjectKey {
    ObjectKey::new(format!("k{number}")).expect("a short key")
}

impl World {
    /// Fills the authors' buckets and starts the apps, and what goes wrong with buckets.
    pub fn begin_goods(&mut self) {
        let Some(buckets) = self.config.buckets.clone() else { return };
        for author in self.config.catalog_authors() {
            self.put_object(author, &ObjectKey::new(ANCHOR).expect("a short key"));
            for _ in 0..self.rng.below(buckets.keys) {
                let key = key(self.rng.below(buckets.keys));
                self.put_object(author, &key);
            }
        }
        let kinds: [(u64, Strike); 5] = [
            (buckets.mean_change, Self::change_author),
            (buckets.mean_clear, Self::clear_author),
            (buckets.mean_tamper, Self::tamper_reader),
            (buckets.mean_hide, Self::hide_bucket),
            (buckets.mean_lose, Self::lose_state),
        ];
        for (mean, strike) in kinds.into_iter().filter(|(mean, _)| *mean > 0) {
            self.strike_goods(mean, strike, buckets.clone());
        }
    }

    fn strike_goods(&mut self, mean: u64, strike: Strike, buckets: Buckets) {
        let delay = if self.rng.chance(300) { self.rng.below(MS) } else { self.rng.below(2 * mean) };
        self.after(delay, move |w| {
            if w.faulty {
                strike(w, &buckets);
                w.strike_goods(mean, strike, buckets);
            }
        });
    }

    fn random_author(&mut self) -> NodeId {
        let authors = self.config.catalog_authors();
        authors[self.rng.below(authors.len() as u64) as usize]
    }

    /// An app puts an object. Every content is used once; attributes may be the same.
    fn put_object(&mut self, site: NodeId, key: &ObjectKey) {
        self.next_content += 1;
        let version = Version { content: self.next_content, kind: self.rng.below(3) };
        let now = self.now / MS;
        let before = self.sites[site].bucket.put(now, key, version, None);
        self.note(|| format!("an app puts {key} at {} as {version:?}", name(site)));
        self.goods.put(site, key, version, before.as_ref());
    }

    fn delete_object(&mut self, site: NodeId, key: &ObjectKey) {
        if let Some(object) = self.sites[site].bucket.delete(key) {
            self.note(|| format!("an app deletes {key} at {}", name(site)));
            self.goods.deleted(site, key, &object);
        }
    }

    fn change_author(&mut self, buckets: &Buckets) {
        let (site, key) = (self.random_author(), key(self.rng.below(buckets.keys)));
        let theirs = self.sites[site].bucket.get(&key).is_some_and(|object| object.origin.is_some());
        // What came from the other side is changed there; now and then an app takes it over here.
        if self.sites[site].bucket.hidden || (theirs && self.rng.chance(900)) {
            return;
        }
        if self.rng.chance(300) { self.delete_object(site, &key) } else { self.put_object(site, &key) }
    }

    /// An app deletes most of what it has put.
    fn clear_author(&mut self, buckets: &Buckets) {
        let site = self.random_author();
        for number in 0..buckets.keys {
            let key = key(number);
            let own = self.sites[site].bucket.get(&key).is_some_and(|object| object.origin.is_none());
            if own && self.rng.chance(800) {
                self.delete_object(site, &key);
            }
        }
    }

    /// An app at a destination puts an object of its own where one is to land, or takes one away.
    fn tamper_reader(&mut self, buckets: &Buckets) {
        let (site, key) = (self.rng.below(self.sites.len() as u64) as NodeId, key(self.rng.below(buckets.keys)));
        if self.config.catalog_authors().contains(&site) {
            return;
        }
        if self.rng.chance(500) { self.delete_object(site, &key) } else { self.put_object(site, &key) }
    }

    /// A bucket answers for a while as if it were empty, as one does whose disk is not mounted. Only while its author has
    /// nothing left to read: an object that is looked at in that very moment could not be told from one that was deleted.
    fn hide_bucket(&mut self, _buckets: &Buckets) {
        let site = self.random_author();
        let quiet = self.goods.all_signed(site, &self.sites[site].bucket);
        if !quiet || self.config.buckets.as_ref().is_some_and(|buckets| buckets.both) {
            return;
        }
        self.note(|| format!("the bucket at {} is not there for a while", name(site)));
        self.sites[site].bucket.hidden = true;
        let delay = self.rng.between(SECOND / 2, 5 * SECOND);
        self.after(delay, move |w| w.sites[site].bucket.hidden = false);
    }

    /// Somebody deletes a state stream; it is there again at once, with nothing in it.
    fn lose_state(&mut self, _buckets: &Buckets) {
        let site = self.rng.below(self.sites.len() as u64) as NodeId;
        self.note(|| format!("the state stream at {} is deleted and created again", name(site)));
        let old = std::mem::replace(&mut self.sites[site].state, Stream::new(self.now));
        for message in old.from(0) {
            self.state_gone(site, message);
        }
        self.goods.all_forgotten(site);
    }
}
