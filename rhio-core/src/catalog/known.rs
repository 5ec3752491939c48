//! Objects in few bytes: a node may have to remember millions of them.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use super::Put;
use crate::id::BlobHash;
use crate::object::{Attributes, ObjectKey};

/// What a catalog says about an object, without its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    hash: BlobHash,
    size: u64,
    modified: u64,
    etag: Tag,
    labels: Labels,
}

impl Known {
    pub(super) fn new(put: &Put, pool: &mut Pool) -> Self {
        Self {
            hash: put.hash,
            size: put.size,
            modified: put.modified,
            etag: Tag::new(&put.etag),
            labels: pool.share(&put.attributes),
        }
    }

    /// The hash of its content.
    pub fn hash(&self) -> BlobHash {
        self.hash
    }

    /// Bytes of content.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// When the author's bucket had it written, in milliseconds since the Unix epoch.
    pub fn modified(&self) -> u64 {
        self.modified
    }

    /// The author's bucket's name for this version.
    pub fn etag(&self) -> Cow<'_, str> {
        match &self.etag {
            Tag::Md5(bytes) => hex::encode(bytes).into(),
            Tag::Text(text) => (&**text).into(),
        }
    }

    /// What travels with it.
    pub fn attributes(&self) -> Attributes {
        self.labels.unpack()
    }

    /// Whether a listing that says this means the same version.
    pub fn is_version(&self, size: u64, modified: u64, etag: &str) -> bool {
        self.size == size && self.modified == modified && self.etag.is(etag)
    }

    /// As it was said.
    pub fn put(&self, key: ObjectKey) -> Put {
        let (hash, size, modified) = (self.hash, self.size, self.modified);
        Put { key, hash, size, modified, etag: self.etag().into_owned(), attributes: self.attributes() }
    }

    pub(super) fn labels(&self) -> &Labels {
        &self.labels
    }
}

/// An ETag. Nearly all are MD5 sums in hex, which fit in without an allocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Tag {
    Md5([u8; 16]),
    Text(Box<str>),
}

impl Tag {
    pub fn new(text: &str) -> Self {
        md5(text).map_or_else(|| Self::Text(text.into()), Self::Md5)
    }

    pub fn is(&self, text: &str) -> bool {
        match self {
            Self::Md5(bytes) => md5(text).as_ref() == Some(bytes),
            Self::Text(own) => **own == *text,
        }
    }
}

fn md5(text: &str) -> Option<[u8; 16]> {
    // Upper case is another text.
    if text.len() != 32 || text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return None;
    }
    let mut bytes = [0; 16];
    hex::decode_to_slice(text, &mut bytes).ok()?;
    Some(bytes)
}

/// Attributes as one text, `name \n value \n`…, which all objects with the same ones share. Neither names nor values
/// have line ends.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Labels(Arc<str>);

impl Labels {
    fn unpack(&self) -> Attributes {
        let mut parts = self.0.split_terminator('\n').map(str::to_owned);
        let pairs = std::iter::from_fn(|| parts.next().zip(parts.next()));
        // They were checked when they were packed: nothing is left out here.
        Attributes::keep(pairs)
    }
}

/// Every text of attributes that is in use, once.
#[derive(Debug, Default)]
pub(super) struct Pool {
    texts: BTreeSet<Labels>,
    sweep_at: usize,
}

impl Pool {
    /// Below this many a sweep is not worth it.
    const FEW: usize = 1024;

    pub fn share(&mut self, attributes: &Attributes) -> Labels {
        let mut text = String::new();
        for part in attributes.iter().flat_map(|(name, value)| [name, value]) {
            text.push_str(part);
            text.push('\n');
        }
        let labels = Labels(text.into());
        if let Some(known) = self.texts.get(&labels) {
            return known.clone();
        }
        if self.texts.len() >= self.sweep_at.max(Self::FEW) {
            self.texts.retain(|labels| Arc::strong_count(&labels.0) > 1);
            self.sweep_at = self.texts.len() * 2;
        }
        self.texts.insert(labels.clone());
        labels
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attributes(pairs: &[(&str, &str)]) -> Attributes {
        Attributes::all(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()).unwrap()
    }

    #[test]
    fn what_was_put_is_put_again_unchanged() {
        let etags = ["d41d8cd98f00b204e9800998ecf8427e", "D41D8CD98F00B204E9800998ECF8427E", "d41d-2", "", "é"];
        let sets = [
            attributes(&[]),
            attributes(&[("content-type", "")]),
            attributes(&[("cache-control", ""), ("content-type", "a/b; c"), ("x-amz-meta-m", "")]),
        ];
        let mut pool = Pool::default();
        for (etag, attributes) in etags.iter().flat_map(|etag| sets.iter().map(move |set| (etag, set))) {
            let key = ObjectKey::new("k").unwrap();
            let hash = BlobHash::from_bytes([7; 32]);
            let (etag, attributes) = ((*etag).to_owned(), attributes.clone());
            let put = Put { key: key.clone(), hash, size: 1, modified: 2, etag, attributes };
            let known = Known::new(&put, &mut pool);
            assert_eq!(known.put(key), put);
            assert!(known.is_version(1, 2, &put.etag));
            assert!(!known.is_version(1, 2, "d41d8cd98f00b204e9800998ecf8427f"));
        }
        assert_eq!(pool.texts.len(), sets.len());
    }

    #[test]
    fn attributes_that_nobody_has_any_more_are_forgotten() {
        let mut pool = Pool::default();
        let kept = pool.share(&attributes(&[("content-type", "kept")]));
        for n in 0..Pool::FEW * 20 {
            pool.share(&attributes(&[("content-type", &n.to_string())]));
        }
        assert!(pool.texts.len() <= Pool::FEW + 1, "{}", pool.texts.len());
        assert!(Arc::ptr_eq(&pool.share(&attributes(&[("content-type", "kept")])).0, &kept.0));
    }
}
