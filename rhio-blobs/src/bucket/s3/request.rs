//! What is asked, and how it is signed.

use std::collections::BTreeMap;
use std::time::SystemTime;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue, IF_MATCH, IF_NONE_MATCH};
use reqwest::{Method, Url};
use rhio_core::object::ObjectKey;

use super::S3Config;
use crate::bucket::{BucketError, Condition, Etag, Upload};

/// How long a signature is good for, in seconds. It is checked when a request begins.
const GOOD_FOR: u64 = 900;
/// What stays as it is in a path: signatures want everything else encoded.
const IN_PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// A request to be.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) method: Method,
    key: Option<ObjectKey>,
    // Sorted by name, as signatures want them.
    query: BTreeMap<&'static str, String>,
    headers: BTreeMap<String, String>,
    pub(super) body: Option<String>,
}

impl Request {
    /// About the bucket.
    pub(super) fn new(method: Method) -> Self {
        Self { method, key: None, query: BTreeMap::new(), headers: BTreeMap::new(), body: None }
    }

    /// About an upload.
    pub(super) fn of_upload(method: Method, upload: &Upload) -> Self {
        Self::new(method).key(&upload.key).query("uploadId", &upload.id)
    }

    pub(super) fn key(mut self, key: &ObjectKey) -> Self {
        self.key = Some(key.clone());
        self
    }

    pub(super) fn query(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.insert(name, value.into());
        self
    }

    pub(super) fn maybe_query(self, name: &'static str, value: &Option<String>) -> Self {
        match value {
            Some(value) => self.query(name, value),
            None => self,
        }
    }

    pub(super) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.insert(name.to_owned(), value.into());
        self
    }

    pub(super) fn headers(mut self, headers: Vec<(String, String)>) -> Self {
        self.headers.extend(headers);
        self
    }

    pub(super) fn condition(self, condition: &Condition) -> Self {
        match condition {
            Condition::None => self,
            Condition::Absent => self.header(IF_NONE_MATCH.as_str(), "*"),
            Condition::Is(etag) => self.header(IF_MATCH.as_str(), quoted(etag)),
        }
    }

    pub(super) fn body(mut self, body: String) -> Self {
        self.body = Some(body);
        self
    }

    /// Whether it changes nothing.
    pub(super) fn is_read(&self) -> bool {
        self.method == Method::GET || self.method == Method::HEAD
    }

    /// Its URL, signed if there are credentials, and its headers.
    pub(super) fn signed(&self, base: &Url, config: &S3Config) -> Result<(Url, HeaderMap), BucketError> {
        let mut url = self.url(base)?;
        let pairs = self.query.iter().map(|(name, value)| (*name, value.as_str()));
        match &config.credentials {
            None if self.query.is_empty() => {}
            None => drop(url.query_pairs_mut().extend_pairs(pairs)),
            Some(credentials) => {
                // The server sees spaces within a value as one.
                let plain =
                    |value: &String| value.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
                let headers: Vec<_> = self.headers.iter().map(|(name, value)| (name.as_str(), plain(value))).collect();
                let headers = headers.iter().map(|(name, value)| (*name, value.as_str()));
                let now = SystemTime::now().try_into();
                let now =
                    now.map_err(|_| BucketError::Unsuitable("the clock shows no time that can be written".into()))?;
                let method = match self.method {
                    Method::HEAD => rusty_s3::Method::Head,
                    Method::PUT => rusty_s3::Method::Put,
                    Method::POST => rusty_s3::Method::Post,
                    Method::DELETE => rusty_s3::Method::Delete,
                    _ => rusty_s3::Method::Get,
                };
                let (key, secret) = (&credentials.access_key, &credentials.secret_key);
                let token = credentials.session_token.as_deref();
                url = rusty_s3::signing::sign(
                    &now,
                    method,
                    url,
                    key,
                    secret,
                    token,
                    &config.region,
                    GOOD_FOR,
                    pairs,
                    headers,
                );
            }
        }
        Ok((url, self.header_map()?))
    }

    fn url(&self, base: &Url) -> Result<Url, BucketError> {
        let Some(key) = &self.key else { return Ok(base.clone()) };
        let path = format!("{}/{}", base.path().trim_end_matches('/'), encoded(key.as_str()));
        let mut url = base.clone();
        url.set_path(&path);
        // URLs take `.` and `..` as steps, also when they are encoded; the object would be another one.
        if url.path() != path {
            return Err(BucketError::Unsuitable("a part of its name is '.' or '..', which no URL can have".into()));
        }
        Ok(url)
    }

    fn header_map(&self) -> Result<HeaderMap, BucketError> {
        let mut map = HeaderMap::with_capacity(self.headers.len());
        for (name, value) in &self.headers {
            let bad = || BucketError::Unsuitable(format!("'{name}' can't be sent as a header"));
            let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad())?;
            map.insert(header, HeaderValue::from_bytes(value.as_bytes()).map_err(|_| bad())?);
        }
        Ok(map)
    }
}

/// A key as a path.
pub(super) fn encoded(key: &str) -> String {
    utf8_percent_encode(key, IN_PATH).to_string()
}

/// Whether a key can be named in a URL.
pub(super) fn can_be_asked_for(key: &str) -> bool {
    !key.split('/').any(|part| matches!(part, "." | ".."))
}

/// A version as headers have it.
pub(super) fn quoted(etag: &Etag) -> String {
    format!("\"{}\"", etag.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(key: &str) -> Result<Url, BucketError> {
        let base = Url::parse("http://host:1/bucket").unwrap();
        Request::new(Method::GET).key(&ObjectKey::new(key).unwrap()).url(&base)
    }

    #[test]
    fn every_key_stays_what_it_is_or_is_refused() {
        for key in ["a", "/a", "a/", "//", "a//b", "+ %2e?#&=;:@", "é\u{1}\u{7f}\n\\", "...", "a/.../b", ".a", "a."] {
            let url = url(key).unwrap();
            let path = url.path().strip_prefix("/bucket/").unwrap();
            assert_eq!(percent_encoding::percent_decode_str(path).decode_utf8().unwrap(), key);
            assert!(can_be_asked_for(key), "{key}");
            assert_eq!(url.query(), None);
        }
        for key in [".", "..", "a/../b", "../b", "./a", "a/.", "a//.."] {
            assert!(matches!(url(key), Err(BucketError::Unsuitable(_))), "{key}");
            assert!(!can_be_asked_for(key), "{key}");
        }
    }
}
