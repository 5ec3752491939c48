//! Identities and positions. Every role has a type of its own, so that a position in the source's stream can never be
//! taken for one in the local stream, or an operation's number for either.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

/// Text that should have been a fixed number of hex digits and was not.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum IdError {
    /// Wrong number of characters.
    #[error("expected {expected} hex digits, got {got} characters")]
    Length {
        /// Digits that the id has.
        expected: usize,
        /// Characters that were given.
        got: usize,
    },
    /// A character outside `0-9a-fA-F`.
    #[error("expected only hex digits (0-9, a-f)")]
    NotHex,
    /// 32 bytes that are no point on the curve.
    #[error("is not a valid Ed25519 public key")]
    NotAKey,
}

fn parse_hex<const N: usize>(text: &str) -> Result<[u8; N], IdError> {
    if text.len() != N * 2 {
        return Err(IdError::Length { expected: N * 2, got: text.chars().count() });
    }
    let mut bytes = [0; N];
    hex::decode_to_slice(text, &mut bytes).map_err(|_| IdError::NotHex)?;
    Ok(bytes)
}

macro_rules! id32 {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 32]);

        impl $name {
            /// The raw 32 bytes.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }

            /// The first ten hex digits: enough for a log line.
            pub fn short(&self) -> String {
                hex::encode(&self.0[..5])
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut text = [0u8; 64];
                hex::encode_to_slice(self.0, &mut text).map_err(|_| fmt::Error)?;
                f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.short())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

id32!(
    /// The Ed25519 public key that names a node.
    PublicKey
);
id32!(
    /// The hash that names a log: see [`crate::log::descriptor::LogDescriptor`].
    LogId
);
id32!(
    /// The BLAKE3 hash of an operation's header bytes; p2panda's operation id.
    OpHash
);
id32!(
    /// The BLAKE3 digest of a record's canonical bytes.
    Digest
);

id32!(
    /// The BLAKE3 hash of an object's content; the root of its bao hash tree.
    BlobHash
);

impl OpHash {
    /// What names the operation in a replicated message's headers: its first 16 hex digits. The whole hash would take
    /// 48 bytes more of every message; within one author's logs these are enough.
    pub fn mark(&self) -> String {
        hex::encode(&self.0[..8])
    }
}

impl PublicKey {
    /// Takes 32 bytes that must be a point on the curve.
    pub fn from_bytes(bytes: [u8; 32]) -> Result<Self, IdError> {
        p2panda_core::VerifyingKey::from_bytes(&bytes).map_err(|_| IdError::NotAKey)?;
        Ok(Self(bytes))
    }
}

impl FromStr for PublicKey {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        Self::from_bytes(parse_hex(text)?)
    }
}

impl From<p2panda_core::VerifyingKey> for PublicKey {
    fn from(key: p2panda_core::VerifyingKey) -> Self {
        Self(*key.as_bytes())
    }
}

macro_rules! hash32 {
    ($name:ident) => {
        impl $name {
            /// Takes the raw 32 bytes.
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                Ok(Self(parse_hex(text)?))
            }
        }
    };
}

hash32!(LogId);
hash32!(OpHash);
hash32!(Digest);
hash32!(BlobHash);

macro_rules! position {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// The position right after this one. Saturates: no stream gets there.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

position!(
    /// A sequence number in the author's stream; the first message has 1.
    SourceSeq
);
position!(
    /// A sequence number in the subscriber's own stream; the first message has 1.
    LocalSeq
);
position!(
    /// The number of an operation in its log; the first has 0.
    OpSeq
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_key_reads_back_from_its_own_text() {
        let key: PublicKey = p2panda_core::SigningKey::from_bytes(&[7; 32]).verifying_key().into();
        assert_eq!(key.to_string().parse::<PublicKey>().unwrap(), key);
    }

    #[test]
    fn wrong_text_is_refused_with_the_reason() {
        assert_eq!("abc".parse::<PublicKey>(), Err(IdError::Length { expected: 64, got: 3 }));
        assert_eq!("zz".repeat(32).parse::<PublicKey>(), Err(IdError::NotHex));
        assert_eq!("02".repeat(32).parse::<PublicKey>(), Err(IdError::NotAKey));
    }
}
