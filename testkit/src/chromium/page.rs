//! One page in a Chromium.

use std::path::Path;
use std::time::Duration;

use data_encoding::BASE64;
use serde_json::{Value, json};

use super::wire::Wire;

const LOADED_WITHIN: Duration = Duration::from_secs(30);

/// How a page is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// The window's width in CSS pixels.
    pub width: u32,
    /// Its height.
    pub height: u32,
    /// Whether the reader prefers dark pages.
    pub dark: bool,
}

impl Look {
    /// A window on a desk.
    pub const DESK: Self = Self { width: 1280, height: 900, dark: false };
    /// A telephone.
    pub const PHONE: Self = Self { width: 390, height: 844, dark: false };

    /// The same at night.
    pub const fn dark(self) -> Self {
        Self { dark: true, ..self }
    }
}

/// A page that is open. Its failures panic.
#[derive(Debug)]
pub struct Page {
    wire: Wire,
    session: String,
}

impl Page {
    pub(super) async fn open(wire: &Wire, url: &str, look: Look, script: &str) -> Self {
        let browser = async |method: &str, params: Value| {
            wire.call(None, method, params).await.unwrap_or_else(|e| panic!("{e:#}"))
        };
        let context = browser("Target.createBrowserContext", json!({})).await["browserContextId"].take();
        let target = json!({ "url": "about:blank", "browserContextId": context });
        let target = browser("Target.createTarget", target).await["targetId"].take();
        let attached = browser("Target.attachToTarget", json!({ "targetId": target, "flatten": true })).await;
        let session = attached["sessionId"].as_str().expect("a session").to_owned();
        let page = Self { wire: wire.clone(), session };
        for domain in ["Page", "Runtime", "Log", "Network"] {
            page.call(&format!("{domain}.enable"), json!({})).await;
        }
        page.look(look).await;
        if !script.is_empty() {
            page.call("Page.addScriptToEvaluateOnNewDocument", json!({ "source": script })).await;
        }
        let gone = page.call("Page.navigate", json!({ "url": url })).await;
        assert!(gone.get("errorText").is_none(), "{url} can't be opened: {gone}");
        crate::eventually!(LOADED_WITHIN, format!("{url} to be loaded"), page.told("Page.loadEventFired").len() == 1);
        page
    }

    async fn call(&self, method: &str, params: Value) -> Value {
        self.wire.call(Some(&self.session), method, params).await.unwrap_or_else(|e| panic!("{e:#}"))
    }

    /// The parameters of all events of this name so far.
    fn told(&self, method: &str) -> Vec<Value> {
        let events = self.wire.events(&self.session).into_iter();
        events.filter(|event| event["method"] == method).map(|mut event| event["params"].take()).collect()
    }

    /// Looks at it in another way from now on.
    pub async fn look(&self, look: Look) {
        let Look { width, height, dark } = look;
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.call("Emulation.setDeviceMetricsOverride", metrics).await;
        let scheme = json!({ "name": "prefers-color-scheme", "value": if dark { "dark" } else { "light" } });
        self.call("Emulation.setEmulatedMedia", json!({ "features": [scheme] })).await;
    }

    /// The value of an expression in the page, which may be a promise.
    pub async fn evaluate(&self, expression: &str) -> Value {
        let params = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let mut answer = self.call("Runtime.evaluate", params).await;
        assert!(answer.get("exceptionDetails").is_none(), "{expression} throws {answer}");
        answer["result"]["value"].take()
    }

    /// The text that a reader sees of the first element that a selector finds; `None` when there is none.
    pub async fn text(&self, selector: &str) -> Option<String> {
        let expression = format!("document.querySelector({})?.innerText", json!(selector));
        self.evaluate(&expression).await.as_str().map(str::to_owned)
    }

    /// Presses a key such as `Tab` or `Enter`, as a reader would.
    pub async fn press(&self, key: &str) {
        let code = match key {
            "Tab" => 9,
            "Enter" => 13,
            _ => panic!("{key} is not a key that is known here"),
        };
        let mut event = json!({ "type": "keyDown", "key": key, "code": key, "windowsVirtualKeyCode": code });
        if key == "Enter" {
            event["text"] = "\r".into();
        }
        self.call("Input.dispatchKeyEvent", event.clone()).await;
        event["type"] = "keyUp".into();
        self.call("Input.dispatchKeyEvent", event).await;
    }

    /// Writes a picture of the whole page, as PNG.
    pub async fn screenshot(&self, path: &Path) {
        let answer = self.call("Page.captureScreenshot", json!({ "captureBeyondViewport": true })).await;
        let picture = BASE64.decode(answer["data"].as_str().expect("a picture").as_bytes());
        std::fs::write(path, picture.expect("base64")).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }

    /// The address of everything that was asked for, in order.
    pub fn requests(&self) -> Vec<String> {
        let sent = self.told("Network.requestWillBeSent").into_iter();
        sent.filter_map(|event| event["request"]["url"].as_str().map(str::to_owned)).collect()
    }

    /// Whatever went wrong in it: exceptions, errors and warnings on its console, and what the browser itself
    /// complains of, such as violations of the page's content policy.
    pub fn complaints(&self) -> Vec<String> {
        let exceptions =
            self.told("Runtime.exceptionThrown").into_iter().map(|event| event["exceptionDetails"].to_string());
        let logged = self.told("Runtime.consoleAPICalled").into_iter();
        let logged = logged.filter(|call| ["error", "warning", "assert"].iter().any(|kind| call["type"] == **kind));
        let noted = self.told("Log.entryAdded").into_iter().map(|mut event| event["entry"].take());
        let noted = noted.filter(|entry| entry["level"] == "error" || entry["level"] == "warning");
        exceptions.chain(logged.map(|call| call.to_string())).chain(noted.map(|entry| entry.to_string())).collect()
    }
}
