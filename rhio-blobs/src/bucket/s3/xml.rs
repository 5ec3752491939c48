//! The documents that S3 answers with.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use quick_xml::de::from_str;
use quick_xml::escape::escape;
use rhio_core::object::ObjectKey;
use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::headers::{millis, unquoted};
use super::request::can_be_asked_for;
use crate::bucket::{Etag, Listed, Page, Part};

/// Most characters of a key that is only told.
const MAX_SKIPPED: usize = 200;

#[derive(Deserialize)]
struct ListBucketResult {
    // What tells a complete listing from any other document: never taken for granted.
    #[serde(rename = "IsTruncated")]
    truncated: bool,
    #[serde(rename = "NextContinuationToken")]
    next: Option<String>,
    #[serde(rename = "EncodingType")]
    encoding: Option<String>,
    #[serde(rename = "Contents", default)]
    objects: Vec<Contents>,
}

#[derive(Deserialize)]
struct Contents {
    #[serde(rename = "Key")]
    key: String,
    #[serde(rename = "Size")]
    size: u64,
    #[serde(rename = "ETag", default)]
    etag: String,
    #[serde(rename = "LastModified")]
    modified: String,
}

/// One page of a listing.
pub(super) fn page(text: &str) -> Result<Page, String> {
    let result: ListBucketResult = parse(text, "ListBucketResult")?;
    let mut page = Page { objects: Vec::with_capacity(result.objects.len()), skipped: Vec::new(), next: None };
    for object in result.objects {
        let key = key_of(&object.key, result.encoding.as_deref()).filter(|key| can_be_asked_for(key.as_str()));
        // Without a version it can't be told whether it has changed. That is no matter of the others.
        let (Some(key), Some(etag)) = (key, unquoted(&object.etag)) else {
            page.skipped.push(object.key.chars().take(MAX_SKIPPED).collect());
            continue;
        };
        // An object's own answer has whole seconds (a date of HTTP), while MinIO and others list milliseconds. The two
        // must be the same, or the object would look changed in every listing.
        let modified = time_of(&object.modified)? / 1000 * 1000;
        page.objects.push(Listed { key, size: object.size, etag, modified });
    }
    if result.truncated {
        let next = result.next.filter(|next| !next.is_empty());
        page.next = Some(next.ok_or("the server ends a listing in the middle")?);
    }
    Ok(page)
}

#[derive(Deserialize)]
struct InitiateMultipartUploadResult {
    #[serde(rename = "UploadId")]
    id: String,
}

/// The id of a begun upload.
pub(super) fn upload_id(text: &str) -> Result<String, String> {
    parse(text, "InitiateMultipartUploadResult").map(|result: InitiateMultipartUploadResult| result.id)
}

#[derive(Deserialize)]
struct ListPartsResult {
    #[serde(rename = "IsTruncated")]
    truncated: bool,
    #[serde(rename = "NextPartNumberMarker")]
    next: Option<u32>,
    #[serde(rename = "Part", default)]
    parts: Vec<ListedPart>,
}

#[derive(Deserialize)]
struct ListedPart {
    #[serde(rename = "PartNumber")]
    number: u32,
    #[serde(rename = "Size")]
    size: u64,
    #[serde(rename = "ETag")]
    etag: String,
    #[serde(rename = "LastModified")]
    modified: Option<String>,
}

/// A part, and when it was written.
type Written = (Part, u64);

/// Parts, and where the next page begins.
pub(super) fn parts(text: &str) -> Result<(Vec<Written>, Option<u32>), String> {
    let result: ListPartsResult = parse(text, "ListPartsResult")?;
    let mut parts = Vec::with_capacity(result.parts.len());
    for part in result.parts {
        let etag = unquoted(&part.etag).ok_or("the server lists a part without version")?;
        let modified = part.modified.as_deref().and_then(|text| time_of(text).ok()).unwrap_or(0);
        parts.push((Part { number: part.number, size: part.size, etag }, modified));
    }
    let next = result.next.filter(|next| *next > 0);
    match result.truncated {
        true => Ok((parts, Some(next.ok_or("the server ends a list of parts in the middle")?))),
        false => Ok((parts, None)),
    }
}

#[derive(Deserialize)]
struct ListMultipartUploadsResult {
    #[serde(rename = "IsTruncated", default)]
    truncated: bool,
    #[serde(rename = "NextKeyMarker")]
    next_key: Option<String>,
    #[serde(rename = "NextUploadIdMarker")]
    next_id: Option<String>,
    #[serde(rename = "Upload", default)]
    uploads: Vec<UploadOf>,
}

#[derive(Deserialize)]
struct UploadOf {
    #[serde(rename = "Key")]
    key: String,
    #[serde(rename = "UploadId")]
    id: String,
    #[serde(rename = "Initiated")]
    begun: Option<String>,
}

/// One page of uploads.
#[derive(Debug)]
pub(super) struct Uploads {
    /// Key, id, and when it was begun: 0 where the server does not tell.
    pub(super) uploads: Vec<(String, String, u64)>,
    /// Key and id after which the next page begins. Some servers name only one of them.
    pub(super) next: Option<(Option<String>, Option<String>)>,
}

/// One page of uploads.
pub(super) fn uploads(text: &str) -> Result<Uploads, String> {
    let result: ListMultipartUploadsResult = parse(text, "ListMultipartUploadsResult")?;
    let begun = |upload: &UploadOf| upload.begun.as_deref().and_then(|text| time_of(text).ok()).unwrap_or(0);
    let uploads = result.uploads.into_iter().map(|upload| {
        let begun = begun(&upload);
        (upload.key, upload.id, begun)
    });
    let next = result.truncated.then_some((result.next_key, result.next_id));
    Ok(Uploads { uploads: uploads.collect(), next })
}

#[derive(Deserialize)]
struct Stored {
    #[serde(rename = "ETag")]
    etag: String,
}

/// The version that a copy or a completed upload has.
pub(super) fn etag(text: &str) -> Result<Etag, String> {
    let stored: Stored = from_str(text).map_err(|_| not(text, "CopyObjectResult or CompleteMultipartUploadResult"))?;
    unquoted(&stored.etag).ok_or_else(|| "the server names no version of what it stored".into())
}

#[derive(Deserialize)]
struct ErrorOf {
    #[serde(rename = "Code", default)]
    code: String,
    #[serde(rename = "Message", default)]
    message: String,
}

/// Code and message, if the document is an error.
pub(super) fn failure(text: &str) -> Option<(String, String)> {
    if root(text)? != "Error" {
        return None;
    }
    let error: ErrorOf = from_str(text).unwrap_or(ErrorOf { code: "unreadable".into(), message: String::new() });
    Some((error.code, error.message))
}

/// One of each part: SeaweedFS (4.48) lists what was written twice both times. It is the later one, and none where times
/// do not tell which that is.
pub(super) fn one_of_each(mut parts: Vec<Written>) -> Vec<Part> {
    parts.sort_by_key(|(part, modified)| (part.number, *modified));
    let same_number = |a: &Written, b: &Written| a.0.number == b.0.number;
    let of_each = parts.chunk_by(same_number).filter_map(|written| {
        let (last, modified) = written.last()?;
        let clear = written.iter().all(|(part, time)| time < modified || part == last);
        clear.then(|| last.clone())
    });
    of_each.collect()
}

/// What asks to make an object of parts.
pub(super) fn completion(parts: &[Part]) -> String {
    let mut text = String::from("<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
    for part in parts {
        let (number, etag) = (part.number, escape(&part.etag.0));
        text.push_str(&format!("<Part><PartNumber>{number}</PartNumber><ETag>\"{etag}\"</ETag></Part>"));
    }
    text + "</CompleteMultipartUpload>"
}

fn parse<'a, T: Deserialize<'a>>(text: &'a str, name: &str) -> Result<T, String> {
    // A page of a proxy's must not pass for an empty listing.
    if root(text) != Some(name) {
        return Err(not(text, name));
    }
    from_str(text).map_err(|e| format!("the server's {name} can't be read: {e}"))
}

fn not(text: &str, name: &str) -> String {
    let got: String = root(text).unwrap_or("something else").chars().take(50).collect();
    format!("the server answers with {got} instead of {name}")
}

/// The name of the outermost element.
fn root(text: &str) -> Option<&str> {
    let mut rest = text.trim_start_matches('\u{feff}');
    loop {
        rest = rest.trim_start().strip_prefix('<')?;
        match rest.strip_prefix(['?', '!']) {
            Some(after) => rest = after.split_once('>')?.1,
            None => return rest.split(|c: char| c.is_whitespace() || matches!(c, '>' | '/')).next(),
        }
    }
}

fn key_of(text: &str, encoding: Option<&str>) -> Option<ObjectKey> {
    ObjectKey::new(decoded(text, encoding)?).ok()
}

fn decoded<'a>(text: &'a str, encoding: Option<&str>) -> Option<Cow<'a, str>> {
    if encoding != Some("url") {
        return Some(Cow::Borrowed(text));
    }
    // Spaces are written as in forms, where a plus is encoded.
    let text = text.replace('+', " ");
    percent_decode_str(&text).decode_utf8().ok().map(|text| Cow::Owned(text.into_owned()))
}

fn time_of(text: &str) -> Result<u64, String> {
    OffsetDateTime::parse(text.trim(), &Rfc3339).map(millis).map_err(|_| "the server lists a time that is none".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(rest: &str) -> String {
        format!(
            "<?xml version=\"1.0\"?>\n<ListBucketResult xmlns=\"http://x/\"><Name>b</Name>{rest}</ListBucketResult>"
        )
    }

    fn object(key: &str) -> String {
        let time = "2020-12-01T20:43:11.794Z";
        format!(
            "<Contents><Key>{key}</Key><LastModified>{time}</LastModified><ETag>&quot;e&quot;</ETag><Size>4</Size>\
             <Owner><ID>1</ID></Owner></Contents>"
        )
    }

    #[test]
    fn a_listing_is_read_and_odd_keys_are_told() {
        let long = "a".repeat(1025);
        let objects: String = ["a+b%2Bc", "%FF", "a/../b", &long].map(object).concat();
        let text = listing(&format!("<EncodingType>url</EncodingType><IsTruncated>false</IsTruncated>{objects}"));
        let page = page(&text).unwrap();
        assert_eq!(page.objects.len(), 1);
        assert_eq!(page.objects[0].key.as_str(), "a b+c");
        assert_eq!((page.objects[0].size, page.objects[0].modified), (4, 1_606_855_391_000));
        assert_eq!(page.objects[0].etag, Etag("e".into()));
        assert_eq!(page.skipped.len(), 3);
        assert_eq!(page.next, None);
    }

    #[test]
    fn an_object_without_a_version_is_told_and_the_others_are_listed() {
        let objects = [object("none").replace("<ETag>&quot;e&quot;</ETag>", ""), object("a")];
        let odd = object("odd").replace("&quot;e&quot;", "&quot;&quot;");
        let page = page(&listing(&format!("<IsTruncated>false</IsTruncated>{}{odd}", objects.concat()))).unwrap();
        assert_eq!(page.objects.iter().map(|object| object.key.as_str()).collect::<Vec<_>>(), ["a"]);
        assert_eq!(page.skipped, ["none", "odd"]);
    }

    #[test]
    fn only_a_whole_listing_is_one() {
        for text in [
            String::new(),
            "<html><body>sign in</body></html>".into(),
            "<Error><Code>x</Code></Error>".into(),
            listing(""),
            listing("<IsTruncated>true</IsTruncated>"),
            listing("<IsTruncated>false</IsTruncated>").replace("</ListBucketResult>", ""),
            listing(&format!("<IsTruncated>false</IsTruncated>{}", object("a").replace("2020", "no"))),
        ] {
            assert!(page(&text).is_err(), "{text}");
        }
        let more = listing("<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>");
        assert_eq!(page(&more).unwrap().next.as_deref(), Some("t"));
    }

    #[test]
    fn of_a_part_that_is_listed_twice_the_later_one_counts() {
        let part = |number, etag: &str| Part { number, size: 1, etag: Etag(etag.into()) };
        let listed = vec![
            (part(2, "only"), 0),
            (part(1, "later"), 2),
            (part(1, "early"), 1),
            (part(3, "one"), 5),
            (part(3, "other"), 5),
            (part(4, "same"), 5),
            (part(4, "same"), 5),
        ];
        assert_eq!(one_of_each(listed), [part(1, "later"), part(2, "only"), part(4, "same")]);
    }

    #[test]
    fn a_success_may_be_a_failure() {
        let text = "<?xml version=\"1.0\"?><Error><Code>InternalError</Code><Message>a &amp; b</Message></Error>";
        assert_eq!(failure(text), Some(("InternalError".into(), "a & b".into())));
        assert_eq!(failure("<CopyObjectResult><ETag>\"e\"</ETag></CopyObjectResult>"), None);
        assert_eq!(etag("<CopyObjectResult><ETag>\"e\"</ETag></CopyObjectResult>"), Ok(Etag("e".into())));
        assert!(etag(text).is_err());
    }
}
