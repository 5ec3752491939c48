//! What a node says of itself over HTTP, with servers stopped and started.

mod answers;
mod health;
mod lag;
mod metrics;
mod schema;

use serde_json::Value;
use testkit::{Cluster, Rhio, eventually};

use common::SOON;

/// A node that neither publishes nor subscribes, and says so.
async fn lone() -> Cluster {
    let mut cluster = Cluster::new("a").await;
    cluster.rhio.allow_log("nothing is published and nothing subscribed");
    cluster
}

/// Waits until an answer is as it should be, and gives it.
async fn wait_for(rhio: &Rhio, path: &str, what: &str, right: impl Fn(&Value) -> bool) -> Value {
    eventually!(SOON, what, {
        match rhio.try_get(path).await {
            Some(answer) if right(&answer.json()) => Ok(answer.json()),
            Some(answer) => Err(answer.body),
            None => Err("no answer".to_owned()),
        }
    })
}

/// Waits until `/readyz` has this status, and gives its answer.
async fn wait_for_readiness(rhio: &Rhio, status: u16) -> Value {
    eventually!(SOON, format!("/readyz to say {status}"), {
        match rhio.try_get("/readyz").await {
            Some(answer) if answer.status == status => Ok(answer.json()),
            Some(answer) => Err(answer.body),
            None => Err("no answer".to_owned()),
        }
    })
}
