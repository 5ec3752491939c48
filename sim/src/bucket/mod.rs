//! Buckets: a server that keeps what it acknowledged, apps that change what is in it, and what must hold of both.
//!
//! Requests to a bucket are carried out some time after they were sent, whatever becomes of the process meanwhile; they
//! or their answers get lost. Writes name what they replace (`If-Match`), as the daemon's do. Some listings leave a key
//! out, and some of the time a bucket answers as if it were empty, as one does whose disk is not mounted.
//!
//! Not modelled: uploads in parts, content as bytes (a number stands for it, and its hash for itself), servers that do not
//! know conditions, a bucket that goes away in the middle of a listing and answers on as if that were its end, and an
//! app's write between the look at an object and its removal: S3 has no conditional delete.

pub mod apps;
pub mod checker;
pub mod client;
pub mod history;

use std::collections::BTreeMap;

use rhio_core::catalog::Put;
use rhio_core::id::{BlobHash, PublicKey};
use rhio_core::object::{Attributes, ObjectKey};

/// Content, and what travels with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Stands for the bytes.
    pub content: u64,
    /// Stands for the attributes.
    pub kind: u64,
}

impl Version {
    /// The hash of the content.
    pub fn hash(self) -> BlobHash {
        let mut bytes = [7; 32];
        bytes[..8].copy_from_slice(&self.content.to_be_bytes());
        BlobHash::from_bytes(bytes)
    }

    /// The attributes.
    pub fn attributes(self) -> Attributes {
        Attributes::keep([("content-type".to_owned(), self.kind.to_string())])
    }

    /// Bytes of content.
    pub fn size(self) -> u64 {
        self.content % 50
    }

    /// What an entry says.
    pub fn of(put: &Put) -> Option<Self> {
        let content = u64::from_be_bytes(*put.hash.as_bytes().first_chunk()?);
        let kind = put.attributes.get("content-type")?.parse().ok()?;
        Some(Self { content, kind })
    }
}

/// An object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// What it is.
    pub version: Version,
    /// When it was written, in milliseconds since the Unix epoch.
    pub modified: u64,
    /// The bucket's name for what was written.
    pub etag: u64,
    /// Whose it is, when rhio wrote it: the hash that was to be written, and the author.
    pub origin: Option<(BlobHash, PublicKey)>,
}

/// What must hold for a write to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Whatever is there is replaced.
    None,
    /// No object has the key.
    Absent,
    /// The object there has this name.
    Is(u64),
}

/// The object there is another one than was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conflict;

/// A bucket.
#[derive(Clone, Debug, Default)]
pub struct Bucket {
    objects: BTreeMap<ObjectKey, Object>,
    etags: u64,
    /// It answers as if there were nothing.
    pub hidden: bool,
}

impl Bucket {
    /// The object under a key.
    pub fn get(&self, key: &ObjectKey) -> Option<&Object> {
        self.objects.get(key).filter(|_| !self.hidden)
    }

    /// All that is there.
    pub fn iter(&self) -> impl Iterator<Item = (&ObjectKey, &Object)> {
        self.objects.iter().filter(|_| !self.hidden)
    }

    /// Objects behind a key, at most so many.
    pub fn page(&self, behind: Option<&ObjectKey>, max: usize) -> Vec<(ObjectKey, Object)> {
        let rest = self.iter().filter(|(key, _)| behind.is_none_or(|behind| *key > behind));
        rest.take(max).map(|(key, object)| (key.clone(), object.clone())).collect()
    }

    /// Whether a write may happen.
    pub fn admits(&self, key: &ObjectKey, condition: Condition) -> Result<(), Conflict> {
        let there = self.objects.get(key).map(|object| object.etag);
        let admitted = match condition {
            Condition::None => true,
            Condition::Absent => there.is_none(),
            Condition::Is(etag) => there == Some(etag),
        };
        if admitted { Ok(()) } else { Err(Conflict) }
    }

    /// Writes an object. Returns what it replaced.
    pub fn put(
        &mut self,
        now_ms: u64,
        key: &ObjectKey,
        version: Version,
        origin: Option<(BlobHash, PublicKey)>,
    ) -> Option<Object> {
        self.etags += 1;
        let object = Object { version, modified: now_ms, etag: self.etags, origin };
        self.objects.insert(key.clone(), object)
    }

    /// Removes an object.
    pub fn delete(&mut self, key: &ObjectKey) -> Option<Object> {
        self.objects.remove(key)
    }
}
