//! The browser of the tests: what goes wrong in a page is told, and nothing stays behind.

use std::path::Path;
use std::time::Duration;

use testkit::{Chromium, Look, eventually};

const SOON: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_page_is_read_and_driven() {
    let chromium = Chromium::start().await;
    // Telephones take a page that does not know of them for a wide one.
    let html = "data:text/html,<meta name=viewport content=width=device-width><p>one</p><button>two";
    let page = chromium.open_with(html, Look::PHONE.dark(), "window.early = 1").await;
    assert_eq!(page.text("p").await.as_deref(), Some("one"));
    assert_eq!(page.text("h1").await, None);
    assert_eq!(page.evaluate("[innerWidth, early]").await, serde_json::json!([390, 1]));
    assert_eq!(page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches").await, true);
    page.evaluate(
        "document.querySelector('button').onclick = () => { document.querySelector('p').textContent = 'three' }",
    )
    .await;
    page.press("Tab").await;
    page.press("Enter").await;
    eventually!(SOON, "the click", page.text("p").await.filter(|text| text == "three"));
    assert_eq!(page.complaints(), Vec::<String>::new());
    assert_eq!(page.requests().len(), 1);
}

#[tokio::test]
async fn whatever_goes_wrong_in_a_page_is_told() {
    let chromium = Chromium::start().await;
    let page = chromium.open("about:blank", Look::DESK).await;
    for (script, words) in [
        ("setTimeout(() => { throw new Error('an exception') })", "an exception"),
        ("Promise.reject(new Error('a rejection')); 0", "a rejection"),
        ("console.error('an error')", "an error"),
        ("console.warn('a warning')", "a warning"),
        // Nobody listens on this port.
        ("fetch('http://127.0.0.1:1/').catch(() => 0)", "net::ERR_"),
    ] {
        assert!(!page.complaints().iter().any(|complaint| complaint.contains(words)));
        page.evaluate(script).await;
        eventually!(SOON, words, page.complaints().iter().any(|complaint| complaint.contains(words)));
    }
    assert!(page.requests().contains(&"http://127.0.0.1:1/".to_owned()));
}

#[tokio::test]
async fn a_dropped_chromium_is_gone() {
    let chromium = Chromium::start().await;
    let process = format!("/proc/{}", chromium.process_id());
    assert!(Path::new(&process).exists());
    drop(chromium);
    assert!(!Path::new(&process).exists());
}
