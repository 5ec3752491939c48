//! The API's description is checked in, served, and true of every answer.

use jsonschema::Validator;
use rhio::control::http::openapi;
use serde_json::{Value, json};
use testkit::{Cluster, link};

use super::wait_for;
use common::{expect_departures, finish, publish, start};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.json");

#[test]
fn the_checked_in_description_is_that_of_the_code() {
    let made = serde_json::to_string_pretty(&openapi::document()).expect("it is JSON") + "\n";
    if std::env::var_os("RHIO_UPDATE_OPENAPI").is_some() {
        std::fs::write(FILE, &made).expect("it can be written");
    }
    let checked_in = std::fs::read_to_string(FILE).unwrap_or_default();
    assert!(made == checked_in, "docs/openapi.json is not up to date: run this test with RHIO_UPDATE_OPENAPI=1");
}

/// What validates the answer of a path with a status, by the description.
fn validator(document: &Value, path: &str, status: u16) -> Option<Validator> {
    let answer = &document["paths"][path]["get"]["responses"][status.to_string()];
    let mut schema = answer["content"]["application/json"]["schema"].clone();
    schema.as_object_mut()?.insert("components".to_owned(), document["components"].clone());
    Some(jsonschema::draft202012::new(&schema).unwrap_or_else(|e| panic!("{path}: {e}")))
}

async fn check_all(cluster: &Cluster, document: &Value, paths: &[String]) {
    for asked in paths {
        let answer = cluster.rhio.get(asked).await;
        let path = asked.split('?').next().unwrap_or_default();
        assert!(document["paths"][path].is_object(), "{path} is not described");
        let Some(validator) = validator(document, path, answer.status) else {
            assert!(["/", "/livez", "/metrics"].contains(&path), "{path} {} is not described", answer.status);
            continue;
        };
        let json = answer.json();
        let wrong: Vec<String> =
            validator.iter_errors(&json).map(|e| format!("{} at {}", e, e.instance_path())).collect();
        assert!(wrong.is_empty(), "{asked}: {wrong:?} in {json}");
    }
}

#[tokio::test]
async fn every_answer_is_as_described_in_good_times_and_bad() {
    let (mut a, mut b) = (Cluster::with_s3("a").await, Cluster::with_s3("b").await);
    expect_departures(&mut b);
    link(&mut a, &mut b);
    for cluster in [&mut a, &mut b] {
        cluster.create_stream("S", &["s.>"]).await;
        cluster.create_bucket("bucket").await;
    }
    a.publish("s.>", "S");
    a.publish_bucket("bucket");
    b.subscribe("s.>", "S", &a);
    b.subscribe_bucket("bucket", "bucket", &a);
    start(&mut a, &mut b).await;
    publish(&a, "s.x", &[], "1").await;
    a.s3().bucket("bucket").put("k", b"v".to_vec()).await;
    let served = a.rhio.get("/api/v1/openapi.json").await.json();
    assert_eq!(served, openapi::document());
    let everything = |s: &Value| s.as_array().is_some_and(|all| all.iter().all(|s| s["applied"]["messages"] == 1));
    wait_for(&b.rhio, "/api/v1/subscriptions", "both", everything).await;
    let mut paths: Vec<String> =
        served["paths"].as_object().into_iter().flatten().map(|(path, _)| path.clone()).collect();
    paths.extend(["/api/v1/operations?log=x".to_owned(), "/api/v1/blobs?limit=0".to_owned()]);
    check_all(&a, &served, &paths).await;
    check_all(&b, &served, &paths).await;
    a.rhio.terminate().await;
    wait_for(&b.rhio, "/health", "a degraded node", |health| health["status"] == "Degraded").await;
    check_all(&b, &served, &paths).await;
    a.start().await;
    finish(a, b).await;
}

#[test]
fn a_wrong_answer_would_be_noticed() {
    let document = openapi::document();
    let validator = validator(&document, "/api/v1/peers/count", 200).expect("it is described");
    assert!(validator.is_valid(&json!({ "count": 1, "connected": 0 })));
    assert!(!validator.is_valid(&json!({ "count": "1", "connected": 0 })));
    assert!(!validator.is_valid(&json!({ "count": 1 })));
}
