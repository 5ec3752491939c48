//! Tells local apps that an object has landed.

use std::time::Duration;

use bytes::Bytes;
use rhio_core::catalog::Put;
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::node::Node;
use rhio_net::stream::StreamError;

use super::land_error::LandError;
use super::subscription::BucketSubscription;

/// The subject.
pub const SUBJECT: &str = "rhio.events.object";

/// How long NATS may take to have it.
const TELL: Duration = Duration::from_secs(10);

/// The message. Fields may be added.
#[derive(Debug, Serialize)]
struct Arrival<'a> {
    bucket: &'a str,
    key: &'a str,
    size: u64,
    hash: String,
    /// Public key of the author.
    author: String,
    /// The author's bucket.
    remote_bucket: &'a str,
    /// When it landed, RFC 3339.
    time: String,
}

/// Says that an object is whole and readable. After a crash it may be said again; the message id is the same then.
pub(super) async fn landed(node: &Node, subscription: &BucketSubscription, put: &Put) -> Result<(), LandError> {
    let arrival = Arrival {
        bucket: subscription.bucket.name(),
        key: put.key.as_str(),
        size: put.size,
        hash: put.hash.to_string(),
        author: subscription.author.to_string(),
        remote_bucket: &subscription.remote,
        time: OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default(),
    };
    let payload = serde_json::to_vec(&arrival).unwrap_or_default();
    let version = format!("{} {} {} {}", arrival.bucket, put.hash, put.modified, arrival.key);
    let id = blake3::hash(version.as_bytes()).to_hex();
    let lost = |error: String| LandError::Stream(StreamError::Lost(error));
    let telling = async {
        node.client.publish_once(SUBJECT, &id, Bytes::from(payload)).await?;
        // Until the server has it, it has not been said.
        node.client.flush().await
    };
    match tokio::time::timeout(TELL, telling).await {
        Ok(told) => told.map_err(|error| lost(error.to_string())),
        Err(_) => Err(lost(format!("NATS did not take an event within {} s", TELL.as_secs()))),
    }
}
