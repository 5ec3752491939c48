//! NATS, JetStream and rhio's own stream.

use std::sync::Arc;
use std::time::Duration;

use rhio_core::subject::Filter;

use crate::config::{Endpoint, State, Storage};
use crate::control::render::numbers::{bytes, count, counted};
use rhio_nats::survey::{AccountError, Retention, StreamError, StreamFacts, Survey};
use rhio_router::trouble::Cause;

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
        Err(NoNats::Error(error)) => Seen::fail(error.to_string(), Cause::from(error).remedy()),
    }
}

async fn account(world: &World) -> Seen {
    let Ok(client) = world.nats().await else { return Seen::skipped(NO_NATS) };
    let account = match Survey::new(client, ANSWER).account().await {
        Ok(account) => account,
        Err(AccountError::Disabled) => return disabled(),
        Err(AccountError::Refused(reason)) => return Seen::fail(reason, "let this user use JetStream"),
        Err(AccountError::Silent) => return silent(world).await,
    };
    let limit = |used: u64, limit: Option<u64>, unit: fn(u64) -> String| match limit {
        Some(max) => format!("{} of {}", unit(used), unit(max)),
        None => format!("{}, no limit", unit(used)),
    };
    let streams = limit(account.streams, account.max_streams, count);
    let storage = limit(account.storage, account.max_storage, bytes);
    let detail = format!("enabled; streams: {streams}; storage: {storage}");
    let full = account.max_storage.is_some_and(|max| account.storage >= max / 10 * 9);
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
    let asked = Survey::new(client, ANSWER).stream(&world.config.nats.state.stream).await;
    if !matches!(asked, Err(StreamError::Silent(_))) {
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
    let survey = Survey::new(client, ANSWER);
    let own = world.me().map(|me| format!("$RHIO.{me}.ops"));
    let found = match survey.stream(&config.stream).await {
        Ok(found) => found,
        Err(StreamError::Missing) => return missing(&survey, config, own).await,
        Err(error) => return Seen::fail(error.to_string(), "see the line about JetStream"),
    };
    existing(&found, own.as_deref())
}

async fn missing(survey: &Survey, config: &State, own: Option<String>) -> Seen {
    // Two streams can't capture the same subjects.
    if let Some(own) = own
        && let Some(other) = survey.captured_by(own, WHOSE).await
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

fn existing(found: &StreamFacts, own: Option<&str>) -> Seen {
    let captured = |own: &str| found.subjects.iter().any(|s| Filter::parse(s).is_ok_and(|filter| filter.matches(own)));
    if found.sealed || found.mirror {
        let what = if found.sealed { "is sealed" } else { "is a mirror" };
        return Seen::fail(format!("{what}, so nothing can be written to it"), "name another one in nats.state.stream");
    }
    let limited = found.max_messages.is_some()
        || found.max_bytes.is_some()
        || found.max_messages_per_subject.is_some()
        || found.max_age.is_some()
        || found.retention != Retention::Limits;
    if limited {
        return Seen::warn(
            "exists, but drops messages by itself (limits or retention), and what rhio must know with them",
            format!("nats stream edit {} without limits", quoted(&found.name)),
        );
    }
    match own.map(captured) {
        Some(false) => Seen::ok("exists (not written to); this node's subjects will be added to it"),
        _ => {
            let replicas = counted(found.replicas, "replica");
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
        let config =
            StreamFacts { name: "RHIO".into(), subjects: vec!["$RHIO.a.>".into()], replicas: 1, ..Default::default() };
        let seen = |config: &StreamFacts| existing(config, Some("$RHIO.a.ops")).outcome;
        assert_eq!(seen(&config), Outcome::Ok);
        assert!(existing(&config, Some("$RHIO.b.ops")).detail.contains("will be added"));
        assert_eq!(seen(&StreamFacts { max_age: Some(Duration::from_secs(60)), ..config.clone() }), Outcome::Warn);
        assert_eq!(seen(&StreamFacts { sealed: true, ..config.clone() }), Outcome::Fail);
        let queue = StreamFacts { retention: Retention::WorkQueue, ..config };
        assert_eq!(seen(&queue), Outcome::Warn);
    }
}
