//! Names that are chosen by somebody else.

use testkit::Look;

use crate::page::Dashboard;
use crate::shows::idle;
use common::buckets::{Kind, content, linked};
use common::finish;
use common::start;

const EVIL: &str = "<img src=x onerror=alert(1)>";

/// Puts the evil name into every text that the node does not choose itself, before the page sees it.
const POISON: &str = r#"
    window.alert = () => { window.owned = true; };
    const evil = '<img src=x onerror=alert(1)><script>alert(2)</script>"\'>&amp;{{7*7}}\u202e\u0007';
    const poison = (value, key) => {
      if (typeof value === "string") {
        const own = ["id", "kind", "state", "status", "direction", "author", "public_key", "time", "log", "begun", "since"];
        return own.includes(key) || /_at$|_since$|_progress$|_checked$|^started$|^peer$/.test(key) ? value : evil + value;
      }
      if (Array.isArray(value)) return value.map((item) => poison(item, key));
      if (value === null) return /^(last_error|waits_for|remedy)$/.test(key) ? evil : value;
      if (typeof value !== "object") return value;
      return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, poison(item, name)]));
    };
    const json = Response.prototype.json;
    Response.prototype.json = async function () {
      const answer = await json.call(this);
      if (!answer.health) return answer;
      answer.health.status = "Degraded";
      answer.health.problems.push({ what: "", problem: "", remedy: "", blocks_readiness: true });
      answer.transfers.push({ direction: "receive", bucket: "", key: "", size: 10, done: 4, bytes_per_second: 1,
        seconds_left: 6, peer: answer.public_key, begun: answer.time });
      return poison(answer, "");
    };
"#;

#[tokio::test]
async fn every_text_is_shown_as_text() {
    let (mut a, mut b) = linked(Kind::Folder, Kind::Folder).await;
    tokio::join!(a.create_bucket("out"), b.create_bucket("inbox"));
    a.publish_bucket("out");
    b.subscribe_bucket("out", "inbox", &a);
    start(&mut a, &mut b).await;
    let dashboard = Dashboard::open_with(&b, Look::DESK, POISON).await;
    for place in ["#problems", "#subscriptions", "#transfers", "#peers", "#needs", "#node", ".top"] {
        dashboard.wait_for(place, EVIL).await;
    }
    // What turns the rest around, or can't be seen, is spelled out.
    dashboard.wait_for("#subscriptions .name", r"\u202e\u0007").await;
    dashboard.page().evaluate("document.querySelectorAll('.toggle').forEach((toggle) => toggle.click())").await;
    dashboard.wait_for("#subscriptions .facts", EVIL).await;
    for look in [Look::DESK, Look::PHONE] {
        dashboard.page().look(look).await;
        dashboard.assert_fits().await;
        dashboard.picture(if look.width > 600 { "hostile" } else { "hostile-phone" }).await;
    }
    assert_eq!(dashboard.page().evaluate("document.images.length + document.scripts.length").await, 1);
    assert_eq!(dashboard.page().evaluate("window.owned === undefined").await, true);
    dashboard.assert_clean();
    finish(a, b).await;
}

#[tokio::test]
async fn the_key_of_a_real_object_is_shown_as_text() {
    let (mut a, mut b) = linked(Kind::S3, Kind::S3).await;
    tokio::join!(a.create_bucket("out"), b.create_bucket("inbox"));
    a.publish_bucket("out");
    b.subscribe_bucket("out", "inbox", &a);
    start(&mut a, &mut b).await;
    let dashboard = Dashboard::open(&b, Look::DESK).await;
    watch_for(&dashboard, EVIL).await;
    a.s3().bucket("out").put(EVIL, content(1, 200 << 20)).await;
    dashboard.wait_until("the key among the transfers", "window.found === true").await;
    dashboard.wait_for("#subscriptions", "1 object").await;
    dashboard.assert_clean();
    finish(a, b).await;
}

/// Remembers in the page whether a transfer of this key was shown, however short.
async fn watch_for(dashboard: &Dashboard, key: &str) {
    let script = "new MutationObserver(() => {
          for (const name of document.querySelectorAll('#transfers .name')) window.found ||= name.textContent === KEY;
        }).observe(document.querySelector('#transfers'), { subtree: true, childList: true });";
    dashboard.page().evaluate(&script.replace("KEY", &serde_json::Value::from(key).to_string())).await;
}

#[tokio::test]
async fn the_server_allows_the_page_nothing_else() {
    let mut cluster = idle().await;
    cluster.start().await;
    let answer = cluster.rhio.get("/").await;
    let policy = answer.header("content-security-policy").expect("a policy");
    for part in ["default-src 'none'", "script-src 'sha256-", "style-src 'sha256-", "frame-ancestors 'none'"] {
        assert!(policy.contains(part), "{part} in {policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    let dashboard = Dashboard::open(&cluster, Look::DESK).await;
    dashboard.assert_clean();
    // A script that somebody smuggles in does not run, and the browser says so.
    let smuggled = "const script = document.createElement('script'); script.textContent = 'window.owned = true'; \
                    document.body.append(script)";
    dashboard.page().evaluate(smuggled).await;
    assert_eq!(dashboard.page().evaluate("window.owned === undefined").await, true);
    testkit::eventually!(common::SOON, "the browser's complaint", {
        dashboard.page().complaints().iter().any(|complaint| complaint.contains("Content Security Policy"))
    });
    cluster.rhio.finish().await;
}
