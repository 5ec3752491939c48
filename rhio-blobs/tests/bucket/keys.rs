//! Keys of many kinds.

use rhio_blobs::bucket::{BucketError, Condition, Labels};

use crate::on_both;
use crate::setup::{Place, content, get, key, keys, on_folder, on_s3, put};

on_both!(keys_stay_what_they_are);

async fn keys_stay_what_they_are(place: &Place) {
    let mut names = vec![
        "plain",
        "with space",
        " ",
        "plus+plus",
        "percent%20",
        "%",
        "a%2Fb",
        "a&b=c?d#e",
        "colon:",
        "ünïcödé/日本語/🦀",
        "quote\"'<>",
        "semi;comma,",
        "tilde~",
        "...",
        "a/.../b",
        ".hidden",
        "a.",
        "star*",
        "[x]{y}|^`",
        "@!$()",
        "Upper",
        "upper",
    ];
    for name in &names {
        let content = content(name.as_bytes().to_vec());
        let written = place.bucket.put(&key(name), content, &Labels::default(), &Condition::Absent).await;
        written.unwrap_or_else(|e| panic!("{name:?}: {e}"));
    }
    for name in &names {
        assert_eq!(get(&*place.bucket, name).await.as_deref(), Some(name.as_bytes()), "{name:?}");
    }
    names.sort_unstable();
    assert_eq!(keys(&*place.bucket).await, names);
    for name in &names {
        place.bucket.delete(&key(name)).await.unwrap();
    }
    assert_eq!(keys(&*place.bucket).await, Vec::<String>::new());
}

const AWKWARD: [&str; 13] = [
    "back\\slash",
    "/leading",
    "trailing/",
    "double//slash",
    "///",
    "line\nfeed",
    "\u{1}\u{1f}\u{7f}",
    "zero\0",
    "tab\tkey",
    ".rhio~",
    ".rhio/x",
    "\u{2028}",
    "cr\rlf",
];

/// Each of these keys can be stored in one bucket at the same time, and each is its own object.
#[tokio::test]
async fn a_folder_takes_every_key() {
    let place = on_folder().await;
    let long = "é".repeat(512);
    let deep = "d/".repeat(511) + "d";
    let dots = ["..", "./outside", "a/./b", "a/../b", "b/../..", "a/..."];
    let mut names: Vec<&str> = AWKWARD.into_iter().chain(dots).chain([long.as_str(), deep.as_str()]).collect();
    for name in &names {
        let content = content(name.as_bytes().to_vec());
        let written = place.bucket.put(&key(name), content, &Labels::default(), &Condition::Absent).await;
        written.unwrap_or_else(|e| panic!("{name:?}: {e}"));
    }
    for name in &names {
        assert_eq!(get(&*place.bucket, name).await.as_deref(), Some(name.as_bytes()), "{name:?}");
    }
    names.sort_unstable();
    assert_eq!(keys(&*place.bucket).await, names);
}

/// A server may refuse awkward keys, but what it says that it stored is there, under this key and no other.
#[tokio::test]
async fn a_server_stores_awkward_keys_or_says_no() {
    let place = on_s3().await;
    put(&*place.bucket, "back/slash", "untouched").await;
    put(&*place.bucket, "leading", "untouched").await;
    put(&*place.bucket, "double/slash", "untouched").await;
    let mut stored = Vec::new();
    for name in AWKWARD {
        let content = content(name.as_bytes().to_vec());
        let written = place.bucket.put(&key(name), content, &Labels::default(), &Condition::None).await;
        if written.is_ok() {
            stored.push(name);
        }
    }
    // SeaweedFS refuses the zero byte itself, and we those of which it would make others.
    let refused = ["back\\slash", "/leading", "trailing/", "double//slash", "///", "zero\0"];
    assert_eq!(stored, AWKWARD.into_iter().filter(|name| !refused.contains(name)).collect::<Vec<_>>());
    for name in &stored {
        assert_eq!(get(&*place.bucket, name).await.as_deref(), Some(name.as_bytes()), "{name:?}");
    }
    for name in ["back/slash", "leading", "double/slash"] {
        assert_eq!(get(&*place.bucket, name).await.unwrap(), b"untouched");
        stored.push(name);
    }
    stored.sort_unstable();
    assert_eq!(keys(&*place.bucket).await, stored);
    let upload = place.bucket.begin(&key("double//slash"), &Labels::default()).await;
    assert!(matches!(upload, Err(BucketError::Unsuitable(_))), "{upload:?}");
    // What shows a folder in other tools.
    put(&*place.bucket, "marker/", "").await;
    assert!(keys(&*place.bucket).await.contains(&"marker/".to_owned()));
    for name in [".", "..", "../outside", "a/./b", "a/../b", "./.", "a/.."] {
        let written = place.bucket.put(&key(name), content("x"), &Labels::default(), &Condition::None).await;
        assert!(matches!(written, Err(BucketError::Unsuitable(_))), "{name:?} {written:?}");
        assert!(matches!(place.bucket.head(&key(name)).await, Err(BucketError::Unsuitable(_))), "{name:?}");
    }
}
