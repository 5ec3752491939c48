//! What becomes of an object that is overwritten, deleted, made again, or named oddly.

use std::time::Duration;

use common::buckets::{
    Kind, bucket_pair, content, delete, get, keys, pair_of, put, sync, wait_for_keys, wait_for_object, wait_until_gone,
};
use common::{SOON, counted, finish, start};
use testkit::{Cluster, Headers, eventually};

async fn an_overwrite_arrives(kind: Kind) {
    let (mut a, mut b) = bucket_pair(kind).await;
    put(&a, "out", "k", "first").await;
    start(&mut a, &mut b).await;
    wait_for_object(&b, "inbox", "k", b"first").await;
    put(&a, "out", "k", "longer than the first").await;
    wait_for_object(&b, "inbox", "k", b"longer than the first").await;
    // Same length, nothing but the content tells.
    put(&a, "out", "k", "longer than the FIRST").await;
    wait_for_object(&b, "inbox", "k", b"longer than the FIRST").await;
    // Small, in parts, small again.
    let large = content(1, 20 << 20);
    put(&a, "out", "k", large.clone()).await;
    wait_for_object(&b, "inbox", "k", &large).await;
    put(&a, "out", "k", "").await;
    wait_for_object(&b, "inbox", "k", b"").await;
    assert_eq!(keys(&b, "inbox").await, ["k"]);
    finish(a, b).await;
}

#[tokio::test]
async fn an_overwrite_arrives_on_s3() {
    an_overwrite_arrives(Kind::S3).await;
}

#[tokio::test]
async fn an_overwrite_arrives_in_folders() {
    an_overwrite_arrives(Kind::Folder).await;
}

/// Counts what a catalog says.
const SEALED: &str = "rhio_sealed_messages_total";

#[tokio::test]
async fn what_is_overwritten_while_the_subscriber_is_away_arrives_as_it_was_last() {
    let (mut a, mut b) = bucket_pair(Kind::Folder).await;
    put(&a, "out", "k", "first").await;
    start(&mut a, &mut b).await;
    wait_for_object(&b, "inbox", "k", b"first").await;
    b.rhio.terminate().await;
    for version in ["second", "third", "fourth"] {
        let before = counted(&a, SEALED).await;
        put(&a, "out", "k", version).await;
        eventually!(SOON, format!("the catalog to say {version}"), counted(&a, SEALED).await > before);
    }
    b.start().await;
    wait_for_object(&b, "inbox", "k", b"fourth").await;
    finish(a, b).await;
}

/// A version's content: its number, and enough to take a while.
fn version(number: u32, len: usize) -> Vec<u8> {
    let mut bytes = content(number.into(), len);
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    bytes
}

fn number_of(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes[..4].try_into().expect("four bytes"))
}

async fn of_many_overwrites_the_last_wins_and_none_older_follows_a_newer_one(kind: Kind) {
    let (mut a, mut b) = bucket_pair(kind).await;
    start(&mut a, &mut b).await;
    // One in a single piece, one in parts.
    for (key, len, versions) in [("small", 2_000, 40), ("large", 9 << 20, 12)] {
        let last = version(versions, len);
        let overwrite = async {
            for number in 1..=versions {
                put(&a, "out", key, version(number, len)).await;
                tokio::time::sleep(Duration::from_millis(u64::from(number % 7) * 20)).await;
            }
        };
        let watch = async {
            let mut newest = 0;
            eventually!(SOON, format!("the last version of {key}"), {
                let found = get(&b, "inbox", key).await;
                if let Some(found) = &found {
                    let number = number_of(found);
                    assert!(number >= newest, "version {number} after version {newest}");
                    assert!(*found == version(number, len), "version {number} is not whole");
                    newest = number;
                }
                if found.is_some_and(|found| found == last) { Ok(()) } else { Err(newest) }
            });
        };
        tokio::join!(overwrite, watch);
        sync(&a, &b, key).await;
        assert!(get(&b, "inbox", key).await == Some(last), "the last version stays");
    }
    finish(a, b).await;
}

#[tokio::test]
async fn of_many_overwrites_the_last_wins_and_none_older_follows_a_newer_one_on_s3() {
    of_many_overwrites_the_last_wins_and_none_older_follows_a_newer_one(Kind::S3).await;
}

#[tokio::test]
async fn of_many_overwrites_the_last_wins_and_none_older_follows_a_newer_one_in_folders() {
    of_many_overwrites_the_last_wins_and_none_older_follows_a_newer_one(Kind::Folder).await;
}

/// By default.
#[tokio::test]
async fn a_deleted_object_stays_at_the_destination_and_may_come_again() {
    let (mut a, mut b) = bucket_pair(Kind::Folder).await;
    put(&a, "out", "k", "first").await;
    start(&mut a, &mut b).await;
    wait_for_object(&b, "inbox", "k", b"first").await;
    delete(&a, "out", "k").await;
    sync(&a, &b, "deleted").await;
    assert_eq!(get(&b, "inbox", "k").await.as_deref(), Some(&b"first"[..]));
    for cluster in [&mut a, &mut b] {
        cluster.rhio.restart().await;
    }
    sync(&a, &b, "restarted").await;
    assert_eq!(get(&b, "inbox", "k").await.as_deref(), Some(&b"first"[..]));
    put(&a, "out", "k", "second").await;
    wait_for_object(&b, "inbox", "k", b"second").await;
    finish(a, b).await;
}

async fn a_delete_is_followed_and_what_comes_again_arrives(kind: Kind) {
    let (mut a, mut b) = pair_of(kind, kind, Some("follow")).await;
    let large = content(1, 9 << 20);
    put(&a, "out", "stays", "stays").await;
    put(&a, "out", "small", "small").await;
    put(&a, "out", "folder/large", large.clone()).await;
    start(&mut a, &mut b).await;
    for (key, bytes) in [("stays", &b"stays"[..]), ("small", b"small"), ("folder/large", &large)] {
        wait_for_object(&b, "inbox", key, bytes).await;
    }
    for key in ["small", "folder/large"] {
        delete(&a, "out", key).await;
    }
    wait_for_keys(&b, "inbox", &["stays"]).await;
    // The same content, and another.
    put(&a, "out", "small", "small").await;
    put(&a, "out", "folder/large", "not so large").await;
    wait_for_object(&b, "inbox", "small", b"small").await;
    wait_for_object(&b, "inbox", "folder/large", b"not so large").await;
    finish(a, b).await;
}

#[tokio::test]
async fn a_delete_is_followed_and_what_comes_again_arrives_on_s3() {
    a_delete_is_followed_and_what_comes_again_arrives(Kind::S3).await;
}

#[tokio::test]
async fn a_delete_is_followed_and_what_comes_again_arrives_in_folders() {
    a_delete_is_followed_and_what_comes_again_arrives(Kind::Folder).await;
}

#[tokio::test]
async fn deletes_while_either_side_is_away_are_followed() {
    let (mut a, mut b) = pair_of(Kind::Folder, Kind::Folder, Some("follow")).await;
    for key in ["one", "two", "three"] {
        put(&a, "out", key, key).await;
    }
    start(&mut a, &mut b).await;
    for key in ["one", "two", "three"] {
        wait_for_object(&b, "inbox", key, key.as_bytes()).await;
    }
    a.rhio.terminate().await;
    delete(&a, "out", "one").await;
    a.start().await;
    wait_until_gone(&b, "inbox", "one").await;
    b.rhio.kill();
    delete(&a, "out", "two").await;
    b.start().await;
    wait_until_gone(&b, "inbox", "two").await;
    wait_for_keys(&b, "inbox", &["three"]).await;
    finish(a, b).await;
}

async fn one_content_under_two_keys_is_fetched_once(kind: Kind) {
    let (mut a, mut b) = bucket_pair(kind).await;
    b.rhio.rewrite_config(|config| config.log_level = Some("DEBUG".into()));
    let bytes = content(1, 5 << 20);
    put(&a, "out", "one", bytes.clone()).await;
    start(&mut a, &mut b).await;
    wait_for_object(&b, "inbox", "one", &bytes).await;
    sync(&a, &b, "one").await;
    put(&a, "out", "two", bytes.clone()).await;
    wait_for_object(&b, "inbox", "two", &bytes).await;
    let line = b.rhio.wait_for_log("copied: the content is here already", SOON).await;
    let field = |name: &str| line.field(name).and_then(|value| value.as_str()).map(str::to_owned);
    assert_eq!((field("key"), field("from")), (Some("two".to_owned()), Some("one".to_owned())));
    // Each is an object of its own.
    put(&a, "out", "one", "other").await;
    wait_for_object(&b, "inbox", "one", b"other").await;
    assert!(get(&b, "inbox", "two").await == Some(bytes.clone()));
    // What an app has changed here is not copied from.
    put(&b, "inbox", "two", content(2, 5 << 20)).await;
    put(&a, "out", "three", bytes.clone()).await;
    wait_for_object(&b, "inbox", "three", &bytes).await;
    finish(a, b).await;
}

#[tokio::test]
async fn one_content_under_two_keys_is_fetched_once_on_s3() {
    one_content_under_two_keys_is_fetched_once(Kind::S3).await;
}

#[tokio::test]
async fn one_content_under_two_keys_is_fetched_once_in_folders() {
    one_content_under_two_keys_is_fetched_once(Kind::Folder).await;
}

/// Headers of an object, once they are as wanted.
async fn wait_for_headers(cluster: &Cluster, key: &str, wanted: &[(&str, &str)]) -> Headers {
    eventually!(SOON, format!("the headers of {key}"), {
        match cluster.s3().bucket("inbox").head(key).await {
            None => Err("it is not there".to_owned()),
            Some((headers, _)) => {
                let lacks = wanted.iter().find(|(name, value)| headers.get(*name).map(String::as_str) != Some(*value));
                lacks.map_or(Ok(headers.clone()), |lacks| Err(format!("{lacks:?} is not in {headers:?}")))
            }
        }
    })
}

#[tokio::test]
async fn content_type_and_metadata_arrive_and_so_does_their_change_alone() {
    let (mut a, mut b) = bucket_pair(Kind::S3).await;
    let source = a.s3().bucket("out");
    let first = [
        ("content-type", "text/x-first; charset=utf-8"),
        ("content-disposition", "attachment; filename=\"a.txt\""),
        ("cache-control", "max-age=60"),
        ("x-amz-meta-colour", "red"),
        ("x-amz-meta-size-in-m", "12"),
    ];
    let large = content(1, 9 << 20);
    source.put_with("small", "content", &first).await;
    source.put_with("large", large.clone(), &first).await;
    start(&mut a, &mut b).await;
    for (key, bytes) in [("small", &b"content"[..]), ("large", &large)] {
        let headers = wait_for_headers(&b, key, &first).await;
        let hash = blake3::hash(bytes).to_hex();
        assert_eq!(headers.get("x-amz-meta-rhio-hash").map(String::as_str), Some(hash.as_str()));
        assert_eq!(headers.get("x-amz-meta-rhio-author"), Some(&a.rhio.public_key()));
    }

    // The same content: S3 has nothing but the time, in seconds, to tell that it was written again.
    let second = [("content-type", "text/x-second"), ("x-amz-meta-shape", "round")];
    let written = source.head("small").await.expect("it is there").0["last-modified"].clone();
    eventually!(SOON, "another second", {
        source.put_with("small", "content", &second).await;
        source.head("small").await.expect("it is there").0["last-modified"] != written
    });
    let headers = wait_for_headers(&b, "small", &second).await;
    assert_eq!(headers.get("x-amz-meta-colour"), None);
    assert_eq!(get(&b, "inbox", "small").await.as_deref(), Some(&b"content"[..]));
    finish(a, b).await;
}

/// Keys that every kind of bucket takes.
fn odd_keys() -> Vec<String> {
    let mut keys: Vec<String> = [
        "plain",
        "with space",
        "a b/c d",
        " leading and trailing ",
        "percent%20",
        "%",
        "%2F",
        "plus+plus",
        "what?",
        "hash#tag",
        "a&b=c",
        "ünïcödé/日本語/🦀",
        "e\u{301}",
        "quote\"'`",
        "<xml>&amp;",
        "semi;colon:comma,",
        "[x]{y}|^",
        "star*",
        "tilde~",
        ".hidden",
        "...",
        "a.",
        "@!$()",
        "UPPER",
        "upper",
        "line\nfeed",
        "tab\t",
        "-",
        "*",
        ">",
        "s.>",
        "$JS.API",
    ]
    .map(str::to_owned)
    .into();
    keys.push(format!("{}end", "long-folder-name/".repeat(60)));
    keys.push("x".repeat(255));
    keys.push("é".repeat(127));
    let deep = "d/".repeat(511) + "dd";
    assert_eq!(deep.len(), 1024);
    keys.push(deep);
    keys
}

async fn odd_keys_arrive_as_they_are(source: Kind, destination: Kind) {
    let (mut a, mut b) = pair_of(source, destination, Some("follow")).await;
    let odd = odd_keys();
    for key in &odd {
        put(&a, "out", key, format!("content of {key}")).await;
    }
    start(&mut a, &mut b).await;
    for key in &odd {
        wait_for_object(&b, "inbox", key, format!("content of {key}").as_bytes()).await;
    }
    let mut wanted: Vec<&str> = odd.iter().map(String::as_str).collect();
    wanted.sort_unstable();
    wait_for_keys(&b, "inbox", &wanted).await;
    // And each can go, a few at a time.
    for (few, rest) in odd.chunks(10).scan(odd.len(), |left, few| {
        *left -= few.len();
        Some((few, *left))
    }) {
        for key in few {
            delete(&a, "out", key).await;
        }
        if rest > 0 {
            eventually!(SOON, format!("{few:?} to go"), keys(&b, "inbox").await.len() == rest);
        }
    }
    finish(a, b).await;
}

#[tokio::test]
async fn odd_keys_arrive_as_they_are_on_s3() {
    odd_keys_arrive_as_they_are(Kind::S3, Kind::S3).await;
}

#[tokio::test]
async fn odd_keys_arrive_as_they_are_in_folders() {
    odd_keys_arrive_as_they_are(Kind::Folder, Kind::Folder).await;
}

/// What SeaweedFS makes of such keys is what arrives.
#[tokio::test]
async fn keys_that_the_server_changes_arrive_as_it_lists_them() {
    let (mut a, mut b) = bucket_pair(Kind::S3).await;
    for key in ["/leading", "double//slash", "trailing/", "back\\slash", "a/.../b"] {
        put(&a, "out", key, if key.ends_with('/') { "" } else { "content" }).await;
    }
    let listed = keys(&a, "out").await;
    assert!(listed.len() >= 4, "{listed:?}");
    start(&mut a, &mut b).await;
    let wanted: Vec<&str> = listed.iter().map(String::as_str).collect();
    wait_for_keys(&b, "inbox", &wanted).await;
    for key in &listed {
        assert_eq!(get(&b, "inbox", key).await, get(&a, "out", key).await, "{key}");
    }
    finish(a, b).await;
}

#[tokio::test]
async fn links_in_a_folder_are_not_published() {
    let (mut a, mut b) = bucket_pair(Kind::Folder).await;
    let out = a.folder().join("out");
    let secret = a.folder().join("secret");
    std::fs::create_dir(&secret).expect("it can be made");
    std::fs::write(secret.join("file"), "secret").expect("it can be written");
    std::os::unix::fs::symlink(secret.join("file"), out.join("link")).expect("a link");
    std::os::unix::fs::symlink(&secret, out.join("linked")).expect("a link");
    start(&mut a, &mut b).await;
    sync(&a, &b, "seen").await;
    assert_eq!(keys(&b, "inbox").await, ["sync-seen-1", "sync-seen-2"]);
    finish(a, b).await;
}
