//! The other nodes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rhio_core::id::PublicKey;
use rhio_core::wire::CloseCode;
use rhio_net::connection::{Connection, Ended};
use tokio::time::{Instant, timeout};

use crate::config::NodeEndpoint;
use crate::control::model::{NodeStatus, Side};
use crate::control::render::numbers::round_trip;
use rhio_net::endpoint::NetworkError;
use rhio_net::stream::close;
use rhio_router::trouble::Cause;

use super::world::World;
use super::{Item, Plan, Seen};

/// How long a node may take to answer.
const DIAL: Duration = Duration::from_secs(5);
/// How long names may take to be resolved.
const RESOLVE: Duration = Duration::from_secs(5);
/// A node that does not want us closes the connection as soon as it has it. One that has not within this time, or three
/// round trips, has taken us.
const REFUSAL: Duration = Duration::from_millis(700);

/// A node that is looked at.
struct Known {
    key: PublicKey,
    endpoints: Vec<NodeEndpoint>,
    /// Something is subscribed there, so that it is dialled.
    author: bool,
}

pub(super) fn plan(plan: &mut Plan, world: &Arc<World>) {
    for known in known(world) {
        let shared = Arc::clone(world);
        let label = format!("node {}", known.key.short());
        let item = Item { check: "node", name: known.key.to_string(), label };
        plan.add(item, async move { look(&shared, &known).await });
    }
}

/// Everybody that is listed, and authors that are not.
fn known(world: &World) -> Vec<Known> {
    let config = &world.config;
    let subjects = config.subscribe.nats_subjects.iter().map(|entry| entry.public_key);
    let buckets = config.subscribe.s3_buckets.iter().map(|entry| entry.public_key);
    let authors: BTreeSet<_> = subjects.chain(buckets).collect();
    let listed = config.nodes.iter().map(|node| Known {
        key: node.public_key,
        endpoints: node.endpoints.clone(),
        author: authors.contains(&node.public_key),
    });
    let missing = authors.iter().filter(|author| !config.nodes.iter().any(|node| node.public_key == **author));
    let missing = missing.map(|author| Known { key: *author, endpoints: Vec::new(), author: true });
    listed.chain(missing).collect()
}

async fn look(world: &World, known: &Known) -> Seen {
    if world.me() == Some(known.key) {
        return Seen::warn("is this node itself", "list other nodes only; a node can't subscribe to itself");
    }
    if let Some(status) = world.daemon().await {
        return asked(status, known);
    }
    if known.endpoints.is_empty() {
        return without_address(known);
    }
    let (addresses, unresolved) = resolve(&known.endpoints).await;
    if addresses.is_empty() {
        return Seen::fail(
            format!("none of its names can be resolved: {}", unresolved.join("; ")),
            "correct 'endpoints', or the name service",
        );
    }
    let addresses = addresses.join(", ");
    if world.me().is_none() {
        return Seen::warn(
            format!("at {addresses}; not dialled: this node has no usable private key"),
            "rhio keygen, tell that node the public key, and check again",
        );
    }
    let network = match world.network().await {
        Ok(network) => network,
        Err(reason) => return Seen::fail(format!("can't be dialled: {reason}"), "see the line about the private key"),
    };
    let begun = Instant::now();
    let seen = match timeout(DIAL, network.dial(known.key, &known.endpoints)).await {
        Ok(Ok(connection)) => connected(world, &connection, &addresses, begun.elapsed()).await,
        Ok(Err(NetworkError::Unresolved(reason))) => {
            Seen::fail(format!("no address: {reason}"), "correct 'endpoints', or the name service")
        }
        Ok(Err(error)) => failed(world, &addresses, &error),
        Err(_) => no_answer(&addresses),
    };
    match seen.outcome {
        super::Outcome::Ok if !unresolved.is_empty() => Seen::warn(
            format!("{}; but not every name of it can be resolved: {}", seen.detail, unresolved.join("; ")),
            "correct 'endpoints', or the name service",
        ),
        _ => seen,
    }
}

/// What the running daemon knows.
fn asked(status: &NodeStatus, known: &Known) -> Seen {
    let Some(peer) = status.peers.iter().find(|peer| peer.public_key == known.key.to_string()) else {
        return Seen::warn(
            "the running rhio does not know it",
            "it reads its file every two seconds and tells in its log if it refuses the change; else restart it",
        );
    };
    if peer.connected {
        let way = match peer.direction {
            Some(Side::In) => "it dialled us",
            _ => "we dialled it",
        };
        let address = peer.remote_address.as_deref().unwrap_or("an unknown address");
        let trip = peer.round_trip_seconds.map(|s| format!(", round trip {}", round_trip(s))).unwrap_or_default();
        return Seen::ok(format!("connected with {address} ({way}){trip}, says the running rhio"));
    }
    let reason = peer.last_error.as_deref().unwrap_or("no reason is known");
    if peer.wanted && !known.endpoints.is_empty() {
        let remedy = match peer.code.as_deref().and_then(Cause::find) {
            Some(cause @ Cause::RefusesUs) => format!("{}: {}", cause.remedy(), status.public_key),
            _ => format!("is it running, is its UDP port open, and does it know us ({})?", status.public_key),
        };
        return Seen::fail(format!("not connected, says the running rhio: {reason}"), remedy);
    }
    without_address(known)
}

/// A node that has to dial us.
fn without_address(known: &Known) -> Seen {
    match (known.author, known.endpoints.is_empty()) {
        (true, _) => Seen::warn(
            "something is subscribed there, and no address of it is configured: nothing comes until it dials us",
            "add 'endpoints' to its entry in 'nodes', unless it subscribes to us",
        ),
        (false, true) => Seen::ok("may connect to us; it has no 'endpoints', so it is not dialled"),
        (false, false) => Seen::ok("not connected; nothing is subscribed there, so it is for that node to dial"),
    }
}

/// Addresses, and names without any.
async fn resolve(endpoints: &[NodeEndpoint]) -> (Vec<String>, Vec<String>) {
    let lookups = endpoints.iter().map(|endpoint| async move {
        match timeout(RESOLVE, tokio::net::lookup_host((endpoint.host.as_str(), endpoint.port))).await {
            Ok(Ok(found)) => {
                let found: Vec<_> = found.map(|address| address.to_string()).collect();
                if found.is_empty() { Err(format!("{endpoint}: no address")) } else { Ok(found) }
            }
            Ok(Err(error)) => Err(format!("{endpoint}: {error}")),
            Err(_) => Err(format!("{endpoint}: the name service does not answer")),
        }
    });
    let (mut addresses, mut unresolved) = (Vec::new(), Vec::new());
    for found in futures_util::future::join_all(lookups).await {
        match found {
            Ok(found) => addresses.extend(found),
            Err(reason) => unresolved.push(reason),
        }
    }
    (addresses, unresolved)
}

async fn connected(world: &World, connection: &Connection, addresses: &str, took: Duration) -> Seen {
    // Making the connection took at least one round trip.
    let closed = timeout(REFUSAL.max(took * 3).min(DIAL), connection.closed()).await;
    let Ok(reason) = closed else {
        close(connection, CloseCode::Done);
        return Seen::ok(format!("answers at {addresses}, and takes us (after {})", round_trip(took.as_secs_f64())));
    };
    let Ended::ByPeer(code) = reason else {
        return Seen::fail(format!("at {addresses}: the connection broke off: {reason}"), "try again");
    };
    match code {
        CloseCode::Refused => Seen::fail(
            format!("answers at {addresses}, and refuses us"),
            format!("there, add our public key to 'nodes': {}", our_key(world)),
        ),
        code => Seen::warn(format!("answers at {addresses}, and hangs up: {}", code.reason()), "try again"),
    }
}

fn our_key(world: &World) -> String {
    world.me().map_or_else(|| "(there is none)".to_owned(), |me| me.to_string())
}

fn failed(world: &World, addresses: &str, error: &NetworkError) -> Seen {
    let text = error.to_string();
    // The library has no kinds for these. The network's id is part of the protocol's name.
    let stranger = ["peer doesn't support any known protocol", "no application protocol", "error 120"];
    if stranger.iter().any(|words| text.contains(words)) {
        return Seen::fail(
            format!("something answers at {addresses}, but not for the network '{}'", world.config.network_id),
            "give both nodes the same network_id, and versions of rhio that belong together",
        );
    }
    if ["timed out", "no connection within"].iter().any(|words| text.contains(words)) {
        return no_answer(addresses);
    }
    Seen::fail(
        format!("at {addresses}: {text}"),
        "is another node there? Compare its public key (`rhio id`) and its address with the entry in 'nodes'",
    )
}

fn no_answer(addresses: &str) -> Seen {
    Seen::fail(
        format!("no answer from {addresses} within {} s", DIAL.as_secs()),
        "is it running, is its UDP port open in every firewall between, and is its public key the one in 'nodes'?",
    )
}
