//! Keys of many kinds.

use rhio_blobs::bucket::{BucketError, Condition, Labels};

use crate::on_both;
use crate::setup::{Place, content, get, key, keys, on_folder, on_s3};

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
        "back\\slash",
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

const AWKWARD: [&str; 12] = [
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
    let dots = [".", "..", "../outside", "a/./b", "a/../b", "./.", "a/.."];
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

/// What a server makes of awkward keys is its own affair: it may refuse them, but what it says it stored is there.
#[tokio::test]
async fn a_server_stores_awkward_keys_or_says_no() {
    let place = on_s3().await;
    for name in AWKWARD {
        let content = content(name.as_bytes().to_vec());
        let written = place.bucket.put(&key(name), content, &Labels::default(), &Condition::None).await;
        let head = place.bucket.head(&key(name)).await;
        let page = place.bucket.list(None).await.unwrap();
        let listed: Vec<_> = page.objects.iter().map(|object| object.key.as_str().to_owned()).collect();
        eprintln!(
            "{name:?}: put {written:?}, head {:?}, listed {listed:?} {:?}",
            head.map(|o| o.map(|o| o.size)),
            page.skipped
        );
        for name in listed {
            place.bucket.delete(&key(&name)).await.unwrap();
        }
    }
    for name in [".", "..", "../outside", "a/./b", "a/../b", "./.", "a/.."] {
        let written = place.bucket.put(&key(name), content("x"), &Labels::default(), &Condition::None).await;
        assert!(matches!(written, Err(BucketError::Unsuitable(_))), "{name:?} {written:?}");
        assert!(matches!(place.bucket.head(&key(name)).await, Err(BucketError::Unsuitable(_))), "{name:?}");
    }
}
