//! What a log is about. Its hash names the log, so that a stream deleted and created again is another log, and so is a
//! log begun anew because the old one could not be continued safely.
//!
//! | field | bytes |
//! | --- | --- |
//! | format version | u8, [`VERSION`] |
//! | kind | u8, see [`Kind`] |
//! | author | 32 |
//! | epoch | u64 |
//! | kind 1: stream's creation, stream, filter | u64, string16, string16 |
//! | kind 2: bucket | string16 |

use bytes::{BufMut, Bytes, BytesMut};

use crate::codec::{DecodeError, Reader, put_string16};
use crate::id::{LogId, PublicKey};
use crate::object::MAX_BUCKET_LEN;
use crate::subject::{Filter, MAX_SUBJECT_LEN};

/// Format version that this program writes.
pub const VERSION: u8 = 2;
/// Longest stream name that NATS takes.
pub const MAX_STREAM_NAME_LEN: usize = 255;
/// Longest descriptor.
pub const MAX_DESCRIPTOR_LEN: usize = 2 + 32 + 8 + 8 + 2 + MAX_STREAM_NAME_LEN + 2 + MAX_SUBJECT_LEN;

/// What a log describes, as its bodies say in their kind byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Messages of a stream.
    Messages,
    /// Objects of a bucket.
    Bucket,
}

/// What becomes of a log whose end is in doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// Every operation counts: a lost end is taken back from those who have it.
    History,
    /// The newest entry of a key counts: in doubt a new epoch says everything again.
    State,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Messages, Self::Bucket];

    /// The byte that stands for it in formats.
    pub const fn byte(self) -> u8 {
        match self {
            Self::Messages => 1,
            Self::Bucket => 2,
        }
    }

    /// Reads the byte.
    ///
    /// # Errors
    /// When no kind has it.
    pub fn read(reader: &mut Reader, what: &'static str) -> Result<Self, DecodeError> {
        let byte = reader.u8(what)?;
        Self::ALL.into_iter().find(|kind| kind.byte() == byte).ok_or(DecodeError::Invalid(what))
    }

    /// What becomes of such a log in doubt.
    pub const fn flavour(self) -> Flavour {
        match self {
            Self::Messages => Flavour::History,
            Self::Bucket => Flavour::State,
        }
    }
}

/// The part of an author's stream that a log describes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Source {
    /// Name of the author's stream.
    pub stream: String,
    /// When that stream was created, in nanoseconds since the Unix epoch.
    pub created: u64,
    /// The publication's filter.
    pub filter: Filter,
}

/// The thing that a log is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum About {
    /// Messages of a stream.
    Messages(Source),
    /// Objects of the author's bucket of this name.
    Bucket(String),
}

impl About {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Messages(_) => Kind::Messages,
            Self::Bucket(_) => Kind::Bucket,
        }
    }
}

/// Names a log by what it is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LogDescriptor {
    /// Who signs it.
    pub author: PublicKey,
    /// When this log was begun, in milliseconds since the Unix epoch. Later logs about one thing have larger ones.
    pub epoch: u64,
    /// What it is about.
    pub about: About,
}

impl LogDescriptor {
    /// A log about messages.
    pub fn messages(author: PublicKey, epoch: u64, source: Source) -> Self {
        Self { author, epoch, about: About::Messages(source) }
    }

    /// A log about a bucket: its catalog.
    pub fn bucket(author: PublicKey, epoch: u64, bucket: impl Into<String>) -> Self {
        Self { author, epoch, about: About::Bucket(bucket.into()) }
    }

    /// The log's name.
    pub fn id(&self) -> LogId {
        LogId::from_bytes(blake3::derive_key("rhio log descriptor 2", &self.encode()))
    }

    /// The kind of its operations.
    pub fn kind(&self) -> Kind {
        self.about.kind()
    }

    /// The messages that it is about, if it is about messages.
    pub fn source(&self) -> Option<&Source> {
        match &self.about {
            About::Messages(source) => Some(source),
            About::Bucket(_) => None,
        }
    }

    /// The bucket that it is about, if it is about one.
    pub fn bucket_name(&self) -> Option<&str> {
        match &self.about {
            About::Bucket(bucket) => Some(bucket),
            About::Messages(_) => None,
        }
    }

    /// Whether both are about the same things, whatever the filter: same author, and same stream and life of that
    /// stream, or same bucket.
    pub fn same_origin(&self, other: &Self) -> bool {
        self.author == other.author
            && match (&self.about, &other.about) {
                (About::Messages(one), About::Messages(other)) => {
                    one.stream == other.stream && one.created == other.created
                }
                (one, other) => one == other,
            }
    }

    /// The filter of the messages that it is about, if it is about messages.
    pub fn filter(&self) -> Option<&Filter> {
        self.source().map(|source| &source.filter)
    }

    /// Whether one item may stand in both: the same bucket, or streams of one name, whatever their lives, under filters
    /// that overlap.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.author == other.author
            && match (&self.about, &other.about) {
                (About::Messages(one), About::Messages(other)) => {
                    one.stream == other.stream && one.filter.overlaps(&other.filter)
                }
                (one, other) => one == other,
            }
    }

    /// Names what it is about, whatever log covers it: the life of the author's stream, or the bucket. 16 hex digits.
    pub fn life(&self) -> String {
        let mut text = self.author.as_bytes().to_vec();
        match &self.about {
            About::Messages(source) => {
                text.extend_from_slice(&source.created.to_be_bytes());
                text.extend_from_slice(source.stream.as_bytes());
            }
            About::Bucket(bucket) => text.extend_from_slice(bucket.as_bytes()),
        }
        hex::encode(&blake3::derive_key("rhio stream life 1", &text)[..8])
    }

    /// The bytes.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(128);
        out.put_u8(VERSION);
        out.put_u8(self.kind().byte());
        out.put_slice(self.author.as_bytes());
        out.put_u64(self.epoch);
        match &self.about {
            About::Messages(source) => {
                out.put_u64(source.created);
                put_string16(&mut out, &source.stream);
                put_string16(&mut out, source.filter.as_str());
            }
            About::Bucket(bucket) => put_string16(&mut out, bucket),
        }
        out.freeze()
    }

    /// Reads a descriptor.
    ///
    /// # Errors
    /// When the bytes do not follow the layout.
    pub fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        let version = reader.u8("descriptor version")?;
        if version != VERSION {
            return Err(DecodeError::Version { what: "log descriptor", got: version, known: VERSION });
        }
        let kind = Kind::read(reader, "kind of log")?;
        let author = PublicKey::from_bytes(reader.array32("author")?).map_err(|_| DecodeError::Invalid("author"))?;
        let epoch = reader.u64("epoch")?;
        let about = match kind {
            Kind::Messages => {
                let created = reader.u64("created")?;
                let stream = reader.string16(MAX_STREAM_NAME_LEN, "stream name")?;
                let filter = reader.string16(MAX_SUBJECT_LEN, "filter")?;
                let filter = Filter::parse(&filter).map_err(|_| DecodeError::Invalid("filter"))?;
                About::Messages(Source { stream, created, filter })
            }
            Kind::Bucket => About::Bucket(read_bucket(reader)?),
        };
        Ok(Self { author, epoch, about })
    }
}

/// Reads a bucket's name.
///
/// # Errors
/// When it is empty, too long, or not UTF-8.
pub fn read_bucket(reader: &mut Reader) -> Result<String, DecodeError> {
    let bucket = reader.string16(MAX_BUCKET_LEN, "bucket")?;
    if bucket.is_empty() { Err(DecodeError::Invalid("bucket")) } else { Ok(bucket) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn author() -> PublicKey {
        p2panda_core::SigningKey::from_bytes(&[1; 32]).verifying_key().into()
    }

    fn messages() -> LogDescriptor {
        let filter = Filter::parse("workload.*.energy").unwrap();
        let source = Source { stream: "workload".to_owned(), created: 1_700_000_000_000_000_001, filter };
        LogDescriptor::messages(author(), 1_700_000_000_123, source)
    }

    #[test]
    fn descriptors_have_the_bytes_that_were_agreed_and_read_back() {
        let bucket = LogDescriptor::bucket(author(), 1_700_000_000_123, "bucket-out");
        let vectors = include_str!("../../tests/vectors/descriptors.txt");
        let line = |descriptor: &LogDescriptor| format!("{} {}\n", descriptor.id(), hex::encode(descriptor.encode()));
        assert_eq!(line(&messages()) + &line(&bucket), vectors);
        for descriptor in [messages(), bucket] {
            let mut reader = Reader::new(descriptor.encode());
            assert_eq!(LogDescriptor::read(&mut reader), Ok(descriptor));
            reader.finish().unwrap();
        }
    }

    #[test]
    fn the_format_before_is_told_from_damage() {
        let mut bytes = messages().encode().to_vec();
        bytes[0] = 1;
        let read = LogDescriptor::read(&mut Reader::new(bytes.into()));
        assert_eq!(read, Err(DecodeError::Version { what: "log descriptor", got: 1, known: VERSION }));
    }

    #[test]
    fn a_stream_created_again_is_another_log() {
        let mut again = messages();
        if let About::Messages(source) = &mut again.about {
            source.created += 1;
        }
        assert_ne!(again.id(), messages().id());
        assert_ne!(again.life(), messages().life());
        assert!(!again.same_origin(&messages()));
        let epoch = LogDescriptor { epoch: 5, ..messages() };
        assert_ne!(epoch.id(), messages().id());
        assert!(epoch.same_origin(&messages()));
        assert!(!LogDescriptor::bucket(author(), 5, "workload").same_origin(&messages()));
    }
}
