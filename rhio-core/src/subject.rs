//! NATS subjects and filters, by the server's own rules: tokens separated by dots, none of them empty, no white space;
//! in a filter `*` stands for exactly one token and `>`, as the last token, for one or more.

use std::fmt;

use serde::{Serialize, Serializer};
use thiserror::Error;

/// Longest subject that rhio handles, in bytes. The server's default `max_control_line` is 4096 bytes for a whole
/// protocol line, so no subject that it accepts is longer.
pub const MAX_SUBJECT_LEN: usize = 4096;

/// Why NATS would not accept a subject or a filter.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum SubjectError {
    /// Nothing at all.
    #[error("is empty")]
    Empty,
    /// Longer than [`MAX_SUBJECT_LEN`].
    #[error("is longer than {MAX_SUBJECT_LEN} bytes")]
    TooLong,
    /// Two dots in a row, or a dot at an end.
    #[error("has an empty token (a dot at an end, or two in a row)")]
    EmptyToken,
    /// White space or a control character.
    #[error("has white space or a control character in it")]
    Whitespace,
    /// `>` before the last token.
    #[error("has '>' before the end; it may only be the last token")]
    FullWildcardNotLast,
}

fn check_tokens(text: &str) -> Result<(), SubjectError> {
    if text.is_empty() {
        return Err(SubjectError::Empty);
    }
    if text.len() > MAX_SUBJECT_LEN {
        return Err(SubjectError::TooLong);
    }
    if text.bytes().any(|b| b <= b' ' || b == 0x7f) {
        return Err(SubjectError::Whitespace);
    }
    if text.split('.').any(str::is_empty) {
        return Err(SubjectError::EmptyToken);
    }
    Ok(())
}

/// Whether a stream can hold a message under this subject. Servers take subjects as bytes: anything but white space,
/// and what is a wildcard in a filter is a token like any other.
///
/// # Errors
/// Says what is wrong with it.
pub fn check_subject(subject: &[u8]) -> Result<(), SubjectError> {
    if subject.is_empty() {
        return Err(SubjectError::Empty);
    }
    if subject.len() > MAX_SUBJECT_LEN {
        return Err(SubjectError::TooLong);
    }
    if subject.iter().any(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n')) {
        return Err(SubjectError::Whitespace);
    }
    if subject.split(|byte| *byte == b'.').any(<[u8]>::is_empty) {
        return Err(SubjectError::EmptyToken);
    }
    Ok(())
}

/// A subject that may hold wildcards.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Filter(Box<str>);

impl Filter {
    /// Reads a filter.
    ///
    /// # Errors
    /// When NATS would refuse it.
    pub fn parse(text: &str) -> Result<Self, SubjectError> {
        check_tokens(text)?;
        let mut tokens = text.split('.').peekable();
        while let Some(token) = tokens.next() {
            if token == ">" && tokens.peek().is_some() {
                return Err(SubjectError::FullWildcardNotLast);
            }
        }
        Ok(Self(text.into()))
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the subject falls under this filter. Wildcards in `subject` have no meaning.
    pub fn matches<S: AsRef<[u8]> + ?Sized>(&self, subject: &S) -> bool {
        let mut tokens = subject.as_ref().split(|byte| *byte == b'.');
        for want in self.0.split('.') {
            match (want, tokens.next()) {
                (_, None) => return false,
                (">", Some(_)) => return true,
                ("*", Some(_)) => {}
                (want, Some(got)) if want.as_bytes() == got => {}
                _ => return false,
            }
        }
        tokens.next().is_none()
    }

    /// Whether some subject falls under both filters.
    pub fn overlaps(&self, other: &Self) -> bool {
        let (mut left, mut right) = (self.0.split('.'), other.0.split('.'));
        loop {
            match (left.next(), right.next()) {
                (None, None) => return true,
                (None, Some(_)) | (Some(_), None) => return false,
                (Some(">"), Some(_)) | (Some(_), Some(">")) => return true,
                (Some(a), Some(b)) if a == b || a == "*" || b == "*" => {}
                _ => return false,
            }
        }
    }

    /// Whether every subject that falls under `other` falls under this filter too.
    pub fn covers(&self, other: &Self) -> bool {
        let (mut outer, mut inner) = (self.0.split('.'), other.0.split('.'));
        loop {
            match (outer.next(), inner.next()) {
                (None, None) => return true,
                (Some(">"), Some(_)) => return true,
                (Some("*"), Some(token)) if token != ">" => {}
                (Some(a), Some(b)) if a == b => {}
                _ => return false,
            }
        }
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Filter({})", self.0)
    }
}

impl Serialize for Filter {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

#[cfg(test)]
mod tests;
