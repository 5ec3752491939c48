//! The API's description, OpenAPI 3.1. `docs/openapi.json` is the same; a test compares both.

use axum::Json;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Value, json};

use crate::control::model;

/// Answers with it.
pub async fn answer() -> Json<Value> {
    Json(document())
}

/// One path: what it answers, in words and as a schema, and what may be asked.
struct Path {
    path: &'static str,
    summary: &'static str,
    answers: Vec<(u16, &'static str, Value)>,
    parameters: Vec<(&'static str, &'static str, Value)>,
}

/// Makes the document.
pub fn document() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut generator = settings.into_generator();
    let paths: serde_json::Map<String, Value> = paths(&mut generator)
        .into_iter()
        .map(|path| {
            let answers: serde_json::Map<String, Value> = path
                .answers
                .into_iter()
                .map(|(status, words, content)| {
                    (status.to_string(), json!({ "description": words, "content": content }))
                })
                .collect();
            let parameters: Vec<Value> = path
                .parameters
                .into_iter()
                .map(|(name, words, schema)| {
                    json!({ "name": name, "in": "query", "required": false, "description": words, "schema": schema })
                })
                .collect();
            let get = json!({ "summary": path.summary, "parameters": parameters, "responses": answers });
            (path.path.to_owned(), json!({ "get": get }))
        })
        .collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "rhio",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "What a rhio node says of itself. Everything is read-only; values that are not known are null."
        },
        "paths": paths,
        "components": { "schemas": generator.take_definitions(true) },
    })
}

fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Value {
    let schema = generator.subschema_for::<T>();
    json!({ "application/json": { "schema": schema } })
}

fn text(media: &str) -> Value {
    json!({ media: { "schema": { "type": "string" } } })
}

fn paths(generator: &mut SchemaGenerator) -> Vec<Path> {
    let failure = of::<model::Failure>(generator);
    let simple = |path, summary, words, content| Path {
        path,
        summary,
        answers: vec![(200, words, content)],
        parameters: Vec::new(),
    };
    let limit =
        ("limit", "At most so many.", json!({ "type": "integer", "minimum": 1, "maximum": 10000, "default": 1000 }));
    vec![
        simple("/", "The dashboard", "A page for people.", text("text/html")),
        simple("/livez", "Whether the process works", "It does.", text("text/plain")),
        Path {
            path: "/readyz",
            summary: "Whether the node can do its work",
            answers: vec![
                (200, "It can.", of::<model::Readiness>(generator)),
                (503, "It can't, and why.", of::<model::Readiness>(generator)),
            ],
            parameters: Vec::new(),
        },
        simple("/health", "How the node is", "The verdict and its grounds.", of::<model::Health>(generator)),
        simple("/metrics", "Metrics for Prometheus", "Prometheus's text format.", text("text/plain")),
        simple("/api/v1/status", "Everything in one answer", "The status.", of::<model::NodeStatus>(generator)),
        simple("/api/v1/peers", "Known nodes", "The nodes.", of::<Vec<model::Peer>>(generator)),
        simple("/api/v1/peers/count", "How many nodes are known", "The numbers.", of::<model::PeerCount>(generator)),
        simple("/api/v1/publications", "What the node offers", "All.", of::<Vec<model::Publication>>(generator)),
        simple("/api/v1/subscriptions", "What the node wants", "All.", of::<Vec<model::Subscription>>(generator)),
        Path {
            path: "/api/v1/operations",
            summary: "Signed operations that the node holds",
            answers: vec![
                (200, "A page; the Link header leads to the next one.", of::<Vec<model::Operation>>(generator)),
                (400, "The request is wrong.", failure.clone()),
                (503, "The state stream does not answer.", failure.clone()),
            ],
            parameters: vec![
                (
                    "log",
                    "The log, 64 hex digits. Without it, the first operations of every log.",
                    json!({ "type": "string" }),
                ),
                (
                    "after",
                    "Only operations of the log with a higher number.",
                    json!({ "type": "integer", "minimum": 0 }),
                ),
                limit.clone(),
            ],
        },
        simple(
            "/api/v1/operations/count",
            "How many operations the node holds",
            "The number.",
            of::<model::OperationCount>(generator),
        ),
        Path {
            path: "/api/v1/blobs",
            summary: "Objects that are known",
            answers: vec![
                (200, "A page; the Link header leads to the next one.", of::<Vec<model::Blob>>(generator)),
                (400, "The request is wrong.", failure.clone()),
                (503, "A subscription can't tell its objects now.", failure),
            ],
            parameters: vec![
                ("bucket", "Only objects of this local bucket.", json!({ "type": "string" })),
                (
                    "cursor",
                    "Where the page begins, as the Link header of the page before has it.",
                    json!({ "type": "string" }),
                ),
                limit,
            ],
        },
        simple("/api/v1/transfers", "Content on its way", "All.", of::<Vec<model::Transfer>>(generator)),
        simple("/api/v1/history", "The last five minutes, to plot", "All series.", of::<model::History>(generator)),
        simple(
            "/api/v1/openapi.json",
            "This description",
            "OpenAPI 3.1.",
            json!({ "application/json": { "schema": { "type": "object" } } }),
        ),
    ]
}
