//! A cluster's dashboard in a browser.

use std::path::PathBuf;

use testkit::{Chromium, Cluster, Look, Page, eventually};

use common::SOON;

/// Where pictures go, if they are wanted.
const PICTURES: &str = "RHIO_TEST_PICTURES";
/// What a browser says of a request that found nobody.
const UNREACHABLE: &str = "net::ERR_";

/// The dashboard of one cluster.
pub struct Dashboard {
    page: Page,
    origin: String,
    // Last, so that it goes last.
    _chromium: Chromium,
}

impl Dashboard {
    /// Opens it and waits until it shows something.
    pub async fn open(cluster: &Cluster, look: Look) -> Self {
        Self::open_with(cluster, look, "").await
    }

    /// The same with a script of the test's that runs first.
    pub async fn open_with(cluster: &Cluster, look: Look, script: &str) -> Self {
        let chromium = Chromium::start().await;
        let origin = format!("{}/", cluster.rhio.http_url());
        let page = chromium.open_with(&origin, look, script).await;
        let dashboard = Self { page, origin, _chromium: chromium };
        eventually!(SOON, "the page to be live", dashboard.text("#live").await == "live");
        dashboard
    }

    /// The page itself.
    pub fn page(&self) -> &Page {
        &self.page
    }

    /// The visible text of an element, in one line; empty when there is no such element.
    pub async fn text(&self, selector: &str) -> String {
        let text = self.page.text(selector).await.unwrap_or_default();
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// Waits until an element's text holds these words, and gives it.
    pub async fn wait_for(&self, selector: &str, words: &str) -> String {
        eventually!(SOON, format!("{words:?} in {selector}"), {
            let text = self.text(selector).await;
            if text.contains(words) { Ok(text) } else { Err(text) }
        })
    }

    /// Waits until an expression of the page's is true.
    pub async fn wait_until(&self, what: &str, expression: &str) {
        eventually!(SOON, what, {
            let value = self.page.evaluate(expression).await;
            if value == true { Ok(()) } else { Err(value) }
        });
    }

    /// The number at the beginning of an element's text.
    pub async fn number(&self, selector: &str) -> u64 {
        let text = self.text(selector).await;
        let digits: String =
            text.chars().take_while(|c| c.is_ascii_digit() || *c == ',').filter(|c| *c != ',').collect();
        digits.parse().unwrap_or_else(|_| panic!("{text:?} in {selector} begins with no number"))
    }

    /// Leaves a picture, if pictures are wanted.
    pub async fn picture(&self, name: &str) {
        if let Some(folder) = std::env::var_os(PICTURES) {
            std::fs::create_dir_all(&folder).expect("the folder for pictures can be made");
            self.page.screenshot(&PathBuf::from(folder).join(format!("{name}.png"))).await;
        }
    }

    /// Nothing is wider than the window.
    pub async fn assert_fits(&self) {
        let over = "document.documentElement.scrollWidth - document.documentElement.clientWidth";
        assert_eq!(self.page.evaluate(over).await, 0, "the page is wider than its window");
    }

    /// Nothing went wrong in it, and it asked nobody but its own node.
    pub fn assert_clean(&self) {
        assert_eq!(self.page.complaints(), Vec::<String>::new());
        self.assert_own_origin();
    }

    /// The same, of a page whose node was away: that its requests found nobody is all there is to say.
    pub fn assert_clean_but_for_silence(&self) {
        let others = self.page.complaints().into_iter().filter(|complaint| !complaint.contains(UNREACHABLE));
        assert_eq!(others.collect::<Vec<_>>(), Vec::<String>::new());
        self.assert_own_origin();
    }

    fn assert_own_origin(&self) {
        let requests = self.page.requests();
        assert!(requests.iter().any(|url| url.ends_with("/api/v1/status")), "{requests:?}");
        let foreign = requests.iter().filter(|url| !url.starts_with(&self.origin) && !url.starts_with("data:"));
        assert_eq!(foreign.collect::<Vec<_>>(), Vec::<&String>::new());
    }
}
