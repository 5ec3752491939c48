//! A collector for traces: takes OTLP over HTTP and remembers the spans.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

/// A span and who sent it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// `service.instance.id`.
    pub node: String,
    /// The whole resource.
    pub resource: Vec<KeyValue>,
    /// The span.
    pub span: Span,
}

impl Seen {
    /// An attribute as text.
    pub fn attribute(&self, key: &str) -> Option<String> {
        find(&self.span.attributes, key)
    }
}

/// The value of a key, as text.
pub fn find(attributes: &[KeyValue], key: &str) -> Option<String> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    match found.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        Value::IntValue(number) => Some(number.to_string()),
        other => panic!("{key} is {other:?}"),
    }
}

#[derive(Default)]
struct Received {
    spans: Vec<Seen>,
    headers: Vec<HeaderMap>,
    bytes: Vec<u8>,
}

/// The collector, which ends with the test.
pub struct Collector {
    address: SocketAddr,
    received: Arc<Mutex<Received>>,
}

impl Collector {
    /// Listens on a free port.
    pub async fn start() -> Self {
        let received = Arc::<Mutex<Received>>::default();
        let app = Router::new().route("/v1/traces", post(take)).with_state(Arc::clone(&received));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { address, received }
    }

    /// What `otlp_endpoint` is set to.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Every span so far.
    pub fn spans(&self) -> Vec<Seen> {
        self.received.lock().unwrap().spans.clone()
    }

    /// The headers of every request so far.
    pub fn headers(&self) -> Vec<HeaderMap> {
        self.received.lock().unwrap().headers.clone()
    }

    /// Whether any request so far held these bytes.
    pub fn holds(&self, bytes: &[u8]) -> bool {
        self.received.lock().unwrap().bytes.windows(bytes.len()).any(|window| window == bytes)
    }

    /// Waits until as many spans are there.
    pub async fn wait_for(&self, count: usize, deadline: Duration) -> Vec<Seen> {
        testkit::eventually!(deadline, format!("{count} spans"), {
            let spans = self.spans();
            (spans.len() >= count).then_some(spans)
        })
    }
}

async fn take(State(received): State<Arc<Mutex<Received>>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let request = ExportTraceServiceRequest::decode(&body[..]).unwrap();
    let mut received = received.lock().unwrap();
    received.headers.push(headers);
    received.bytes.extend_from_slice(&body);
    for part in request.resource_spans {
        let resource = part.resource.unwrap_or_default().attributes;
        let node = find(&resource, "service.instance.id").unwrap();
        let spans = part.scope_spans.into_iter().flat_map(|scope| scope.spans);
        received.spans.extend(spans.map(|span| Seen { node: node.clone(), resource: resource.clone(), span }));
    }
    StatusCode::OK
}
