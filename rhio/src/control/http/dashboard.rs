//! The dashboard: one page, which asks the API for everything that it shows.

use std::sync::OnceLock;

use axum::http::header;
use axum::response::{IntoResponse, Response};
use data_encoding::BASE64;
use sha2::{Digest, Sha256};

const PAGE: &str = include_str!("dashboard.html");

/// Answers with the page.
pub async fn page() -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, policy()),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (headers, PAGE).into_response()
}

/// Browsers ask for it whatever the page says.
pub async fn icon() -> Response {
    ([(header::CONTENT_TYPE, "image/svg+xml")], ICON).into_response()
}

const ICON: &str = "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 16 16\"><path d=\"M2 5h9M8 2l3 3-3 3M14 \
                    11H5M8 8l-3 3 3 3\" fill=\"none\" stroke=\"#3b82c4\" stroke-width=\"1.6\"/></svg>";

/// Nothing but the page's own style and script, and requests to this node.
fn policy() -> &'static str {
    static POLICY: OnceLock<String> = OnceLock::new();
    POLICY.get_or_init(|| {
        let hash = |tag: &str| {
            let text = PAGE.split_once(&format!("<{tag}>")).and_then(|(_, rest)| rest.split_once(&format!("</{tag}>")));
            BASE64.encode(&Sha256::digest(text.map_or("", |(text, _)| text)))
        };
        format!(
            "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; connect-src 'self'; img-src 'self' data:; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            hash("style"),
            hash("script")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_one_style_and_one_script_and_nothing_from_outside() {
        assert_eq!((PAGE.matches("<style>").count(), PAGE.matches("<script>").count()), (1, 1));
        assert_eq!((PAGE.matches("<style").count(), PAGE.matches("<script").count()), (1, 1));
        for outside in ["http://", "https://", "//cdn", "@import"] {
            let mentions = PAGE.matches(outside).count()
                - PAGE.matches("http://www.w3.org/").count() * usize::from(outside == "http://");
            assert_eq!(mentions, 0, "{outside}");
        }
        assert!(policy().contains("sha256-"));
    }
}
