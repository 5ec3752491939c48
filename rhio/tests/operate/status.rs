//! `rhio status` beside a real daemon, over HTTP and over NATS.

use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use common::{SOON, expect_departures, finish, pair, publish, replicating_pair, start, wait_for_records};
use rhio::control::model::{NodeStatus, Verdict};
use testkit::{Cluster, eventually};

fn command(cluster: &Cluster, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rhio"));
    command.arg("--config").arg(cluster.rhio.config_path()).arg("status").args(arguments);
    command.current_dir(cluster.rhio.folder()).env_clear();
    command
}

async fn status(cluster: &Cluster, arguments: &[&str]) -> Output {
    let mut command = command(cluster, arguments);
    tokio::task::spawn_blocking(move || command.output().expect("rhio runs")).await.expect("it ends")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

#[tokio::test]
async fn nobody_answers() {
    let mut cluster = Cluster::new("a").await;
    let away = status(&cluster, &[]).await;
    let said = text(&away.stderr);
    assert_eq!((away.status.code(), text(&away.stdout).as_str()), (Some(1), ""), "{said}");
    for words in
        [cluster.rhio.http_url().as_str(), "does not answer", "is the daemon running", "http_bind_port", "--url"]
    {
        assert!(said.contains(words), "{words} in {said}");
    }
    for arguments in [&["--nats"][..], &["--nats", "--json"]] {
        let away = status(&cluster, arguments).await;
        let said = text(&away.stderr);
        assert_eq!(away.status.code(), Some(1), "{said}");
        assert!(said.contains("no rhio offers it there") && said.contains("nats.endpoint"), "{said}");
    }
    let wrong = status(&cluster, &["--url", "ftp://x"]).await;
    assert!(wrong.status.code() == Some(1) && text(&wrong.stderr).contains("is no address like"), "{wrong:?}");
    cluster.nats.stop().await;
    let away = status(&cluster, &["--nats"]).await;
    assert!(text(&away.stderr).contains("cannot be reached"), "{away:?}");
    cluster.rhio.write_config_text("bind_prt: 1\n");
    assert_eq!(status(&cluster, &[]).await.status.code(), Some(2));
}

#[tokio::test]
async fn a_node_that_works_and_one_that_does_not() {
    let (mut a, mut b) = replicating_pair().await;
    expect_departures(&mut b);
    start(&mut a, &mut b).await;
    publish(&a, "s.x", &[], "hello").await;
    wait_for_records(&b, "S", 1).await;

    let running = eventually!(SOON, "the verdict", {
        let output = status(&b, &[]).await;
        if output.status.success() { Ok(output) } else { Err(text(&output.stdout) + &text(&output.stderr)) }
    });
    let shown = text(&running.stdout);
    assert!(shown.starts_with("Running, ready: everything that is configured works\n"), "{shown}");
    let author = a.rhio.public_key();
    for words in
        [b.rhio.public_key().as_str(), "Subscriptions (1)", "s.>", "stream S", &author[..10], "Peers (1)", "active"]
    {
        assert!(shown.contains(words), "{words} in {shown}");
    }
    assert!(!shown.contains('\x1b') && text(&running.stderr).is_empty(), "{shown}");
    assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");

    // What a program gets is the daemon's own JSON, whichever way it is asked.
    let url = b.rhio.http_url();
    for arguments in [&["--json"][..], &["--json", "--nats"], &["--json", "--url", &url]] {
        let output = status(&b, arguments).await;
        let json: NodeStatus = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!((json.public_key, output.status.code()), (b.rhio.public_key(), Some(0)), "{arguments:?}");
    }

    common::delete_stream(&b, "S").await;
    b.rhio.allow_log("local stream 'S'");
    b.rhio.allow_log("subscription to");
    let broken = eventually!(Duration::from_secs(60), "the problem", {
        let output = status(&b, &[]).await;
        let found = text(&output.stdout).contains("stream 'S': it does not exist");
        if found { Ok(output) } else { Err(text(&output.stdout)) }
    });
    assert_eq!(broken.status.code(), Some(1));
    let shown = text(&broken.stdout);
    assert!(shown.starts_with("Degraded, not ready: ") && shown.contains("    → create it: "), "{shown}");
    finish(a, b).await;
}

#[tokio::test]
async fn of_several_nodes_on_one_nats_the_right_one_is_shown() {
    let (mut a, mut b) = pair().await;
    // Both on a's server, and without HTTP.
    let address = a.nats.address();
    b.rhio.rewrite_config(|config| config.nats_endpoint = address);
    for cluster in [&mut a, &mut b] {
        cluster.rhio.rewrite_config(|config| config.http_bind_port = 0);
        cluster.rhio.allow_log("nothing is published");
        expect_departures(cluster);
    }
    a.start().await;
    b.start().await;
    for cluster in [&a, &b] {
        let shown = eventually!(SOON, "an answer", {
            let output = status(cluster, &["--json"]).await;
            serde_json::from_slice::<NodeStatus>(&output.stdout)
        });
        assert_eq!(shown.public_key, cluster.rhio.public_key());
        assert_ne!(shown.health.status, Verdict::Error);
    }
    // When it is away another one answers, and that is said.
    b.rhio.terminate().await;
    let other = status(&b, &[]).await;
    assert_eq!(other.status.code(), Some(1));
    let note = text(&other.stderr);
    assert!(note.contains("another node") && note.contains(&b.rhio.public_key()), "{note}");
    assert!(text(&other.stdout).contains(&a.rhio.public_key()));
    a.rhio.finish().await;
}

#[tokio::test]
async fn watching_goes_on_until_it_is_ended() {
    let mut cluster = Cluster::new("a").await;
    cluster.rhio.allow_log("nothing is published");
    cluster.start().await;
    let mut child =
        command(&cluster, &["--watch", "--interval", "0.2"]).stdout(Stdio::piped()).spawn().expect("it runs");
    let stdout = child.stdout.take().expect("a pipe");
    let blocks = tokio::task::spawn_blocking(move || {
        let mut lines = BufReader::new(stdout).lines();
        let shown = lines.by_ref().map_while(Result::ok);
        let blocks = shown.filter(|line| line.contains("everything that is configured works")).take(3).count();
        (blocks, lines)
    });
    // The pipe stays open: that nobody reads any more would end it, too.
    let (blocks, _pipe) = tokio::time::timeout(SOON, blocks).await.expect("in time").expect("it reads");
    assert_eq!(blocks, 3);
    let id = child.id().to_string();
    Command::new("kill").args(["-INT", &id]).status().expect("kill runs");
    let ended = tokio::task::spawn_blocking(move || child.wait().expect("it ends"));
    assert!(tokio::time::timeout(SOON, ended).await.expect("in time").expect("a status").success());
    cluster.rhio.finish().await;
}
