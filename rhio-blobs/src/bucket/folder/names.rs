//! Keys as paths.
//!
//! A key's parts between slashes are folders and a file, named as they are: `2024/May.csv` is that file. A part that no
//! file can be named after (empty, `.`, `..`, with a zero byte, longer than 255 bytes), or that begins with our own
//! prefix `.rhio~`, is written as that prefix and the part percent-encoded: `a//b` is `a/.rhio~/b`. If that is too long
//! for one name, the encoded part is cut, and all but the last piece are folders with `.rhio~+` before the piece.

use std::ffi::OsStr;
use std::path::PathBuf;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// Begins every name that is not a part of a key as it is.
const PREFIX: &str = ".rhio~";
/// Begins a folder's name whose piece goes on in the next name.
const MORE: &str = ".rhio~+";
/// Longest name that file systems take.
const MAX_NAME: usize = 255;
/// Bytes of a cut part in one name.
const PIECE: usize = MAX_NAME - MORE.len();
const KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_');

/// The path of a key, relative to its bucket.
pub(super) fn path_of(key: &str) -> PathBuf {
    let mut path = PathBuf::new();
    for part in key.split('/') {
        let plain = !matches!(part, "" | "." | "..")
            && part.len() <= MAX_NAME
            && !part.contains('\0')
            && !part.starts_with(PREFIX);
        if plain {
            path.push(part);
            continue;
        }
        let encoded = utf8_percent_encode(part, KEPT).to_string();
        let mut rest = encoded.as_str();
        while PREFIX.len() + rest.len() > MAX_NAME {
            // All of it is ASCII.
            let (piece, after) = rest.split_at(PIECE);
            path.push(format!("{MORE}{piece}"));
            rest = after;
        }
        path.push(format!("{PREFIX}{rest}"));
    }
    path
}

/// A key as it comes about, name by name, on the way down to a file.
#[derive(Clone, Debug, Default)]
pub(super) struct Prefix {
    /// Parts that are whole, each with a slash.
    whole: String,
    /// Pieces of a part that goes on.
    cut: String,
}

/// What a name is below a [`Prefix`].
#[derive(Debug)]
pub(super) enum Name {
    /// A whole part: the key if it is a file, and what is below if it is a folder.
    Whole(String),
    /// A piece of one: only a folder.
    Cut(Prefix),
}

impl Prefix {
    /// The prefix of all keys in a folder whose own key would be this.
    pub(super) fn below(key: &str) -> Self {
        Self { whole: format!("{key}/"), cut: String::new() }
    }

    /// Reads a name. `None` for one that no key has.
    pub(super) fn name(&self, name: &OsStr) -> Option<Name> {
        let name = name.to_str()?;
        if let Some(piece) = name.strip_prefix(MORE) {
            let cut = format!("{}{piece}", self.cut);
            return Some(Name::Cut(Self { whole: self.whole.clone(), cut }));
        }
        let part = match name.strip_prefix(PREFIX) {
            Some(rest) => percent_decode_str(&format!("{}{rest}", self.cut)).decode_utf8().ok()?.into_owned(),
            None if self.cut.is_empty() => name.to_owned(),
            None => return None,
        };
        Some(Name::Whole(format!("{}{part}", self.whole)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key_of(path: &std::path::Path) -> Option<String> {
        let mut prefix = Prefix::default();
        let mut key: Option<String> = None;
        for name in path {
            if let Some(key) = key.take() {
                prefix = Prefix::below(&key);
            }
            match prefix.name(name)? {
                Name::Whole(whole) => key = Some(whole),
                Name::Cut(cut) => prefix = cut,
            }
        }
        key
    }

    #[test]
    fn ordinary_keys_are_paths_that_people_understand() {
        for key in ["a", "2024/May 1.csv", ".hidden", "a%20b", "...", "é/ü", ".rhio", "a~b+c"] {
            assert_eq!(path_of(key), PathBuf::from(key));
        }
    }

    #[test]
    fn awkward_keys_have_names_too() {
        for (key, path) in [
            ("a//b", "a/.rhio~/b"),
            ("/", ".rhio~/.rhio~"),
            ("a/", "a/.rhio~"),
            ("../..", ".rhio~%2E%2E/.rhio~%2E%2E"),
            ("./a", ".rhio~%2E/a"),
            (".rhio~", ".rhio~%2Erhio%7E"),
            ("a\0", ".rhio~a%00"),
        ] {
            assert_eq!(path_of(key), PathBuf::from(path));
        }
    }

    proptest! {
        #[test]
        fn every_key_comes_back(key in "(a|/|\\.|~|\\+|%|.rhio~|é|b{240}|\0|c){1,40}") {
            let path = path_of(&key);
            for name in &path {
                prop_assert!(name.len() <= MAX_NAME && name != "." && name != "..");
            }
            prop_assert!(path.is_relative());
            prop_assert_eq!(key_of(&path), Some(key));
        }
    }
}
