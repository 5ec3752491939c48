//! The NATS servers that tests start.

use std::time::Duration;

use serde_json::json;
use testkit::checker::{Publisher, read_stream};
use testkit::{NatsOptions, NatsServer, create_stream, eventually};

const SOON: Duration = Duration::from_secs(10);

async fn server_with_stream(options: NatsOptions) -> (NatsServer, async_nats::Client) {
    let server = NatsServer::start(options).await;
    let client = server.client().await;
    create_stream(&client, "S", &["s.>"], json!({})).await.expect("the stream is created");
    (server, client)
}

#[tokio::test]
async fn a_restart_keeps_port_and_data_and_clients_come_back() {
    let (mut server, client) = server_with_stream(NatsOptions::new()).await;
    let mut publisher = Publisher::new(&client, &["s.a", "s.b"]).header("N", "{n}");
    publisher.publish(300).await;
    let before = read_stream(&client, "S", ">").await.expect("the stream can be read");
    assert_eq!(before, publisher.acknowledged);

    let port = server.port();
    let ended = server.stop().await.expect("it ran");
    assert!(ended.took < SOON && !server.is_running());
    server.restart().await;
    assert_eq!(server.port(), port);
    let after = eventually!(SOON, "the client to come back", read_stream(&client, "S", ">").await);
    assert_eq!(after, before);

    server.kill();
    assert!(!server.is_running());
    server.restart().await;
    let after = eventually!(SOON, "the client to come back", read_stream(&client, "S", ">").await);
    assert_eq!(after, before);
}

#[tokio::test]
async fn a_store_put_back_forgets_what_came_later() {
    let (mut server, client) = server_with_stream(NatsOptions::new()).await;
    create_stream(&client, "T", &["t.>"], json!({})).await.expect("the stream is created");
    Publisher::new(&client, &["s.a", "t.a"]).publish(20).await;
    server.pause();
    let copy = server.snapshot_store();
    server.resume();
    Publisher::new(&client, &["s.a", "t.a"]).publish(20).await;

    server.kill();
    server.restore_stream(&copy, "S");
    server.restart().await;
    let in_s = eventually!(SOON, "the client to come back", read_stream(&client, "S", ">").await);
    let in_t = read_stream(&client, "T", ">").await.expect("the stream can be read");
    assert_eq!((in_s.len(), in_t.len()), (10, 20), "one stream is put back, the other is not");

    server.stop().await;
    server.restore_store(&copy);
    server.restart().await;
    let in_t = eventually!(SOON, "the client to come back", read_stream(&client, "T", ">").await);
    assert_eq!(in_t.len(), 10);
}

#[tokio::test]
async fn a_paused_server_keeps_silent_until_it_is_resumed() {
    let (mut server, client) = server_with_stream(NatsOptions::new()).await;
    server.pause();
    let flush = client.flush();
    assert!(tokio::time::timeout(Duration::from_millis(100), client.request("$JS.API.INFO", "".into())).await.is_err());
    flush.await.expect("what was sent lies in the socket");
    server.resume();
    eventually!(SOON, "an answer", client.request("$JS.API.INFO", "".into()).await);
}

#[tokio::test]
async fn options_reach_the_server() {
    let options = NatsOptions::new().password("ann", "pw").max_payload(2 << 20).name("one").sync_interval("always");
    let (server, client) = server_with_stream(options).await;
    let info = client.server_info();
    assert_eq!((info.max_payload, info.server_name.as_str()), (2 << 20, "one"));
    let stranger = async_nats::connect(server.url()).await;
    assert!(stranger.is_err(), "a client without a password is refused");
    assert!(server.rss_peak_bytes() > 1 << 20);
}

#[tokio::test]
async fn two_servers_are_joined_by_a_leaf_node() {
    let hub = NatsServer::start(NatsOptions::new().name("hub").domain("hub").leaf_listener()).await;
    let leaf = NatsOptions::new().name("leaf").domain("leaf").leaf_remote(&hub.leaf_url());
    let leaf = NatsServer::start(leaf).await;
    let (hub_client, leaf_client) = (hub.client().await, leaf.client().await);
    create_stream(&leaf_client, "SRC", &["x.>"], json!({})).await.expect("the stream is created");
    Publisher::new(&leaf_client, &["x.a"]).publish(50).await;
    let source = json!({"sources": [{"name": "SRC", "external": {"api": "$JS.leaf.API"}}]});
    create_stream(&hub_client, "DST", &[], source).await.expect("the stream is created");
    eventually!(Duration::from_secs(30), "50 messages in the hub", {
        read_stream(&hub_client, "DST", ">").await.is_ok_and(|records| records.len() == 50)
    });
}

#[tokio::test]
async fn a_bad_configuration_is_an_error_with_the_servers_words() {
    let error =
        NatsServer::try_start(NatsOptions::new().config("no_such_setting_block {")).await.expect_err("it fails");
    assert!(format!("{error:#}").contains("ended at its start"), "{error:#}");
}
