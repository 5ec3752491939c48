//! The two ports that the daemon listens on.

use std::io;
use std::sync::Arc;

use crate::control::ask::AskError;
use crate::control::http::bind;
use rhio_net::endpoint::{NetworkError, claim};

use super::world::World;
use super::{Item, Plan, Seen};

pub(super) fn plan(plan: &mut Plan, world: &Arc<World>) {
    let config = &world.config;
    let shared = Arc::clone(world);
    plan.add(Item::single("udp_port", "UDP port", config.bind_port.to_string()), async move { udp(&shared).await });
    let shared = Arc::clone(world);
    plan.add(
        Item::single("http_port", "HTTP port", config.http_bind_port.to_string()),
        async move { http(&shared).await },
    );
}

async fn udp(world: &World) -> Seen {
    let port = world.config.bind_port;
    if port == 0 {
        return Seen::ok(
            "0: a free one is picked at each start; nodes that dial this one need a fixed one (bind_port)",
        );
    }
    let reason = match claim(port) {
        Ok(_) => return Seen::ok(format!("{port} is free")),
        Err(NetworkError::Port { reason, .. }) => reason,
        Err(error) => return Seen::fail(error.to_string(), "choose another one with bind_port"),
    };
    if reason.kind() != io::ErrorKind::AddrInUse {
        return Seen::fail(format!("{port} can't be bound: {reason}"), "choose another one with bind_port");
    }
    let ours = world.daemon().await.is_some_and(|status| {
        let port_of = |socket: &String| socket.rsplit(':').next().and_then(|port| port.parse::<u16>().ok());
        status.listens.iter().any(|socket| port_of(socket) == Some(port))
    });
    if ours {
        return Seen::ok(format!("{port} is used by this node's running rhio"));
    }
    Seen::fail(
        format!("{port} is taken, and no running rhio with this private key says that it is its"),
        format!("find out whose it is (ss -ulpn 'sport = :{port}') and stop it, or choose another one with bind_port"),
    )
}

async fn http(world: &World) -> Seen {
    let port = world.config.http_bind_port;
    if port == 0 {
        return Seen::ok("HTTP is off (http_bind_port is 0); `rhio status` asks over NATS");
    }
    let reason = match bind(world.config.http_bind_address, port).await {
        Ok(_) => return Seen::ok(format!("{port} is free")),
        Err(error) => error.reason,
    };
    let other = "choose another one with http_bind_port, or 0 for none";
    if reason.kind() != io::ErrorKind::AddrInUse {
        return Seen::fail(format!("{port} can't be bound: {reason}"), other);
    }
    match world.http().await {
        Ok(answer) if world.me().is_some_and(|me| answer.is_of(me)) => {
            Seen::ok(format!("{port} is used by this node's running rhio"))
        }
        Ok(answer) => Seen::fail(
            format!("{port} is taken by another rhio, {}", answer.status.public_key),
            format!("{other}; every node on one machine needs its own"),
        ),
        Err(AskError::Stranger { reason, .. }) => {
            Seen::fail(format!("{port} is taken by another program ({reason})"), other)
        }
        Err(_) => Seen::fail(
            format!("{port} is taken, and who has it does not answer"),
            format!("find out whose it is (ss -tlpn 'sport = :{port}') and stop it, or {other}"),
        ),
    }
}
