//! Asking a running node how it is, over HTTP or over NATS.

use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use reqwest::Url;
use rhio_core::id::PublicKey;
use rhio_nats::client::{Client, RequestError};
use thiserror::Error;
use tokio::time::{Instant, timeout_at};

use super::model::NodeStatus;

/// Where HTTP answers with the status.
const PATH: &str = "api/v1/status";
/// Where NATS does.
const SUBJECT: &str = "rhio.status";
/// How long an answer may take.
const DEADLINE: Duration = Duration::from_secs(5);
/// How long the answer to one request over NATS may take.
const REQUEST: Duration = Duration::from_secs(2);
/// Requests over NATS until the wanted node has answered. Where several nodes share a NATS, any of them gets each
/// request; that one of three is missed by all of these happens once in 17,000 times.
const ATTEMPTS: usize = 24;
/// Longest answer that is read.
const MAX_ANSWER: usize = 64 << 20;

/// Why there is no status.
#[derive(Debug, Error)]
pub enum AskError {
    /// It names no place that can be asked.
    #[error("{0} is no address like http://host:3000")]
    Address(String),
    /// Nobody answers.
    #[error("{from} does not answer: {reason}")]
    Silent {
        /// Who was asked.
        from: String,
        /// The system's words.
        reason: String,
    },
    /// Somebody answers, but not with a status.
    #[error("{from} answers, but not as rhio does: {reason}")]
    Stranger {
        /// Who was asked.
        from: String,
        /// What it said.
        reason: String,
    },
}

/// What a node says of itself.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its JSON, as it came.
    pub text: String,
    /// What this program understands of it.
    pub status: NodeStatus,
}

impl Answer {
    fn read(from: &str, bytes: &[u8]) -> Result<Self, AskError> {
        let stranger = |reason: String| AskError::Stranger { from: from.to_owned(), reason };
        let text = std::str::from_utf8(bytes).map_err(|_| stranger("it is not UTF-8".to_owned()))?;
        let status = serde_json::from_str(text).map_err(|error| stranger(misunderstood(text, &error)))?;
        Ok(Self { text: text.to_owned(), status })
    }

    /// Whether it comes from this node.
    pub fn is_of(&self, key: PublicKey) -> bool {
        self.status.public_key == key.to_string()
    }
}

/// Fields that are new to this program do it no harm, but another version may lack some that it expects.
fn misunderstood(text: &str, error: &serde_json::Error) -> String {
    #[derive(serde::Deserialize)]
    struct Version {
        version: String,
    }
    let own = env!("CARGO_PKG_VERSION");
    match serde_json::from_str::<Version>(text) {
        Ok(Version { version }) if version != own => {
            format!("it is rhio {version} and this is {own}; use its own `rhio status`")
        }
        _ => error.to_string(),
    }
}

/// Asks over HTTP. Used for one node, again and again.
#[derive(Clone, Debug)]
pub struct Http {
    client: reqwest::Client,
    url: Url,
    name: String,
}

impl Http {
    /// Prepares for requests to `http://host:port` or `https://host:port`; `host:port` means the former. Something like
    /// `/path` behind it is where a proxy has the node.
    ///
    /// # Errors
    /// When it is no such address.
    pub fn new(base: &str) -> Result<Self, AskError> {
        let bad = || AskError::Address(base.to_owned());
        let full = if base.contains("://") { base.to_owned() } else { format!("http://{base}") };
        let mut url = Url::parse(&full).map_err(|_| bad())?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(bad());
        }
        let path = format!("{}/{PATH}", url.path().trim_end_matches('/'));
        url.set_path(&path);
        url.set_query(None);
        url.set_fragment(None);
        // A password in the address is not shown.
        let name = format!("{}://{}", url.scheme(), url.host_str().unwrap_or_default());
        let name = url.port().map_or(name.clone(), |port| format!("{name}:{port}"));
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("rhio/", env!("CARGO_PKG_VERSION")))
            .timeout(DEADLINE)
            .http1_only();
        if url.scheme() == "http" {
            // Without TLS the system's certificates need not exist.
            builder = builder.tls_certs_only([]);
        }
        if is_local(&url) {
            builder = builder.no_proxy();
        }
        let client = builder.build().map_err(|error| AskError::Silent { from: name.clone(), reason: cause(&error) })?;
        Ok(Self { client, url, name })
    }

    /// The node of this configuration, on this machine.
    ///
    /// # Errors
    /// When HTTP can't be used here.
    pub fn local(address: Option<IpAddr>, port: u16) -> Result<Self, AskError> {
        let address = match address {
            // Where it listens on all addresses, it listens here.
            None => IpAddr::V4(Ipv4Addr::LOCALHOST),
            Some(IpAddr::V4(address)) if address.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            Some(IpAddr::V6(address)) if address.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
            Some(address) => address,
        };
        Self::new(&format!("http://{}", SocketAddr::new(address, port)))
    }

    /// Who is asked.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Asks.
    ///
    /// # Errors
    /// When there is no answer in time, or no status.
    pub async fn ask(&self) -> Result<Answer, AskError> {
        let silent = |error: reqwest::Error| AskError::Silent { from: self.name.clone(), reason: reason(&error) };
        let stranger = |reason: String| AskError::Stranger { from: self.name.clone(), reason };
        let sent = self.client.get(self.url.clone()).send().await;
        let mut answer = sent.map_err(|error| {
            // A connection was made, so somebody listens.
            if error.is_request() && !error.is_connect() && !error.is_timeout() {
                stranger(cause(&error))
            } else {
                silent(error)
            }
        })?;
        if !answer.status().is_success() {
            return Err(stranger(format!("{} for /{PATH}", answer.status())));
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(silent)? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > MAX_ANSWER {
                return Err(stranger(format!("its answer is longer than {MAX_ANSWER} bytes")));
            }
        }
        Answer::read(&self.name, &bytes)
    }
}

fn is_local(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    host == "localhost" || host.trim_matches(['[', ']']).parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

fn reason(error: &reqwest::Error) -> String {
    if error.is_timeout() { format!("nothing within {} s", DEADLINE.as_secs()) } else { cause(error) }
}

/// The innermost cause: those around it only say that there was an error.
fn cause(error: &dyn Error) -> String {
    let mut last = error;
    while let Some(next) = last.source() {
        last = next;
    }
    last.to_string()
}

/// Asks over NATS. Where several nodes share it, the one that is `wanted`, if it answers at all; else any.
///
/// # Errors
/// When nobody answers in time, or not with a status.
pub async fn over_nats(client: &Client, wanted: Option<PublicKey>) -> Result<Answer, AskError> {
    let from = "rhio.status on NATS";
    let silent = |reason: String| AskError::Silent { from: from.to_owned(), reason };
    let end = Instant::now() + DEADLINE;
    let mut found: Option<Answer> = None;
    for _ in 0..ATTEMPTS {
        let answer = match timeout_at(end, client.request(SUBJECT, REQUEST)).await {
            Ok(Ok(answer)) => answer,
            // What is known already is better than nothing.
            _ if found.is_some() => break,
            Ok(Err(RequestError::NobodyServes)) => {
                return Err(silent("no rhio offers it there".to_owned()));
            }
            Ok(Err(error @ RequestError::Failed(_))) => return Err(silent(error.to_string())),
            _ => return Err(silent("no answer in time (or this NATS user may not publish to it)".to_owned())),
        };
        if let Some(error) = answer.error {
            return Err(AskError::Stranger { from: from.to_owned(), reason: error });
        }
        let answer = Answer::read(from, &answer.payload)?;
        if wanted.is_none_or(|wanted| answer.is_of(wanted)) {
            return Ok(answer);
        }
        found = Some(answer);
    }
    found.ok_or_else(|| silent("no answer in time".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_is_named() {
        let said = |text: &str| Answer::read("x", text.as_bytes()).unwrap_err().to_string();
        assert!(said(r#"{"version": "9.9.9"}"#).contains("it is rhio 9.9.9"));
        assert!(said(r#"{"hello": 1}"#).contains("missing field"));
        assert!(said("<html>").contains("expected value"));
    }

    #[test]
    fn addresses_in_all_their_forms() {
        let url = |base: &str| Http::new(base).map(|http| (http.url.to_string(), http.name)).ok();
        let pair = |url: &str, name: &str| Some((url.to_owned(), name.to_owned()));
        assert_eq!(url("localhost:3000"), pair("http://localhost:3000/api/v1/status", "http://localhost:3000"));
        assert_eq!(url("http://[::1]:3000/"), pair("http://[::1]:3000/api/v1/status", "http://[::1]:3000"));
        assert_eq!(
            url("https://me:secret@x.example/rhio?a#b"),
            pair("https://me:secret@x.example/rhio/api/v1/status", "https://x.example")
        );
        let local = |address: Option<&str>| Http::local(address.map(|a| a.parse().unwrap()), 1).unwrap().name;
        assert_eq!((local(None), local(Some("0.0.0.0"))), ("http://127.0.0.1:1".into(), "http://127.0.0.1:1".into()));
        assert_eq!(
            (local(Some("::")), local(Some("192.0.2.7"))),
            ("http://[::1]:1".into(), "http://192.0.2.7:1".into())
        );
        for bad in ["", "ftp://x", "http://", "a b"] {
            assert_eq!(url(bad), None, "{bad}");
        }
    }
}
