//! Streams as they are: such that change subjects, keys with an end, schedules.

use common::{SOON, expect_departures, finish, publish, start, subjects, texts, wait_for_records, waits_with};
use serde_json::{Value, json};
use testkit::{Cluster, eventually, link};

async fn pair(source: (&[&str], Value), destination: (&[&str], Value), filter: &str) -> (Cluster, Cluster) {
    let (mut a, mut b) = tokio::join!(Cluster::new("a"), Cluster::new("b"));
    a.create_stream_with("S", source.0, source.1).await;
    b.create_stream_with("S", destination.0, destination.1).await;
    link(&mut a, &mut b);
    a.publish(filter, "S");
    b.subscribe(filter, "S", &a);
    expect_departures(&mut b);
    (a, b)
}

#[tokio::test]
async fn what_a_source_makes_of_its_subjects_is_what_it_publishes() {
    let transform = json!({"subject_transform": {"src": "raw.>", "dest": "s.>"}});
    let (mut a, mut b) = pair((&["raw.>"], transform), (&["s.>"], json!({})), "s.>").await;
    start(&mut a, &mut b).await;
    for number in 0..10 {
        publish(&a, &format!("raw.{number}"), &[], number.to_string()).await;
    }
    let found = wait_for_records(&b, "S", 10).await;
    assert_eq!(subjects(&found), (0..10).map(|number| format!("s.{number}")).collect::<Vec<_>>());
    finish(a, b).await;
}

#[tokio::test]
async fn a_destination_that_changes_subjects_is_refused_by_name_and_nothing_is_written() {
    let transform = json!({"subject_transform": {"src": "s.>", "dest": "site1.>"}});
    let (mut a, mut b) = pair((&["s.>"], json!({})), (&["s.>"], transform), "s.>").await;
    b.rhio.allow_log("subject_transform");
    start(&mut a, &mut b).await;
    publish(&a, "s.x", &[], "first").await;
    let entry = waits_with(&b, "stream-changes-subjects", "without subject_transform").await;
    assert!(entry.to_string().contains("site1.>"), "{entry}");
    assert_eq!(b.stream_len("S").await, 0);
    finish(a, b).await;
}

#[tokio::test]
async fn a_key_with_an_end_has_a_value_and_an_end_and_nothing_else() {
    // The server lets no key end sooner than the markers do.
    let settings = || {
        json!({"allow_msg_ttl": true, "subject_delete_marker_ttl": 5_000_000_000_u64, "max_msgs_per_subject": 5,
               "allow_rollup_hdrs": true, "deny_delete": true})
    };
    for destination in [settings(), json!({"max_msgs_per_subject": 5})] {
        let expires = destination["allow_msg_ttl"] == true;
        let keys: &[&str] = &["$KV.K.>"];
        let (mut a, mut b) = pair((keys, settings()), (keys, destination), "$KV.K.>").await;
        start(&mut a, &mut b).await;
        publish(&a, "$KV.K.key", &[("Nats-TTL", "5s")], "value").await;
        wait_for_records(&b, "S", 1).await;
        // Where keys end by themselves the value goes; elsewhere it stays before its end.
        eventually!(SOON, "an end of the key", {
            let records = common::records(&b, "S").await;
            let reason = |record: &testkit::checker::Record| record.headers.get("Nats-Marker-Reason").cloned();
            for record in &records {
                assert_eq!(record.payload.is_empty(), reason(record).is_some(), "an empty value: {record:?}");
            }
            let has_end = records.iter().any(|record| reason(record).is_some_and(|reason| reason == ["MaxAge"]));
            let has_value = records.iter().any(|record| record.payload == "value");
            if has_end && has_value != expires { Ok(()) } else { Err(format!("{records:?}")) }
        });
        finish(a, b).await;
    }
}

#[tokio::test]
async fn what_schedules_send_arrives_and_the_schedules_stay() {
    let settings = json!({"retention": "workqueue", "allow_msg_schedules": true});
    let (mut a, mut b) = pair((&["s.>"], settings), (&["s.>"], json!({})), "s.>").await;
    start(&mut a, &mut b).await;
    let at = time::OffsetDateTime::now_utc() + std::time::Duration::from_secs(4);
    let at = at.format(&time::format_description::well_known::Rfc3339).expect("a time");
    for number in 0..4 {
        let (schedule, target) = (format!("@at {at}"), format!("s.out.{number}"));
        let headers = [("Nats-Schedule", schedule.as_str()), ("Nats-Schedule-Target", target.as_str())];
        publish(&a, &format!("s.schedule.{number}"), &headers, number.to_string()).await;
    }
    publish(&a, "s.plain", &[], "plain").await;
    wait_for_records(&b, "S", 1).await;
    assert_eq!(a.stream_len("S").await, 4, "the schedules wait where they are");
    let found = wait_for_records(&b, "S", 5).await;
    assert_eq!(texts(&found), ["plain", "0", "1", "2", "3"]);
    assert!(subjects(&found)[1..].iter().all(|subject| subject.starts_with("s.out.")));
    eventually!(SOON, "the queue to be empty", a.stream_len("S").await == 0);
    finish(a, b).await;
}
