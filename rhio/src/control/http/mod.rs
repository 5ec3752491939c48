//! The HTTP server: health, metrics, the API, and the dashboard. Everything is read-only.
//!
//! It runs from the process's first moment on, so that whoever asks is told what the node waits for. Whatever a client
//! does, it costs a bounded amount: connections, the time for a request's header, and the time for an answer have limits.

mod answers;
mod dashboard;
pub mod openapi;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info};

use super::overview::Overview;

/// Connections at once; more wait in the system's queue.
const MAX_CONNECTIONS: usize = 256;
/// How long a client may take for a request's header, and may keep a connection without asking.
const HEADER: Duration = Duration::from_secs(30);
/// Longest header of a request.
const MAX_HEADER: usize = 16 * 1024;
/// How long a connection may take to end when the node stops.
const GRACE: Duration = Duration::from_secs(1);

/// The port can't be used.
#[derive(Debug, Error)]
#[error(
    "HTTP port {address} can't be bound: {reason}; stop what uses it, or choose another with --http-bind-port (0 turns HTTP off)"
)]
pub struct BindError {
    /// What was to be bound.
    pub address: SocketAddr,
    /// The system's words.
    pub reason: std::io::Error,
}

/// Takes the port. Without an address it listens on all of them, IPv6 and IPv4 where the system has both.
///
/// # Errors
/// When somebody else has it.
pub async fn bind(address: Option<IpAddr>, port: u16) -> Result<TcpListener, BindError> {
    let wanted = match address {
        Some(address) => vec![address],
        None => vec![IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::V4(Ipv4Addr::UNSPECIFIED)],
    };
    let mut failure = None;
    for address in wanted {
        let address = SocketAddr::new(address, port);
        match TcpListener::bind(address).await {
            Ok(listener) => return Ok(listener),
            // Taken is taken: that IPv4 may be free would help nobody.
            Err(reason) if reason.kind() == std::io::ErrorKind::AddrInUse => return Err(BindError { address, reason }),
            Err(reason) => failure = Some(BindError { address, reason }),
        }
    }
    Err(failure.unwrap_or_else(|| BindError {
        address: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port),
        reason: std::io::Error::from(std::io::ErrorKind::AddrNotAvailable),
    }))
}

/// The paths.
pub fn router(overview: Arc<Overview>) -> Router {
    Router::new()
        .route("/", get(dashboard::page))
        .route("/favicon.ico", get(dashboard::icon))
        .route("/livez", get(answers::livez))
        .route("/readyz", get(answers::readyz))
        .route("/health", get(answers::health))
        .route("/metrics", get(answers::metrics))
        .route("/api/v1/status", get(answers::status))
        .route("/api/v1/peers", get(answers::peers))
        .route("/api/v1/peers/count", get(answers::peer_count))
        .route("/api/v1/publications", get(answers::publications))
        .route("/api/v1/subscriptions", get(answers::subscriptions))
        .route("/api/v1/operations", get(answers::operations))
        .route("/api/v1/operations/count", get(answers::operation_count))
        .route("/api/v1/blobs", get(answers::blobs))
        .route("/api/v1/transfers", get(answers::transfers))
        .route("/api/v1/history", get(answers::history))
        .route("/api/v1/openapi.json", get(openapi::answer))
        .fallback(answers::not_found)
        .method_not_allowed_fallback(answers::wrong_method)
        .layer(axum::middleware::from_fn(answers::guard))
        .with_state(overview)
}

/// Serves until stopped.
pub async fn run(listener: TcpListener, overview: Arc<Overview>, stop: CancellationToken) {
    if let Ok(address) = listener.local_addr() {
        info!(%address, "serves HTTP: dashboard, /health, /metrics, /api/v1");
    }
    let router = router(overview);
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let connections = TaskTracker::new();
    loop {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { break };
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let (router, stop) = (router.clone(), stop.clone());
                connections.spawn(async move {
                    serve(stream, router, stop).await;
                    drop(permit);
                });
            }
            Err(error) => {
                // Out of file descriptors, most likely: some connection must end first.
                debug!(%error, "an HTTP connection can't be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    connections.close();
    let _ = tokio::time::timeout(GRACE, connections.wait()).await;
}

async fn serve(stream: TcpStream, router: Router, stop: CancellationToken) {
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER)
        .max_buf_size(MAX_HEADER)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            match tokio::time::timeout(GRACE, connection).await {
                Ok(outcome) => outcome,
                Err(_) => return,
            }
        }
    };
    if let Err(error) = outcome {
        debug!(%error, "an HTTP connection ended");
    }
}
