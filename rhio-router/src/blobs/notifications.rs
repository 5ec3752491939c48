//! Hears what the S3 server tells of changes over NATS, in the shape that MinIO sends.
//!
//! A notification only makes rhio look at once. Whatever it misses or gets wrong, the next listing finds.

use std::time::Duration;

use futures_util::StreamExt;
use rhio_core::subject::Filter;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::node::Node;

/// Longest notification that is read; one about one object has about 1 KiB.
const MAX_LEN: usize = 256 * 1024;
/// Waits before it is subscribed again.
const RETRY: Duration = Duration::from_secs(5);

#[derive(Debug, Deserialize)]
struct Notification {
    #[serde(rename = "Records", default)]
    records: Vec<Record>,
}

#[derive(Debug, Deserialize)]
struct Record {
    s3: Entity,
}

#[derive(Debug, Deserialize)]
struct Entity {
    bucket: Name,
}

#[derive(Debug, Deserialize)]
struct Name {
    name: String,
}

/// The buckets that a notification is about.
fn buckets(payload: &[u8]) -> Result<Vec<String>, String> {
    if payload.len() > MAX_LEN {
        return Err(format!("longer than {MAX_LEN} bytes"));
    }
    let notification: Notification = serde_json::from_slice(payload).map_err(|error| error.to_string())?;
    let mut names: Vec<String> = notification.records.into_iter().map(|record| record.s3.bucket.name).collect();
    names.dedup();
    Ok(names)
}

/// Listens until stopped.
pub async fn run(node: Node, subject: Filter, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let subscribed = tokio::select! {
            () = stop.cancelled() => return,
            subscribed = node.client.subscribe(subject.as_str().to_owned()) => subscribed,
        };
        match subscribed {
            Ok(mut messages) => {
                while let Some(message) = tokio::select! {
                    () = stop.cancelled() => None,
                    message = messages.next() => message,
                } {
                    hear(&node, &message.payload);
                }
            }
            Err(error) => warn!(%error, subject = subject.as_str(), "can't listen for bucket notifications; trying on"),
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(RETRY) => {}
        }
    }
}

fn hear(node: &Node, payload: &[u8]) {
    match buckets(payload) {
        Ok(names) => {
            for publication in names.iter().filter_map(|name| node.holdings.bucket(name)) {
                publication.look();
            }
        }
        Err(error) => debug!(%error, "a bucket notification that can't be read"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notification_names_its_bucket() {
        let payload = br#"{"EventName": "s3:ObjectCreated:Put", "Key": "out/a%2Fb.txt", "Records": [{
            "eventVersion": "2.0", "eventSource": "minio:s3", "eventName": "s3:ObjectCreated:Put",
            "s3": {"s3SchemaVersion": "1.0", "bucket": {"name": "out", "arn": "arn:aws:s3:::out"},
                   "object": {"key": "a%2Fb.txt", "size": 6, "eTag": "5a105e8b9d40e1329780d62ea2265d8a"}}}]}"#;
        assert_eq!(buckets(payload), Ok(vec!["out".to_owned()]));
        assert!(buckets(b"hello").is_err());
    }
}
