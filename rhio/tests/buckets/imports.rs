//! `rhio.import`: files go into a bucket on request.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use common::buckets::{Kind, ask, bucket_pair, content, get, keys, lines_with, wait_for_object};
use common::{SOON, finish, start};
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::{Cluster, eventually};

/// A pair in which files below a folder may be imported.
async fn importing_pair(kind: Kind) -> (Cluster, Cluster, TempDir) {
    let (mut a, mut b) = bucket_pair(kind).await;
    let folder = TempDir::with_prefix("rhio-import-").expect("a folder");
    let dir = folder.path().join("allowed");
    std::fs::create_dir(&dir).expect("a folder");
    a.rhio.rewrite_config(|config| config.import_dirs = vec![dir.display().to_string()]);
    start(&mut a, &mut b).await;
    (a, b, folder)
}

fn write(folder: &TempDir, name: &str, bytes: &[u8]) -> String {
    let path = folder.path().join(name);
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("it can be made");
    std::fs::write(&path, bytes).expect("it can be written");
    path.display().to_string()
}

fn hash(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

async fn import(a: &Cluster, request: &str) -> String {
    ask(a, "rhio.import", request).await.unwrap_or_else(|refused| panic!("{request}: {refused:?}"))
}

async fn a_file_is_imported_and_arrives(kind: Kind) {
    let (a, b, folder) = importing_pair(kind).await;
    for (number, len) in [0, 1, 16_385, (8 << 20) - 1, 8 << 20, (8 << 20) + 1, 30 << 20].into_iter().enumerate() {
        let bytes = content(number as u64, len);
        let name = format!("allowed/sub folder/{len}.txt");
        let path = write(&folder, &name, &bytes);
        assert_eq!(import(&a, &path).await, hash(&bytes));
        // It is there as soon as that is said.
        let key = format!("sub folder/{len}.txt");
        assert!(get(&a, "out", &key).await.as_ref() == Some(&bytes), "{key}");
        wait_for_object(&b, "inbox", &key, &bytes).await;
    }
    assert_eq!(lines_with(&a, "imported"), 7);
    // The listing finds nothing new in them: they were hashed on their way.
    if let Some(weed) = &a.weed {
        assert_eq!(weed.bucket("out").uploads().await, []);
        let (headers, _) = b.s3().bucket("inbox").head("sub folder/1.txt").await.expect("it is there");
        assert_eq!(headers.get("content-type").map(String::as_str), Some("text/plain"));
    }
    // Again under the same name, with other content.
    let path = write(&folder, "allowed/sub folder/1.txt", b"other");
    assert_eq!(import(&a, &path).await, hash(b"other"));
    wait_for_object(&b, "inbox", "sub folder/1.txt", b"other").await;
    finish(a, b).await;
}

#[tokio::test]
async fn a_file_is_imported_and_arrives_on_s3() {
    a_file_is_imported_and_arrives(Kind::S3).await;
}

#[tokio::test]
async fn a_file_is_imported_and_arrives_in_folders() {
    a_file_is_imported_and_arrives(Kind::Folder).await;
}

#[tokio::test]
async fn a_request_may_name_bucket_and_key() {
    let (mut a, mut b) = bucket_pair(Kind::Folder).await;
    let folder = TempDir::with_prefix("rhio-import-").expect("a folder");
    a.create_bucket("second").await;
    b.create_bucket("inbox-2").await;
    a.publish_bucket("second");
    b.subscribe_bucket("second", "inbox-2", &a);
    let dirs = ["allowed", "also"].map(|name| {
        std::fs::create_dir(folder.path().join(name)).expect("a folder");
        folder.path().join(name).display().to_string()
    });
    a.rhio.rewrite_config(|config| {
        config.import_dirs = dirs.into();
        config.import_bucket = Some("second".into());
    });
    start(&mut a, &mut b).await;
    let path = write(&folder, "allowed/file.json", b"{}");
    let named = json!({ "path": path, "bucket": "out", "key": "some where/ü.json" }).to_string();
    assert_eq!(import(&a, &named).await, hash(b"{}"));
    wait_for_object(&b, "inbox", "some where/ü.json", b"{}").await;
    // Without a bucket: the configured one.
    assert_eq!(import(&a, &json!({ "path": path }).to_string()).await, hash(b"{}"));
    wait_for_object(&b, "inbox-2", "file.json", b"{}").await;
    let path = write(&folder, "also/deep/file", b"second folder");
    assert_eq!(import(&a, &format!("{path}\n")).await, hash(b"second folder"));
    wait_for_object(&b, "inbox-2", "deep/file", b"second folder").await;
    assert_eq!(keys(&a, "out").await, ["some where/ü.json"]);
    finish(a, b).await;
}

async fn refused(a: &Cluster, request: &str, code: u16, words: &str) {
    let before = lines_with(a, "import refused");
    let (got, sentence) = match ask(a, "rhio.import", request).await {
        Err(refused) => refused,
        Ok(hash) => panic!("{request}: imported as {hash}"),
    };
    assert!(got == code && sentence.contains(words), "{request}: {got} {sentence}");
    // A request that can't even be read names no path.
    if !words.contains("JSON") {
        eventually!(SOON, "a line in the log", lines_with(a, "import refused") == before + 1);
    }
}

#[tokio::test]
async fn what_may_not_be_imported_is_refused_with_a_sentence() {
    let (a, b, folder) = importing_pair(Kind::Folder).await;
    let at = |name: &str| folder.path().join(name).display().to_string();
    let secret = write(&folder, "secret", b"secret");
    let inside = write(&folder, "allowed/inside", b"inside");
    std::fs::create_dir(folder.path().join("allowed/folder")).expect("a folder");
    symlink(&secret, folder.path().join("allowed/link")).expect("a link");
    symlink(folder.path(), folder.path().join("allowed/linked")).expect("a link");
    symlink(&inside, folder.path().join("into")).expect("a link");
    write(&folder, "allowed-not/file", b"beside");
    let fifo = folder.path().join("allowed/fifo");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status().expect("mkfifo runs");
    assert!(made.success());

    const OUTSIDE: &str = "not below a folder that may be imported from";
    refused(&a, &secret, 403, OUTSIDE).await;
    refused(&a, &at("allowed/link"), 403, OUTSIDE).await;
    refused(&a, &at("allowed/linked/secret"), 403, OUTSIDE).await;
    refused(&a, &at("allowed/../secret"), 403, OUTSIDE).await;
    refused(&a, &at("allowed/folder/../../secret"), 403, OUTSIDE).await;
    refused(&a, &at("allowed-not/file"), 403, OUTSIDE).await;
    // Nobody learns which other files there are.
    refused(&a, &at("nothing"), 403, OUTSIDE).await;
    refused(&a, "/etc/shadow", 403, OUTSIDE).await;
    refused(&a, &at("allowed/nothing"), 404, "no such file").await;
    refused(&a, &at("allowed/folder"), 400, "no regular file").await;
    refused(&a, &at("allowed/fifo"), 400, "no regular file").await;
    refused(&a, &at("allowed"), 403, OUTSIDE).await;
    refused(&a, "allowed/inside", 400, "must be absolute").await;
    refused(&a, "", 400, "must be absolute").await;
    refused(&a, &json!({ "path": inside, "bucket": "nowhere" }).to_string(), 404, "'nowhere' is not published").await;
    refused(&a, &json!({ "path": inside, "key": "" }).to_string(), 400, "1 to 1024 bytes").await;
    refused(&a, &json!({ "path": inside, "key": "k".repeat(1025) }).to_string(), 400, "1 to 1024 bytes").await;
    for request in ["{", "{}", r#"{"path": 1}"#, r#"{"path": "/x", "more": 1}"#, "{\"path\": \"/x\"} x"] {
        refused(&a, request, 400, "is no JSON").await;
    }
    assert_eq!(keys(&a, "out").await, Vec::<String>::new());

    // What leads inside is inside.
    assert_eq!(import(&a, &at("allowed/folder/../inside")).await, hash(b"inside"));
    assert_eq!(import(&a, &at("into")).await, hash(b"inside"));
    wait_for_object(&b, "inbox", "inside", b"inside").await;
    assert_eq!(keys(&a, "out").await, ["inside"]);
    finish(a, b).await;
}

#[tokio::test]
async fn without_folders_or_buckets_nothing_is_imported() {
    let (mut a, mut b) = bucket_pair(Kind::Folder).await;
    let folder = TempDir::with_prefix("rhio-import-").expect("a folder");
    let path = write(&folder, "file", b"content");
    start(&mut a, &mut b).await;
    refused(&a, &path, 403, "import.dirs").await;
    // The other one publishes nothing.
    refused(&b, &path, 404, "no bucket is published here").await;
    finish(a, b).await;
}

#[tokio::test]
async fn an_import_into_a_bucket_that_is_missing_says_so() {
    let (mut a, mut b, folder) = importing_pair(Kind::Folder).await;
    for cluster in [&mut a, &mut b] {
        cluster.rhio.allow_log("does not exist");
    }
    let path = write(&folder, "allowed/file", &content(1, 20 << 20));
    std::fs::remove_dir(a.folder().join("out")).expect("it can be removed");
    refused(&a, &path, 503, "bucket 'out' does not exist").await;
    a.create_bucket("out").await;
    import(&a, &path).await;
    wait_for_object(&b, "inbox", "file", &content(1, 20 << 20)).await;
    finish(a, b).await;
}

#[tokio::test]
async fn many_imports_at_once_all_succeed() {
    let (a, b, folder) = importing_pair(Kind::Folder).await;
    let files: Vec<(String, Vec<u8>)> = (0..30)
        .map(|number| {
            let bytes = content(number, (number as usize + 1) * 50_000);
            (write(&folder, &format!("allowed/{number}"), &bytes), bytes)
        })
        .collect();
    let imports = files.iter().map(async |(path, bytes)| assert_eq!(import(&a, path).await, hash(bytes)));
    futures_util::future::join_all(imports).await;
    for (path, bytes) in &files {
        let key = Path::new(path).file_name().expect("a name").to_str().expect("UTF-8");
        wait_for_object(&b, "inbox", key, bytes).await;
    }
    finish(a, b).await;
}

/// A bucket's folder may itself be imported from; and a file under its own key stays what it is.
#[tokio::test]
async fn a_file_that_is_the_object_itself_survives_its_import() {
    let (mut a, mut b) = bucket_pair(Kind::Folder).await;
    let out: PathBuf = a.folder().join("out");
    let dir = out.display().to_string();
    a.rhio.rewrite_config(|config| config.import_dirs = vec![dir]);
    let bytes = content(1, 9 << 20);
    std::fs::write(out.join("file"), &bytes).expect("it can be written");
    start(&mut a, &mut b).await;
    assert_eq!(import(&a, &out.join("file").display().to_string()).await, hash(&bytes));
    wait_for_object(&b, "inbox", "file", &bytes).await;
    assert!(std::fs::read(out.join("file")).expect("it is there") == bytes);
    finish(a, b).await;
}

#[tokio::test]
async fn rhio_is_a_nats_service() {
    let (mut a, mut b) = bucket_pair(Kind::Folder).await;
    start(&mut a, &mut b).await;
    let ask = async |subject: &str| {
        let answer =
            eventually!(SOON, subject.to_owned(), a.client().await.request(subject.to_owned(), "".into()).await);
        serde_json::from_slice::<Value>(&answer.payload).expect("JSON")
    };
    let ping = ask("$SRV.PING").await;
    assert_eq!((ping["name"].as_str(), ping["type"].as_str()), (Some("rhio"), Some("io.nats.micro.v1.ping_response")));
    assert_eq!(ping["metadata"]["public_key"], a.rhio.public_key());
    let info = ask("$SRV.INFO.rhio").await;
    let mut subjects: Vec<&str> = info["endpoints"]
        .as_array()
        .expect("endpoints")
        .iter()
        .map(|endpoint| endpoint["subject"].as_str().expect("a subject"))
        .collect();
    subjects.sort_unstable();
    assert!(subjects.starts_with(&["rhio.deletes", "rhio.import"]), "{subjects:?}");
    finish(a, b).await;
}
