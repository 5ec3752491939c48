//! An author that misbehaves about its bucket. A catalog that is not as it must be is refused and named in
//! the log, nothing of it becomes visible or stays behind, and everything else goes on, also with that author once it
//! behaves.

use std::sync::Arc;

use bytes::Bytes;
use common::SOON;
use common::bad_author::{LOCAL, REMOTE, Scene, serve_all};
use common::blob_peer::{Answer, Author, Blob, CatalogLog, Then, frame};
use common::buckets::{get, put, wait_for_object};
use common::peer::{Log, batch, closed_with};
use p2panda_core::SigningKey;
use rhio_core::catalog::{Entry, Said};
use rhio_core::id::OpSeq;
use rhio_core::wire::{BucketPull, CatalogState, CloseCode, Frame};

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

async fn honest() -> (Scene, Blob, CatalogLog) {
    let scene = Scene::new().await;
    let log = scene.log();
    (scene, Blob::new(b"honest".to_vec()).await, log)
}

/// The honest log's state, changed.
fn told(log: &CatalogLog, change: impl FnOnce(&mut CatalogState)) -> Bytes {
    let mut state = log.state(OpSeq(0));
    change(&mut state);
    Frame::Catalog(state).encode()
}

/// The same where nothing of the log is accepted before. Few at a time: the subscriber waits longer each time.
async fn refuses_first(scene: Scene, mut log: CatalogLog, blob: Blob, all: Vec<Bad>) {
    log.add(vec![blob.put("k"), Entry::Complete]);
    refuses(scene, log, blob, all).await;
}

#[tokio::test]
async fn catalogs_that_are_not_the_ones_that_were_asked_for() {
    let (scene, blob, log) = honest().await;
    let stranger = SigningKey::from_bytes(&[9; 32]).verifying_key().into();
    let all = vec![
        unverified("a catalog of something else", vec![told(&log, |state| state.descriptor.bucket = "other".into())]),
        unverified("a catalog of something else", vec![told(&log, |state| state.descriptor.author = stranger)]),
        unverified("a catalog without its beginning", vec![told(&log, |state| state.from = OpSeq(3))]),
    ];
    refuses_first(scene, log, blob, all).await;
}

#[tokio::test]
async fn catalogs_in_the_wrong_order() {
    let (scene, blob, log) = honest().await;
    let all = vec![
        protocol("unexpected frame", vec![frame(&log.next(vec![blob.put("k")]))]),
        protocol("bad frame", vec![Bytes::from_static(b"GET / HTTP/1.1\r\n\r\n")]),
        // From here on the subscriber has the descriptor of the honest log.
        unverified("two catalogs at once", vec![log.told(), told(&log, |state| state.descriptor.epoch += 1)]),
        unverified("an older epoch", vec![told(&log, |state| state.descriptor.epoch -= 1)]),
    ];
    refuses_first(scene, log, blob, all).await;
}

#[tokio::test]
async fn operations_that_the_author_did_not_sign_so() {
    let (scene, blob, log) = honest().await;
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
    let all = vec![
        unverified("can't be accepted", vec![log.told(), forged.into()]),
        unverified("can't be accepted", vec![log.told(), altered.into()]),
        unverified("is signed by", vec![log.told(), frame(&foreign)]),
        unverified("belongs to another log", vec![log.told(), frame(&other.next(entries()))]),
    ];
    refuses_first(scene, log, blob, all).await;
}

#[tokio::test]
async fn operations_that_skip_or_count_wrong() {
    let (scene, blob, log) = honest().await;
    let entries = || vec![blob.put("k")];
    let mut skipped = log.clone();
    skipped.add(vec![blob.put("before")]);
    let miscounted = log.sign(&log.key, Said { entries: 1, bytes: 0 }, entries());
    let overflowing = log.sign(&log.key, Said { entries: u64::MAX, bytes: u64::MAX }, entries());
    let all = vec![
        unverified("has number 1, expected 0", vec![log.told(), frame(&skipped.next(entries()))]),
        unverified("does not count on", vec![log.told(), frame(&miscounted)]),
        unverified("does not count on", vec![log.told(), frame(&overflowing)]),
    ];
    refuses_first(scene, log, blob, all).await;
}

#[tokio::test]
async fn what_belongs_to_messages_in_place_of_a_catalog() {
    let (scene, blob, log) = honest().await;
    let mut messages = Log::of(&scene.bad.key);
    let record = messages.record("s.x", "text");
    let operation = messages.sign(&record);
    let body = Frame::Operation(operation.raw().clone()).encode();
    let all = vec![
        unverified("can't be accepted", vec![log.told(), body]),
        protocol("unexpected frame", vec![log.told(), batch(&operation, &record)]),
        protocol("unexpected frame", vec![log.told(), Frame::End.encode()]),
    ];
    refuses_first(scene, log, blob, all).await;
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
