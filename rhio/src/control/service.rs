//! The NATS service `rhio` (micro API).
//!
//! | subject | request | reply |
//! | --- | --- | --- |
//! | `rhio.import` | a path, or JSON `{"path": …, "bucket": …, "key": …}` | the content's hash, 64 hex digits |
//! | `rhio.status` | nothing | the JSON of `/api/v1/status` |
//! | `rhio.deletes` | a local bucket whose held deletes are to be followed | a sentence |
//!
//! An error has the headers `Nats-Service-Error` and `Nats-Service-Error-Code`, and a sentence as payload.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::config::Import;
use crate::control::overview::Overview;
use rhio_nats::client::ClientError;
use rhio_nats::service::{Request, Service};
use rhio_router::blobs::failure::Failure;
use rhio_router::blobs::file_import::{self, Wish};
use rhio_router::blobs::subscription::BucketSubscription;
use rhio_router::node::Node;

/// The service's name.
const NAME: &str = "rhio";
/// Imports that run at once; more wait their turn.
const MAX_IMPORTS: usize = 4;
/// Requests that are looked at at once; more are refused.
const MAX_REQUESTS: usize = 64;
/// Longest request.
const MAX_REQUEST_LEN: usize = 64 * 1024;
/// Waits before the service is registered again.
const RETRY: Duration = Duration::from_secs(5);

/// The bucket subscriptions, now and whenever they change.
pub type Subscriptions = watch::Receiver<Vec<Arc<BucketSubscription>>>;

/// What requests are about.
pub struct Asked {
    /// What may be imported.
    pub import: Import,
    /// The bucket subscriptions.
    pub subscriptions: Subscriptions,
    /// What the node says of itself.
    pub overview: Arc<Overview>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ImportRequest {
    path: String,
    bucket: Option<String>,
    key: Option<String>,
}

/// Serves requests until stopped.
pub async fn run(node: Node, asked: Asked, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let outcome = tokio::select! {
            () = stop.cancelled() => return,
            outcome = serve(&node, &asked) => outcome,
        };
        if let Err(error) = outcome {
            warn!(%error, "the NATS service can't be offered; trying on");
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(RETRY) => {}
        }
    }
}

async fn serve(node: &Node, asked: &Asked) -> Result<(), ClientError> {
    let description = "rhio: replicates subjects and buckets between clusters";
    let version = env!("CARGO_PKG_VERSION");
    let service = Service::offer(&node.client, NAME, version, description, node.me.to_string()).await?;
    let mut imports = service.endpoint("import", "rhio.import").await?;
    let mut deletes = service.endpoint("deletes", "rhio.deletes").await?;
    let mut status = service.endpoint("status", "rhio.status").await?;
    debug!("offers the NATS service");
    let permits = Arc::new(Semaphore::new(MAX_IMPORTS));
    let mut running: JoinSet<()> = JoinSet::new();
    loop {
        tokio::select! {
            Some(request) = imports.next() => {
                if running.len() >= MAX_REQUESTS {
                    let busy = Failure::new(503, format!("{MAX_REQUESTS} imports wait already; try again later"));
                    answer(&request, Err(busy)).await;
                    continue;
                }
                let (node, import, permits) = (node.clone(), asked.import.clone(), Arc::clone(&permits));
                running.spawn(async move {
                    let _permit = permits.acquire_owned().await;
                    let outcome = import_file(&node, &import, request.payload()).await;
                    answer(&request, outcome).await;
                });
            }
            Some(request) = deletes.next() => {
                let outcome = confirm(&asked.subscriptions, request.payload());
                answer(&request, outcome).await;
            }
            Some(request) = status.next() => {
                if running.len() >= MAX_REQUESTS {
                    answer(&request, Err(Failure::new(503, "too many requests wait already; try again later"))).await;
                    continue;
                }
                let overview = Arc::clone(&asked.overview);
                running.spawn(async move { tell(&request, &overview).await });
            }
            Some(_) = running.join_next() => {}
            else => return Ok(()),
        }
    }
}

async fn answer(request: &Request, outcome: Result<String, Failure>) {
    let answered = match outcome {
        Ok(text) => request.answer("text/plain", Bytes::from(text)).await,
        Err(failure) => request.refuse(failure.code, failure.reason).await,
    };
    if let Err(error) = answered {
        debug!(%error, "a request could not be answered");
    }
}

/// Answers with the JSON of `/api/v1/status`.
async fn tell(request: &Request, overview: &Overview) {
    match serde_json::to_vec(&overview.status().await) {
        Ok(json) => {
            if let Err(error) = request.answer("application/json", Bytes::from(json)).await {
                debug!(%error, "a request could not be answered");
            }
        }
        Err(error) => answer(request, Err(Failure::new(500, error.to_string()))).await,
    }
}

async fn import_file(node: &Node, import: &Import, payload: &Bytes) -> Result<String, Failure> {
    let wish = read_wish(payload)?;
    let path = wish.path.clone();
    match file_import::import(node, import, wish).await {
        Ok(put) => Ok(put.hash.to_string()),
        Err(failure) => {
            info!(path, code = failure.code, "import refused: {}", failure.reason);
            Err(failure)
        }
    }
}

fn read_wish(payload: &Bytes) -> Result<Wish, Failure> {
    if payload.len() > MAX_REQUEST_LEN {
        return Err(Failure::new(400, format!("the request is longer than {MAX_REQUEST_LEN} bytes")));
    }
    let text = std::str::from_utf8(payload).map_err(|_| Failure::new(400, "the request is not UTF-8"))?.trim();
    if text.starts_with('{') {
        let request: ImportRequest = serde_json::from_str(text).map_err(|error| {
            Failure::new(
                400,
                format!("the request is no JSON like {{\"path\": …, \"bucket\": …, \"key\": …}}: {error}"),
            )
        })?;
        return Ok(Wish { path: request.path, bucket: request.bucket, key: request.key });
    }
    Ok(Wish { path: text.to_owned(), bucket: None, key: None })
}

fn confirm(subscriptions: &Subscriptions, payload: &Bytes) -> Result<String, Failure> {
    let bucket = String::from_utf8_lossy(payload).trim().to_owned();
    let list = subscriptions.borrow();
    let subscription = list.iter().find(|subscription| subscription.bucket.name() == bucket);
    let subscription = subscription.ok_or_else(|| {
        Failure::new(
            404,
            format!("no subscription goes into a bucket '{bucket}'; the payload is a local bucket's name"),
        )
    })?;
    if !subscription.holds_deletes() {
        return Err(Failure::new(409, format!("no deletes are held for bucket '{bucket}'")));
    }
    subscription.confirmed.notify_one();
    Ok(format!("the deletes that are held for bucket '{bucket}' are followed now"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_a_path_or_json() {
        let wish = |text: &'static str| read_wish(&Bytes::from_static(text.as_bytes()));
        let plain = wish("/import/a b.txt\n").unwrap();
        assert_eq!((plain.path.as_str(), plain.bucket, plain.key), ("/import/a b.txt", None, None));
        let full = wish(r#"{"path": "/import/x", "bucket": "b", "key": "k"}"#).unwrap();
        assert_eq!((full.bucket.as_deref(), full.key.as_deref()), (Some("b"), Some("k")));
        assert_eq!(wish(r#"{"file": "/import/x"}"#).unwrap_err().code, 400);
    }
}
