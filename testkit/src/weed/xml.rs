//! The few answers of S3 that tests read.

use serde::Deserialize;

/// A page of a bucket's keys.
#[derive(Debug, Deserialize)]
pub(super) struct Keys {
    #[serde(rename = "Contents", default)]
    pub(super) objects: Vec<Named>,
    #[serde(rename = "NextContinuationToken")]
    pub(super) next: Option<String>,
}

/// A page of a bucket's uploads.
#[derive(Debug, Deserialize)]
pub(super) struct Uploads {
    #[serde(rename = "Upload", default)]
    pub(super) uploads: Vec<Named>,
    #[serde(rename = "IsTruncated", default)]
    pub(super) more: bool,
    #[serde(rename = "NextKeyMarker")]
    pub(super) next_key: Option<String>,
    #[serde(rename = "NextUploadIdMarker")]
    pub(super) next_id: Option<String>,
}

/// An object or an upload.
#[derive(Debug, Deserialize)]
pub(super) struct Named {
    #[serde(rename = "Key")]
    pub(super) key: String,
    #[serde(rename = "UploadId", default)]
    pub(super) id: String,
}

/// A begun upload.
#[derive(Debug, Deserialize)]
pub(super) struct Begun {
    #[serde(rename = "UploadId")]
    pub(super) id: String,
}

pub(super) fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> T {
    quick_xml::de::from_str(text).unwrap_or_else(|e| panic!("not the XML that S3 answers with ({e}): {text}"))
}
