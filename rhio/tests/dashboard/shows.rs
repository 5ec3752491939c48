//! What it shows of nodes that work.

use testkit::{Chromium, Cluster, Look, eventually};

use crate::page::Dashboard;
use common::buckets::{Kind, content, linked, wait_for_object};
use common::{SOON, finish, replicating_pair, start};

const SUBSCRIPTION: &str = "#subscriptions tbody";
const PUBLICATION: &str = "#publications tbody";

/// Two clusters with S3: a subject and a bucket go from `a` to `b`.
async fn busy_pair() -> (Cluster, Cluster) {
    let (mut a, mut b) = linked(Kind::S3, Kind::S3).await;
    tokio::join!(a.create_stream("S", &["s.>"]), b.create_stream("S", &["s.>"]));
    tokio::join!(a.create_bucket("out"), b.create_bucket("inbox"));
    a.publish("s.>", "S");
    a.publish_bucket("out");
    b.subscribe("s.>", "S", &a);
    b.subscribe_bucket("out", "inbox", &a);
    start(&mut a, &mut b).await;
    (a, b)
}

#[tokio::test]
async fn both_sides_of_a_link_are_shown_on_a_desk_and_on_a_phone_by_day_and_by_night() {
    let (a, b) = busy_pair().await;
    a.publisher(&["s.x"]).await.publish(25).await;
    a.s3().bucket("out").put("a/b.txt", "hello").await;
    wait_for_object(&b, "inbox", "a/b.txt", b"hello").await;
    let (author, subscriber) = (a.rhio.public_key(), b.rhio.public_key());
    let (author, subscriber) = (&author[..10], &subscriber[..10]);

    let of_b = Dashboard::open(&b, Look::DESK).await;
    of_b.wait_for("#verdict", "Everything works").await;
    of_b.wait_for("#verdict", "2 of 2 subscriptions active").await;
    of_b.wait_for("h1", subscriber).await;
    of_b.wait_for("#subscriptions", "s.>").await;
    of_b.wait_for("#subscriptions", &format!("messages into stream S, from {author}")).await;
    of_b.wait_for("#subscriptions", &format!("objects into bucket inbox, from {author}")).await;
    of_b.wait_for("#subscriptions", "25 messages").await;
    of_b.wait_for("#subscriptions", "1 object").await;
    of_b.wait_for(&format!("{SUBSCRIPTION} [data-slot=lag]"), "up to date").await;
    of_b.wait_for("#publications", "This node offers nothing").await;
    of_b.wait_for("#transfers", "Nothing is on its way").await;
    of_b.wait_for("#peers", "Connected").await;
    of_b.wait_for("#peers", author).await;
    of_b.wait_for("#needs", "Works Stream S").await;
    of_b.wait_for("#needs", "Works Bucket inbox").await;
    of_b.wait_for("#node", &b.rhio.public_key()).await;
    assert!(
        of_b.page().evaluate("document.title").await.as_str().is_some_and(|title| title.starts_with("works · rhio"))
    );
    of_b.wait_until("no problems", "document.querySelector('#problems').hidden").await;

    let background = "getComputedStyle(document.body).backgroundColor";
    let by_day = of_b.page().evaluate(background).await;
    of_b.picture("subscriber-desk").await;
    for (name, look) in [
        ("subscriber-desk-dark", Look::DESK.dark()),
        ("subscriber-phone", Look::PHONE),
        ("subscriber-phone-dark", Look::PHONE.dark()),
    ] {
        of_b.page().look(look).await;
        assert_eq!(of_b.page().evaluate(background).await != by_day, look.dark);
        of_b.assert_fits().await;
        of_b.wait_for("#subscriptions", "25 messages").await;
        of_b.picture(name).await;
    }
    of_b.assert_clean();

    let of_a = Dashboard::open(&a, Look::DESK).await;
    of_a.wait_for("#verdict", "2 of 2 publications active").await;
    of_a.wait_for("#publications", "messages of stream S, read by 1 node").await;
    of_a.wait_for("#publications", "objects of this bucket, read by 1 node").await;
    of_a.wait_for("#publications", "25 messages").await;
    of_a.wait_for("#peers", subscriber).await;
    of_a.picture("author-desk").await;
    of_a.assert_clean();
    finish(a, b).await;
}

#[tokio::test]
async fn it_moves_while_messages_flow_and_keeps_its_nodes() {
    let (mut a, mut b) = replicating_pair().await;
    start(&mut a, &mut b).await;
    let dashboard = Dashboard::open(&b, Look::DESK).await;
    dashboard.wait_for(SUBSCRIPTION, "0 messages").await;
    // Whoever selects text, or reads a tooltip, must not lose it each second.
    dashboard.page().evaluate(&format!("document.querySelector('{SUBSCRIPTION}').kept = true")).await;

    let running = a.publisher(&["s.x", "s.y"]).await.run(100);
    let total = format!("{SUBSCRIPTION} [data-slot=total]");
    let line = format!("document.querySelector('{SUBSCRIPTION} .plot.rate .line').getAttribute('d')");
    let mut seen = Vec::new();
    for _ in 0..3 {
        let before = dashboard.number(&total).await;
        eventually!(SOON, "the count to grow", dashboard.number(&total).await > before);
    }
    for _ in 0..3 {
        seen.push(dashboard.page().evaluate(&line).await);
        eventually!(SOON, "the plot to move", dashboard.page().evaluate(&line).await != *seen.last().expect("one"));
    }
    eventually!(
        SOON,
        "the rate",
        (20..=400).contains(&dashboard.number(&format!("{SUBSCRIPTION} [data-slot=rate]")).await)
    );
    dashboard.wait_for("[data-tile=in]", "messages a second").await;
    dashboard.picture("flowing").await;
    let sent = running.stop().await.sent();
    eventually!(SOON, "all of them", dashboard.number(&total).await == sent);
    dashboard.wait_for(&format!("{SUBSCRIPTION} [data-slot=lag]"), "up to date").await;
    dashboard.wait_until("the same row", &format!("document.querySelector('{SUBSCRIPTION}').kept === true")).await;

    // Who comes later sees what was before.
    let later = Dashboard::open(&b, Look::PHONE).await;
    later.wait_until("a plot of the past", &format!("{line}.length > 20")).await;
    let peak = format!("document.querySelector('{SUBSCRIPTION} .plot.rate svg').getAttribute('aria-label')");
    let label = later.page().evaluate(&peak).await;
    assert!(!label.as_str().expect("a label").contains("at most 0"), "{label}");
    for dashboard in [dashboard, later] {
        dashboard.assert_clean();
    }
    finish(a, b).await;
}

#[tokio::test]
async fn details_open_with_the_keyboard() {
    let (mut a, mut b) = replicating_pair().await;
    start(&mut a, &mut b).await;
    let dashboard = Dashboard::open(&b, Look::DESK).await;
    dashboard.wait_for(SUBSCRIPTION, "Active").await;
    let focused = "document.activeElement.closest('tbody')?.dataset.id?.startsWith('subscription:') ?? false";
    for _ in 0..20 {
        if dashboard.page().evaluate(focused).await == true {
            break;
        }
        dashboard.page().press("Tab").await;
    }
    dashboard.page().press("Enter").await;
    dashboard.wait_for(&format!("{SUBSCRIPTION} .facts"), &format!("Author {}", a.rhio.public_key())).await;
    dashboard.wait_until("the button to say so", "document.activeElement.ariaExpanded === 'true'").await;
    dashboard.picture("details").await;
    dashboard.page().press("Enter").await;
    dashboard
        .wait_until("they are closed", &format!("document.querySelector('{SUBSCRIPTION} .details-row').hidden"))
        .await;
    dashboard.assert_clean();
    finish(a, b).await;
}

#[tokio::test]
async fn large_objects_are_seen_on_their_way() {
    let (a, b) = busy_pair().await;
    let dashboard = Dashboard::open(&b, Look::DESK).await;
    dashboard.wait_for("#verdict", "Everything works").await;
    // Bars are looked at in the page: they may be gone before a test has asked twice.
    let watch = "window.shares = []; window.words = [];
        new MutationObserver(() => {
          const bar = document.querySelector('#transfers li:not(.over) progress');
          if (bar && window.shares.at(-1) !== bar.value) {
            window.shares.push(bar.value);
            window.words.push(bar.closest('li').innerText);
          }
        }).observe(document.querySelector('#transfers'), { subtree: true, childList: true, attributes: true, characterData: true });";
    dashboard.page().evaluate(watch).await;
    let large = content(1, 400 << 20);
    a.s3().bucket("out").put("large.bin", large).await;
    dashboard.wait_until("a growing bar", "window.shares.length >= 2 && window.shares.at(-1) > window.shares[0]").await;
    dashboard.picture("transfer").await;
    dashboard.wait_for("[data-tile=in]", "1 object on the way").await;
    let words = dashboard.page().evaluate("window.words[0]").await;
    for expected in ["Receiving", "large.bin", "into bucket inbox", &a.rhio.public_key()[..10], "% of 419 MB", "left"] {
        assert!(words.as_str().expect("words").contains(expected), "{expected} in {words}");
    }
    dashboard.wait_for(&format!("{SUBSCRIPTION}:last-of-type"), "1 object").await;
    dashboard.wait_for("#transfers", "Nothing is on its way").await;
    dashboard.assert_clean();
    finish(a, b).await;
}

/// A cluster whose rhio is told nothing to do, of which its log warns.
pub async fn idle() -> Cluster {
    let mut cluster = Cluster::new("idle").await;
    cluster.rhio.allow_log("nothing is published and nothing subscribed");
    cluster
}

#[tokio::test]
async fn a_node_without_anything_to_do_says_so() {
    let mut cluster = idle().await;
    cluster.start().await;
    let dashboard = Dashboard::open(&cluster, Look::PHONE).await;
    dashboard.wait_for("#verdict", "nothing is configured yet").await;
    dashboard.wait_for("#subscriptions", "This node brings nothing in").await;
    dashboard.wait_for("#publications", "This node offers nothing").await;
    dashboard.wait_for("#peers", "No other node is known").await;
    dashboard.assert_fits().await;
    dashboard.picture("idle").await;
    dashboard.assert_clean();
    cluster.rhio.finish().await;
}

#[tokio::test]
async fn two_readers_at_once_and_the_publications_of_a_node_without_readers() {
    let mut a = Cluster::new("a").await;
    a.create_stream("S", &["s.>"]).await;
    a.publish("s.>", "S");
    a.start().await;
    let first = Dashboard::open(&a, Look::DESK).await;
    let chromium = Chromium::start().await;
    let second = chromium.open(&format!("{}/", a.rhio.http_url()), Look::PHONE).await;
    first.wait_for(PUBLICATION, "nobody reads it now").await;
    eventually!(SOON, "the second to show the same", {
        second.text(PUBLICATION).await.filter(|text| text.contains("nobody reads it now"))
    });
    assert_eq!(second.complaints(), Vec::<String>::new());
    first.assert_clean();
    a.rhio.finish().await;
}
