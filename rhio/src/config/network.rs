//! Addresses as an operator writes them.

use std::net::Ipv6Addr;

use super::{DEFAULT_BIND_PORT, Endpoint, NodeEndpoint, Secret};
use rhio_nats::settings::DEFAULT_NATS_PORT;

/// User name and password, or a token, as part of an address.
pub(super) enum UserInfo {
    UserPassword(String, Secret),
    Token(Secret),
}

/// Reads one NATS address: `host`, `host:port`, `nats://…`, `tls://…`, with `user:password@` or `token@` in front of the
/// host if need be.
pub(super) fn parse_endpoint(text: &str) -> Result<(Endpoint, Option<UserInfo>), String> {
    let (tls, rest) = match text.split_once("://") {
        None => (false, text),
        Some(("nats", rest)) => (false, rest),
        Some(("tls", rest)) => (true, rest),
        Some((scheme, _)) => return Err(format!("has the scheme \"{scheme}://\", which NATS does not use here")),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (user, rest) = match rest.rsplit_once('@') {
        Some((user, rest)) => (Some(user_info(user)?), rest),
        None => (None, rest),
    };
    let (host, port) = parse_host_port(rest, DEFAULT_NATS_PORT)?;
    Ok((Endpoint { tls, host, port }, user))
}

/// Reads the address of a node: `host` or `host:port`.
pub(super) fn parse_node_endpoint(text: &str) -> Result<NodeEndpoint, String> {
    if text.contains("://") {
        return Err("has a scheme, but nodes talk over UDP only".into());
    }
    let (host, port) = parse_host_port(text, DEFAULT_BIND_PORT)?;
    Ok(NodeEndpoint { host, port })
}

fn user_info(text: &str) -> Result<UserInfo, String> {
    let decode = |text: &str| percent_decode(text).ok_or("has a broken %-escape before its @");
    Ok(match text.split_once(':') {
        Some((user, password)) => UserInfo::UserPassword(decode(user)?, Secret::new(decode(password)?)),
        None => UserInfo::Token(Secret::new(decode(text)?)),
    })
}

fn percent_decode(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(part.get(..2)?, 16).ok()?);
        bytes.extend_from_slice(part.get(2..)?.as_bytes());
    }
    String::from_utf8(bytes).ok()
}

fn parse_host_port(text: &str, default_port: u16) -> Result<(String, u16), String> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, port) = rest.split_once(']').ok_or("has a '[' without its ']'")?;
        host.parse::<Ipv6Addr>().map_err(|_| "has no IPv6 address between its brackets")?;
        (host, port)
    } else if text.parse::<Ipv6Addr>().is_ok() {
        return Ok((text.into(), default_port));
    } else {
        let (host, port) = text.find(':').map_or((text, ""), |colon| text.split_at(colon));
        check_name(host)?;
        (host, port)
    };
    let port = match port.strip_prefix(':') {
        None if port.is_empty() => default_port,
        Some(port) => match port.parse() {
            Ok(port) if port > 0 => port,
            _ => return Err(format!("has the port {port:?}, which is no number from 1 to 65535")),
        },
        None => return Err("has something after its ']' that is no port".into()),
    };
    Ok((host.to_owned(), port))
}

fn check_name(host: &str) -> Result<(), String> {
    let name = host.strip_suffix('.').unwrap_or(host);
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if name.len() <= 253 && name.split('.').all(label) {
        Ok(())
    } else {
        Err("does not begin with a host name or an IP address".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(text: &str) -> String {
        parse_endpoint(text).map_or_else(|why| format!("! {why}"), |(endpoint, _)| endpoint.url())
    }

    #[test]
    fn nats_addresses_in_all_their_forms() {
        assert_eq!(endpoint("localhost:4222"), "nats://localhost:4222");
        assert_eq!(endpoint("localhost"), "nats://localhost:4222");
        assert_eq!(endpoint("tls://nats.example.org"), "tls://nats.example.org:4222");
        assert_eq!(endpoint("nats://10.0.0.1:5222/"), "nats://10.0.0.1:5222");
        assert_eq!(endpoint("nats://[::1]:5222"), "nats://[::1]:5222");
        assert_eq!(endpoint("::1"), "nats://[::1]:4222");
        for bad in ["", "ws://x", "http://x", "a b", "host:0", "host:70000", "host:", "[::1", "[::1]x", "a..b", "-:1:2"]
        {
            assert!(endpoint(bad).starts_with('!'), "{bad} should be refused");
        }
    }

    #[test]
    fn credentials_in_an_address_are_taken_out_of_it() {
        let (endpoint, user) = parse_endpoint("nats://me:p%40ss@host:1").unwrap();
        assert_eq!(endpoint.url(), "nats://host:1");
        assert!(matches!(user, Some(UserInfo::UserPassword(user, password))
            if user == "me" && password.expose() == "p@ss"));
        assert!(matches!(parse_endpoint("tls://s3cr3t@host").unwrap().1, Some(UserInfo::Token(token))
            if token.expose() == "s3cr3t"));
        assert!(parse_endpoint("nats://a%zz@host").is_err());
    }

    #[test]
    fn node_addresses_default_to_the_nodes_port() {
        let show = |text: &str| parse_node_endpoint(text).unwrap().to_string();
        assert_eq!(show("rhio.example.org"), "rhio.example.org:9102");
        assert_eq!(show("rhio.example.org.:1"), "rhio.example.org.:1");
        assert_eq!(show("192.168.178.100:9102"), "192.168.178.100:9102");
        assert_eq!(show("[2a02::1]:9103"), "[2a02::1]:9103");
        assert!(parse_node_endpoint("https://x").is_err());
    }
}
