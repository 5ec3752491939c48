//! Buckets on a server that speaks S3.
//!
//! Requests are signed in their URL (signature version 4), and the content itself is not signed: what rhio writes it has
//! verified against its own hashes. It goes with a checksum, and what the server calls it is compared with that. Nothing
//! is tried again here but a read whose idle connection the server had closed.

mod body;
mod headers;
mod request;
mod send;
mod server;
mod sum;
mod words;
mod xml;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use reqwest::header::{IF_MATCH, RANGE, SERVER};
use reqwest::{Method, StatusCode, Url};
use rhio_core::object::ObjectKey;

use super::{
    Bucket, BucketError, Condition, Content, Etag, Labels, Limits, ListedUpload, Object, Page, Part, Upload, Written,
};
use request::{Request, encoded, quoted};
use server::Shared;
pub use server::{S3Config, S3Credentials, S3Error, S3Server};

/// Smallest part but the last, as S3 wants it.
const MIN_PART: u64 = 5 << 20;
/// Most parts of an upload.
const MAX_PARTS: u32 = 10_000;
/// Largest object of one request.
const MAX_PUT: u64 = 5 << 30;
/// Content of at most so many bytes is in memory before it is sent, because its checksum goes first.
const HELD: u64 = 16 << 20;
/// Longest id of an upload that is taken from a server.
const MAX_UPLOAD_ID: usize = 2048;
/// Most pages that are read of a listing of uploads.
const MAX_UPLOAD_PAGES: usize = 100;

/// A bucket on a server. Made by [`S3Server::bucket`].
#[derive(Clone)]
pub struct S3Bucket {
    server: Arc<Shared>,
    name: String,
    /// What keys are appended to, with a slash.
    base: Url,
}

impl fmt::Debug for S3Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Bucket").field("name", &self.name).finish_non_exhaustive()
    }
}

#[async_trait]
impl Bucket for S3Bucket {
    fn name(&self) -> &str {
        &self.name
    }

    fn limits(&self) -> Limits {
        Limits { min_part: MIN_PART, max_parts: MAX_PARTS, max_put: MAX_PUT, held: HELD }
    }

    async fn list(&self, from: Option<&str>) -> Result<Page, BucketError> {
        let mut request =
            Request::new(Method::GET).query("list-type", "2").query("encoding-type", "url").query("max-keys", "1000");
        if let Some(from) = from {
            request = request.query("continuation-token", from);
        }
        let text = self.text(request).await?;
        let page = xml::page(&text).map_err(|reason| self.unavailable(reason))?;
        // It would never end.
        if page.next.is_some() && page.next.as_deref() == from {
            return Err(self.unavailable("the server says that a page of its listing comes after itself"));
        }
        Ok(page)
    }

    async fn check(&self) -> Result<(), BucketError> {
        // Asking for the bucket's head would be answered without words.
        let request = Request::new(Method::GET).query("list-type", "2").query("max-keys", "1");
        xml::page(&self.text(request).await?).map(|_| ()).map_err(|reason| self.unavailable(reason))
    }

    async fn head(&self, key: &ObjectKey) -> Result<Option<Object>, BucketError> {
        let answer = self.send(Request::new(Method::HEAD).key(key)).await?;
        let answer = match answer.status() {
            StatusCode::OK => answer,
            // Its answer has no body that tells whether the object is missing, or the bucket, or why else not. The
            // answer to a GET has.
            StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST | StatusCode::FORBIDDEN => {
                match self.get(key, None, None).await {
                    Err(BucketError::Changed) => return Ok(None),
                    answer => answer?,
                }
            }
            _ => return Err(self.failure(answer).await.into_error()),
        };
        headers::object(answer.headers()).map(Some).map_err(|reason| self.unavailable(reason))
    }

    async fn open(&self, key: &ObjectKey) -> Result<Option<(Object, Content)>, BucketError> {
        let answer = match self.get(key, None, None).await {
            Err(BucketError::Changed) => return Ok(None),
            answer => answer?,
        };
        let object = headers::object(answer.headers()).map_err(|reason| self.unavailable(reason))?;
        let content = body::incoming(answer, object.size, self.server.config.stall);
        Ok(Some((object, content)))
    }

    async fn read(&self, key: &ObjectKey, version: &Etag, range: Range<u64>) -> Result<Content, BucketError> {
        let len = range.end.saturating_sub(range.start);
        if len == 0 {
            // No range of HTTP is empty.
            return match self.head(key).await? {
                Some(object) if object.etag == *version => Ok(Content::from_bytes(bytes::Bytes::new())),
                _ => Err(BucketError::Changed),
            };
        }
        let answer = self.get(key, Some(version), Some(&range)).await?;
        // A server that does not know the condition tells at least what it sends.
        if headers::etag(answer.headers()).as_ref() != Some(version) {
            return Err(BucketError::Changed);
        }
        let whole = answer.status() == StatusCode::OK && range.start == 0;
        let part = answer.status() == StatusCode::PARTIAL_CONTENT && headers::is_range(answer.headers(), &range);
        if !whole && !part || answer.content_length().is_some_and(|got| got != len) {
            return Err(self.unavailable("the server answers with another range than it was asked for"));
        }
        Ok(body::incoming(answer, len, self.server.config.stall))
    }

    async fn put(
        &self,
        key: &ObjectKey,
        content: Content,
        labels: &Labels,
        condition: &Condition,
    ) -> Result<Written<Etag>, BucketError> {
        if content.len > MAX_PUT {
            return Err(BucketError::Unsuitable(format!("{} bytes are too many for one request", content.len)));
        }
        self.check_name(key, content.len).await?;
        let request = Request::new(Method::PUT).key(key).headers(headers::labels(labels)).condition(condition);
        let (answer, sum) = self.send_summed(request, content).await?;
        if !answer.status().is_success() {
            return Err(self.failure(answer).await.of_write(condition));
        }
        let what = self.etag_of(&answer)?;
        Ok(Written { checked: sum.is(&what), what })
    }

    async fn copy(
        &self,
        source: (&ObjectKey, &Etag),
        key: &ObjectKey,
        labels: &Labels,
        condition: &Condition,
    ) -> Result<Written<Etag>, BucketError> {
        // Not every server knows the condition on the source.
        let from = self.head(source.0).await?.filter(|object| object.etag == *source.1).ok_or(BucketError::Changed)?;
        if from.size > MAX_PUT {
            return Err(BucketError::Unsuitable(format!("{} bytes are too many for one copy", from.size)));
        }
        self.check_name(key, from.size).await?;
        let request = Request::new(Method::PUT)
            .key(key)
            .headers(headers::labels(labels))
            .header("x-amz-copy-source", format!("/{}/{}", self.name, encoded(source.0.as_str())))
            .header("x-amz-copy-source-if-match", quoted(source.1))
            .header("x-amz-metadata-directive", "REPLACE")
            .condition(condition);
        let answer = self.send(request).await?;
        let failure = match answer.status().is_success() {
            true => match self.result(answer).await? {
                Ok(text) => {
                    let what = xml::etag(&text).map_err(|reason| self.unavailable(reason))?;
                    return Ok(Written { checked: what == *source.1, what });
                }
                Err(failure) => failure,
            },
            false => self.failure(answer).await,
        };
        if failure.is_condition() {
            // One of two conditions: the one on the source, or the one on what is there.
            let now = self.head(source.0).await?;
            return Err(match now {
                Some(object) if object.etag == *source.1 => BucketError::Conflict,
                _ => BucketError::Changed,
            });
        }
        Err(if failure.is_code("NoSuchKey") { BucketError::Changed } else { failure.of_write(condition) })
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), BucketError> {
        let answer = self.send(Request::new(Method::DELETE).key(key)).await?;
        if answer.status().is_success() {
            return Ok(());
        }
        let failure = self.failure(answer).await;
        if failure.is_code("NoSuchKey") { Ok(()) } else { Err(failure.into_error()) }
    }

    async fn begin(&self, key: &ObjectKey, labels: &Labels) -> Result<Upload, BucketError> {
        self.check_name(key, 1).await?;
        let request = Request::new(Method::POST).key(key).query("uploads", "").headers(headers::labels(labels));
        let text = self.text(request).await?;
        let id = xml::upload_id(&text).map_err(|reason| self.unavailable(reason))?;
        if id.is_empty() || id.len() > MAX_UPLOAD_ID {
            return Err(self.unavailable("the server gives an upload no id that can be used"));
        }
        Ok(Upload { key: key.clone(), id })
    }

    async fn put_part(
        &self,
        upload: &Upload,
        number: u32,
        _: u64,
        content: Content,
    ) -> Result<Written<Part>, BucketError> {
        if !(1..=MAX_PARTS).contains(&number) || content.len > MAX_PUT {
            return Err(BucketError::Unsuitable(format!("no part {number} of {} bytes", content.len)));
        }
        let size = content.len;
        let request = Request::of_upload(Method::PUT, upload).query("partNumber", number.to_string());
        let (answer, sum) = self.send_summed(request, content).await?;
        if !answer.status().is_success() {
            return Err(self.failure(answer).await.into_error());
        }
        let etag = self.etag_of(&answer)?;
        Ok(Written { checked: sum.is(&etag), what: Part { number, size, etag } })
    }

    async fn parts(&self, upload: &Upload) -> Result<Vec<Part>, BucketError> {
        let mut parts = Vec::new();
        let mut marker = 0;
        loop {
            let mut request = Request::of_upload(Method::GET, upload).query("max-parts", "1000");
            if marker > 0 {
                request = request.query("part-number-marker", marker.to_string());
            }
            let text = self.text(request).await?;
            let (page, next) = xml::parts(&text).map_err(|reason| self.unavailable(reason))?;
            // Anything else would never end.
            let sound = |(part, _): &(Part, u64)| (1..=MAX_PARTS).contains(&part.number);
            if !page.iter().all(sound) || next.is_some_and(|next| next <= marker || next > MAX_PARTS) {
                return Err(self.unavailable("the server lists parts that can't be"));
            }
            parts.extend(page);
            match next {
                Some(next) => marker = next,
                None => return Ok(xml::one_of_each(parts)),
            }
        }
    }

    async fn complete(
        &self,
        upload: &Upload,
        parts: &[Part],
        condition: &Condition,
    ) -> Result<Written<Etag>, BucketError> {
        let mut parts = parts.to_vec();
        parts.sort_by_key(|part| part.number);
        let request = Request::of_upload(Method::POST, upload)
            .header("content-type", "application/xml")
            .condition(condition)
            .body(xml::completion(&parts));
        let answer = self.send(request).await?;
        let failure = match answer.status().is_success() {
            // It may begin with success and still fail.
            true => match self.result(answer).await? {
                Ok(text) => {
                    let what = xml::etag(&text).map_err(|reason| self.unavailable(reason))?;
                    return Ok(Written { checked: sum::composite(&parts).as_ref() == Some(&what), what });
                }
                Err(failure) => failure,
            },
            false => self.failure(answer).await,
        };
        Err(failure.of_completion(condition))
    }

    async fn abort(&self, upload: &Upload) -> Result<(), BucketError> {
        let answer = self.send(Request::of_upload(Method::DELETE, upload)).await?;
        if answer.status().is_success() {
            return Ok(());
        }
        match self.failure(answer).await.into_error() {
            BucketError::NoUpload => Ok(()),
            error => Err(error),
        }
    }

    async fn uploads(&self, key: &ObjectKey) -> Result<Vec<ListedUpload>, BucketError> {
        let mut uploads = Vec::new();
        let mut from = None;
        for _ in 0..MAX_UPLOAD_PAGES {
            // Without encoding-type: SeaweedFS says then that keys are encoded, and they are not.
            let mut request = Request::new(Method::GET).query("uploads", "").query("prefix", key.as_str());
            if let Some((key, id)) = &from {
                request = request.maybe_query("key-marker", key).maybe_query("upload-id-marker", id);
            }
            let text = self.text(request).await?;
            let page = xml::uploads(&text).map_err(|reason| self.unavailable(reason))?;
            // Not every server sorts them, so all pages are read.
            for (name, id, begun) in page.uploads {
                if name == key.as_str() && id.len() <= MAX_UPLOAD_ID {
                    uploads.push(ListedUpload { upload: Upload { key: key.clone(), id }, begun });
                }
            }
            match page.next {
                Some(next) if from.as_ref() != Some(&next) => from = Some(next),
                _ => break,
            }
        }
        Ok(uploads)
    }
}

impl S3Bucket {
    /// Fails for a key under which this server would store something else. SeaweedFS keeps objects in folders, so
    /// `/a//b` and `a\\b` would silently replace `a/b`, and what ends with a slash has no content.
    async fn check_name(&self, key: &ObjectKey, len: u64) -> Result<(), BucketError> {
        let name = key.as_str();
        let moved = name.starts_with('/') || name.contains("//") || name.contains('\\');
        let emptied = name.ends_with('/') && len > 0;
        if !moved && !emptied {
            return Ok(());
        }
        let answer = self.send(Request::new(Method::HEAD).key(key)).await?;
        let server = answer.headers().get(SERVER).and_then(|server| server.to_str().ok()).unwrap_or_default();
        if server.starts_with("SeaweedFS") {
            return Err(BucketError::Unsuitable(
                "SeaweedFS would store it under another name, or without content".into(),
            ));
        }
        Ok(())
    }

    /// The object, or of this version a range. [`BucketError::Changed`] when it is not there.
    async fn get(
        &self,
        key: &ObjectKey,
        version: Option<&Etag>,
        range: Option<&Range<u64>>,
    ) -> Result<reqwest::Response, BucketError> {
        let mut request = Request::new(Method::GET).key(key);
        if let Some(version) = version {
            request = request.header(IF_MATCH.as_str(), quoted(version));
        }
        if let Some(range) = range {
            request = request.header(RANGE.as_str(), format!("bytes={}-{}", range.start, range.end.saturating_sub(1)));
        }
        let answer = self.send(request).await?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let failure = self.failure(answer).await;
        let gone = failure.is_condition() || failure.is_code("NoSuchKey") || failure.is_code("InvalidRange");
        Err(if gone { BucketError::Changed } else { failure.into_error() })
    }

    fn etag_of(&self, answer: &reqwest::Response) -> Result<Etag, BucketError> {
        headers::etag(answer.headers()).ok_or_else(|| self.unavailable("the server names no version of what it stored"))
    }
}
