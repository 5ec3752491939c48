//! The messages of the demo: readings of some meters.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use async_nats::{Client, Subscriber, jetstream};
use futures_util::StreamExt;
use testkit::patience;

const METERS: [&str; 4] = ["energy.berlin.solar", "energy.berlin.heating", "energy.lisbon.wind", "energy.oslo.hydro"];

/// Publishes one reading after the other in A.
pub struct Meters {
    context: jetstream::Context,
    number: usize,
    payload: String,
}

impl Meters {
    pub fn new(client: Client) -> Self {
        Self { context: jetstream::new(client), number: 0, payload: String::new() }
    }

    /// Publishes the next reading and waits until A's stream has it; the time is that of sending.
    pub async fn publish_next(&mut self) -> anyhow::Result<Instant> {
        self.number += 1;
        let subject = METERS[self.number % METERS.len()];
        // A curve that looks like something, and a number that makes each reading unique.
        let kilowatts = 4.0 + 3.0 * (self.number as f64 / 7.0).sin();
        self.payload = format!("{{\"reading\": {}, \"kw\": {kilowatts:.2}}}", self.number);
        let sent = Instant::now();
        let acknowledgement = self.context.publish(subject, self.payload.clone().into()).await;
        acknowledgement.context("cannot publish in A")?.await.context("A's stream did not take a message")?;
        Ok(sent)
    }

    /// The body of the last reading.
    pub fn last_payload(&self) -> &str {
        &self.payload
    }
}

/// A message that appeared in B.
pub struct Arrival {
    pub subject: String,
    pub payload: String,
    pub at: Instant,
}

/// Sees every message that is published in B.
pub struct Arrivals {
    subscriber: Subscriber,
}

impl Arrivals {
    pub async fn watch(client: &Client, filter: &str) -> anyhow::Result<Self> {
        let subscriber = client.subscribe(filter.to_owned()).await.context("cannot subscribe in B")?;
        // The server knows the subscription once it has answered.
        client.flush().await.context("cannot subscribe in B")?;
        Ok(Self { subscriber })
    }

    /// The next message, which may take so long.
    pub async fn next(&mut self, within: Duration) -> anyhow::Result<Arrival> {
        let within = if within == Duration::MAX { within } else { patience(within) };
        match tokio::time::timeout(within, self.subscriber.next()).await {
            Ok(Some(message)) => Ok(Arrival {
                subject: message.subject.to_string(),
                payload: String::from_utf8_lossy(&message.payload).into_owned(),
                at: Instant::now(),
            }),
            Ok(None) => bail!("the connection to B is closed"),
            Err(_) => bail!("no message in B within {} s", within.as_secs()),
        }
    }
}
