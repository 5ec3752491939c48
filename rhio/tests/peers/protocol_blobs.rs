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
use rhio_core::catalog::Entry;
use rhio_core::log::body::Body;
use rhio_core::log::descriptor::About;
use rhio_core::log::total::Total;
use rhio_core::wire::{CloseCode, Frame, LogState};

/// What an author answers that is refused: why, and with which code.
struct Bad {
    reason: &'static str,
    code: CloseCode,
    answer: Answer,
}

fn bad(reason: &'static str, code: CloseCode, answer: Answer) -> Bad {
    Bad { reason, code, answer }
}

/// Refused for what the author says of its logs, or what it sends for a pull.
fn protocol(reason: &'static str, watch: Vec<Bytes>, pull: Vec<Bytes>) -> Bad {
    bad(reason, CloseCode::Protocol, Answer::new(watch, pull))
}

fn unverified(reason: &'static str, watch: Vec<Bytes>, pull: Vec<Bytes>) -> Bad {
    bad(reason, CloseCode::Unverified, Answer::new(watch, pull))
}

/// Lets the bad author behave so, in one connection after the other, and sees it refused each time; then it behaves.
async fn refuses(scene: Scene, honest: CatalogLog, blob: Blob, all: Vec<Bad>) {
    let Scene { a, b, mut bad } = scene;
    let data = blob.data.clone();
    let author = Author::new(Answer::new(Vec::new(), Vec::new()), vec![(blob, Box::new(|_, _| Then::End))]);
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
    author.set_answer(honest.answers());
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
fn told(log: &CatalogLog, change: impl FnOnce(&mut LogState)) -> Bytes {
    let mut state = log.state();
    change(&mut state);
    Frame::Logs(vec![state]).encode()
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
    let messages = Log::of(&scene.bad.key);
    let unasked = |watch| unverified("a log that was not asked for", vec![watch], vec![]);
    let all = vec![
        unasked(told(&log, |state| state.descriptor.about = About::Bucket("other".into()))),
        unasked(told(&log, |state| state.descriptor.author = stranger)),
        unasked(Frame::Logs(vec![messages.state()]).encode()),
    ];
    refuses_first(scene, log, blob, all).await;
}

#[tokio::test]
async fn catalogs_in_the_wrong_order() {
    let (scene, blob, log) = honest().await;
    let all = vec![
        protocol("bad frame", vec![Bytes::from_static(b"GET / HTTP/1.1\r\n\r\n")], vec![]),
        // From here on the subscriber has the descriptor of the honest log.
        protocol("unexpected frame", vec![log.told(), frame(&log.next(vec![blob.put("k")]))], vec![]),
        unverified("an older epoch", vec![told(&log, |state| state.descriptor.epoch -= 1)], vec![]),
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
    let foreign = log.sign(&SigningKey::from_bytes(&[9; 32]), Total::default(), entries());
    let mut other = log.clone();
    other.descriptor.epoch += 1;
    let all = vec![
        unverified("can't be accepted", vec![log.told()], vec![forged.into()]),
        unverified("can't be accepted", vec![log.told()], vec![altered.into()]),
        unverified("is signed by", vec![log.told()], vec![frame(&foreign)]),
        unverified("belongs to another log", vec![log.told()], vec![frame(&other.next(entries()))]),
    ];
    refuses_first(scene, log, blob, all).await;
}

#[tokio::test]
async fn operations_that_skip_or_count_wrong() {
    let (scene, blob, log) = honest().await;
    let entries = || vec![blob.put("k")];
    let mut skipped = log.clone();
    skipped.add(vec![blob.put("before")]);
    let miscounted = log.sign(&log.key, Total { items: 1, bytes: 0 }, entries());
    let overflowing = log.sign(&log.key, Total { items: u64::MAX, bytes: u64::MAX }, entries());
    let all = vec![
        unverified("has number 1, expected 0", vec![log.told()], vec![frame(&skipped.next(entries()))]),
        unverified("goes back behind", vec![log.told()], vec![frame(&miscounted)]),
        unverified("goes back behind", vec![log.told()], vec![frame(&overflowing)]),
    ];
    refuses_first(scene, log, blob, all).await;
}

#[tokio::test]
async fn what_belongs_to_messages_in_place_of_a_catalog() {
    let (scene, blob, log) = honest().await;
    let mut messages = Log::of(&scene.bad.key);
    let record = messages.record("s.x", "text");
    let operation = messages.sign(&record);
    let manifest = operation.body().manifest().expect("it is about messages").clone();
    let body = Body { before: Total::default(), content: manifest.into() };
    let misplaced = frame(&log.sign_any(&log.key, body));
    let all = vec![
        unverified("is of another kind", vec![log.told()], vec![misplaced]),
        unverified("records of a bucket", vec![log.told()], vec![batch(&operation, &record)]),
        protocol("unexpected frame", vec![log.told()], vec![Frame::End.encode()]),
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
        let watch = vec![first.told()];
        Answer { watch, pull: Box::new(move |pull| [first.sent(pull), vec![operation.clone()]].concat()) }
    };
    let again = frame(&first.operations[0]);
    let mut skipped = first.clone();
    skipped.add(vec![blob.put("between")]);
    let uncounted = first.sign(&first.key, Total::default(), entries());
    let all = vec![
        bad("does not link", CloseCode::Unverified, after(frame(&fork.next(entries())))),
        bad("has number 0, expected 1", CloseCode::Unverified, after(again)),
        bad("has number 2, expected 1", CloseCode::Unverified, after(frame(&skipped.next(entries())))),
        bad("goes back behind", CloseCode::Unverified, after(frame(&uncounted))),
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
    let author = Author::new(Answer::new(vec![log.told()], Vec::new()), Vec::new());
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
