//! An author that sends other content than it signed: nothing of it becomes visible or stays behind, it is named in the
//! log, everything else goes on, and the right content is taken once it comes.

use std::path::Path;
use std::sync::Arc;

use common::SOON;
use common::bad_author::{LOCAL, REMOTE, Scene, files};
use common::blob_peer::{Author, Blob, CatalogLog, Manner, Then};
use common::buckets::{content, keys, put, wait_for_keys, wait_for_object};
use rhio_core::catalog::Entry;
use rhio_core::id::BlobHash;
use rhio_core::object::ObjectKey;
use rhio_core::wire::CloseCode;
use rhio_net::stream;
use testkit::{LogLine, eventually};

/// Turns a bit of the byte at this offset of the content.
fn flip(data: &[u8], offset: usize) -> Manner {
    let near: Vec<u8> = data[offset..offset + 32].to_vec();
    Box::new(move |range, response| {
        if range.contains(&(offset as u64)) {
            let at = response.windows(near.len()).position(|window| window == near).expect("the content");
            response[at] ^= 1;
        }
        Then::End
    })
}

/// Spoils the response that begins the content.
fn first(then: Then, spoil: impl Fn(&mut Vec<u8>) + Send + Sync + 'static) -> Manner {
    Box::new(move |range, response| {
        if range.start > 0 {
            return Then::End;
        }
        spoil(response);
        then
    })
}

/// A way to spoil content: whether that breaks the protocol, and what is said of it.
fn manner(way: &str, data: &[u8]) -> (bool, &'static str, Manner) {
    let half = |response: &mut Vec<u8>| response.truncate(response.len() / 2);
    match way {
        "begin" => (true, "wrong bytes at 0", flip(data, 0)),
        "middle" => (true, "wrong bytes at", flip(data, data.len() / 2)),
        "end" => (true, "wrong bytes at", flip(data, data.len() - 32)),
        "tree" => (true, "wrong bytes at 0", first(Then::End, |response| response[8] ^= 1)),
        "size" => (true, "the peer has the blob with", first(Then::End, |response| response[0] ^= 1)),
        "excess" => (true, "more than it was asked for", first(Then::End, |response| response.push(0))),
        "cut" => (false, "the response ends early", first(Then::End, |response| response.truncate(response.len() - 1))),
        "nothing" => (false, "the response ends early", first(Then::End, Vec::clear)),
        "reset" => (false, "has reset the stream (code 77)", first(Then::Reset(77), half)),
        "silent" => (false, "no content came for 2 s", first(Then::Silence, half)),
        "dumb" => (false, "no content came for 2 s", first(Then::Silence, Vec::clear)),
        other => panic!("{other}"),
    }
}

/// One object for each of these ways, all at once: none of it becomes visible, each is named, and each lands when the
/// author behaves. Only a few, as the log does not name all of many.
async fn spoilt_content(len: usize, ways: &[&str]) {
    let Scene { a, b, mut bad } = Scene::new().await;
    let mut log = CatalogLog::of(&bad.key, REMOTE);
    let (mut blobs, mut cases, mut entries) = (Vec::new(), Vec::new(), Vec::new());
    for (number, way) in ways.iter().enumerate() {
        let blob = Blob::new(content(number as u64, len + number)).await;
        let (violation, reason, manner) = manner(way, &blob.data);
        entries.push(blob.put(way));
        cases.push((*way, violation, reason, blob.hash, blob.data.clone()));
        blobs.push((blob, manner));
    }
    let fine = Blob::new(content(77, 40_000)).await;
    let fine_data = fine.data.clone();
    entries.extend([fine.put("fine"), Entry::Complete]);
    blobs.push((fine, Box::new(|_, _| Then::End)));
    log.add(entries);
    let author = Author::new(log.answers(), blobs);
    let public_key = bad.public_key();
    let connection = bad.accept().await;
    tokio::spawn(Arc::clone(&author).serve(connection));

    for (key, violation, reason, ..) in &cases {
        let said = |line: &&LogLine| {
            let field = |name: &str, value: &str| line.field(name).and_then(|field| field.as_str()) == Some(value);
            let named = match violation {
                true => line.message.contains(": refused: ") && field("key", key) && field("peer", &public_key),
                false => line.message.contains(&format!("'{key}' is not here yet: ")),
            };
            line.level == "WARN" && named && line.message.contains(reason)
        };
        eventually!(SOON, format!("'{key}' to be named"), b.rhio.logs().iter().any(|line| said(&line)));
    }
    // The object that is fine is not held up by the others, and neither is another author.
    wait_for_object(&b, LOCAL, "fine", &fine_data).await;
    assert_eq!(keys(&b, LOCAL).await, ["fine"], "nothing of the others is visible");
    put(&a, "out", "good", "fine").await;
    wait_for_object(&b, "inbox", "good", b"fine").await;

    author.reform();
    for (key, _, _, hash, data) in &cases {
        wait_for_object(&b, LOCAL, key, data).await;
        let again: u64 = author.asked_for(*hash).iter().map(|range| range.end - range.start).sum();
        if *key == "end" && len >= LARGE {
            assert!(again < data.len() as u64, "the parts that were right before are fetched again: {again}");
        }
    }
    Scene { a, b, bad }.finish().await;
}

/// One request, and a tree of several levels.
const SMALL: usize = 100_000;
/// Four whole parts, as many as are under way at once, and a short one. That begins when one of them is in the bucket,
/// however fast the link is.
const LARGE: usize = (32 << 20) + 50_000;

#[tokio::test]
async fn wrong_bytes_in_small_content() {
    spoilt_content(SMALL, &["begin", "middle", "end", "tree"]).await;
}

#[tokio::test]
async fn wrong_bytes_in_content_of_several_parts() {
    spoilt_content(LARGE, &["begin", "middle", "end", "tree"]).await;
}

#[tokio::test]
async fn too_little_of_small_content() {
    spoilt_content(SMALL, &["cut", "nothing", "reset"]).await;
}

#[tokio::test]
async fn too_little_of_content_of_several_parts() {
    spoilt_content(LARGE, &["cut", "nothing", "reset"]).await;
}

#[tokio::test]
async fn other_sizes_and_silence_instead_of_small_content() {
    spoilt_content(SMALL, &["size", "excess", "silent", "dumb"]).await;
}

#[tokio::test]
async fn other_sizes_and_silence_instead_of_content_of_several_parts() {
    spoilt_content(LARGE, &["size", "excess", "silent", "dumb"]).await;
}

#[tokio::test]
async fn content_of_one_group_that_is_wrong() {
    spoilt_content(2000, &["begin", "end", "size", "cut"]).await;
}

#[tokio::test]
async fn an_upload_that_never_ends_goes_when_the_author_says_something_else() {
    let mut scene = Scene::new().await;
    let large = Blob::new(content(1, (16 << 20) + 5)).await;
    let spoil = flip(&large.data, (16 << 20) - 50);
    let small = Blob::new(b"instead".to_vec()).await;
    let mut log = scene.log();
    log.add(vec![large.put("replaced"), large.put("deleted")]);
    let before = log.clone();
    log.add(vec![small.put("replaced"), Entry::Delete(ObjectKey::new("deleted").expect("a key"))]);
    let honest: Manner = Box::new(|_, _| Then::End);
    let author = Author::new(before.answers(), vec![(large, spoil), (small, honest)]);
    let connection = scene.bad.accept().await;
    let served = tokio::spawn(Arc::clone(&author).serve(connection.clone()));
    scene.b.rhio.wait_for_log("wrong bytes at", SOON).await;
    let uploads = scene.b.folder().join(".rhio/uploads/wares");
    assert!(!files(&uploads).is_empty(), "the good parts are kept");
    author.set_answer(log.answers());
    stream::close(&connection, CloseCode::Done);
    served.await.expect("it ends");
    let connection = scene.bad.accept().await;
    tokio::spawn(Arc::clone(&author).serve(connection));
    wait_for_object(&scene.b, LOCAL, "replaced", b"instead").await;
    wait_for_keys(&scene.b, LOCAL, &["replaced"]).await;
    scene.finish().await;
}

#[tokio::test]
async fn keys_that_point_elsewhere_stay_in_their_bucket() {
    let mut scene = Scene::new().await;
    let blob = Blob::new(b"anywhere".to_vec()).await;
    let hostile = [
        "../evil",
        "../../evil",
        "a/..",
        ".",
        "/etc/evil",
        "b/../../inbox/evil",
        "../.rhio/tmp/evil",
        ".rhio/notes/evil",
        "//evil",
        "..\\evil",
        "line\nbreak",
    ];
    let mut log = scene.log();
    log.add(hostile.iter().map(|key| blob.put(key)).chain([Entry::Complete]).collect());
    let author = Author::new(log.answers(), vec![(blob, Box::new(|_, _| Then::End))]);
    let connection = scene.bad.accept().await;
    tokio::spawn(author.serve(connection));
    scene.others_go_on("good").await;
    let root = scene.b.folder().to_owned();
    eventually!(SOON, "all of them", files(&root.join(LOCAL)).len() == hostile.len());
    let mut folders: Vec<_> = std::fs::read_dir(&root).expect("a folder").flatten().map(|e| e.file_name()).collect();
    folders.sort();
    assert_eq!(folders, [".rhio", "inbox", LOCAL]);
    assert_eq!(keys(&scene.b, "inbox").await, ["good"]);
    assert!(!root.with_file_name("evil").exists() && !Path::new("/etc/evil").exists());
    scene.finish().await;
}

#[tokio::test]
async fn many_objects_that_are_spoilt_do_not_flood_the_log() {
    let mut scene = Scene::new().await;
    let mut log = scene.log();
    let (mut blobs, mut entries) = (Vec::<(Blob, Manner)>::new(), Vec::new());
    for number in 0..100 {
        let blob = Blob::new(content(number, 1000)).await;
        entries.push(blob.put(&format!("k{number:03}")));
        let spoil = flip(&blob.data, 500);
        blobs.push((blob, spoil));
    }
    entries.push(Entry::Complete);
    log.add(entries);
    let hashes: Vec<BlobHash> = blobs.iter().map(|(blob, _)| blob.hash).collect();
    let author = Author::new(log.answers(), blobs);
    let connection = scene.bad.accept().await;
    tokio::spawn(Arc::clone(&author).serve(connection));
    eventually!(SOON, "everything to be tried twice", hashes.iter().all(|hash| author.asked_for(*hash).len() >= 2));
    let loud = scene.b.rhio.logs().iter().filter(|line| line.is_loud()).count();
    assert!((1..=20).contains(&loud), "{loud} lines for 100 objects");
    scene.others_go_on("good").await;
    author.reform();
    eventually!(SOON, "all of them", keys(&scene.b, LOCAL).await.len() == 100);
    scene.finish().await;
}
