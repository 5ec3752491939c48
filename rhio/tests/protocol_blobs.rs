//! An author that misbehaves about its bucket. Its catalog or content that is not as it must be is refused and named in
//! the log, nothing of it becomes visible or stays behind, and everything else goes on, also with that author once it
//! behaves.

mod common;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use common::SOON;
use common::blob_peer::{Answer, Author, Blob, CatalogLog, Manner, Then, frame};
use common::buckets::{Kind, bucket_pair, content, get, keys, put, wait_for_keys, wait_for_object};
use common::peer::{Log, Peer, batch, closed_with};
use p2panda_core::SigningKey;
use rhio::peer::stream;
use rhio_core::catalog::{Entry, Said};
use rhio_core::id::{BlobHash, OpSeq};
use rhio_core::wire::{BucketPull, CloseCode, Frame};
use testkit::{Cluster, LogLine, SubscribeBucket, eventually};

/// The bad author's bucket, and where it goes.
const REMOTE: &str = "goods";
const LOCAL: &str = "wares";

/// A subscriber `b` of a good author, `a`, and of a bad one.
struct Scene {
    a: Cluster,
    b: Cluster,
    bad: Peer,
}

impl Scene {
    async fn new() -> Self {
        let (mut a, mut b) = bucket_pair(Kind::Folder).await;
        b.create_bucket(LOCAL).await;
        let bad = Peer::beside(&b).await;
        let (node, public_key) = (bad.as_node(), bad.public_key());
        b.rhio.rewrite_config(|config| {
            config.nodes.push(node);
            config.subscribe_buckets.push(SubscribeBucket {
                remote_bucket: REMOTE.into(),
                local_bucket: LOCAL.into(),
                public_key,
                deletes: None,
            });
        });
        b.rhio.set_env("RHIO_TEST_STALL_SECONDS", "2");
        // Whatever is said about the bad author; the good one's entry must be quiet.
        b.rhio.allow_log("into 'wares'");
        b.rhio.allow_log("can't reach node");
        common::start(&mut a, &mut b).await;
        Self { a, b, bad }
    }

    fn log(&self) -> CatalogLog {
        CatalogLog::of(&self.bad.key, REMOTE)
    }

    /// The good author is heard all the same.
    async fn others_go_on(&self, key: &str) {
        put(&self.a, "out", key, "fine").await;
        wait_for_object(&self.b, "inbox", key, b"fine").await;
    }

    /// Nothing that was begun is left anywhere.
    async fn finish(self) {
        let own = self.b.folder().join(".rhio");
        for folder in ["tmp", "uploads/wares"] {
            eventually!(SOON, format!("{folder} to be empty"), {
                let left = files(&own.join(folder));
                if left.is_empty() { Ok(()) } else { Err(left.join(", ")) }
            });
        }
        common::finish(self.a, self.b).await;
    }
}

/// Every file below a folder.
fn files(folder: &Path) -> Vec<String> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            true => all.extend(files(&entry.path())),
            false => all.push(entry.path().display().to_string()),
        }
    }
    all
}

/// Serves one connection after the other.
async fn serve_all(bad: &mut Peer, author: &Arc<Author>) {
    loop {
        let connection = bad.accept().await;
        Arc::clone(author).serve(connection).await;
    }
}

/// What an author answers that is refused: why, and with which code.
struct Bad {
    reason: &'static str,
    code: CloseCode,
    answer: Answer,
}

fn bad(
    reason: &'static str,
    code: CloseCode,
    answer: impl Fn(&BucketPull) -> Vec<Bytes> + Send + Sync + 'static,
) -> Bad {
    Bad { reason, code, answer: Box::new(answer) }
}

fn protocol(reason: &'static str, frames: Vec<Bytes>) -> Bad {
    bad(reason, CloseCode::Protocol, move |_| frames.clone())
}

fn unverified(reason: &'static str, frames: Vec<Bytes>) -> Bad {
    bad(reason, CloseCode::Unverified, move |_| frames.clone())
}

/// Lets the bad author behave so, in one connection after the other, and sees it refused each time; then it behaves.
async fn refuses(scene: Scene, honest: CatalogLog, blob: Blob, all: Vec<Bad>) {
    let Scene { a, b, mut bad } = scene;
    let data = blob.data.clone();
    let author = Author::new(Box::new(|_| Vec::new()), vec![(blob, Box::new(|_, _| Then::End))]);
    for Bad { reason, code, answer } in all {
        author.set_answer(answer);
        let mark = b.rhio.log_mark();
        let connection = bad.accept().await;
        let served = tokio::spawn(Arc::clone(&author).serve(connection.clone()));
        assert_eq!(closed_with(&connection).await, code, "{reason}");
        served.await.expect("it ends");
        let line = b.rhio.wait_for_log_after(mark, ": refused: ", SOON).await;
        assert!(line.message.contains(reason), "{reason} in {}", line.message);
        assert_eq!(line.field("peer").and_then(|peer| peer.as_str()), Some(bad.public_key().as_str()));
        assert_eq!(get(&b, LOCAL, "k").await, None, "{reason}: something of it is visible");
    }
    put(&a, "out", "good", "fine").await;
    wait_for_object(&b, "inbox", "good", b"fine").await;
    // The process is unharmed: the same node is heard when it behaves.
    author.set_answer(Box::new(move |pull| honest.answer(pull)));
    tokio::select! {
        () = serve_all(&mut bad, &author) => {}
        () = wait_for_object(&b, LOCAL, "k", &data) => {}
    }
    Scene { a, b, bad }.finish().await;
}

#[tokio::test]
async fn catalogs_that_are_not_the_ones_that_were_asked_for() {
    let scene = Scene::new().await;
    let blob = Blob::new(b"honest".to_vec()).await;
    let mut log = scene.log();
    let state = log.state(OpSeq(0));
    let told = |change: &dyn Fn(&mut rhio_core::wire::CatalogState)| {
        let mut state = state.clone();
        change(&mut state);
        vec![Frame::Catalog(state).encode()]
    };
    let stranger = SigningKey::from_bytes(&[9; 32]).verifying_key().into();
    let early = log.next(vec![blob.put("k")]);
    let all = vec![
        unverified("a catalog of something else", told(&|state| state.descriptor.bucket = "other".into())),
        unverified("a catalog of something else", told(&move |state| state.descriptor.author = stranger)),
        unverified("a catalog without its beginning", told(&|state| state.from = OpSeq(3))),
        protocol("unexpected frame", vec![frame(&early)]),
        protocol("bad frame", vec![Bytes::from_static(b"GET / HTTP/1.1\r\n\r\n")]),
        // From here on the subscriber has the descriptor of the honest log.
        unverified("two catalogs at once", {
            let second = told(&|state| state.descriptor.epoch += 1);
            [told(&|_| ()), second].concat()
        }),
        unverified("an older epoch", told(&|state| state.descriptor.epoch -= 1)),
    ];
    log.add(vec![blob.put("k"), Entry::Complete]);
    refuses(scene, log, blob, all).await;
}

#[tokio::test]
async fn operations_that_can_not_be_accepted() {
    let scene = Scene::new().await;
    let blob = Blob::new(b"honest".to_vec()).await;
    let mut log = scene.log();
    let with = |operation: Bytes| vec![log.told(), operation];
    let entries = || vec![blob.put("k")];

    let mut forged = frame(&log.next(entries())).to_vec();
    // The signature follows the key, 32 bytes of it, in the header.
    let key = *log.key.verifying_key().as_bytes();
    let at = forged.windows(32).position(|window| window == key).expect("the author's key") + 32 + 10;
    forged[at] ^= 1;
    let mut altered = frame(&log.next(entries())).to_vec();
    let at = altered.len() - 10;
    altered[at] ^= 1;
    let foreign = log.sign(&SigningKey::from_bytes(&[9; 32]), Said::default(), entries());
    let mut other = log.clone();
    other.descriptor.epoch += 1;
    let mut skipped = log.clone();
    skipped.add(vec![blob.put("before")]);
    let miscounted = log.sign(&log.key, Said { entries: 1, bytes: 0 }, entries());
    let overflowing = log.sign(&log.key, Said { entries: u64::MAX, bytes: u64::MAX }, entries());
    let mut messages = Log::of(&scene.bad.key);
    let record = messages.record("s.x", "text");
    let operation = messages.sign(&record);
    let all = vec![
        unverified("can't be accepted", with(forged.into())),
        unverified("can't be accepted", with(altered.into())),
        unverified("is signed by", with(frame(&foreign))),
        unverified("belongs to another log", with(frame(&other.next(entries())))),
        unverified("has number 1, expected 0", with(frame(&skipped.next(entries())))),
        unverified("does not count on", with(frame(&miscounted))),
        unverified("does not count on", with(frame(&overflowing))),
    ];
    let more = vec![
        // What describes messages is no catalog.
        unverified("can't be accepted", with(Frame::Operation(operation.raw().clone()).encode())),
        protocol("unexpected frame", with(batch(&operation, &record))),
        protocol("unexpected frame", with(Frame::End.encode())),
    ];
    log.add(vec![blob.put("k"), Entry::Complete]);
    refuses(scene, log, blob, all.into_iter().chain(more).collect()).await;
}

#[tokio::test]
async fn operations_that_do_not_continue_what_was_accepted() {
    let scene = Scene::new().await;
    let blob = Blob::new(b"honest".to_vec()).await;
    let mut log = scene.log();
    let mut fork = log.clone();
    log.add(vec![blob.put("first")]);
    fork.add(vec![blob.put("of another past")]);
    let first = log.clone();
    let entries = || vec![blob.put("k")];
    let after = |operation: Bytes| {
        let first = first.clone();
        move |pull: &BucketPull| [first.answer(pull), vec![operation.clone()]].concat()
    };
    let again = frame(&first.operations[0]);
    let mut skipped = first.clone();
    skipped.add(vec![blob.put("between")]);
    let uncounted = first.sign(&first.key, Said::default(), entries());
    let all = vec![
        bad("does not link", CloseCode::Unverified, after(frame(&fork.next(entries())))),
        bad("has number 0, expected 1", CloseCode::Unverified, after(again)),
        bad("has number 2, expected 1", CloseCode::Unverified, after(frame(&skipped.next(entries())))),
        bad("does not count on", CloseCode::Unverified, after(frame(&uncounted))),
    ];
    log.add(vec![blob.put("k"), Entry::Complete]);
    refuses(scene, log, blob, all).await;
}

#[tokio::test]
async fn an_author_that_promises_and_sends_nothing_is_left_and_tried_again() {
    let Scene { a, b, mut bad } = Scene::new().await;
    let blob = Blob::new(b"promised".to_vec()).await;
    let mut log = CatalogLog::of(&bad.key, REMOTE);
    log.add(vec![blob.put("k")]);
    let told = log.told();
    let author = Author::new(Box::new(move |_| vec![told.clone()]), Vec::new());
    let connection = bad.accept().await;
    let served = tokio::spawn(Arc::clone(&author).serve(connection.clone()));
    put(&a, "out", "good", "fine").await;
    wait_for_object(&b, "inbox", "good", b"fine").await;
    assert_eq!(closed_with(&connection).await, CloseCode::Stalled);
    served.await.expect("it ends");
    let line = b.rhio.wait_for_log("no progress", SOON).await;
    assert_eq!(line.field("peer").and_then(|peer| peer.as_str()), Some(bad.public_key().as_str()));
    // And dialled again.
    bad.accept().await;
    Scene { a, b, bad }.finish().await;
}

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
    let author = Author::new(Box::new(move |pull| log.answer(pull)), blobs);
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
        if *key == "end" && len > 16 << 20 {
            assert!(again < data.len() as u64, "the parts that were right before are fetched again: {again}");
        }
    }
    Scene { a, b, bad }.finish().await;
}

/// One request, and a tree of several levels.
const SMALL: usize = 100_000;
/// Two whole parts, and a short one.
const LARGE: usize = (16 << 20) + 50_000;

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
    log.add(vec![small.put("replaced"), Entry::Delete(rhio_core::object::ObjectKey::new("deleted").expect("a key"))]);
    let honest: Manner = Box::new(|_, _| Then::End);
    let author = Author::new(Box::new(move |pull| before.answer(pull)), vec![(large, spoil), (small, honest)]);
    let connection = scene.bad.accept().await;
    let served = tokio::spawn(Arc::clone(&author).serve(connection.clone()));
    scene.b.rhio.wait_for_log("wrong bytes at", SOON).await;
    let uploads = scene.b.folder().join(".rhio/uploads/wares");
    assert!(!files(&uploads).is_empty(), "the good parts are kept");
    author.set_answer(Box::new(move |pull| log.answer(pull)));
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
    let author = Author::new(Box::new(move |pull| log.answer(pull)), vec![(blob, Box::new(|_, _| Then::End))]);
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
    let author = Author::new(Box::new(move |pull| log.answer(pull)), blobs);
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
