//! Requests of every kind, and what must not be told.

use std::io::{Read, Write};
use std::time::Duration;

use testkit::{Cluster, NatsOptions, S3Section, eventually};

use super::{lone, wait_for};
use common::{SOON, expect_outages, finish, publish, replicating_pair, start, wait_for_records};

#[tokio::test]
async fn bad_requests_get_a_proper_status_and_a_json_error() {
    let mut a = lone().await;
    a.start().await;
    for (path, status) in [
        ("/nothing", 404),
        ("/api/v1/", 404),
        ("/api/v1/peers/", 404),
        ("/api/v2/status", 404),
        ("/api/v1/operations?log=xyz", 400),
        ("/api/v1/operations?after=1", 400),
        ("/api/v1/operations?limit=0", 400),
        ("/api/v1/operations?limit=99999999", 400),
        ("/api/v1/operations?log=&after=-1", 400),
        ("/api/v1/operations?what=1", 400),
        ("/api/v1/blobs?limit=many", 400),
    ] {
        let answer = a.rhio.get(path).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
        assert_eq!(answer.header("content-type"), Some("application/json"), "{path}");
        assert!(answer.json()["error"].as_str().is_some_and(|error| error.len() > 10), "{path}: {}", answer.body);
    }
    let unknown = "0".repeat(64);
    let answer = a.rhio.get(&format!("/api/v1/operations?log={unknown}")).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "[]"));
    a.rhio.finish().await;
}

/// Sends bytes as they are, and reads what comes back until the connection ends or nothing comes.
fn raw(port: u16, request: &[u8]) -> String {
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).expect("it accepts");
    stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
    // It may have hung up already.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn other_methods_are_refused_and_garbage_hurts_nobody() {
    let mut a = lone().await;
    a.start().await;
    let port = a.rhio.config.http_bind_port;
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        let request =
            format!("{method} /api/v1/status HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        let answer = raw(port, request.as_bytes());
        assert!(answer.starts_with("HTTP/1.1 405") && answer.contains("\"error\""), "{method}: {answer}");
    }
    let long = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(200_000));
    for garbage in [&b"\x16\x03\x01\x02\x00"[..], b"\r\n\r\n\r\n", b"GET", long.as_bytes()] {
        assert!(!raw(port, garbage).starts_with("HTTP/1.1 200"));
    }
    let head = raw(port, b"HEAD /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert_eq!(a.rhio.get("/livez").await.status, 200);
    a.rhio.finish().await;
}

#[tokio::test]
async fn no_answer_holds_a_secret() {
    let secrets = ["nats-p4ssword", "s3-s3cret-key", "s3-acc3ss-key"];
    let mut a = Cluster::with("a", NatsOptions::default().password("ann", secrets[0]), |rhio| rhio).await;
    a.create_stream("S", &["s.>"]).await;
    a.publish("s.>", "S");
    let away = testkit::PortLease::take();
    let mut s3 = S3Section::folder(std::path::Path::new("/nowhere"));
    s3.endpoint = format!("http://127.0.0.1:{}", away.port());
    s3.credentials = Some((secrets[2].to_owned(), secrets[1].to_owned()));
    a.rhio.config.s3 = Some(s3);
    a.publish_bucket("pictures");
    expect_outages(&mut a);
    a.rhio.allow_log("bucket");
    a.start().await;
    publish(&a, "s.x", &[], "a payload is no one's business").await;
    wait_for(&a.rhio, "/api/v1/publications", "the message", |p| p[0]["sealed"]["messages"] == 1).await;
    let key = std::fs::read_to_string(a.rhio.key_path()).expect("the key");
    let paths = [
        "/",
        "/livez",
        "/readyz",
        "/health",
        "/metrics",
        "/api/v1/status",
        "/api/v1/peers",
        "/api/v1/publications",
        "/api/v1/subscriptions",
        "/api/v1/operations",
        "/api/v1/blobs",
        "/api/v1/transfers",
        "/api/v1/history",
        "/api/v1/openapi.json",
        "/favicon.ico",
        "/api/v1/peers/count",
        "/api/v1/operations/count",
    ];
    for path in paths {
        let answer = a.rhio.get(path).await;
        for secret in secrets.iter().copied().chain([key.trim(), "no one's business"]) {
            assert!(!answer.body.contains(secret), "{path} tells {secret}");
        }
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{path}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
    }
    let page = a.rhio.get("/").await;
    let policy = page.header("content-security-policy").unwrap_or_default();
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    a.rhio.finish().await;
}

#[tokio::test]
async fn operations_are_counted_and_listed_page_by_page() {
    let (mut a, mut b) = replicating_pair().await;
    start(&mut a, &mut b).await;
    for number in 0..5 {
        publish(&a, "s.x", &[], format!("{number}")).await;
        wait_for_records(&b, "S", number + 1).await;
    }
    for cluster in [&a, &b] {
        let rhio = &cluster.rhio;
        wait_for(rhio, "/api/v1/operations/count", "five operations", |count| count["count"] == 5).await;
        let all = rhio.get("/api/v1/operations").await.json();
        let log = all[0]["log"].as_str().expect("a log").to_owned();
        let numbers: Vec<_> = all.as_array().into_iter().flatten().filter_map(|op| op["operation"].as_u64()).collect();
        assert_eq!(numbers, [0, 1, 2, 3, 4]);
        assert_eq!(all[0]["author"], a.rhio.public_key().as_str());
        assert_eq!((&all[1]["backlink"], &all[0]["describes"]), (&all[0]["hash"], &"messages".into()));
        let rest = rhio.get(&format!("/api/v1/operations?log={log}&after=1&limit=2")).await;
        assert_eq!((&rest.json()[0], &rest.json()[1]), (&all[2], &all[3]));
        let next = rest.header("link").and_then(|link| link.strip_prefix('<')?.split_once('>')).expect("a next page").0;
        assert_eq!(rhio.get(next).await.json()[0], all[4]);
    }
    let peers = a.rhio.get("/api/v1/peers").await.json();
    let peer = &peers[0];
    assert_eq!((&peer["public_key"], &peer["connected"]), (&b.rhio.public_key().into(), &true.into()));
    assert!(peer["received_bytes"].as_u64() > Some(1000) && peer["sent_bytes"].as_u64() > Some(1000), "{peer}");
    assert!(peer["round_trip_seconds"].as_f64().is_some_and(|rtt| rtt > 0.0 && rtt < 5.0), "{peer}");
    assert!(peer["remote_address"].as_str().is_some_and(|at| at.contains(':')), "{peer}");
    let count = a.rhio.get("/api/v1/peers/count").await.json();
    assert_eq!((&count["count"], &count["connected"]), (&1.into(), &1.into()));
    finish(a, b).await;
}

#[tokio::test]
async fn the_nats_service_is_listed_and_tells_the_status() {
    let (mut a, mut b) = replicating_pair().await;
    start(&mut a, &mut b).await;
    let client = a.client().await;
    let info = eventually!(SOON, "the service to answer", client.request("$SRV.INFO.rhio", "".into()).await);
    let info: serde_json::Value = serde_json::from_slice(&info.payload).expect("JSON");
    let mut subjects: Vec<_> = info["endpoints"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|endpoint| endpoint["subject"].as_str())
        .collect();
    subjects.sort_unstable();
    assert_eq!(subjects, ["rhio.deletes", "rhio.import", "rhio.status"]);
    let answer = client.request("rhio.status", "".into()).await.expect("an answer");
    let told: serde_json::Value = serde_json::from_slice(&answer.payload).expect("JSON");
    let asked = a.rhio.get("/api/v1/status").await.json();
    for field in ["public_key", "version", "network_id", "listens", "started"] {
        assert_eq!(told[field], asked[field], "{field}");
    }
    assert_eq!(told["publications"][0]["id"], asked["publications"][0]["id"]);
    finish(a, b).await;
}

#[tokio::test]
async fn many_clients_at_once_are_all_answered() {
    let mut a = lone().await;
    a.start().await;
    let asked = futures_util::future::join_all((0..400).map(|_| a.rhio.try_get("/api/v1/status"))).await;
    let answered = asked.iter().flatten().filter(|answer| answer.status == 200).count();
    assert_eq!(answered, 400);
    a.rhio.finish().await;
}
