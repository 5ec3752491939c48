//! What a server says about itself.

use serde::Deserialize;

/// An `INFO`. It comes first on a connection, and again when something changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ServerInfo {
    /// Another one after every restart.
    pub server_id: String,
    /// The server's name.
    pub server_name: String,
    /// The server's version.
    pub version: String,
    /// Its cluster's name.
    pub cluster: Option<String>,
    /// Its JetStream domain.
    pub domain: Option<String>,
    /// The largest message that it takes, headers included, in bytes.
    pub max_payload: u64,
    /// Whether it carries headers.
    pub headers: bool,
    /// Whether JetStream is on.
    pub jetstream: bool,
    /// Our number there.
    pub client_id: u64,
    /// Whether it wants to know who we are.
    pub auth_required: bool,
    /// Whether it speaks with TLS only.
    pub tls_required: bool,
    /// Whether it speaks with TLS too.
    pub tls_available: bool,
    /// What is to be signed to prove who we are.
    pub nonce: Option<String>,
    /// Addresses of all servers of its cluster.
    pub connect_urls: Option<Vec<String>>,
    /// Whether it is about to shut down (lame duck mode). Its clients should leave.
    #[serde(rename = "ldm")]
    pub lame_duck: bool,
}

impl ServerInfo {
    /// Reads one; `None` when it is none.
    pub fn read(json: &[u8]) -> Option<Self> {
        serde_json::from_slice(json).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_info_is_read_and_what_is_unknown_left_out() {
        let text = br#"{"server_id":"N1","max_payload":1048576,"headers":true,"nonce":"x","new":{"a":[1]},"ldm":true}"#;
        let info = ServerInfo::read(text).unwrap();
        assert_eq!((info.server_id.as_str(), info.max_payload, info.lame_duck), ("N1", 1_048_576, true));
        assert_eq!(info.nonce.as_deref(), Some("x"));
        for bad in [&b""[..], b"{", b"[]x", br#"{"max_payload":-1}"#, br#"{"server_id":7}"#] {
            assert_eq!(ServerInfo::read(bad), None);
        }
    }
}
