//! Two clusters, and one of the two ways to link them.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use async_nats::Client;
use serde_json::json;
use testkit::{LogLine, NatsOptions, NatsServer, Publish, Rhio, Subscribe, create_stream};

use crate::load::FILTER;
use crate::options::Side;

/// The stream that is replicated, in both clusters.
pub const STREAM: &str = "BENCH";
/// A stream of B alone, and what it captures: not what A's stream does, which the leaf node would bring there.
pub const PLAIN: (&str, &str) = ("PLAIN", "plain.>");
/// rhio's own stream.
pub const STATE: &str = "RHIO";
const JOINED_WITHIN: Duration = Duration::from_secs(20);

/// Two NATS servers with file storage, and what links them once it is started.
pub struct Pair {
    /// rhio beside A and B. First, so that they go before their servers.
    pub rhios: Option<[Rhio; 2]>,
    /// Where messages are published.
    pub a: NatsServer,
    /// Where they arrive.
    pub b: NatsServer,
    pub client_a: Client,
    pub client_b: Client,
}

impl Pair {
    /// Both servers run, A has its stream, nothing is linked yet.
    pub async fn new(side: Side) -> anyhow::Result<Self> {
        let (a, b) = match side {
            Side::Source => {
                let a = NatsServer::try_start(NatsOptions::new().name("a").domain("a").leaf_listener()).await?;
                let b = NatsOptions::new().name("b").domain("b").leaf_remote(&a.leaf_url());
                (a, NatsServer::try_start(b).await?)
            }
            Side::Rhio => (
                NatsServer::try_start(NatsOptions::new().name("a")).await?,
                NatsServer::try_start(NatsOptions::new().name("b")).await?,
            ),
        };
        let (client_a, client_b) = (a.client().await, b.client().await);
        create_stream(&client_a, STREAM, &[FILTER], json!({})).await?;
        create_stream(&client_b, PLAIN.0, &[PLAIN.1], json!({})).await?;
        let rhios = match side {
            Side::Source => {
                wait_for_leaf(&client_b).await?;
                None
            }
            Side::Rhio => {
                create_stream(&client_b, STREAM, &[FILTER], json!({})).await?;
                Some(rhios(&a, &b)?)
            }
        };
        Ok(Self { rhios, a, b, client_a, client_b })
    }

    /// Links the two: from now on B gets what A's stream holds and what comes into it.
    pub async fn link(&mut self) -> anyhow::Result<()> {
        let Some([of_a, of_b]) = &mut self.rhios else {
            let source = json!({"sources": [{"name": STREAM, "external": {"api": "$JS.a.API"}}]});
            return create_stream(&self.client_b, STREAM, &[], source).await;
        };
        let (a, b) = tokio::join!(start(of_a), start(of_b));
        a.and(b)
    }

    /// Starts A's half of rhio alone; NATS needs nothing of the kind.
    pub async fn prepare(&mut self) -> anyhow::Result<()> {
        match &mut self.rhios {
            Some([of_a, _]) => start(of_a).await,
            None => Ok(()),
        }
    }

    /// The servers' processes.
    pub fn servers(&self) -> Vec<(&'static str, u32)> {
        vec![("nats A", self.a.process_id()), ("nats B", self.b.process_id())]
    }

    /// The processes of rhio, which must run.
    pub fn helpers(&self) -> Vec<(&'static str, u32)> {
        ["rhio A", "rhio B"].into_iter().zip(self.rhios.iter().flatten().map(Rhio::process_id)).collect()
    }

    /// All of them.
    pub fn processes(&self) -> Vec<(&'static str, u32)> {
        [self.servers(), self.helpers()].concat()
    }

    /// Warnings and errors that rhio logged.
    pub fn complaints(&self) -> Vec<String> {
        let rhios = self.rhios.iter().flatten();
        let loud = |rhio: &Rhio| rhio.logs().into_iter().filter(LogLine::is_loud).collect::<Vec<_>>();
        rhios
            .flat_map(|rhio| loud(rhio).into_iter().map(|line| format!("rhio {}: {}", rhio.name(), line.raw)))
            .collect()
    }

    /// Ends everything in order.
    pub async fn finish(mut self) -> anyhow::Result<()> {
        let mut codes = Vec::new();
        for rhio in self.rhios.iter_mut().flatten() {
            if rhio.is_running() {
                codes.push(rhio.terminate().await.code());
            }
        }
        self.a.stop().await;
        self.b.stop().await;
        ensure!(codes.iter().all(|code| *code == Some(0)), "a rhio ended with status {codes:?}");
        Ok(())
    }
}

async fn start(rhio: &mut Rhio) -> anyhow::Result<()> {
    if rhio.is_running() { Ok(()) } else { rhio.try_start().await }
}

/// Waits until A's JetStream answers through B.
async fn wait_for_leaf(client: &Client) -> anyhow::Result<()> {
    let ask = async {
        while client.request("$JS.a.API.INFO", "".into()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(JOINED_WITHIN, ask).await.context("the leaf node does not join")
}

/// Two configured rhios. Only B knows where to find the other, so that whatever is said goes the way that B was told.
fn rhios(a: &NatsServer, b: &NatsServer) -> anyhow::Result<[Rhio; 2]> {
    let mut of_a = Rhio::builder("a").nats(a).allow_any_log().try_build()?;
    let mut of_b = Rhio::builder("b").nats(b).allow_any_log().try_build()?;
    let entry = Publish { subject: FILTER.into(), stream: STREAM.into(), allow: Some(vec![of_b.public_key()]) };
    of_a.rewrite_config(|config| config.publish.push(entry));
    let (node, public_key) = (of_a.as_node(), of_a.public_key());
    of_b.rewrite_config(|config| {
        config.nodes.push(node);
        config.subscribe.push(Subscribe { subject: FILTER.into(), stream: STREAM.into(), public_key });
    });
    Ok([of_a, of_b])
}
