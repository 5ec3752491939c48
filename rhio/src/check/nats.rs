//! NATS, JetStream and rhio's own stream.

use std::sync::Arc;
use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::context::{AccountErrorKind, GetStreamErrorKind};
use async_nats::jetstream::stream::{Config as StreamConfig, RetentionPolicy};
use async_nats::jetstream::{self, Context, ErrorCode};
use rhio_core::subject::Filter;
use tokio::time::timeout;

use crate::config::{Endpoint, State, Storage};
use crate::control::render::numbers::{bytes, count, counted};
use crate::nats::connect::ConnectError;

use super::finding::quoted;
use super::world::{NoNats, World};
use super::{Item, Plan, Seen};

/// How long one answer of JetStream may take.
pub(super) const ANSWER: Duration = Duration::from_secs(4);
/// How long it may take to ask which stream captures a subject. Many users may not, which shows by silence.
const WHOSE: Duration = Duration::from_secs(2);
/// What is said of what needs NATS.
pub(super) const NO_NATS: &str = "there is no connection to NATS";

pub(super) fn plan(plan: &mut Plan, world: &Arc<World>) {
    let config = &world.config.nats;
    let servers: Vec<_> = config.endpoint.iter().map(Endpoint::url).collect();
    let shared = Arc::clone(world);
    plan.add(Item::single("nats", "NATS", servers.join(", ")), async move { server(&shared).await });
    let shared = Arc::clone(world);
    plan.add(Item::single("jetstream", "JetStream", servers.join(", ")), async move { account(&shared).await });
    let shared = Arc::clone(world);
    let item = Item::named("state_stream", "state stream", &config.state.stream);
    plan.add(item, async move { state(&shared).await });
}

/// JetStream's API with our deadline.
pub(super) fn context(client: &Client) -> Context {
    let mut context = jetstream::new(client.clone());
    context.set_timeout(ANSWER);
    context
}

async fn server(world: &World) -> Seen {
    let servers: Vec<_> = world.config.nats.endpoint.iter().map(Endpoint::url).collect();
    match world.nats().await {
        Ok(client) => {
            let info = client.server_info();
            // What the server advertises is not shown as an address: it may hold anything.
            Seen::ok(format!(
                "{}: server {}, max payload {}",
                servers.join(", "),
                info.version,
                bytes(client.max_payload() as u64)
            ))
        }
        Err(NoNats::Silent) => Seen::fail(
            format!("{}: no answer in time", servers.join(", ")),
            "is it a NATS server, and does a firewall let us through?",
        ),
        Err(NoNats::Error(error)) => {
            let remedy = match error {
                ConnectError::Refused { .. } => "compare nats.credentials with the server's users",
                ConnectError::Tls { .. } => {
                    "check nats.tls, and that the server's certificate is for the name in nats.endpoint"
                }
                ConnectError::Unreachable { .. } => "is the server running, and is nats.endpoint right?",
                ConnectError::File { .. } => "put the file right",
            };
            Seen::fail(error.to_string(), remedy)
        }
    }
}

async fn account(world: &World) -> Seen {
    let Ok(client) = world.nats().await else { return Seen::skipped(NO_NATS) };
    let account = match timeout(ANSWER, context(client).query_account()).await {
        Ok(Ok(account)) => account,
        Ok(Err(error)) => match error.kind() {
            AccountErrorKind::JetStreamUnavailable => return disabled(),
            AccountErrorKind::JetStream(error)
                if error.error_code() == ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT =>
            {
                return disabled();
            }
            AccountErrorKind::JetStream(error) => {
                return Seen::fail(error.to_string(), "let this user use JetStream");
            }
            _ => return silent(world).await,
        },
        Err(_) => return silent(world).await,
    };
    // The server says -1 for none, and may leave it out.
    let max = |limit: Option<i64>| limit.and_then(|max| u64::try_from(max).ok()).filter(|max| *max > 0);
    let limit = |used: u64, limit: Option<i64>, unit: fn(u64) -> String| match max(limit) {
        Some(max) => format!("{} of {}", unit(used), unit(max)),
        None => format!("{}, no limit", unit(used)),
    };
    let limits = &account.limits;
    let streams = limit(account.streams as u64, limits.max_streams, count);
    let storage = limit(account.storage, limits.max_storage, bytes);
    let detail = format!("enabled; streams: {streams}; storage: {storage}");
    let full = max(limits.max_storage).is_some_and(|max| account.storage >= max / 10 * 9);
    if full {
        return Seen::warn(detail, "the account's storage is nearly full: raise its limit, or limit its streams");
    }
    Seen::ok(detail)
}

fn disabled() -> Seen {
    Seen::fail("is not enabled for this server and account", "enable it: `jetstream {}` in the server's configuration")
}

/// A user that may not ask for the account can work all the same.
async fn silent(world: &World) -> Seen {
    let Ok(client) = world.nats().await else { return Seen::skipped(NO_NATS) };
    let asked = timeout(ANSWER, context(client).get_stream(&world.config.nats.state.stream)).await;
    let answers = match &asked {
        Ok(Ok(_)) => true,
        Ok(Err(error)) => matches!(error.kind(), GetStreamErrorKind::JetStream(_)),
        Err(_) => false,
    };
    if answers {
        return Seen::ok("enabled; its limits are not known (this user may not publish to $JS.API.INFO)");
    }
    Seen::fail(
        "does not answer",
        "is JetStream enabled, and may this user publish to $JS.API.> and subscribe to _INBOX.>? (README: NATS \
         permissions)",
    )
}

async fn state(world: &World) -> Seen {
    let Ok(client) = world.nats().await else { return Seen::skipped(NO_NATS) };
    let config = &world.config.nats.state;
    let context = context(client);
    let own = world.me().map(|me| format!("$RHIO.{me}.ops"));
    let found = match timeout(ANSWER, context.get_stream(&config.stream)).await {
        Ok(Ok(stream)) => stream.cached_info().config.clone(),
        Ok(Err(error)) if crate::nats::state::is_missing(&error) => return missing(&context, config, own).await,
        Ok(Err(error)) => return Seen::fail(error.to_string(), "see the line about JetStream"),
        Err(_) => return Seen::fail("no answer in time", "see the line about JetStream"),
    };
    existing(&found, own.as_deref())
}

async fn missing(context: &Context, config: &State, own: Option<String>) -> Seen {
    // Two streams can't capture the same subjects.
    if let Some(own) = own
        && let Ok(Ok(other)) = timeout(WHOSE, context.stream_by_subject(own)).await
    {
        return Seen::fail(
            format!("can't be created: stream '{other}' captures $RHIO.> already"),
            format!("take $RHIO.> (or >) out of stream '{other}', or name it in nats.state.stream"),
        );
    }
    let storage = match config.storage {
        Storage::File => "file",
        Storage::Memory => "memory",
    };
    let replicas = counted(u64::from(config.replicas), "replica");
    let detail = format!("does not exist yet and will be created ({replicas}, {storage} storage)");
    match config.storage {
        Storage::File => Seen::ok(detail),
        Storage::Memory => Seen::warn(detail, "it is lost when the server restarts; nats.state.storage: file keeps it"),
    }
}

fn existing(found: &StreamConfig, own: Option<&str>) -> Seen {
    let captured = |own: &str| found.subjects.iter().any(|s| Filter::parse(s).is_ok_and(|filter| filter.matches(own)));
    if found.sealed || found.mirror.is_some() {
        let what = if found.sealed { "is sealed" } else { "is a mirror" };
        return Seen::fail(format!("{what}, so nothing can be written to it"), "name another one in nats.state.stream");
    }
    let limited = found.max_messages > 0
        || found.max_bytes > 0
        || found.max_messages_per_subject > 0
        || !found.max_age.is_zero()
        || !matches!(found.retention, RetentionPolicy::Limits);
    if limited {
        return Seen::warn(
            "exists, but drops messages by itself (limits or retention), and what rhio must know with them",
            format!("nats stream edit {} without limits", quoted(&found.name)),
        );
    }
    match own.map(captured) {
        Some(false) => Seen::ok("exists (not written to); this node's subjects will be added to it"),
        _ => {
            let replicas = counted(found.num_replicas.max(1) as u64, "replica");
            Seen::ok(format!("exists, {replicas} (not written to)"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Outcome;
    use super::*;

    #[test]
    fn a_state_stream_that_forgets_is_warned_about() {
        let config = StreamConfig { name: "RHIO".into(), subjects: vec!["$RHIO.a.>".into()], ..Default::default() };
        let seen = |config: &StreamConfig| existing(config, Some("$RHIO.a.ops")).outcome;
        assert_eq!(seen(&config), Outcome::Ok);
        assert!(existing(&config, Some("$RHIO.b.ops")).detail.contains("will be added"));
        assert_eq!(seen(&StreamConfig { max_age: Duration::from_secs(60), ..config.clone() }), Outcome::Warn);
        assert_eq!(seen(&StreamConfig { sealed: true, ..config.clone() }), Outcome::Fail);
        let queue = StreamConfig { retention: RetentionPolicy::WorkQueue, ..config };
        assert_eq!(seen(&queue), Outcome::Warn);
    }
}
