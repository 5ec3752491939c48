//! From a tree to a [`Config`]. Whatever is wrong is noted with its place; what is returned then is of no use.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::Url;
use reqwest::header::{HeaderName, HeaderValue};
use rhio_core::id::PublicKey;
use rhio_core::subject::Filter;

use crate::otlp;
use rhio_router::telemetry::Sample;

use super::network::{UserInfo, parse_endpoint, parse_node_endpoint};
use super::reader::{At, Item, Notes, Table};
use super::tree::Node as Tree;
use super::*;

const PUBLIC_KEY: &str = "a public key: 64 hex digits, as `rhio id` prints it";
const SUBJECT: &str = "a NATS subject such as \"workload.*.energy\" or \"workload.>\"";
const PREFIX: &str = "what subjects of answers begin with, such as _INBOX_rhio: no spaces, wildcards or dots at an end";
const DOMAIN: &str = "the name of a JetStream domain: no spaces, dots, '*' or '>'";
const SIZE: &str = "a number of bytes, such as 1073741824, 512MiB or 1GiB; at least 1MiB";
const STREAM: &str = "the name of a JetStream stream: no spaces, dots, slashes, '*' or '>'";
const BUCKET: &str = "the name of a bucket, such as \"bucket-out-1\"";
const PATH: &str = "a path";
const TEXT: &str = "text";

/// Items with the places they were read from.
pub(super) type Located<T> = Vec<(At, T)>;

pub(super) fn config(notes: &Notes, root: &Tree) -> Config {
    let mut config = Config::default();
    let Some(table) = Table::root(notes, root) else { return config };
    if let Some(port) = table.get("bind_port").and_then(|item| item.number(0, 65535, "a UDP port")) {
        config.bind_port = port as u16;
    }
    if let Some(port) = table.get("http_bind_port").and_then(|item| item.number(0, 65535, "a TCP port")) {
        config.http_bind_port = port as u16;
    }
    let address = "an IP address such as \"127.0.0.1\" or \"::\"";
    config.http_bind_address =
        table.get("http_bind_address").and_then(|item| item.parse(address, str::parse::<std::net::IpAddr>));
    set(&mut config.network_id, table.get("network_id").and_then(|item| item.parse(TEXT, not_empty)));
    set(&mut config.private_key_path, table.get("private_key_path").and_then(path));
    let level =
        "ERROR, WARN, INFO, DEBUG or TRACE, \"=TRACE\" for everything, or a filter like \"rhio=INFO,async_nats=DEBUG\"";
    let read_level = |text: &str| crate::logging::LogFilter::parse(text).map(|_| text.to_owned());
    set(&mut config.log_level, table.get("log_level").and_then(|item| item.parse(level, read_level)));
    let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    set(&mut config.log_format, table.get("log_format").and_then(|item| choice(&item, &formats)));
    let accesses = [("known", Access::Known), ("open", Access::Open)];
    set(&mut config.access, table.get("access").and_then(|item| choice(&item, &accesses)));
    set(&mut config.blobs_dir, table.get("blobs_dir").and_then(path));
    if let Some(section) = section(&table, "nats", "endpoint, credentials, tls, state") {
        config.nats = nats(section);
    }
    config.s3 = section(&table, "s3", "endpoint, region, credentials, poll_interval").map(s3);
    if let Some(section) = section(&table, "import", "dirs, bucket") {
        config.import = import(&section);
        section.done(&[]);
    }
    config.tracing = section(&table, "tracing", "otlp_endpoint, sample, headers").and_then(tracing);
    if let Some(item) = table.get("nodes") {
        config.nodes = checks::nodes(notes, item.list("a list of nodes").iter().filter_map(node).collect());
    }
    if let Some(section) = section(&table, "publish", "s3_buckets, nats_subjects") {
        config.publish = publish(notes, section, &config.nats.state.stream);
    }
    if let Some(section) = section(&table, "subscribe", "s3_buckets, nats_subjects") {
        config.subscribe = subscribe(notes, section, &config.nats.state.stream);
    }
    if config.s3.is_none() && !(config.publish.s3_buckets.is_empty() && config.subscribe.s3_buckets.is_empty()) {
        notes.warning(&table.at().origin, "s3", "is missing, so no bucket can be published or subscribed".into());
    }
    let gone = "rhio reacts at once and needs no polling";
    for (key, inner) in [
        ("protocol", &["poll_interval_seconds", "resync_interval_seconds"][..]),
        ("discovery", &["query_interval_seconds"]),
    ] {
        if let Some(section) = section(&table, key, &inner.join(", ")) {
            inner.iter().for_each(|key| section.accept(key, gone));
            section.done(&[]);
        }
    }
    table.done(&["protocol", "discovery"]);
    config
}

fn set<T>(target: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *target = value;
    }
}

fn section<'a>(table: &Table<'a>, key: &'static str, keys: &str) -> Option<Table<'a>> {
    // What stands in place of a section may be an address or a key with a secret in it.
    table.get_secret(key)?.table(&format!("a section with keys like {keys}"))
}

fn nats(table: Table) -> Nats {
    let mut nats = Nats::default();
    let mut in_address = None;
    if let Some(item) = table.get_secret("endpoint") {
        let expected = "host:port, nats://host:port or tls://host:port, several separated by commas";
        let read = |text: &str| text.split(',').map(|part| parse_endpoint(part.trim())).collect::<Result<Vec<_>, _>>();
        let mut first_tls = None;
        for (endpoint, user) in item.parse(expected, read).unwrap_or_default() {
            if first_tls.is_none() {
                nats.endpoint.clear();
            }
            if *first_tls.get_or_insert(endpoint.tls) != endpoint.tls {
                item.problem("mixes nats:// and tls://, expected all servers the same; or set nats.tls".into());
            }
            nats.endpoint.push(endpoint);
            in_address = in_address.or(user);
        }
    }
    nats.credentials =
        section(&table, "credentials", "username and password, token, nkey, creds_file").and_then(credentials);
    match (in_address, &nats.credentials) {
        (Some(_), Some(_)) => {
            table.warning("the credentials in the address are not used, because nats.credentials is set");
        }
        (Some(UserInfo::UserPassword(username, password)), None) => {
            nats.credentials = Some(Credentials::UserPassword { username, password });
        }
        (Some(UserInfo::Token(token)), None) => nats.credentials = Some(Credentials::Token(token)),
        (None, _) => {}
    }
    nats.tls = section(&table, "tls", "ca, cert, key").map(tls);
    set(&mut nats.inbox_prefix, table.get("inbox_prefix").and_then(|item| item.parse(PREFIX, subject_prefix)));
    nats.domain = table.get("domain").and_then(|item| item.parse(DOMAIN, domain));
    if let Some(section) = section(&table, "state", "stream, replicas, storage, max_bytes") {
        set(&mut nats.state.stream, section.get("stream").and_then(|item| item.parse(STREAM, stream_name)));
        if let Some(replicas) = section.get("replicas").and_then(|item| item.number(1, 5, "a number of replicas")) {
            nats.state.replicas = replicas as u8;
        }
        let storages = [("file", Storage::File), ("memory", Storage::Memory)];
        set(&mut nats.state.storage, section.get("storage").and_then(|item| choice(&item, &storages)));
        nats.state.max_bytes = section.get("max_bytes").and_then(|item| item.parse(SIZE, parse_size));
        section.done(&[]);
    }
    table.done(&[]);
    nats
}

fn credentials(table: Table) -> Option<Credentials> {
    let username = table.get("username").and_then(|item| item.text(TEXT).map(str::to_owned));
    let password = table.get_secret("password").and_then(|item| item.text(TEXT).map(Secret::new));
    let token = table.get_secret("token").and_then(|item| item.text(TEXT).map(Secret::new));
    let nkey = table.get_secret("nkey");
    let creds_file = table.get("creds_file").and_then(path);

    let mut ways = Vec::new();
    let mut chosen = None;
    match (username, password) {
        (Some(username), Some(password)) => {
            ways.push("username and password");
            chosen = Some(Credentials::UserPassword { username, password });
        }
        (Some(_), None) => table.problem("has a \"username\" but no \"password\", expected both".into()),
        (None, Some(_)) => table.problem("has a \"password\" but no \"username\", expected both".into()),
        (None, None) => {}
    }
    if let Some(token) = token {
        ways.push("token");
        chosen = chosen.or(Some(Credentials::Token(token)));
    }
    if let Some(item) = nkey {
        ways.push("nkey");
        // What is not used is not checked either: example files have placeholders there.
        if chosen.is_none() {
            let seed = |text: &str| nkey_seed(text).map(|()| Secret::new(text));
            chosen = item.parse("the seed of a user's nkey, which begins with SU", seed).map(Credentials::Nkey);
        }
    }
    if let Some(path) = creds_file {
        ways.push("creds_file");
        chosen = chosen.or(Some(Credentials::CredsFile(path)));
    }
    if let [first, _, ..] = &ways[..] {
        let message = format!("has several ways to authenticate ({}), of which only {first} is used", ways.join(", "));
        table.warning(&message);
    }
    table.done(&[]);
    chosen
}

fn nkey_seed(text: &str) -> Result<(), &'static str> {
    match nkeys::KeyPair::from_seed(text).map(|key| key.key_pair_type()) {
        Ok(nkeys::KeyPairType::User) => Ok(()),
        Ok(_) => Err("is an nkey, but not a user's"),
        Err(_) => Err("is no nkey seed"),
    }
}

fn tls(table: Table) -> Tls {
    let mut tls = Tls { ca: table.get("ca").and_then(path), client: None };
    match (table.get("cert").and_then(path), table.get("key").and_then(path)) {
        (Some(cert), Some(key)) => tls.client = Some(ClientCert { cert, key }),
        (None, None) => {}
        (Some(_), None) => table.problem("has a \"cert\" but no \"key\", expected both".into()),
        (None, Some(_)) => table.problem("has a \"key\" but no \"cert\", expected both".into()),
    }
    table.done(&[]);
    tls
}

fn s3(table: Table) -> S3 {
    let mut s3 = S3::default();
    let expected = "http://host:port, https://host:port, or file:///path/to/a/folder";
    set(&mut s3.endpoint, table.get_secret("endpoint").and_then(|item| item.parse(expected, s3_endpoint)));
    s3.ca = table.get("ca").and_then(path);
    let styles = [("path", true), ("virtual-hosted", false)];
    set(&mut s3.path_style, table.get("style").and_then(|item| choice(&item, &styles)));
    s3.events = table.get("events").and_then(|item| item.parse("a NATS subject", Filter::parse));
    set(&mut s3.region, table.get("region").and_then(|item| item.parse(TEXT, not_empty)));
    if let Some(section) = section(&table, "credentials", "access_key, secret_key") {
        let access_key = section.get("access_key").and_then(|item| item.text(TEXT).map(str::to_owned));
        let secret_key = section.get_secret("secret_key").and_then(|item| item.text(TEXT).map(Secret::new));
        let session_token = section.get_secret("session_token").and_then(|item| item.text(TEXT).map(Secret::new));
        let security_token = section.get_secret("security_token").and_then(|item| item.text(TEXT).map(Secret::new));
        section.accept("expiration", "the server decides how long keys are good for");
        match (access_key, secret_key) {
            (Some(access_key), Some(secret_key)) => {
                let session_token = session_token.or(security_token);
                s3.credentials = Some(S3Credentials { access_key, secret_key, session_token });
            }
            (None, None) => {}
            _ => section.problem("has only one of \"access_key\" and \"secret_key\", expected both".into()),
        }
        section.done(&["security_token", "expiration"]);
    }
    let interval =
        table.get("poll_interval").and_then(|item| item.parse("a time from 100ms to 1d, such as 5s", duration));
    let old = table.get("watcher_poll_interval_millis").and_then(|item| item.number(1, 86_400_000, "milliseconds"));
    let old = old.map(|millis| Duration::from_millis(millis.max(100)));
    set(&mut s3.poll_interval, interval.or(old));
    table.done(&["watcher_poll_interval_millis"]);
    s3
}

fn import(table: &Table) -> Import {
    let dirs = table.get("dirs").map(|item| item.list("a list of folders")).unwrap_or_default();
    Import {
        dirs: dirs.into_iter().filter_map(path).collect(),
        bucket: table.get("bucket").and_then(|item| item.parse(BUCKET, bucket_name)),
    }
}

fn tracing(table: Table) -> Option<Tracing> {
    let expected = "the collector's address for OTLP over HTTP, such as \"http://collector:4318\"";
    let otlp_endpoint = table.get_secret("otlp_endpoint");
    if otlp_endpoint.is_none() {
        table.problem(format!("has no \"otlp_endpoint\", expected {expected}"));
    }
    let otlp_endpoint = otlp_endpoint.and_then(|item| item.parse(expected, otlp_url));
    let sample = table.get("sample").and_then(|item| item.parse("a share from 0 to 1, such as 0.1", str::parse));
    let headers = table.get_secret("headers").and_then(|item| item.table("headers and their values"));
    let headers = headers.map(|headers| headers.all_secret()).unwrap_or_default();
    let headers = headers.into_iter().filter_map(|(name, item)| header(name, &item)).collect();
    table.done(&[]);
    Some(Tracing { otlp_endpoint: otlp_endpoint?, sample: sample.unwrap_or(Sample::ALL), headers })
}

fn header(name: &str, item: &Item) -> Option<(String, Secret)> {
    match name.parse::<HeaderName>() {
        Err(_) => item.problem("is no name of an HTTP header".into()),
        Ok(own) if otlp::is_own_header(&own) => item.problem("is a header that rhio sets itself".into()),
        Ok(_) => {}
    }
    let value = item.parse("a header's value", |text| {
        HeaderValue::from_str(text).map_err(|_| "is none").map(|_| text.to_owned())
    })?;
    Some((name.to_owned(), Secret::new(value)))
}

fn otlp_url(text: &str) -> Result<String, &'static str> {
    let url = Url::parse(text).map_err(|_| "is no URL")?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err("is no http:// or https:// address");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("has credentials in it, which belong under tracing.headers");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("has more in it than host, port and path");
    }
    Ok(text.trim_end_matches('/').to_owned())
}

fn node(item: &Item) -> Option<(At, Node)> {
    let table = item.table("a node with public_key and endpoints")?;
    let public_key = table.require("public_key", PUBLIC_KEY).and_then(|item| public_key(&item));
    let expected = "the address of a node: host, host:port or [IPv6]:port";
    let endpoints = table.get("endpoints").map(|item| item.list("a list of addresses")).unwrap_or_default();
    let endpoints = endpoints.iter().filter_map(|item| item.parse(expected, parse_node_endpoint)).collect();
    table.done(&[]);
    Some((item.at().clone(), Node { public_key: public_key?, endpoints }))
}

fn publish(notes: &Notes, table: Table, state_stream: &str) -> Publish {
    let buckets = table.get("s3_buckets").map(|item| item.list("a list of buckets")).unwrap_or_default();
    let subjects = table.get("nats_subjects").map(|item| item.list("a list of subjects")).unwrap_or_default();
    table.done(&[]);
    let buckets = buckets.iter().filter_map(publish_bucket).collect();
    let subjects = subjects.iter().filter_map(|item| publish_subject(item, state_stream)).collect();
    Publish {
        s3_buckets: checks::published_buckets(notes, buckets),
        nats_subjects: checks::published_subjects(notes, subjects),
    }
}

fn publish_bucket(item: &Item) -> Option<(At, PublishBucket)> {
    if item.is_text() {
        let bucket = item.parse(BUCKET, bucket_name)?;
        return Some((item.at().clone(), PublishBucket { bucket, allow: None }));
    }
    let table = item.table("the name of a bucket, or bucket and allow")?;
    let bucket = table.require("bucket", BUCKET).and_then(|item| item.parse(BUCKET, bucket_name));
    let allow = allow(&table);
    table.done(&[]);
    Some((item.at().clone(), PublishBucket { bucket: bucket?, allow }))
}

fn publish_subject(item: &Item, state_stream: &str) -> Option<(At, PublishSubject)> {
    let table = item.table("a subject with its stream")?;
    let subject = table.require("subject", SUBJECT);
    let at = subject.as_ref().map_or(item.at(), Item::at).clone();
    let subject = subject.and_then(|item| item.parse(SUBJECT, Filter::parse));
    let stream = stream(&table, state_stream);
    let allow = allow(&table);
    table.done(&[]);
    Some((at, PublishSubject { subject: subject?, stream: stream?, allow }))
}

fn allow(table: &Table) -> Option<Vec<PublicKey>> {
    let keys = table.get("allow")?.list("a list of public keys");
    Some(keys.iter().filter_map(public_key).collect())
}

fn subscribe(notes: &Notes, table: Table, state_stream: &str) -> Subscribe {
    let buckets = table.get("s3_buckets").map(|item| item.list("a list of buckets")).unwrap_or_default();
    let subjects = table.get("nats_subjects").map(|item| item.list("a list of subjects")).unwrap_or_default();
    table.done(&[]);
    let buckets = buckets.iter().filter_map(subscribe_bucket).collect();
    let subjects = subjects.iter().filter_map(|item| subscribe_subject(item, state_stream)).collect();
    Subscribe {
        s3_buckets: checks::subscribed_buckets(notes, buckets),
        nats_subjects: checks::subscribed_subjects(notes, subjects),
    }
}

fn subscribe_bucket(item: &Item) -> Option<(At, SubscribeBucket)> {
    let table = item.table("a bucket with remote_bucket, local_bucket and public_key")?;
    let remote = table.require("remote_bucket", BUCKET).and_then(|item| item.parse(BUCKET, bucket_name));
    let local = table.require("local_bucket", BUCKET);
    let at = local.as_ref().map_or(item.at(), Item::at).clone();
    let local = local.and_then(|item| item.parse(BUCKET, bucket_name));
    let public_key = table.require("public_key", PUBLIC_KEY).and_then(|item| public_key(&item));
    let choices = [("keep", Deletes::Keep), ("follow", Deletes::Follow)];
    let deletes = table.get("deletes").and_then(|item| choice(&item, &choices)).unwrap_or_default();
    table.done(&[]);
    Some((at, SubscribeBucket { remote_bucket: remote?, local_bucket: local?, public_key: public_key?, deletes }))
}

fn subscribe_subject(item: &Item, state_stream: &str) -> Option<(At, SubscribeSubject)> {
    let table = item.table("a subject with stream and public_key")?;
    let subject = table.require("subject", SUBJECT);
    let at = subject.as_ref().map_or(item.at(), Item::at).clone();
    let subject = subject.and_then(|item| item.parse(SUBJECT, Filter::parse));
    let stream = stream(&table, state_stream);
    let public_key = table.require("public_key", PUBLIC_KEY).and_then(|item| public_key(&item));
    table.done(&[]);
    Some((at, SubscribeSubject { subject: subject?, stream: stream?, public_key: public_key? }))
}

fn stream(table: &Table, state_stream: &str) -> Option<String> {
    let item = table.require("stream", STREAM)?;
    let name = item.parse(STREAM, stream_name)?;
    if name == state_stream {
        item.problem(format!("\"{name}\" is rhio's own stream (nats.state.stream), expected another one"));
        return None;
    }
    Some(name)
}

fn choice<T: Copy>(item: &Item, choices: &[(&str, T)]) -> Option<T> {
    let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
    item.parse(&names.join(" or "), |text| {
        let found = choices.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
        found.map(|(_, value)| *value).ok_or("is not known here")
    })
}

fn public_key(item: &Item) -> Option<PublicKey> {
    // The reason is put into our own words, because "expected …, expected …" would read badly.
    item.parse(PUBLIC_KEY, |text| text.parse::<PublicKey>().map_err(|_| "is no public key"))
}

fn path(item: Item) -> Option<PathBuf> {
    item.parse(PATH, |text| not_empty(text).map(PathBuf::from))
}

fn not_empty(text: &str) -> Result<String, &'static str> {
    if text.trim().is_empty() { Err("is empty") } else { Ok(text.to_owned()) }
}

/// What nats-server takes as a stream name; a longer one than 255 bytes is no file name.
fn subject_prefix(text: &str) -> Result<String, &'static str> {
    match Filter::parse(text) {
        Ok(_) if text.contains(['*', '>']) => Err("has a wildcard"),
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err("is no subject"),
    }
}

fn domain(text: &str) -> Result<String, &'static str> {
    if text.contains('.') { Err("is no domain") } else { subject_prefix(text).map_err(|_| "is no domain") }
}

fn stream_name(text: &str) -> Result<String, &'static str> {
    let bad = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '.' | '*' | '>' | '/' | '\\');
    match text {
        "" => Err("is empty"),
        _ if text.len() > 255 => Err("is longer than 255 bytes"),
        _ if text.contains(bad) => Err("is no stream name"),
        _ => Ok(text.to_owned()),
    }
}

/// Wider than S3's rules, which differ between servers; narrow enough to be one folder's name.
fn bucket_name(text: &str) -> Result<String, &'static str> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    match text {
        "" => Err("is empty"),
        _ if text.len() > 255 => Err("is longer than 255 bytes"),
        _ if text.starts_with('.') || !text.chars().all(good) => Err("is no bucket name"),
        _ => Ok(text.to_owned()),
    }
}

fn s3_endpoint(text: &str) -> Result<S3Endpoint, &'static str> {
    if let Some(path) = text.strip_prefix("file://") {
        let path = PathBuf::from(path);
        return if path.is_absolute() { Ok(S3Endpoint::Folder(path)) } else { Err("has no absolute path") };
    }
    let host = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    match host.map(|host| host.strip_suffix('/').unwrap_or(host)) {
        None => Err("has no scheme that rhio knows"),
        Some(host) if host.is_empty() || host.contains(char::is_whitespace) => Err("has no host"),
        Some(host) if host.contains('@') => Err("has credentials in it, which belong under s3.credentials"),
        Some(_) => Ok(S3Endpoint::Server(text.strip_suffix('/').unwrap_or(text).to_owned())),
    }
}

fn duration(text: &str) -> Result<Duration, &'static str> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| "is no time")?;
    let unit = match unit.trim() {
        "ms" => 1,
        "s" | "" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err("has a unit that is none of ms, s, m, h, d"),
    };
    match number.checked_mul(unit) {
        Some(millis @ 100..=86_400_000) => Ok(Duration::from_millis(millis)),
        _ => Err("is too short or too long"),
    }
}

fn parse_size(text: &str) -> Result<u64, &'static str> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| "is no number of bytes")?;
    let unit = match unit.trim() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return Err("has a unit that is none of KiB, MiB, GiB, TiB"),
    };
    match number.checked_mul(unit) {
        Some(bytes @ 0x10_0000..=0x7fff_ffff_ffff_ffff) => Ok(bytes),
        _ => Err("is too little or too much"),
    }
}
