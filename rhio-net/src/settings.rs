//! What can be set about the network.

use std::fmt;

/// UDP port for other nodes, unless set.
pub const DEFAULT_BIND_PORT: u16 = 9102;

/// Where another node listens. Displays as `host:port`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NodeEndpoint {
    /// Name or IP address; IPv6 without brackets. Names are resolved again on every dial.
    pub host: String,
    /// UDP port. Default 9102.
    pub port: u16,
}

impl fmt::Display for NodeEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_host_port(f, &self.host, self.port)
    }
}

fn write_host_port(f: &mut fmt::Formatter<'_>, host: &str, port: u16) -> fmt::Result {
    if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
}
