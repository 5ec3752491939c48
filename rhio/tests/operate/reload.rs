//! The configuration is read again on SIGHUP and when the file changes; what is unchanged goes on undisturbed.

use common::{SOON, finish, publish, replicating_pair, start, subjects, texts, wait_for_records};
use testkit::{Cluster, PortLease, Rhio, eventually};

const RELOADED: &str = "configuration reloaded";

/// Lines that a connection, or an entry, says when it begins or ends.
fn upheavals(rhio: &Rhio, mark: usize) -> Vec<String> {
    let logs = rhio.logs();
    let late = logs.iter().skip(mark).map(|line| line.message.clone());
    late.filter(|text| ["connected", "disconnected"].contains(&text.as_str()) || text.contains("'s.>'")).collect()
}

async fn add_streams(a: &Cluster, b: &Cluster) {
    for cluster in [a, b] {
        cluster.create_stream("OTHER", &["other.>"]).await;
    }
}

#[tokio::test]
async fn entries_that_are_added_begin_while_a_transfer_goes_on_undisturbed() {
    let (mut a, mut b) = replicating_pair().await;
    add_streams(&a, &b).await;
    publish(&a, "other.x", &[], "history").await;
    start(&mut a, &mut b).await;
    let running = a.publisher(&["s.x"]).await.run(300);
    let check = a.check("S", "s.>", &b, "S").await;
    eventually!(SOON, "the transfer to run", check.now().await.is_ok_and(|report| report.arrived > 10));

    let (mark_a, mark_b) = (a.rhio.logs().len(), b.rhio.logs().len());
    // The author is told by a signal, the subscriber by its file alone.
    a.publish("other.>", "OTHER");
    a.rhio.reload();
    b.subscribe("other.>", "OTHER", &a);
    assert_eq!(texts(&wait_for_records(&b, "OTHER", 1).await), ["history"]);
    let reload = b.rhio.wait_for_log(RELOADED, SOON).await;
    assert_eq!(reload.field("why").and_then(|why| why.as_str()), Some("the file changed"));
    publish(&a, "other.x", &[], "live").await;
    wait_for_records(&b, "OTHER", 2).await;
    let publisher = running.stop().await;
    let report = check.until_clean(SOON).await;
    assert_eq!(report.arrived as u64, publisher.sent());
    assert_eq!((upheavals(&a.rhio, mark_a), upheavals(&b.rhio, mark_b)), (vec![], vec![]));
    finish(a, b).await;
}

#[tokio::test]
async fn a_subscription_that_is_removed_stops_alone_and_goes_on_when_it_is_back() {
    let (mut a, mut b) = replicating_pair().await;
    add_streams(&a, &b).await;
    a.publish("other.>", "OTHER");
    b.subscribe("other.>", "OTHER", &a);
    start(&mut a, &mut b).await;
    let mut publisher = a.publisher(&["s.x"]).await;
    publisher.publish(50).await;
    let check = a.check("S", "s.>", &b, "S").await;
    check.until_clean(SOON).await.assert_clean();

    let entry = b.rhio.config.subscribe[0].clone();
    b.rhio.rewrite_config(|config| drop(config.subscribe.remove(0)));
    b.rhio.reload();
    b.rhio.wait_for_log(RELOADED, SOON).await;
    publisher.publish(50).await;
    publish(&a, "other.x", &[], "goes on").await;
    wait_for_records(&b, "OTHER", 1).await;
    assert_eq!(b.stream_len("S").await, 50);

    b.rhio.rewrite_config(|config| config.subscribe.push(entry));
    b.rhio.reload();
    assert_eq!(check.until_clean(SOON).await.arrived, 100);
    finish(a, b).await;
}

#[tokio::test]
async fn a_publication_that_is_removed_stops_alone_and_goes_on_when_it_is_back() {
    let (mut a, mut b) = replicating_pair().await;
    add_streams(&a, &b).await;
    a.publish("other.>", "OTHER");
    b.subscribe("other.>", "OTHER", &a);
    b.rhio.allow_log("subscription to 's.>'");
    start(&mut a, &mut b).await;
    let mut publisher = a.publisher(&["s.x"]).await;
    publisher.publish(50).await;
    let check = a.check("S", "s.>", &b, "S").await;
    check.until_clean(SOON).await.assert_clean();

    let entry = a.rhio.config.publish[0].clone();
    a.rhio.rewrite_config(|config| drop(config.publish.remove(0)));
    a.rhio.reload();
    a.rhio.wait_for_log(RELOADED, SOON).await;
    publisher.publish(50).await;
    publish(&a, "other.x", &[], "goes on").await;
    wait_for_records(&b, "OTHER", 1).await;
    b.rhio.wait_for_log("the author publishes nothing under this filter", SOON).await;
    assert_eq!(b.stream_len("S").await, 50);

    a.rhio.rewrite_config(|config| config.publish.push(entry));
    a.rhio.reload();
    assert_eq!(check.until_clean(SOON).await.arrived, 100);
    finish(a, b).await;
}

#[tokio::test]
async fn a_publication_that_is_widened_sends_what_was_not_covered_before_and_nothing_twice() {
    let (mut a, mut b) = replicating_pair().await;
    a.rhio.rewrite_config(|config| config.publish[0].subject = "s.narrow.*".into());
    b.rhio.allow_log("subscription to 's.>'");
    start(&mut a, &mut b).await;
    for subject in ["s.narrow.1", "s.other.1", "s.narrow.2"] {
        publish(&a, subject, &[], "x").await;
    }
    assert_eq!(subjects(&wait_for_records(&b, "S", 2).await), ["s.narrow.1", "s.narrow.2"]);

    a.rhio.rewrite_config(|config| config.publish[0].subject = "s.>".into());
    a.rhio.reload();
    publish(&a, "s.narrow.3", &[], "x").await;
    let expected = ["s.narrow.1", "s.narrow.2", "s.other.1", "s.narrow.3"];
    assert_eq!(subjects(&wait_for_records(&b, "S", 4).await), expected);
    finish(a, b).await;
}

#[tokio::test]
async fn a_wider_publication_beside_a_narrow_one_takes_over_and_sends_nothing_twice() {
    let (mut a, mut b) = replicating_pair().await;
    a.rhio.rewrite_config(|config| config.publish[0].subject = "s.narrow.*".into());
    b.rhio.allow_log("subscription to 's.>'");
    start(&mut a, &mut b).await;
    publish(&a, "s.narrow.1", &[], "x").await;
    wait_for_records(&b, "S", 1).await;
    let running = a.publisher(&["s.narrow.2"]).await.run(200);
    for wide in [true, false, true] {
        let mark = a.rhio.log_mark();
        a.rhio.rewrite_config(|config| config.publish.truncate(1));
        if wide {
            a.publish("s.>", "S");
        }
        a.rhio.reload();
        a.rhio.wait_for_log_after(mark, RELOADED, SOON).await;
        let before = running.sent();
        eventually!(SOON, "more messages", running.sent() > before + 40);
    }
    running.stop().await;
    a.check("S", "s.>", &b, "S").await.until_clean(SOON).await.assert_clean();
    finish(a, b).await;
}

#[tokio::test]
async fn a_node_whose_address_is_put_right_is_reached() {
    let (mut a, mut b) = replicating_pair().await;
    common::expect_departures(&mut b);
    let nobody = PortLease::take();
    b.rhio.rewrite_config(|config| config.nodes[0].endpoints = vec![format!("127.0.0.1:{}", nobody.port())]);
    publish(&a, "s.x", &[], "one").await;
    start(&mut a, &mut b).await;
    b.rhio.wait_for_log("not connected to", SOON).await;
    let endpoint = a.rhio.endpoint();
    b.rhio.rewrite_config(|config| config.nodes[0].endpoints = vec![endpoint]);
    b.rhio.reload();
    wait_for_records(&b, "S", 1).await;
    finish(a, b).await;
}

#[tokio::test]
async fn a_broken_file_is_reported_with_its_line_and_changes_nothing() {
    let (mut a, mut b) = replicating_pair().await;
    a.rhio.allow_log("configuration not reloaded");
    start(&mut a, &mut b).await;
    publish(&a, "s.x", &[], "one").await;
    wait_for_records(&b, "S", 1).await;
    let good = std::fs::read_to_string(a.rhio.config_path()).expect("it can be read");
    let line = good.lines().position(|line| line.contains("\"s.>\"")).expect("the entry") + 1;
    a.rhio.write_config_text(&good.replace("\"s.>\"", "\"s..x\""));
    a.rhio.reload();
    let error = a.rhio.wait_for_log("configuration not reloaded", SOON).await;
    assert_eq!(error.level, "ERROR");
    let place = format!("config.yaml:{line}: publish.nats_subjects");
    assert!(error.message.contains(&place), "{place} in {}", error.message);
    publish(&a, "s.x", &[], "two").await;
    assert_eq!(texts(&wait_for_records(&b, "S", 2).await), ["one", "two"]);

    a.rhio.write_config_text(&good);
    let mark = a.rhio.log_mark();
    a.rhio.reload();
    a.rhio.wait_for_log_after(mark, "nothing changed", SOON).await;
    finish(a, b).await;
}

#[tokio::test]
async fn what_needs_a_restart_is_named() {
    let (mut a, mut b) = replicating_pair().await;
    a.rhio.allow_log("need a restart");
    start(&mut a, &mut b).await;
    a.rhio.rewrite_config(|config| {
        config.log_level = Some("WARN".into());
        config.access = Some("open".into());
    });
    a.rhio.reload();
    let warning = a.rhio.wait_for_log("need a restart", SOON).await;
    assert_eq!(warning.field("keys").and_then(|keys| keys.as_str()), Some("log_level, access"));
    a.rhio.wait_for_log(RELOADED, SOON).await;
    finish(a, b).await;
}
