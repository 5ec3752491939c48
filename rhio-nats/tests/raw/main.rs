//! rhio's own connections to NATS, at real servers and at one that does what a script says.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by a panic")]

mod bytes_as_they_are;
mod login;
mod script;
mod scripted;
mod speed;

use std::time::Duration;

use rhio_nats::raw::connection::{Incoming, Reader};
use rhio_nats::raw::parse::Message;
use rhio_nats::settings::{Endpoint, Nats};

/// In which everything happens that should.
const SOON: Duration = Duration::from_secs(15);

/// Where a server listens: `host:port`.
fn endpoint(address: &str) -> Endpoint {
    let (host, port) = address.rsplit_once(':').expect("an address with a port");
    Endpoint { tls: false, host: host.into(), port: port.parse().expect("a port") }
}

fn settings(address: &str) -> Nats {
    Nats { endpoint: vec![endpoint(address)], ..Nats::default() }
}

async fn next(reader: &mut Reader) -> Incoming {
    let next = tokio::time::timeout(SOON, reader.next()).await.expect("in time");
    next.expect("the connection is there")
}

async fn message(reader: &mut Reader) -> Message {
    loop {
        match next(reader).await {
            Incoming::Message(message) => return message,
            Incoming::Info(_) => {}
            other => panic!("{other:?}"),
        }
    }
}
