//! What headers say about objects.

use std::ops::Range;

use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap, LAST_MODIFIED};
use rhio_core::object::{AUTHOR_ATTRIBUTE, Attributes, HASH_ATTRIBUTE, MAX_ETAG_LEN};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

use crate::bucket::{Etag, Labels, Object, Origin};

/// The object that an answer is about.
pub(super) fn object(headers: &HeaderMap) -> Result<Object, String> {
    let text = |name| headers.get(name).and_then(|value| std::str::from_utf8(value.as_bytes()).ok());
    let size = text(CONTENT_LENGTH).and_then(|len| len.parse().ok());
    let modified = text(LAST_MODIFIED).and_then(|date| OffsetDateTime::parse(date, &Rfc2822).ok());
    let pairs = headers
        .iter()
        .filter_map(|(name, value)| Some((name.as_str().to_owned(), String::from_utf8(value.as_bytes().into()).ok()?)));
    Ok(Object {
        size: size.ok_or("the server does not say how long an object is")?,
        etag: etag(headers).ok_or("the server does not name an object's version")?,
        modified: modified.map(millis).ok_or("the server does not say when an object was written")?,
        attributes: Attributes::keep(pairs),
        origin: origin(headers),
    })
}

fn origin(headers: &HeaderMap) -> Option<Origin> {
    let hex = |name| {
        let value = headers.get(name)?.to_str().ok()?;
        let good = value.len() == 64 && value.bytes().all(|b| b.is_ascii_hexdigit());
        good.then(|| value.to_ascii_lowercase())
    };
    Some(Origin { hash: hex(HASH_ATTRIBUTE)?, author: hex(AUTHOR_ATTRIBUTE)? })
}

/// The version that an answer is about.
pub(super) fn etag(headers: &HeaderMap) -> Option<Etag> {
    unquoted(headers.get(ETAG)?.to_str().ok()?)
}

/// A version without quotes. `None` for one that can't be asked for again.
pub(super) fn unquoted(text: &str) -> Option<Etag> {
    let text = text.trim().trim_start_matches("W/").trim_matches('"');
    let good =
        !text.is_empty() && text.len() <= MAX_ETAG_LEN && text.bytes().all(|b| b.is_ascii_graphic() && b != b'"');
    good.then(|| Etag(text.to_owned()))
}

/// Whether an answer has this range.
pub(super) fn is_range(headers: &HeaderMap, range: &Range<u64>) -> bool {
    let value = headers.get(CONTENT_RANGE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let wanted = format!("{}-{}", range.start, range.end.saturating_sub(1));
    value.strip_prefix("bytes ").and_then(|rest| rest.split_once('/')).is_some_and(|(got, _)| got.trim() == wanted)
}

/// Headers that write labels.
pub(super) fn labels(labels: &Labels) -> Vec<(String, String)> {
    let mut pairs: Vec<_> = labels.attributes.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    if let Some(origin) = &labels.origin {
        pairs.push((HASH_ATTRIBUTE.to_owned(), origin.hash.clone()));
        pairs.push((AUTHOR_ATTRIBUTE.to_owned(), origin.author.clone()));
    }
    pairs
}

/// Milliseconds since the Unix epoch.
pub(super) fn millis(time: OffsetDateTime) -> u64 {
    u64::try_from(time.unix_timestamp_nanos() / 1_000_000).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_lose_their_quotes_and_odd_ones_are_none() {
        assert_eq!(unquoted("\"abc-2\""), Some(Etag("abc-2".into())));
        assert_eq!(unquoted("abc"), Some(Etag("abc".into())));
        for odd in ["", "\"\"", "a\"b", "a b", "a\r\nb", &"a".repeat(257)] {
            assert_eq!(unquoted(odd), None, "{odd:?}");
        }
    }

    #[test]
    fn a_range_is_the_one_asked_for() {
        let headers = |text: &'static str| HeaderMap::from_iter([(CONTENT_RANGE, text.parse().unwrap())]);
        assert!(is_range(&headers("bytes 5-9/20"), &(5..10)));
        assert!(is_range(&headers("bytes 5-9/*"), &(5..10)));
        assert!(!is_range(&headers("bytes 5-8/20"), &(5..10)));
        assert!(!is_range(&HeaderMap::new(), &(5..10)));
    }

    #[test]
    fn an_object_needs_size_version_and_time() {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_LENGTH, "3".parse().unwrap());
        headers.insert(ETAG, "\"e\"".parse().unwrap());
        assert!(object(&headers).is_err());
        headers.insert(LAST_MODIFIED, "Tue, 15 Nov 1994 12:45:26 GMT".parse().unwrap());
        headers.insert("x-amz-meta-Colour", "red".parse().unwrap());
        headers.insert(HASH_ATTRIBUTE, "A".repeat(64).parse().unwrap());
        assert_eq!(object(&headers).unwrap().origin, None);
        headers.insert(AUTHOR_ATTRIBUTE, "b".repeat(64).parse().unwrap());
        let object = object(&headers).unwrap();
        assert_eq!((object.size, object.modified), (3, 784_903_526_000));
        assert_eq!(object.attributes.iter().collect::<Vec<_>>(), [("x-amz-meta-colour", "red")]);
        assert_eq!(object.origin.unwrap().hash, "a".repeat(64));
    }
}
