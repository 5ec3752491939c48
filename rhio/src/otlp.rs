//! Sends spans to a collector: OTLP over HTTP, as protobuf.
//!
//! The messages are OpenTelemetry's own; sending them is ours. The SDK's exporter would also do what `OTEL_…` variables
//! say, send from threads of its own, and neither count what it drops nor say once that a collector is away.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, StatusCode, Url, redirect};
use rhio_core::id::PublicKey;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use rhio_core::secret::Secret;
use rhio_router::metrics::Metrics;

use rhio_router::telemetry::{Sample, Telemetry, text};

/// Spans that wait to be sent, at most; what comes then is dropped.
const QUEUE: usize = 4096;
/// How long the last spans may take to be sent when the process ends.
const FLUSH: Duration = Duration::from_secs(2);
/// Spans of one request, at most.
const BATCH: usize = 512;
/// How long a span may wait for others to come along.
const GATHER: Duration = Duration::from_millis(500);
/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a request may take.
const REQUEST: Duration = Duration::from_secs(10);
/// Waits between attempts while the collector is away.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// Bytes of an answer that are read, at most.
const MAX_ANSWER: usize = 64 * 1024;
/// How often dropped spans are worth a line.
const DROPPED_LOG: Duration = Duration::from_secs(60);

/// Export of traces by OpenTelemetry's protocol, OTLP over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tracing {
    /// The collector: `http://` or `https://`, host, and a path if `/v1/traces` is not at the root.
    pub otlp_endpoint: String,
    /// The share of batches that is traced. Default: all of them.
    pub sample: Sample,
    /// Headers of every request.
    pub headers: Vec<(String, Secret)>,
}

/// The export of one process's spans.
#[derive(Default)]
pub struct Export(Option<(JoinHandle<()>, CancellationToken)>);

impl Export {
    /// Begins to export when the configuration says where to.
    ///
    /// # Errors
    /// When what it says can't be used.
    pub fn start(config: Option<&Tracing>, me: PublicKey, metrics: &Arc<Metrics>) -> Result<(Telemetry, Self), String> {
        let Some(config) = config else { return Ok(Default::default()) };
        let exporter = Exporter::new(config, me, Arc::clone(metrics))?;
        let (spans, queue) = mpsc::channel(QUEUE);
        let stop = CancellationToken::new();
        let task = tokio::spawn(exporter.run(queue, stop.clone()));
        info!(endpoint = config.otlp_endpoint, "exports traces");
        Ok((Telemetry::new(config.sample, spans, Arc::clone(metrics)), Self(Some((task, stop)))))
    }

    /// Sends what is left and ends; takes at most two seconds.
    pub async fn shutdown(self) {
        let Some((mut task, stop)) = self.0 else { return };
        stop.cancel();
        if tokio::time::timeout(FLUSH, &mut task).await.is_err() {
            task.abort();
        }
    }
}

/// Whether a header is for rhio itself to set.
pub fn is_own_header(name: &HeaderName) -> bool {
    ["content-type", "content-length", "content-encoding", "transfer-encoding", "host"].contains(&name.as_str())
}

/// Why a request did not do.
struct Failure {
    reason: String,
    /// Whether the same may go well later.
    passing: bool,
}

/// The task that sends.
struct Exporter {
    client: Client,
    url: Url,
    headers: HeaderMap,
    resource: Resource,
    metrics: Arc<Metrics>,
    said: Said,
}

/// What the log was told.
struct Said {
    /// The collector is away or refuses; said once until it is not.
    failing: bool,
    dropped: u64,
    dropped_at: Option<Instant>,
}

impl Exporter {
    /// An exporter that has not begun.
    ///
    /// # Errors
    /// When no client can be made, for the want of CAs for example.
    fn new(config: &Tracing, me: PublicKey, metrics: Arc<Metrics>) -> Result<Self, String> {
        let path = if config.otlp_endpoint.ends_with("/v1/traces") { "" } else { "/v1/traces" };
        let url = format!("{}{path}", config.otlp_endpoint).parse::<Url>().map_err(|error| error.to_string())?;
        let mut headers = HeaderMap::new();
        for (name, value) in &config.headers {
            let name = name.parse::<HeaderName>().map_err(|error| error.to_string())?;
            let mut value = HeaderValue::from_str(value.expose()).map_err(|error| error.to_string())?;
            value.set_sensitive(true);
            headers.append(name, value);
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        // The same as everywhere in this program; who has chosen before is not overruled.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = Client::builder()
            .user_agent(concat!("rhio/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT)
            .timeout(REQUEST)
            // Headers with secrets are for one host.
            .redirect(redirect::Policy::none())
            .no_proxy();
        if url.scheme() == "http" {
            // Without TLS the system's certificates need not exist.
            builder = builder.tls_certs_only([]);
        }
        let client = builder.build().map_err(|error| words(&error))?;
        let resource = Resource {
            attributes: vec![
                text("service.name", "rhio"),
                text("service.version", env!("CARGO_PKG_VERSION")),
                text("service.instance.id", me),
            ],
            ..Resource::default()
        };
        let said = Said { failing: false, dropped: 0, dropped_at: None };
        Ok(Self { client, url, headers, resource, metrics, said })
    }

    /// Sends whatever comes until it is told to stop; then what is left, once.
    async fn run(mut self, mut spans: mpsc::Receiver<Span>, stop: CancellationToken) {
        let mut left = None;
        while let Some(batch) = gather(&mut spans, &stop).await {
            left = self.deliver(batch, &stop).await;
            if stop.is_cancelled() {
                break;
            }
        }
        let mut batch = Vec::new();
        loop {
            if let Some((body, count)) = left.take() {
                if let Err(failure) = self.send(body).await {
                    debug!("spans of the last moments are lost: {}", failure.reason);
                    return;
                }
                self.metrics.spans.with_label_values(&["exported"]).inc_by(count);
            }
            while batch.len() < BATCH
                && let Ok(span) = spans.try_recv()
            {
                batch.push(span);
            }
            if batch.is_empty() {
                return;
            }
            left = Some(self.encode(std::mem::take(&mut batch)));
        }
    }

    /// Sends a batch until it has arrived or is refused; gives it back when told to stop.
    async fn deliver(&mut self, batch: Vec<Span>, stop: &CancellationToken) -> Option<(Bytes, u64)> {
        let (body, count) = self.encode(batch);
        let mut wait = BACKOFF.0;
        loop {
            let outcome = tokio::select! {
                () = stop.cancelled() => return Some((body, count)),
                outcome = self.send(body.clone()) => outcome,
            };
            match outcome {
                Ok(rejected) => {
                    self.metrics.spans.with_label_values(&["exported"]).inc_by(count.saturating_sub(rejected));
                    self.metrics.spans.with_label_values(&["dropped"]).inc_by(rejected.min(count));
                    self.well();
                    return None;
                }
                Err(failure) => {
                    self.ill(&failure.reason);
                    if !failure.passing {
                        self.metrics.spans.with_label_values(&["dropped"]).inc_by(count);
                        return None;
                    }
                }
            }
            tokio::select! {
                () = stop.cancelled() => return Some((body, count)),
                () = tokio::time::sleep(wait) => {}
            }
            wait = (wait * 2).min(BACKOFF.1);
        }
    }

    fn encode(&self, spans: Vec<Span>) -> (Bytes, u64) {
        let count = spans.len() as u64;
        let scope = InstrumentationScope {
            name: "rhio".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..InstrumentationScope::default()
        };
        let scope_spans = vec![ScopeSpans { scope: Some(scope), spans, schema_url: String::new() }];
        let resource = Some(self.resource.clone());
        let request = ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans { resource, scope_spans, schema_url: String::new() }],
        };
        (request.encode_to_vec().into(), count)
    }

    /// One request. How many of its spans the collector did not take.
    async fn send(&self, body: Bytes) -> Result<u64, Failure> {
        let passing = |error: &reqwest::Error| Failure { reason: words(error), passing: true };
        let request = self.client.post(self.url.clone()).headers(self.headers.clone()).body(body);
        let mut answer = request.send().await.map_err(|error| passing(&error))?;
        let status = answer.status();
        if !status.is_success() {
            // These the specification of OTLP names; a gateway's 500 is not about the spans either.
            let passing = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
            return Err(Failure { reason: format!("it answers {status}"), passing });
        }
        let mut content = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| passing(&error))? {
            if content.len() + chunk.len() > MAX_ANSWER {
                return Ok(0);
            }
            content.extend_from_slice(&chunk);
        }
        let partial = ExportTraceServiceResponse::decode(&content[..]).ok().and_then(|answer| answer.partial_success);
        Ok(partial.map_or(0, |partial| u64::try_from(partial.rejected_spans).unwrap_or(0)))
    }

    fn ill(&mut self, reason: &str) {
        if !std::mem::replace(&mut self.said.failing, true) {
            self.note_dropped();
            warn!("spans can't be sent to {}: {reason}; trying on, replication does not wait for it", self.url);
        }
    }

    fn well(&mut self) {
        let dropped = self.metrics.spans.with_label_values(&["dropped"]).get() - self.said.dropped;
        if std::mem::take(&mut self.said.failing) {
            info!(dropped, "spans are sent to {} again", self.url);
            self.note_dropped();
        } else if dropped > 0 && self.said.dropped_at.is_none_or(|at| at.elapsed() >= DROPPED_LOG) {
            warn!(dropped, "the collector at {} does not take spans as fast as they come, or refuses some", self.url);
            self.note_dropped();
            self.said.dropped_at = Some(Instant::now());
        }
    }

    fn note_dropped(&mut self) {
        self.said.dropped = self.metrics.spans.with_label_values(&["dropped"]).get();
    }
}

/// The next spans, after a moment in which others come along; `None` when it is over.
async fn gather(spans: &mut mpsc::Receiver<Span>, stop: &CancellationToken) -> Option<Vec<Span>> {
    let mut batch = Vec::new();
    let first = tokio::select! {
        () = stop.cancelled() => return None,
        first = spans.recv() => first?,
    };
    batch.push(first);
    let until = tokio::time::sleep(GATHER);
    tokio::pin!(until);
    while batch.len() < BATCH {
        let room = BATCH - batch.len();
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            () = &mut until => break,
            count = spans.recv_many(&mut batch, room) => if count == 0 { break },
        }
    }
    Some(batch)
}

/// The innermost cause of an error, which says most. The address is in the line already.
fn words(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    let mut innermost: &dyn Error = error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    innermost.to_string()
}
