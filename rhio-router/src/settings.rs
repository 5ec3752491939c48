//! What can be set about the data path.

use std::path::PathBuf;
use std::time::Duration;

use rhio_core::secret::Secret;
use rhio_core::subject::Filter;

/// Region that S3 requests are signed for, unless set.
pub const DEFAULT_S3_REGION: &str = "eu-central-1";
/// How often buckets are listed, unless set.
pub const DEFAULT_S3_POLL_INTERVAL: Duration = Duration::from_secs(5);

/// The local S3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3 {
    /// Where it is. Default `http://localhost:9000`.
    pub endpoint: S3Endpoint,
    /// Region that requests are signed for. Default `eu-central-1`.
    pub region: String,
    /// Keys; without them requests are not signed.
    pub credentials: Option<S3Credentials>,
    /// The CA that signed the server's certificate, PEM. Default: the system's CAs.
    pub ca: Option<PathBuf>,
    /// Buckets are named in the path of a request, not in the host name. Default true.
    pub path_style: bool,
    /// Time between two listings of a bucket, 100 ms to a day. Default 5 s.
    pub poll_interval: Duration,
    /// Subject under which the server's notifications of changes arrive. Default: none.
    pub events: Option<Filter>,
}

/// Where buckets are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum S3Endpoint {
    /// An S3 server: `http://` or `https://`, host and optional port.
    Server(String),
    /// A folder in which each bucket is a folder.
    Folder(PathBuf),
}

/// Keys for S3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Credentials {
    /// The key's name.
    pub access_key: String,
    /// Its secret.
    pub secret_key: Secret,
    /// Token of a temporary session.
    pub session_token: Option<Secret>,
}

/// What `rhio.import` may read, and where it puts it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Import {
    /// Files below these folders, and no others. Default: none.
    pub dirs: Vec<PathBuf>,
    /// The bucket for what names none. Default: the first published one.
    pub bucket: Option<String>,
}

/// What becomes of an object here that its author deletes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Deletes {
    /// It stays.
    #[default]
    Keep,
    /// It goes.
    Follow,
}

impl Default for S3 {
    fn default() -> Self {
        Self {
            endpoint: S3Endpoint::Server("http://localhost:9000".into()),
            region: DEFAULT_S3_REGION.into(),
            credentials: None,
            ca: None,
            path_style: true,
            events: None,
            poll_interval: DEFAULT_S3_POLL_INTERVAL,
        }
    }
}
