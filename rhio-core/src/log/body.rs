//! What an operation says, told apart by its kind.
//!
//! | field | bytes |
//! | --- | --- |
//! | format version | u8, [`VERSION`] |
//! | kind | u8, see [`Kind`] |
//! | items in this log before this operation | varint |
//! | bytes in this log before this operation | varint |
//! | content | the rest: see [`crate::manifest`] for messages, [`crate::catalog`] for a bucket |

use bytes::{BufMut, Bytes, BytesMut};

use crate::catalog::{Catalog, Entry};
use crate::codec::{DecodeError, Reader, put_varint};
use crate::manifest::{MAX_MANIFEST_LEN, Manifest};

use super::descriptor::Kind;
use super::total::Total;

/// Format version that this program writes.
pub const VERSION: u8 = 2;
/// Longest body: a full manifest is longer than a catalog's operation can be.
pub const MAX_BODY_LEN: usize = 2 + 2 * 10 + MAX_MANIFEST_LEN;

/// What an operation is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Messages of a stream.
    Messages(Manifest),
    /// Objects of a bucket.
    Bucket(Catalog),
}

/// What an operation says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    /// What the log held before.
    pub before: Total,
    /// What is added.
    pub content: Content,
}

impl From<Manifest> for Content {
    fn from(manifest: Manifest) -> Self {
        Self::Messages(manifest)
    }
}

impl From<Catalog> for Content {
    fn from(catalog: Catalog) -> Self {
        Self::Bucket(catalog)
    }
}

impl Content {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Messages(_) => Kind::Messages,
            Self::Bucket(_) => Kind::Bucket,
        }
    }

    /// How much it adds to the log.
    pub fn amount(&self) -> Total {
        match self {
            Self::Messages(manifest) => manifest.amount(),
            Self::Bucket(catalog) => catalog.amount(),
        }
    }
}

impl Body {
    /// What the log holds with this operation.
    pub fn after(&self) -> Total {
        self.before.plus(self.content.amount())
    }

    /// The records that it covers; none when it is about a bucket.
    pub fn manifest(&self) -> Option<&Manifest> {
        match &self.content {
            Content::Messages(manifest) => Some(manifest),
            Content::Bucket(_) => None,
        }
    }

    /// The entries that it has for a catalog; none when it is about messages.
    pub fn entries(&self) -> &[Entry] {
        match &self.content {
            Content::Bucket(catalog) => catalog.entries(),
            Content::Messages(_) => &[],
        }
    }

    /// The bytes that the operation signs.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(256);
        out.put_u8(VERSION);
        out.put_u8(self.content.kind().byte());
        put_varint(&mut out, self.before.items);
        put_varint(&mut out, self.before.bytes);
        match &self.content {
            Content::Messages(manifest) => manifest.put(&mut out),
            Content::Bucket(catalog) => catalog.put(&mut out),
        }
        out.freeze()
    }

    /// Reads them.
    ///
    /// # Errors
    /// When they do not follow the layout or break a bound.
    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let version = reader.u8("body version")?;
        if version != VERSION {
            return Err(DecodeError::Version { what: "body", got: version, known: VERSION });
        }
        let kind = Kind::read(&mut reader, "body kind")?;
        let before = Total { items: reader.varint("items before")?, bytes: reader.varint("bytes before")? };
        let content = match kind {
            Kind::Messages => Manifest::read(&mut reader)?.into(),
            Kind::Bucket => Catalog::read(&mut reader)?.into(),
        };
        reader.finish()?;
        Ok(Self { before, content })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn another_version_and_an_unknown_kind_are_refused() {
        let decode = |bytes: &'static [u8]| Body::decode(Bytes::from_static(bytes)).unwrap_err();
        assert_eq!(decode(&[1, 1]), DecodeError::Version { what: "body", got: 1, known: VERSION });
        assert_eq!(decode(&[VERSION, 3]), DecodeError::Invalid("body kind"));
        assert_eq!(decode(&[VERSION, 1, 0]), DecodeError::Truncated("bytes before"));
    }

    proptest! {
        #[test]
        fn whatever_decodes_encodes_to_the_same_bytes(kind in 1u8..3, bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            let bytes = Bytes::from([&[VERSION, kind], &bytes[..]].concat());
            if let Ok(body) = Body::decode(bytes.clone()) {
                prop_assert_eq!(body.encode(), bytes);
            }
        }
    }
}
