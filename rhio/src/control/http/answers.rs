//! What each path answers.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use rhio_core::id::{LogId, OpSeq};
use serde::{Deserialize, Serialize};

use crate::control::overview::Overview;
use crate::control::{exposition, health, model};

/// How long an answer may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// Objects or operations in one answer, unless asked otherwise, and at most.
const PAGE: (usize, usize) = (1000, 10_000);

type Shared = State<Arc<Overview>>;

/// A request that can't be fulfilled.
pub struct Refusal(StatusCode, String);

impl Refusal {
    fn wrong(reason: impl Into<String>) -> Self {
        Self(StatusCode::BAD_REQUEST, reason.into())
    }

    fn unavailable(reason: impl Into<String>) -> Self {
        Self(StatusCode::SERVICE_UNAVAILABLE, reason.into())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, Json(model::Failure { error: self.1 })).into_response()
    }
}

impl From<QueryRejection> for Refusal {
    fn from(rejection: QueryRejection) -> Self {
        Self::wrong(rejection.body_text())
    }
}

/// Bounds an answer's time, and adds what every answer has.
pub async fn guard(request: Request, next: Next) -> Response {
    let answer = tokio::time::timeout(DEADLINE, next.run(request)).await;
    let mut answer =
        answer.unwrap_or_else(|_| Refusal::unavailable("the answer took too long; try again").into_response());
    let headers = answer.headers_mut();
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

/// The process works.
pub async fn livez() -> &'static str {
    "ok\n"
}

/// Whether the node can do its work.
pub async fn readyz(State(overview): Shared) -> Response {
    let readiness = health::readiness(&overview.health());
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(readiness)).into_response()
}

/// How the node is.
pub async fn health(State(overview): Shared) -> Json<model::Health> {
    Json(overview.health())
}

/// For Prometheus.
pub async fn metrics(State(overview): Shared) -> Result<Response, Refusal> {
    let page = exposition::render(&overview);
    let page = page.map_err(|error| Refusal(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    Ok(([(header::CONTENT_TYPE, exposition::CONTENT_TYPE)], page).into_response())
}

/// Everything.
pub async fn status(State(overview): Shared) -> Json<model::NodeStatus> {
    Json(overview.status().await)
}

/// Known nodes.
pub async fn peers(State(overview): Shared) -> Json<Vec<model::Peer>> {
    Json(overview.peers())
}

/// How many there are.
pub async fn peer_count(State(overview): Shared) -> Json<model::PeerCount> {
    let peers = overview.peers();
    let connected = peers.iter().filter(|peer| peer.connected).count() as u64;
    Json(model::PeerCount { count: peers.len() as u64, connected })
}

/// What the node offers.
pub async fn publications(State(overview): Shared) -> Json<Vec<model::Publication>> {
    Json(overview.publications())
}

/// What the node wants.
pub async fn subscriptions(State(overview): Shared) -> Json<Vec<model::Subscription>> {
    Json(overview.subscriptions())
}

/// Content on its way.
pub async fn transfers(State(overview): Shared) -> Json<Vec<model::Transfer>> {
    Json(overview.transfers())
}

/// The last minutes.
pub async fn history(State(overview): Shared) -> Json<model::History> {
    Json(overview.recorder.history())
}

/// How many operations the node holds.
pub async fn operation_count(State(overview): Shared) -> Json<model::OperationCount> {
    Json(overview.operation_count().await)
}

/// What may be asked of operations.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperationQuery {
    log: Option<String>,
    after: Option<u64>,
    limit: Option<usize>,
}

/// A log's operations; without a log the first ones of every log.
pub async fn operations(
    State(overview): Shared,
    query: Result<Query<OperationQuery>, QueryRejection>,
) -> Result<Response, Refusal> {
    let Query(query) = query?;
    let limit = limit(query.limit)?;
    let unavailable = || Refusal::unavailable("the state stream does not answer; look at /health");
    let Some(log) = query.log else {
        if query.after.is_some() {
            return Err(Refusal::wrong("'after' is the number of an operation in a log: name it with 'log'"));
        }
        return Ok(Json(overview.first_operations(limit).await.ok_or_else(unavailable)?).into_response());
    };
    let id: LogId = log.parse().map_err(|_| Refusal::wrong(format!("'log' must be 64 hex digits, not '{log}'")))?;
    let found = overview.operations(id, query.after.map(OpSeq), limit).await.ok_or_else(unavailable)?;
    let next = found.last().filter(|_| found.len() == limit).map(|last| last.operation);
    let link = next.map(|after| format!("/api/v1/operations?log={id}&after={after}&limit={limit}"));
    Ok(paged(found, link))
}

/// What may be asked of objects.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlobQuery {
    bucket: Option<String>,
    cursor: Option<String>,
    limit: Option<usize>,
}

/// The objects that are known.
pub async fn blobs(
    State(overview): Shared,
    query: Result<Query<BlobQuery>, QueryRejection>,
) -> Result<Response, Refusal> {
    let Query(query) = query?;
    let limit = limit(query.limit)?;
    let page = overview.blobs(query.bucket.as_deref(), query.cursor.as_deref(), limit).await;
    let page = page.ok_or_else(|| {
        Refusal::unavailable("a subscription can't tell its objects now, or 'cursor' is not one of this node's")
    })?;
    let bucket = query.bucket.map(|bucket| format!("&bucket={}", encoded(&bucket))).unwrap_or_default();
    let link = page.next.map(|cursor| format!("/api/v1/blobs?cursor={cursor}&limit={limit}{bucket}"));
    Ok(paged(page.blobs, link))
}

fn limit(wanted: Option<usize>) -> Result<usize, Refusal> {
    match wanted {
        None => Ok(PAGE.0),
        Some(limit) if (1..=PAGE.1).contains(&limit) => Ok(limit),
        Some(_) => Err(Refusal::wrong(format!("'limit' must be 1 to {}", PAGE.1))),
    }
}

/// One page, with the address of the next one as a `Link` header.
fn paged<T: Serialize>(page: Vec<T>, next: Option<String>) -> Response {
    let mut answer = Json(page).into_response();
    let link = next.and_then(|next| HeaderValue::from_str(&format!("<{next}>; rel=\"next\"")).ok());
    if let Some(link) = link {
        answer.headers_mut().insert(header::LINK, link);
    }
    answer
}

fn encoded(text: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
    text.bytes().map(|byte| if plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// No such path.
pub async fn not_found(request: Request) -> Refusal {
    let path = request.uri().path();
    Refusal(StatusCode::NOT_FOUND, format!("there is nothing at {path}; /api/v1/openapi.json lists what there is"))
}

/// Something else than reading.
pub async fn wrong_method(request: Request) -> Refusal {
    Refusal(StatusCode::METHOD_NOT_ALLOWED, format!("{} is not possible here, only GET", request.method()))
}
