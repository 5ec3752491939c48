//! An author's node that sends what it must not: refused, named in the log, nothing of it written, and everything else
//! goes on.

use bytes::Bytes;
use common::peer::{Log, Peer, batch, next_request};
use common::{SOON, publish, records, texts, wait_for_records};
use p2panda_core::SigningKey;
use rhio_core::id::OpSeq;
use rhio_core::log::operation::Operation;
use rhio_core::wire::{Absent, CloseCode, Frame, LogState, VERSION, encode_batch};
use rhio_net::stream::{FrameReader, FrameWriter};
use testkit::Cluster;

/// What a bad author says: which logs it has, and what it answers to a pull.
type Logs = Box<dyn Fn(&Log) -> Bytes>;
type Answer = Box<dyn Fn(&mut Log) -> Vec<Bytes>>;

/// A subscriber `b` of a bad author, and of a good one, `a`, in another stream.
struct Scene {
    a: Cluster,
    b: Cluster,
    bad: Peer,
}

async fn scene() -> Scene {
    let (mut a, mut b) = common::pair().await;
    for cluster in [&a, &b] {
        cluster.create_stream("GOOD", &["good.>"]).await;
    }
    a.publish("good.>", "GOOD");
    b.subscribe("good.>", "GOOD", &a);
    let bad = Peer::beside(&b).await;
    let (node, public_key) = (bad.as_node(), bad.public_key());
    b.rhio.rewrite_config(|config| {
        config.nodes.push(node);
        config.subscribe.push(testkit::Subscribe { subject: "s.>".into(), stream: "S".into(), public_key });
    });
    // Whatever is said about the bad author; the good one's entry must be quiet.
    b.rhio.allow_log("into stream 'S'");
    b.rhio.allow_log("can't reach node");
    common::start(&mut a, &mut b).await;
    Scene { a, b, bad }
}

fn tell(log: &Log) -> Bytes {
    Frame::Logs(vec![log.state()]).encode()
}

fn claim(log: &Log, change: impl FnOnce(&mut LogState)) -> Bytes {
    let mut state = log.state();
    change(&mut state);
    Frame::Logs(vec![state]).encode()
}

/// Serves one connection: answers watches and pulls. The streams stay open until the other side is gone.
async fn serve(connection: rhio_net::connection::Connection, log: &mut Log, logs: &Logs, answer: &Answer) {
    let mut open: Vec<(FrameWriter, FrameReader)> = Vec::new();
    while let Some((mut writer, reader, frame)) = next_request(&connection).await {
        let answers = match frame {
            Frame::Watch(_) => vec![logs(log)],
            Frame::Pull(_) => answer(log),
            _ => Vec::new(),
        };
        for bytes in answers {
            let _ = writer.send_bytes(bytes).await;
        }
        open.push((writer, reader));
    }
}

/// Lets the bad author behave so, and sees it refused for this reason and with this code; then it behaves well.
async fn refuses(reason: &str, code: CloseCode, logs: Logs, answer: Answer) {
    let Scene { a, b, mut bad } = scene().await;
    let connection = bad.accept().await;
    let mut log = Log::of(&bad.key);
    serve(connection.clone(), &mut log, &logs, &answer).await;
    assert_eq!(common::peer::closed_with(&connection).await, code);
    let line = b.rhio.wait_for_log(": refused: ", SOON).await;
    assert!(line.message.contains(reason), "{reason} in {}", line.message);
    assert_eq!(line.field("peer").and_then(|peer| peer.as_str()), Some(bad.public_key().as_str()));
    assert_eq!(records(&b, "S").await.len(), 0, "nothing of it is written");
    publish(&a, "good.x", &[], "fine").await;
    wait_for_records(&b, "GOOD", 1).await;

    // The process is unharmed: the same node is heard when it behaves.
    let honest: Answer = Box::new(|log| {
        let record = log.record("s.x", "honest");
        let operation = log.sign(&record);
        vec![batch(&operation, &record)]
    });
    let arrived = async {
        loop {
            let connection = bad.accept().await;
            serve(connection, &mut Log::of(&bad.key), &(Box::new(tell) as Logs), &honest).await;
        }
    };
    tokio::select! {
        () = arrived => {}
        records = wait_for_records(&b, "S", 1) => assert_eq!(texts(&records), ["honest"]),
    }
    common::finish(a, b).await;
}

/// The same for what is sent in answer to a pull.
async fn refuses_answer(reason: &str, code: CloseCode, answer: impl Fn(&mut Log) -> Vec<Bytes> + 'static) {
    refuses(reason, code, Box::new(tell), Box::new(answer)).await;
}

#[tokio::test]
async fn garbage_instead_of_logs() {
    let garbage: Logs = Box::new(|_| Bytes::from_static(b"GET / HTTP/1.1\r\n\r\n"));
    refuses("bad frame", CloseCode::Protocol, garbage, Box::new(|_| Vec::new())).await;
}

#[tokio::test]
async fn a_log_of_somebody_else() {
    let other: Logs = Box::new(|_| tell(&Log::of(&SigningKey::from_bytes(&[9; 32]))));
    refuses("a log that was not asked for", CloseCode::Protocol, other, Box::new(|_| Vec::new())).await;
}

#[tokio::test]
async fn garbage_instead_of_a_batch() {
    refuses_answer("bad frame", CloseCode::Protocol, |_| vec![Bytes::from(vec![0xaa; 100])]).await;
}

#[tokio::test]
async fn a_frame_of_another_version() {
    refuses_answer("version 1", CloseCode::Protocol, |_| vec![Bytes::from_static(&[1, 4, 0, 0, 0, 1, 0])]).await;
}

#[tokio::test]
async fn a_frame_longer_than_any() {
    let frame = Bytes::from_static(&[VERSION, 4, 0xff, 0xff, 0xff, 0xff]);
    refuses_answer("frame length is 4294967295", CloseCode::Protocol, move |_| vec![frame.clone()]).await;
}

#[tokio::test]
async fn a_frame_that_does_not_belong_there() {
    refuses_answer("unexpected frame", CloseCode::Protocol, |_| vec![Frame::End.encode()]).await;
}

#[tokio::test]
async fn a_batch_whose_inside_is_cut_off() {
    refuses_answer("ends in the middle", CloseCode::Protocol, |log| {
        let record = log.record("s.x", "text");
        let mut frame = batch(&log.sign(&record), &record).to_vec();
        frame.truncate(frame.len() - 3);
        let len = (frame.len() - 6) as u32;
        frame[2..6].copy_from_slice(&len.to_be_bytes());
        vec![frame.into()]
    })
    .await;
}

#[tokio::test]
async fn an_operation_with_a_wrong_signature() {
    refuses_answer("can't be accepted: operation", CloseCode::Unverified, |log| {
        let record = log.record("s.x", "text");
        let frame = batch(&log.sign(&record), &record);
        // The signature follows the key, 32 bytes of it, in the header.
        let key = *log.key.verifying_key().as_bytes();
        let at = frame.windows(32).position(|window| window == key).expect("the author's key") + 32 + 10;
        let mut frame = frame.to_vec();
        frame[at] ^= 1;
        vec![frame.into()]
    })
    .await;
}

#[tokio::test]
async fn an_operation_signed_by_somebody_else() {
    refuses_answer("is signed by", CloseCode::Unverified, |log| {
        let record = log.record("s.x", "text");
        let operation = log.sign_as(&SigningKey::from_bytes(&[9; 32]), &record);
        vec![batch(&operation, &record)]
    })
    .await;
}

#[tokio::test]
async fn an_operation_of_another_log() {
    refuses_answer("belongs to another log", CloseCode::Unverified, |log| {
        let mut other = Log::of(&log.key);
        other.descriptor.epoch += 1;
        let record = other.record("s.x", "text");
        vec![batch(&other.sign(&record), &record)]
    })
    .await;
}

#[tokio::test]
async fn a_chain_that_begins_in_the_middle() {
    refuses_answer("has number 1, expected 0", CloseCode::Unverified, |log| {
        let first = log.record("s.x", "first");
        log.sign(&first);
        let second = log.record("s.x", "second");
        vec![batch(&log.sign(&second), &second)]
    })
    .await;
}

#[tokio::test]
async fn a_record_that_is_not_what_was_signed() {
    refuses_answer("does not match its digest", CloseCode::Unverified, |log| {
        let signed = log.record("s.x", "signed");
        let other = log.record("s.x", "other!");
        vec![batch(&log.sign(&signed), &other)]
    })
    .await;
}

#[tokio::test]
async fn a_record_that_was_not_asked_for() {
    refuses_answer("was not asked for", CloseCode::Protocol, |log| {
        let record = log.record("t.x", "text");
        vec![batch(&log.sign(&record), &record)]
    })
    .await;
}

#[tokio::test]
async fn a_record_that_is_left_out() {
    refuses_answer("was left out", CloseCode::Unverified, |log| {
        let record = log.record("s.x", "text");
        let operation = log.sign(&record);
        vec![encode_batch(operation.raw(), std::iter::once(Err(Absent::LeftOut)))]
    })
    .await;
}

#[tokio::test]
async fn a_batch_without_its_records() {
    refuses_answer("has 0 slots for 1 records", CloseCode::Protocol, |log| {
        let record = log.record("s.x", "text");
        let operation: Operation = log.sign(&record);
        vec![encode_batch(operation.raw(), std::iter::empty())]
    })
    .await;
}

/// Sends one good operation, and then what comes of it; sees that the good one stays and nothing else comes.
async fn refuses_after_a_good_one(reason: &str, code: CloseCode, next: impl Fn(&mut Log) -> Bytes + 'static) {
    let Scene { a, b, mut bad } = scene().await;
    let connection = bad.accept().await;
    let mut log = Log::of(&bad.key);
    let answer: Answer = Box::new(move |log| {
        let record = log.record("s.x", "good");
        let good = batch(&log.sign(&record), &record);
        vec![good, next(log)]
    });
    serve(connection.clone(), &mut log, &(Box::new(tell) as Logs), &answer).await;
    assert_eq!(common::peer::closed_with(&connection).await, code);
    let line = b.rhio.wait_for_log(": refused: ", SOON).await;
    assert!(line.message.contains(reason), "{reason} in {}", line.message);
    assert!(texts(&records(&b, "S").await).iter().all(|text| text == "good"));
    publish(&a, "good.x", &[], "fine").await;
    wait_for_records(&b, "GOOD", 1).await;
    common::finish(a, b).await;
}

#[tokio::test]
async fn a_chain_that_is_broken() {
    refuses_after_a_good_one("does not link", CloseCode::Diverged, |log| {
        let mut other = Log::of(&log.key);
        let record = other.record("s.x", "another past");
        other.sign(&record);
        let record = other.record("s.x", "forked");
        batch(&other.sign(&record), &record)
    })
    .await;
}

#[tokio::test]
async fn a_log_that_jumps_back() {
    refuses_after_a_good_one("has number 0, expected 1", CloseCode::Unverified, |log| {
        let mut again = Log::of(&log.key);
        let record = again.record("s.x", "again");
        batch(&again.sign(&record), &record)
    })
    .await;
}

#[tokio::test]
async fn a_log_whose_positions_go_back() {
    refuses_after_a_good_one("goes back behind", CloseCode::Unverified, |log| {
        let mut record = log.record("s.x", "again");
        record.position.seq.0 -= 1;
        batch(&log.sign(&record), &record)
    })
    .await;
}

#[tokio::test]
async fn a_log_that_is_said_to_begin_before_its_place() {
    refuses_after_a_good_one("said to begin at operation 0", CloseCode::Protocol, |_| {
        Frame::Pruned { first: OpSeq(0) }.encode()
    })
    .await;
}

#[tokio::test]
async fn an_author_that_promises_and_sends_nothing_is_left_and_tried_again() {
    let Scene { a, b, mut bad } = scene().await;
    let mut promised = Log::of(&bad.key);
    let record = promised.record("s.x", "never sent");
    promised.sign(&record);
    let (head, total, through) = (promised.tail.head, promised.tail.total, promised.tail.through);
    let logs: Logs =
        Box::new(move |log| claim(log, |state| (state.head, state.total, state.through) = (head, total, through)));
    // The beginning of a frame whose end never comes.
    let silent: Answer = Box::new(|_| vec![Bytes::from_static(&[VERSION, 4, 0, 1, 0, 0, 1, 2, 3])]);
    let connection = bad.accept().await;
    serve(connection.clone(), &mut Log::of(&bad.key), &logs, &silent).await;
    assert_eq!(common::peer::closed_with(&connection).await, CloseCode::Stalled);
    let line = b.rhio.wait_for_log("no progress for", SOON).await;
    assert_eq!(line.field("peer").and_then(|peer| peer.as_str()), Some(bad.public_key().as_str()));
    // And dialled again.
    bad.accept().await;
    publish(&a, "good.x", &[], "fine").await;
    wait_for_records(&b, "GOOD", 1).await;
    common::finish(a, b).await;
}

#[tokio::test]
async fn an_author_that_does_not_say_what_it_has_is_told_of_and_asked_again() {
    let Scene { a, b, mut bad } = scene().await;
    let connection = bad.accept().await;
    let question = next_request(&connection).await.expect("a question");
    b.rhio.wait_for_log("does not answer", SOON).await;
    common::waits_with(&b, "no-progress", "check the network").await;
    let (_, _, again) = next_request(&connection).await.expect("another question");
    assert_eq!(question.2, again);
    publish(&a, "good.x", &[], "fine").await;
    wait_for_records(&b, "GOOD", 1).await;
    common::finish(a, b).await;
}
