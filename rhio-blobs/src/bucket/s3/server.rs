//! A server, and how it is reached.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Client, Url};
use thiserror::Error;

use super::{S3Bucket, send};
use crate::bucket::STALL;

/// How a server is reached.
#[derive(Clone, Debug)]
pub struct S3Config {
    /// `http://host:port` or `https://host`, perhaps with a path.
    pub endpoint: String,
    /// What signatures name; most servers other than Amazon's take any.
    pub region: String,
    /// Without them requests are not signed.
    pub credentials: Option<S3Credentials>,
    /// The bucket is the first part of the path (what most servers want) and not of the host's name.
    pub path_style: bool,
    /// Certificates (PEM) to trust besides the system's.
    pub ca_pem: Option<Vec<u8>>,
    /// How long a request may take in which no byte moves: [`STALL`].
    pub stall: Duration,
}

impl S3Config {
    /// A server in path style, without credentials.
    pub fn new(endpoint: impl Into<String>, region: impl Into<String>) -> Self {
        Self {
            endpoint: endpoint.into(),
            region: region.into(),
            credentials: None,
            path_style: true,
            ca_pem: None,
            stall: STALL,
        }
    }
}

/// What requests are signed with.
#[derive(Clone)]
pub struct S3Credentials {
    /// Names the user.
    pub access_key: String,
    /// Proves it.
    pub secret_key: String,
    /// Comes with credentials that end.
    pub session_token: Option<String>,
}

impl fmt::Debug for S3Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Credentials").finish_non_exhaustive()
    }
}

/// Why a server can't be used at all.
#[derive(Debug, Error)]
pub enum S3Error {
    /// The endpoint is no URL that names a host over HTTP.
    #[error("the endpoint must be http://host:port or https://host:port, without user, query and fragment")]
    Endpoint,
    /// The certificates are not readable, or TLS does not work here.
    #[error("cannot use TLS: {0}")]
    Tls(String),
    /// It can't be part of a host's name.
    #[error("'{0}' can't be a bucket's name here")]
    Name(String),
}

/// A server with its connections, which its buckets share. Clones are the same server.
#[derive(Clone, Debug)]
pub struct S3Server(Arc<Shared>);

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) client: Client,
    endpoint: Url,
    pub(super) config: S3Config,
}

impl S3Server {
    /// Makes ready for requests, without sending one.
    ///
    /// # Errors
    /// When the configuration makes no sense.
    pub fn connect(config: S3Config) -> Result<Self, S3Error> {
        let endpoint = Url::parse(config.endpoint.trim_end_matches('/')).map_err(|_| S3Error::Endpoint)?;
        let odd = endpoint.query().is_some() || endpoint.fragment().is_some() || !endpoint.username().is_empty();
        if !matches!(endpoint.scheme(), "http" | "https") || !endpoint.has_host() || odd {
            return Err(S3Error::Endpoint);
        }
        let client = send::client(&endpoint, config.ca_pem.as_deref()).map_err(S3Error::Tls)?;
        Ok(Self(Arc::new(Shared { client, endpoint, config })))
    }

    /// One of its buckets, which need not exist.
    ///
    /// # Errors
    /// When no bucket can have this name.
    pub fn bucket(&self, name: &str) -> Result<S3Bucket, S3Error> {
        let bad = || S3Error::Name(name.to_owned());
        // Names that are more than one step of a path, or none, would name something else.
        let good = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        if name.is_empty() || name.starts_with('.') || !name.chars().all(good) {
            return Err(bad());
        }
        let mut base = self.0.endpoint.clone();
        if self.0.config.path_style {
            let path = format!("{}/{name}", base.path().trim_end_matches('/'));
            base.set_path(&path);
        } else {
            let host = format!("{name}.{}", base.host_str().unwrap_or_default());
            base.set_host(Some(&host)).map_err(|_| bad())?;
        }
        Ok(S3Bucket { server: Arc::clone(&self.0), name: name.to_owned(), base })
    }
}
