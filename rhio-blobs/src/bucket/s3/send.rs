//! Sending requests, and what failures mean.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::CONTENT_LENGTH;
use reqwest::{Body, Certificate, Client, Response, StatusCode, Url, redirect};
use tokio::time::timeout;

use super::body::{Outgoing, Progress};
use super::request::Request;
use super::sum::{Sum, held};
use super::words::words;
use super::{HELD, S3Bucket, xml};
use crate::bucket::{BucketError, Condition, Content, Denied};

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(10);
/// Most bytes of an answer that is read as a whole. A page of 1000 keys has at most a few MB.
const MAX_ANSWER: usize = 16 << 20;
/// Most bytes of a failure's description.
const MAX_FAILURE: usize = 64 << 10;
/// Most characters of a server's words that are passed on.
const MAX_WORDS: usize = 300;

/// A client for requests to this endpoint.
pub(super) fn client(endpoint: &Url, ca_pem: Option<&[u8]>) -> Result<Client, String> {
    // The same as everywhere in this program; who has chosen before is not overruled.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = Client::builder()
        .user_agent(concat!("rhio/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT)
        // Several connections carry more than several requests on one.
        .http1_only()
        // A signature is for one host.
        .redirect(redirect::Policy::none())
        // Content is what is stored, also when it is compressed.
        .no_gzip()
        .no_brotli()
        .no_deflate()
        .no_zstd();
    if endpoint.scheme() == "http" {
        // Without TLS the system's certificates need not exist.
        builder = builder.tls_certs_only([]);
    } else if let Some(pem) = ca_pem {
        builder = builder.tls_certs_merge(Certificate::from_pem_bundle(pem).map_err(|e| words(&e))?);
    }
    let host = endpoint.host_str().unwrap_or_default();
    let loopback =
        host == "localhost" || host.trim_matches(['[', ']']).parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
    if loopback {
        builder = builder.no_proxy();
    }
    builder.build().map_err(|e| words(&e))
}

/// A request that the server refused.
#[derive(Debug)]
pub(super) struct Refused {
    bucket: String,
    status: StatusCode,
    code: String,
    message: String,
}

impl Refused {
    /// Whether a condition does not hold.
    pub(super) fn is_condition(&self) -> bool {
        self.status == StatusCode::PRECONDITION_FAILED || self.is_code("PreconditionFailed")
    }

    /// Whether the server gives this as the reason.
    pub(super) fn is_code(&self, code: &str) -> bool {
        self.code == code
    }

    /// What it means for a write with a condition.
    pub(super) fn of_write(self, condition: &Condition) -> BucketError {
        let gone = *condition != Condition::None && self.is_code("NoSuchKey");
        if self.is_condition() || self.is_code("ConditionalRequestConflict") || gone {
            return BucketError::Conflict;
        }
        self.into_error()
    }

    /// What it means for the completion of an upload.
    pub(super) fn of_completion(self, condition: &Condition) -> BucketError {
        // A part that is too small, too: we never send one.
        let lacks = matches!(self.code.as_str(), "InvalidPart" | "InvalidPartOrder" | "EntityTooSmall");
        if lacks { BucketError::NotKept(self.reason()) } else { self.of_write(condition) }
    }

    /// What the server says.
    fn reason(&self) -> String {
        let Self { status, code, message, .. } = self;
        let reason = if code.is_empty() { status.to_string() } else { format!("{code} ({})", status.as_u16()) };
        if message.is_empty() { reason } else { format!("{reason}: {message}") }
    }

    /// What it means anywhere.
    pub(super) fn into_error(self) -> BucketError {
        let reason = self.reason();
        let Self { bucket, status, code, .. } = self;
        match code.as_str() {
            "NoSuchBucket" | "InvalidBucketName" => BucketError::Missing(bucket),
            "NoSuchUpload" => BucketError::NoUpload,
            "KeyTooLongError"
            | "InvalidObjectName"
            | "XMinioInvalidObjectName"
            | "EntityTooLarge"
            | "EntityTooSmall"
            | "MetadataTooLarge"
            | "InvalidURI" => BucketError::Unsuitable(reason),
            code if let Some(why) = access(code, status) => BucketError::Forbidden { bucket, why, reason },
            _ if status.is_redirection() => {
                let reason = format!("the endpoint or region is not this bucket's, the server redirects: {reason}");
                BucketError::Unavailable { bucket, reason }
            }
            _ => BucketError::Unavailable { bucket, reason },
        }
    }
}

/// Why the server refuses access, when that is what it does.
fn access(code: &str, status: StatusCode) -> Option<Denied> {
    match code {
        "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired" => {
            Some(Denied::Credentials)
        }
        "AccessDenied" | "AccountProblem" | "AllAccessDisabled" => Some(Denied::Permission),
        "RequestTimeTooSkewed" | "RequestExpired" => Some(Denied::Clock),
        "AuthorizationHeaderMalformed" | "AuthorizationQueryParametersError" => Some(Denied::Region),
        _ if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => Some(Denied::Unknown),
        _ => None,
    }
}

impl S3Bucket {
    /// Sends a request without content of an object's.
    pub(super) async fn send(&self, request: Request) -> Result<Response, BucketError> {
        let mut again = request.is_read();
        loop {
            match self.send_once(&request, None).await {
                // The server may have closed the connection just when it was used again.
                Err(error) if again && !error.is_connect() && !error.is_timeout() => again = false,
                Err(error) => return Err(self.unavailable(error.words())),
                Ok(answer) => return answer,
            }
        }
    }

    /// Sends a request with content of an object's. Whatever goes wrong with the content, the server never gets all of it.
    pub(super) async fn send_content(&self, request: Request, content: Content) -> Result<Response, BucketError> {
        let outgoing = Outgoing::new(content).await?;
        let failed = outgoing.failed();
        match self.send_once(&request, Some(outgoing)).await {
            Ok(answer) => answer,
            Err(error) => Err(match failed.take() {
                Some(reason) => BucketError::Body(reason),
                None => self.unavailable(error.words()),
            }),
        }
    }

    /// The same with a checksum: before the content where that is held in memory.
    pub(super) async fn send_summed(&self, request: Request, content: Content) -> Result<(Response, Sum), BucketError> {
        let (sum, content) = Sum::of(content);
        if content.len > HELD {
            return Ok((self.send_content(request, content).await?, sum));
        }
        let content = held(content).await?;
        let request = request.header("content-md5", sum.header());
        Ok((self.send_content(request, content).await?, sum))
    }

    async fn send_once(
        &self,
        request: &Request,
        content: Option<Outgoing>,
    ) -> Result<Result<Response, BucketError>, SendError> {
        let (url, headers) = match request.signed(&self.base, &self.server.config) {
            Ok(signed) => signed,
            Err(error) => return Ok(Err(error)),
        };
        let mut sent = self.server.client.request(request.method.clone(), url).headers(headers);
        let mut progress = Arc::new(Progress::new());
        if let Some(content) = content {
            progress = content.progress();
            sent = sent.header(CONTENT_LENGTH, content.len());
            sent = sent.body(if content.len() == 0 { Body::from("") } else { Body::wrap_stream(content) });
        } else if let Some(text) = &request.body {
            sent = sent.body(text.clone());
        }
        let mut sending = std::pin::pin!(sent.send());
        let stall = self.server.config.stall;
        loop {
            let left = stall.saturating_sub(progress.idle());
            match timeout(left, &mut sending).await {
                Ok(answer) => return answer.map(Ok).map_err(SendError::Failed),
                Err(_) if progress.idle() >= stall => return Err(SendError::Stalled(stall)),
                Err(_) => {}
            }
        }
    }

    /// Sends a request whose answer is text.
    pub(super) async fn text(&self, request: Request) -> Result<String, BucketError> {
        let answer = self.send(request).await?;
        if !answer.status().is_success() {
            return Err(self.failure(answer).await.into_error());
        }
        self.body_text(answer, MAX_ANSWER).await
    }

    /// The text of an answer that may be a failure although it begins with success.
    pub(super) async fn result(&self, answer: Response) -> Result<Result<String, Refused>, BucketError> {
        let status = answer.status();
        let text = self.body_text(answer, MAX_ANSWER).await?;
        Ok(match xml::failure(&text) {
            Some((code, message)) => Err(self.described(status, code, &message)),
            None => Ok(text),
        })
    }

    /// What the server says about a request that it refused.
    pub(super) async fn failure(&self, answer: Response) -> Refused {
        let status = answer.status();
        let text = self.body_text(answer, MAX_FAILURE).await.unwrap_or_default();
        let (code, message) = xml::failure(&text).unwrap_or_default();
        self.described(status, code, &message)
    }

    fn described(&self, status: StatusCode, code: String, message: &str) -> Refused {
        Refused { bucket: self.name.clone(), status, code: short(&code), message: short(message) }
    }

    async fn body_text(&self, mut answer: Response, most: usize) -> Result<String, BucketError> {
        let stall = self.server.config.stall;
        let mut bytes = Vec::new();
        loop {
            let chunk = timeout(stall, answer.chunk()).await;
            let chunk = chunk.map_err(|_| self.unavailable(SendError::Stalled(stall).words()))?;
            match chunk.map_err(|e| self.unavailable(words(&e.without_url())))? {
                Some(chunk) if bytes.len() + chunk.len() > most => {
                    return Err(self.unavailable(format!("the server's answer is longer than {most} bytes")));
                }
                Some(chunk) => bytes.extend_from_slice(&chunk),
                None => break,
            }
        }
        String::from_utf8(bytes).map_err(|_| self.unavailable("the server's answer is no text"))
    }

    pub(super) fn unavailable(&self, reason: impl Into<String>) -> BucketError {
        BucketError::Unavailable { bucket: self.name.clone(), reason: reason.into() }
    }
}

/// Why there is no answer.
#[derive(Debug)]
enum SendError {
    Failed(reqwest::Error),
    Stalled(Duration),
}

impl SendError {
    fn is_connect(&self) -> bool {
        matches!(self, Self::Failed(error) if error.is_connect())
    }

    fn is_timeout(&self) -> bool {
        matches!(self, Self::Stalled(_)) || matches!(self, Self::Failed(error) if error.is_timeout())
    }

    fn words(self) -> String {
        match self {
            // The URL has the signature in it.
            Self::Failed(error) => words(&error.without_url()),
            Self::Stalled(time) => format!("no byte moved for {} s", time.as_secs_f64()),
        }
    }
}

/// A server's words, fit for a log.
fn short(text: &str) -> String {
    let clean = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    clean.take(MAX_WORDS).collect::<String>().trim().to_owned()
}
