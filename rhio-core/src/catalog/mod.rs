//! Catalogs: the logs of buckets. A catalog begins with every object that the bucket holds, a mark behind the last of
//! them, and goes on with what changes. A new epoch begins with everything again, so that an older one can be forgotten.
//!
//! What a [body](crate::log::body) says of a bucket:
//!
//! | field | bytes |
//! | --- | --- |
//! | entry count, 1..=[`MAX_ENTRIES`] | varint |
//! | per entry: tag u8, then as below | |
//!
//! | tag | entry | fields |
//! | --- | --- | --- |
//! | 1 | Put | key string16, hash 32, size varint, modified varint (ms since the Unix epoch), etag string16, attribute count u8, per attribute in the order of names: name string16, value string16 |
//! | 2 | Delete | key string16 |
//! | 3 | Complete | |

pub mod inventory;
mod keyed;
mod known;
pub mod landing;
pub mod progress;
pub mod resume;

use std::collections::BTreeMap;

use bytes::{BufMut, BytesMut};

use crate::codec::{DecodeError, Reader, put_string16, put_varint};
use crate::id::BlobHash;
use crate::log::total::Total;
use crate::object::{Attributes, MAX_ATTRIBUTES, MAX_ATTRIBUTES_LEN, MAX_ETAG_LEN, MAX_KEY_LEN, ObjectKey};

pub use known::Known;

/// Most entries of one operation.
pub const MAX_ENTRIES: usize = 1024;
/// A body takes no further entry once it has this many bytes, so that an operation stays within its bound.
pub const TARGET_LEN: usize = 32 * 1024;
/// Longest object that S3 stores: 5 TiB, with room for servers that allow more.
pub const MAX_OBJECT_SIZE: u64 = 1 << 50;

/// An object as its author has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Put {
    /// Its key.
    pub key: ObjectKey,
    /// The hash of its content.
    pub hash: BlobHash,
    /// Bytes of content.
    pub size: u64,
    /// When the author's bucket had it written, in milliseconds since the Unix epoch.
    pub modified: u64,
    /// The author's bucket's name for this version; means nothing elsewhere.
    pub etag: String,
    /// What travels with it.
    pub attributes: Attributes,
}

/// One thing that a catalog says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// The object is there, instead of whatever had the key before.
    Put(Put),
    /// No object has the key any more.
    Delete(ObjectKey),
    /// Everything that the bucket held when this log began has been said. What an older epoch had and this one has not
    /// said by now is gone.
    Complete,
}

impl Entry {
    /// How much it adds to the log: itself, and the content of an object that it puts.
    pub fn amount(&self) -> Total {
        Total { items: 1, bytes: if let Self::Put(put) = self { put.size } else { 0 } }
    }
}

/// Consecutive entries of a catalog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Catalog {
    entries: Vec<Entry>,
}

impl Catalog {
    /// Entries in the log's order.
    ///
    /// # Errors
    /// When there is none, or too many.
    pub fn new(entries: Vec<Entry>) -> Result<Self, DecodeError> {
        check_count(entries.len() as u64)?;
        Ok(Self { entries })
    }

    /// Takes as many entries from the front as one operation holds; `None` when there are none.
    pub fn take(waiting: &mut std::collections::VecDeque<Entry>) -> Option<Self> {
        let (mut entries, mut len) = (Vec::new(), 0);
        while entries.len() < MAX_ENTRIES && len < TARGET_LEN {
            let Some(entry) = waiting.pop_front() else { break };
            len += encoded_len(&entry);
            entries.push(entry);
        }
        (!entries.is_empty()).then_some(Self { entries })
    }

    /// The entries; never none.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// How much it adds to the log.
    pub fn amount(&self) -> Total {
        self.entries.iter().map(Entry::amount).fold(Total::default(), Total::plus)
    }

    /// Appends its bytes.
    pub(crate) fn put(&self, out: &mut BytesMut) {
        out.reserve(32 + self.entries.len() * 160);
        put_varint(out, self.entries.len() as u64);
        self.entries.iter().for_each(|entry| put_entry(out, entry));
    }

    /// Reads a catalog's entries.
    ///
    /// # Errors
    /// When the bytes do not follow the layout or break a bound.
    pub(crate) fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        let count = reader.varint("entry count")?;
        check_count(count)?;
        let entries = (0..count).map(|_| read_entry(reader)).collect::<Result<_, _>>()?;
        Ok(Self { entries })
    }
}

fn check_count(count: u64) -> Result<(), DecodeError> {
    match count {
        0 => Err(DecodeError::Invalid("entry count")),
        n if n > MAX_ENTRIES as u64 => {
            Err(DecodeError::TooLarge { what: "entry count", got: n, max: MAX_ENTRIES as u64 })
        }
        _ => Ok(()),
    }
}

/// At least as many bytes as an entry takes.
fn encoded_len(entry: &Entry) -> usize {
    match entry {
        Entry::Put(put) => {
            let attributes: usize = put.attributes.iter().map(|(name, value)| 4 + name.len() + value.len()).sum();
            64 + put.key.as_str().len() + put.etag.len() + attributes
        }
        Entry::Delete(key) => 3 + key.as_str().len(),
        Entry::Complete => 1,
    }
}

fn put_entry(out: &mut BytesMut, entry: &Entry) {
    match entry {
        Entry::Put(put) => {
            out.put_u8(1);
            put_string16(out, put.key.as_str());
            out.put_slice(put.hash.as_bytes());
            put_varint(out, put.size);
            put_varint(out, put.modified);
            put_string16(out, &put.etag);
            out.put_u8(put.attributes.iter().len() as u8);
            for (name, value) in put.attributes.iter() {
                put_string16(out, name);
                put_string16(out, value);
            }
        }
        Entry::Delete(key) => {
            out.put_u8(2);
            put_string16(out, key.as_str());
        }
        Entry::Complete => out.put_u8(3),
    }
}

fn read_entry(reader: &mut Reader) -> Result<Entry, DecodeError> {
    match reader.u8("entry tag")? {
        1 => read_put(reader).map(Entry::Put),
        2 => read_key(reader).map(Entry::Delete),
        3 => Ok(Entry::Complete),
        _ => Err(DecodeError::Invalid("entry tag")),
    }
}

fn read_key(reader: &mut Reader) -> Result<ObjectKey, DecodeError> {
    ObjectKey::new(reader.string16(MAX_KEY_LEN, "key")?).map_err(|_| DecodeError::Invalid("key"))
}

fn read_put(reader: &mut Reader) -> Result<Put, DecodeError> {
    let key = read_key(reader)?;
    let hash = BlobHash::from_bytes(reader.array32("hash")?);
    let size = reader.varint("size")?;
    if size > MAX_OBJECT_SIZE {
        return Err(DecodeError::TooLarge { what: "size", got: size, max: MAX_OBJECT_SIZE });
    }
    let modified = reader.varint("modified")?;
    let etag = reader.string16(MAX_ETAG_LEN, "etag")?;
    let count = usize::from(reader.u8("attribute count")?);
    if count > MAX_ATTRIBUTES {
        return Err(DecodeError::TooLarge { what: "attribute count", got: count as u64, max: MAX_ATTRIBUTES as u64 });
    }
    let mut pairs: BTreeMap<String, String> = BTreeMap::new();
    for _ in 0..count {
        let name = reader.string16(MAX_ATTRIBUTES_LEN, "attribute name")?;
        let value = reader.string16(MAX_ATTRIBUTES_LEN, "attribute value")?;
        // One set of attributes has one encoding.
        if pairs.last_key_value().is_some_and(|(last, _)| *last >= name) {
            return Err(DecodeError::Invalid("attribute order"));
        }
        pairs.insert(name, value);
    }
    let attributes = Attributes::all(pairs).map_err(|_| DecodeError::Invalid("attributes"))?;
    Ok(Put { key, hash, size, modified, etag, attributes })
}

#[cfg(test)]
mod tests;
