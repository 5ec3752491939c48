//! What names an object and what belongs to it besides its content.

use std::collections::BTreeMap;
use std::fmt;

use thiserror::Error;

/// Longest key that S3 takes, in bytes of UTF-8.
pub const MAX_KEY_LEN: usize = 1024;
/// Longest bucket name. S3 allows 63 characters, older and other servers up to 255.
pub const MAX_BUCKET_LEN: usize = 255;
/// Longest version tag that is taken from a server.
pub const MAX_ETAG_LEN: usize = 256;
/// Most attributes that travel with one object.
pub const MAX_ATTRIBUTES: usize = 128;
/// Most bytes of all names and values of one object's attributes. S3 allows about 8 KiB of request headers.
pub const MAX_ATTRIBUTES_LEN: usize = 8 * 1024;
/// Every user-defined attribute's name begins with this.
pub const USER_PREFIX: &str = "x-amz-meta-";
/// Attributes of ours, which are written at the destination and never travel.
pub const OWN_PREFIX: &str = "x-amz-meta-rhio-";
/// Where the destination tells the content's hash.
pub const HASH_ATTRIBUTE: &str = "x-amz-meta-rhio-hash";
/// Where the destination tells the author's public key.
pub const AUTHOR_ATTRIBUTE: &str = "x-amz-meta-rhio-author";

/// Attributes that are not user-defined and travel too: they say how the content is to be read.
const SYSTEM: [&str; 6] =
    ["cache-control", "content-disposition", "content-encoding", "content-language", "content-type", "expires"];

/// Why a text names nothing that an object can have.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum ObjectError {
    /// Empty, or too long.
    #[error("an object's key has 1 to {MAX_KEY_LEN} bytes, this one has {0}")]
    KeyLength(usize),
    /// More than an object can carry.
    #[error("an object's attributes have at most {MAX_ATTRIBUTES} names and {MAX_ATTRIBUTES_LEN} bytes")]
    Attributes,
    /// Not one that travels.
    #[error("'{0}' is no attribute that travels with an object")]
    Name(String),
    /// A value with control characters, or not trimmed.
    #[error("the value of attribute '{0}' can't be an HTTP header's")]
    Value(String),
}

/// An object's key: any UTF-8 of 1 to 1024 bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey(Box<str>);

impl ObjectKey {
    /// Takes a text.
    ///
    /// # Errors
    /// When it is empty or too long.
    pub fn new(text: impl Into<String>) -> Result<Self, ObjectError> {
        let text = text.into();
        if text.is_empty() || text.len() > MAX_KEY_LEN {
            return Err(ObjectError::KeyLength(text.len()));
        }
        Ok(Self(text.into_boxed_str()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &self.0)
    }
}

/// What travels with an object besides its content: content type and the like, and user-defined metadata. Names are the
/// lower-case names of the HTTP headers that S3 gives them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Attributes(BTreeMap<String, String>);

impl Attributes {
    /// Keeps what may travel, and leaves out the rest: unknown names, ours, values that are no header's, and what is
    /// beyond the bounds.
    pub fn keep(pairs: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut kept = Self::default();
        let mut len = 0;
        for (name, value) in pairs {
            let name = name.to_ascii_lowercase();
            let value = value.trim().to_owned();
            let fits = kept.0.len() < MAX_ATTRIBUTES && len + name.len() + value.len() <= MAX_ATTRIBUTES_LEN;
            if fits && Self::check(&name, &value).is_ok() {
                len += name.len() + value.len();
                kept.0.insert(name, value);
            }
        }
        kept
    }

    /// Takes all, or nothing.
    ///
    /// # Errors
    /// When one of them may not travel, or there are too many.
    pub fn all(pairs: BTreeMap<String, String>) -> Result<Self, ObjectError> {
        let len: usize = pairs.iter().map(|(name, value)| name.len() + value.len()).sum();
        if pairs.len() > MAX_ATTRIBUTES || len > MAX_ATTRIBUTES_LEN {
            return Err(ObjectError::Attributes);
        }
        pairs.iter().try_for_each(|(name, value)| Self::check(name, value))?;
        Ok(Self(pairs))
    }

    fn check(name: &str, value: &str) -> Result<(), ObjectError> {
        let user = name.strip_prefix(USER_PREFIX).is_some_and(|rest| {
            !rest.is_empty()
                && rest.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b))
        });
        if name.starts_with(OWN_PREFIX) || !(user || SYSTEM.contains(&name)) {
            return Err(ObjectError::Name(name.to_owned()));
        }
        if value.trim() != value || value.chars().any(char::is_control) {
            return Err(ObjectError::Value(name.to_owned()));
        }
        Ok(())
    }

    /// Names and values, sorted by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// One value.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_one_to_1024_bytes() {
        assert_eq!(ObjectKey::new(""), Err(ObjectError::KeyLength(0)));
        assert!(ObjectKey::new("é".repeat(512)).is_ok());
        assert_eq!(ObjectKey::new("é".repeat(513)), Err(ObjectError::KeyLength(1026)));
    }

    #[test]
    fn only_what_may_travel_is_kept() {
        let pairs = [
            ("Content-Type", "text/plain"),
            ("x-amz-meta-Colour", " red "),
            ("x-amz-meta-rhio-hash", "00"),
            ("etag", "\"1\""),
            ("x-amz-meta-bad", "a\nb"),
        ];
        let kept = Attributes::keep(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let expected = vec![("content-type", "text/plain"), ("x-amz-meta-colour", "red")];
        assert_eq!(kept.iter().collect::<Vec<_>>(), expected);
        let own = BTreeMap::from([(HASH_ATTRIBUTE.to_owned(), "00".to_owned())]);
        assert!(Attributes::all(own).is_err());
    }
}
