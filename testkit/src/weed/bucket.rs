//! What tests do with a bucket, over the wire and without rhio's own code.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, Url};
use tokio::io::AsyncReadExt as _;

use super::{ACCESS_KEY, REGION, SECRET_KEY, xml};

/// Size of the parts of [`Bucket::put_file`].
const PART: usize = 16 << 20;

/// Header names in lower case, and values.
pub type Headers = BTreeMap<String, String>;

/// One bucket of a [`WeedServer`](super::WeedServer) or a [`VersityServer`](crate::VersityServer). Everything panics
/// that does not work.
#[derive(Debug, Clone)]
pub struct Bucket {
    endpoint: String,
    name: String,
    client: Client,
}

impl Bucket {
    /// One on any server that takes our servers' credentials. `endpoint` is `http://host:port`.
    pub fn new(endpoint: &str, name: &str) -> Self {
        Self { endpoint: endpoint.into(), name: name.into(), client: new_client() }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Creates it. No failure when it is there.
    pub async fn create(&self) {
        let request = self.request(Method::PUT, None, &[], &[]);
        let answer = request.send().await.unwrap_or_else(|e| panic!("cannot create bucket {}: {e}", self.name));
        let status = answer.status();
        assert!(
            status.is_success() || status == StatusCode::CONFLICT,
            "cannot create bucket {}: {status} {}",
            self.name,
            answer.text().await.unwrap_or_default()
        );
    }

    /// Deletes it with all that is in it.
    pub async fn remove(&self) {
        for key in self.keys().await {
            self.delete(&key).await;
        }
        self.done(self.request(Method::DELETE, None, &[], &[]), "remove").await;
    }

    /// Writes an object.
    pub async fn put(&self, key: &str, content: impl Into<Bytes>) {
        self.put_with(key, content, &[]).await;
    }

    /// Writes an object with headers, such as `("content-type", "text/plain")` and `("x-amz-meta-colour", "red")`.
    pub async fn put_with(&self, key: &str, content: impl Into<Bytes>, headers: &[(&str, &str)]) {
        let request = self.request(Method::PUT, Some(key), &[], headers).body(content.into());
        self.done(request, key).await;
    }

    /// An object's content; `None` when there is none.
    pub async fn get(&self, key: &str) -> Option<Vec<u8>> {
        let answer = self.found(self.request(Method::GET, Some(key), &[], &[]), key).await?;
        Some(answer.bytes().await.unwrap_or_else(|e| panic!("cannot read {key}: {e}")).into())
    }

    /// An object's headers and size; `None` when there is none.
    pub async fn head(&self, key: &str) -> Option<(Headers, u64)> {
        let answer = self.found(self.request(Method::HEAD, Some(key), &[], &[]), key).await?;
        let text = |value: &reqwest::header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let headers: Headers =
            answer.headers().iter().map(|(name, value)| (name.as_str().into(), text(value))).collect();
        let size = headers.get("content-length").and_then(|len| len.parse().ok()).expect("a length");
        Some((headers, size))
    }

    /// Deletes an object. No failure when there is none.
    pub async fn delete(&self, key: &str) {
        self.done(self.request(Method::DELETE, Some(key), &[], &[]), key).await;
    }

    /// All keys, sorted.
    pub async fn keys(&self) -> Vec<String> {
        let mut keys = Vec::new();
        let mut from = None::<String>;
        loop {
            let mut query = vec![("encoding-type", "url"), ("list-type", "2")];
            if let Some(from) = &from {
                query.push(("continuation-token", from));
            }
            let text = self.done(self.request(Method::GET, None, &query, &[]), "a listing").await;
            let page: xml::Keys = xml::parse(&text);
            keys.extend(page.objects.into_iter().map(|object| decoded(&object.key)));
            from = page.next.filter(|next| !next.is_empty());
            if from.is_none() {
                keys.sort();
                return keys;
            }
        }
    }

    /// All uploads in parts that are neither completed nor aborted: key and id.
    pub async fn uploads(&self) -> Vec<(String, String)> {
        let mut uploads = Vec::new();
        let mut from = None::<(String, String)>;
        loop {
            let mut query = vec![("encoding-type", "url"), ("uploads", "")];
            if let Some((key, id)) = &from {
                query.extend([("key-marker", key.as_str()), ("upload-id-marker", id)]);
            }
            let text = self.done(self.request(Method::GET, None, &query, &[]), "uploads").await;
            let page: xml::Uploads = xml::parse(&text);
            uploads.extend(page.uploads.into_iter().map(|upload| (decoded(&upload.key), upload.id)));
            match (page.more, page.next_key, page.next_id) {
                (true, Some(key), Some(id)) => from = Some((decoded(&key), id)),
                _ => return uploads,
            }
        }
    }

    /// How many parts of an object are stored that are not made into an object yet, up to 1000 of each upload.
    pub async fn parts(&self, key: &str) -> usize {
        let mut count = 0;
        for (_, id) in self.uploads().await.into_iter().filter(|(of, _)| of == key) {
            let request = self.request(Method::GET, Some(key), &[("uploadId", &id)], &[]);
            // An upload that was completed meanwhile has none.
            if let Ok(response) = request.send().await {
                count += response.text().await.unwrap_or_default().matches("<PartNumber>").count();
            }
        }
        count
    }

    /// Writes a file of any size, in parts and without holding it in memory.
    pub async fn put_file(&self, key: &str, path: &Path) {
        let mut file =
            tokio::fs::File::open(path).await.unwrap_or_else(|e| panic!("cannot open {}: {e}", path.display()));
        let begun = self.done(self.request(Method::POST, Some(key), &[("uploads", "")], &[]), key).await;
        let id = xml::parse::<xml::Begun>(&begun).id;
        let mut list = String::new();
        for number in 1.. {
            let mut part = Vec::with_capacity(PART);
            (&mut file)
                .take(PART as u64)
                .read_to_end(&mut part)
                .await
                .unwrap_or_else(|e| panic!("cannot read {}: {e}", path.display()));
            if part.is_empty() && number > 1 {
                break;
            }
            let last = part.len() < PART;
            let etag = self.put_part(key, &id, number, part).await;
            list.push_str(&format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"));
            if last {
                break;
            }
        }
        let body = format!("<CompleteMultipartUpload>{list}</CompleteMultipartUpload>");
        let text = self.done(self.request(Method::POST, Some(key), &[("uploadId", &id)], &[]).body(body), key).await;
        assert!(!text.contains("<Error>"), "cannot complete {key}: {text}");
    }

    /// Writes a part of an upload, from 1 on. Its version, in quotes.
    pub async fn put_part(&self, key: &str, upload: &str, number: u32, content: impl Into<Bytes>) -> String {
        let number = number.to_string();
        let query = [("partNumber", number.as_str()), ("uploadId", upload)];
        let answer = self.answer(self.request(Method::PUT, Some(key), &query, &[]).body(content.into()), key).await;
        answer.headers().get("etag").expect("a part has an etag").to_str().expect("an etag is text").to_owned()
    }

    /// A signed request. `key` of `None` is the bucket itself; queries are sorted by name.
    fn request(
        &self,
        method: Method,
        key: Option<&str>,
        query: &[(&str, &str)],
        headers: &[(&str, &str)],
    ) -> RequestBuilder {
        let path = match key {
            Some(key) => format!("{}/{}", self.name, encoded(key)),
            None => self.name.clone(),
        };
        let url = signed(&self.endpoint, &path, &method, query, headers);
        headers
            .iter()
            .fold(self.client.request(method, url), |request, (name, value)| request.header(*name, value.as_bytes()))
    }

    async fn answer(&self, request: RequestBuilder, what: &str) -> Response {
        let answer = request.send().await.unwrap_or_else(|e| panic!("bucket {}, {what}: {e}", self.name));
        let status = answer.status();
        if status.is_success() {
            return answer;
        }
        panic!("bucket {}, {what}: {status} {}", self.name, answer.text().await.unwrap_or_default());
    }

    async fn done(&self, request: RequestBuilder, what: &str) -> String {
        let answer = self.answer(request, what).await;
        answer.text().await.unwrap_or_else(|e| panic!("bucket {}, {what}: {e}", self.name))
    }

    async fn found(&self, request: RequestBuilder, key: &str) -> Option<Response> {
        let answer = request.send().await.unwrap_or_else(|e| panic!("bucket {}, {key}: {e}", self.name));
        if answer.status() == StatusCode::NOT_FOUND {
            return None;
        }
        assert!(answer.status().is_success(), "bucket {}, {key}: {}", self.name, answer.status());
        Some(answer)
    }
}

/// Asks the server at this address for its buckets.
pub(crate) async fn list_buckets(endpoint: &str) -> Result<(), String> {
    let url = signed(endpoint, "", &Method::GET, &[], &[]);
    get_text(url.as_str()).await.map(drop)
}

/// A GET whose answer comes soon or not.
pub(super) async fn get_text(url: &str) -> Result<String, String> {
    static CLIENT: LazyLock<Client> = LazyLock::new(new_client);
    let request = CLIENT.get(url).timeout(Duration::from_secs(2));
    let answer = request.send().await.and_then(Response::error_for_status).map_err(|e| format!("{e:?}"))?;
    answer.text().await.map_err(|e| format!("{e:?}"))
}

fn new_client() -> Client {
    // A connection belongs to the runtime of the test that made it, so none is kept for the next test.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = Client::builder().no_proxy().pool_max_idle_per_host(0);
    builder.build().unwrap_or_else(|e| panic!("cannot make an HTTP client: {e}"))
}

fn signed(endpoint: &str, path: &str, method: &Method, query: &[(&str, &str)], headers: &[(&str, &str)]) -> Url {
    let url = Url::parse(&format!("{endpoint}/{path}")).unwrap_or_else(|e| panic!("bad path {path}: {e}"));
    let method = match *method {
        Method::HEAD => rusty_s3::Method::Head,
        Method::GET => rusty_s3::Method::Get,
        Method::POST => rusty_s3::Method::Post,
        Method::PUT => rusty_s3::Method::Put,
        _ => rusty_s3::Method::Delete,
    };
    let now = SystemTime::now().try_into().expect("a time that can be written");
    // The signature wants them sorted.
    let query: BTreeMap<_, _> = query.iter().copied().collect();
    let headers: BTreeMap<_, _> = headers.iter().copied().collect();
    let pairs = query.iter().map(|(name, value)| (*name, *value));
    let headers = headers.iter().map(|(name, value)| (*name, *value));
    rusty_s3::signing::sign(&now, method, url, ACCESS_KEY, SECRET_KEY, None, REGION, 600, pairs, headers)
}

/// Everything but what is safe in a path.
fn encoded(key: &str) -> String {
    let mut out = String::new();
    for byte in key.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => out.push(byte.into()),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// A key of a listing, which has `+` for a space.
fn decoded(key: &str) -> String {
    let key = key.replace('+', " ");
    percent_encoding::percent_decode_str(&key).decode_utf8().unwrap_or_else(|e| panic!("bad key {key}: {e}")).into()
}
