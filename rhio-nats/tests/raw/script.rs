//! What becomes of a connection whose server is slow, mad, or gone.

use std::time::{Duration, Instant};

use bytes::Bytes;
use rhio_nats::raw::connect::ConnectError;
use rhio_nats::raw::connection::{Incoming, Lost, Operation, Reader, SILENCE, WRITE_DEADLINE, WriteError};
use rhio_nats::raw::encode::Publish;
use rhio_nats::raw::parse::ParseError;

use super::scripted::{INFO, Scripted};
use super::{SOON, message, next};

async fn end(reader: &mut Reader) -> Lost {
    let end = async {
        loop {
            if let Err(lost) = reader.next().await {
                return lost;
            }
        }
    };
    tokio::time::timeout(SOON, end).await.expect("in time")
}

fn publish<'a>(payload: &'a Bytes) -> Publish<'a> {
    Publish { subject: b"s", reply: None, headers: &[], payload }
}

#[tokio::test]
async fn a_client_says_who_it_is() {
    let server = Scripted::start().await;
    let settings = server.settings();
    let (said, connected) = tokio::join!(
        async {
            let mut client = server.accept().await;
            // A byte at a time, and what real servers do at this point: an INFO and a PING of their own.
            for byte in INFO.as_bytes() {
                client.say([*byte]).await;
            }
            let said = client.expect("PING\r\n").await;
            client.say(format!("{}PING\r\nPO", INFO.replace("N1", "N2"))).await;
            client.expect("PONG\r\n").await;
            client.say("NG\r\nMSG early 1 2\r\nhi\r\n").await;
            said
        },
        rhio_nats::raw::connect::connect(&settings, "test")
    );
    for part in
        ["\"verbose\":false", "\"headers\":true", "\"no_responders\":true", "\"name\":\"rhio test\"", "\"protocol\":1"]
    {
        assert!(said.starts_with("CONNECT {") && said.contains(part), "{said}");
    }
    let (writer, mut reader) = connected.unwrap();
    assert_eq!(writer.info().server_id, "N2");
    assert_eq!(message(&mut reader).await.subject(), b"early");
}

#[tokio::test]
async fn no_connection_is_made_to_what_is_no_server() {
    for (text, says) in [
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], "does not speak NATS"),
        (b"PONG\r\n", "does not speak NATS"),
        (b"INFO {\"max_payload\":\"much\"}\r\n", "INFO can't be read"),
        (b"INFO x\r\n", "INFO can't be read"),
        (b"\x15\x03\x01\x00\x02\x02\x46", "does not speak NATS"),
    ] {
        let error = Scripted::start().await.refusal(text).await;
        assert!(matches!(&error, ConnectError::Unreachable { reason, .. } if reason.contains(says)), "{error}");
    }
    let endless = [b"INFO ", &vec![b'x'; 2 * 1024 * 1024][..]].concat();
    let server = Scripted::start().await;
    let settings = server.settings();
    let (_, connected) = tokio::join!(
        async {
            let mut client = server.accept().await;
            let _ = client.try_say(&endless).await;
        },
        rhio_nats::raw::connect::connect(&settings, "test")
    );
    assert!(connected.unwrap_err().to_string().contains("too long"));
}

#[tokio::test]
async fn a_server_that_wants_tls_and_goes_on_in_clear_text_is_not_believed() {
    let text = "INFO {\"tls_required\":true}\r\nINFO {\"tls_required\":false}\r\n";
    let error = Scripted::start().await.refusal(text.as_bytes()).await;
    assert!(matches!(&error, ConnectError::Tls { reason, .. } if reason.contains("clear text")), "{error}");
}

#[tokio::test]
async fn every_step_of_connecting_has_a_deadline() {
    let begun = Instant::now();
    let silent = async { Scripted::start().await.refusal(b"").await };
    let half = async { Scripted::start().await.refusal(b"INFO {").await };
    let no_answer = async { Scripted::start().await.refusal(INFO.as_bytes()).await };
    let no_handshake = async { Scripted::start().await.refusal(b"INFO {\"tls_required\":true}\r\n").await };
    let (silent, half, no_answer, no_handshake) = tokio::join!(silent, half, no_answer, no_handshake);
    for error in [silent, half, no_answer] {
        let said = matches!(&error, ConnectError::Unreachable { reason, .. } if reason.contains("within 5 s"));
        assert!(said, "{error}");
    }
    // Without CAs of the system there is none to begin with.
    assert!(matches!(no_handshake, ConnectError::Tls { .. } | ConnectError::Auth(_)), "{no_handshake}");
    assert!(begun.elapsed() < Duration::from_secs(9));
}

#[tokio::test]
async fn what_the_server_forbids_is_told_in_order_and_ends_nothing() {
    let (mut client, writer, mut reader) = Scripted::start().await.connected().await;
    client.say("MSG a 1 1\r\n1\r\n-ERR 'Permissions Violation for Publish to \"s.\\xff\"'\r\nMSG a 1 1\r\n2\r\n").await;
    assert_eq!(message(&mut reader).await.payload(), b"1");
    let Incoming::Denied(denied) = next(&mut reader).await else { panic!("a denial") };
    assert_eq!((denied.operation, &denied.subject[..]), (Operation::Publish, &b"s.\xFF"[..]));
    assert_eq!(denied.text, "Permissions Violation for Publish to \"s.\\xff\"");
    assert_eq!(message(&mut reader).await.payload(), b"2");
    assert_eq!(writer.why(), None);
}

#[tokio::test]
async fn any_other_error_ends_the_connection_and_is_told() {
    let (mut client, writer, mut reader) = Scripted::start().await.connected().await;
    client.say("MSG a 1 1\r\n1\r\n-ERR 'Slow Consumer Detected'\r\n").await;
    drop(client);
    assert_eq!(message(&mut reader).await.payload(), b"1");
    let lost = Lost::Server("Slow Consumer Detected".into());
    assert_eq!(end(&mut reader).await, lost);
    assert_eq!(writer.why(), Some(lost.clone()));
    assert_eq!(writer.publish(&publish(&Bytes::new())).await, Err(WriteError::Lost(lost.clone())));
    assert_eq!(writer.round_trip().await, Err(lost));
}

#[tokio::test]
async fn the_servers_words_are_read_even_when_writing_fails_before() {
    let (mut client, writer, mut reader) = Scripted::start().await.connected().await;
    client.say("-ERR 'Maximum Payload Violation'\r\n").await;
    drop(client);
    // Some of these meet a socket that is closed already.
    while writer.publish(&publish(&Bytes::from_static(b"x"))).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert_eq!(end(&mut reader).await, Lost::Server("Maximum Payload Violation".into()));
}

#[tokio::test]
async fn a_closed_connection_is_told_after_what_came_before() {
    let (mut client, _writer, mut reader) = Scripted::start().await.connected().await;
    client.say("MSG a 1 1\r\n1\r\nMSG a 1 10\r\nhalf").await;
    drop(client);
    assert_eq!(message(&mut reader).await.payload(), b"1");
    assert_eq!(end(&mut reader).await, Lost::Closed);
}

#[tokio::test]
async fn nonsense_ends_the_connection() {
    for (text, expected) in [
        (&b"GARBAGE\r\n"[..], Lost::Protocol(ParseError::UnknownWord)),
        (b"MSG a 1 99999999999\r\n", Lost::Protocol(ParseError::TooLarge(99_999_999_999))),
        (b"MSG a 1 1\r\nxyz", Lost::Protocol(ParseError::MessageEnd)),
        (b"INFO {]\r\n", Lost::Nonsense("its INFO can't be read")),
    ] {
        let (mut client, _writer, mut reader) = Scripted::start().await.connected().await;
        client.say(text).await;
        assert_eq!(end(&mut reader).await, expected);
        assert!(client.is_left_within(SOON).await);
    }
}

#[tokio::test]
async fn what_changes_at_the_server_is_seen_and_obeyed() {
    let (mut client, writer, mut reader) = Scripted::start().await.connected().await;
    let payload = Bytes::from(vec![0; 2000]);
    writer.publish(&publish(&payload)).await.unwrap();
    client.say("INFO {\"server_id\":\"N1\",\"max_payload\":1000,\"ldm\":true}\r\n").await;
    let Incoming::Info(info) = next(&mut reader).await else { panic!("an INFO") };
    assert!(info.lame_duck && writer.info().lame_duck);
    let refused = writer.publish(&publish(&payload)).await;
    assert_eq!(refused, Err(WriteError::TooLarge { len: 2000, max: 1000 }));
    client.expect("PUB s 2000\r\n").await;
}

#[tokio::test]
async fn a_ping_is_answered_while_nobody_reads() {
    let (mut client, _writer, _reader) = Scripted::start().await.connected().await;
    client.say("MSG a 1 1\r\n1\r\nPING\r\n").await;
    client.expect("PONG\r\n").await;
}

#[tokio::test]
async fn a_server_that_asks_without_end_and_takes_no_answer_is_left() {
    let (mut client, _writer, mut reader) = Scripted::start().await.connected().await;
    let flood = "PING\r\n".repeat(100_000);
    let flooding = async { while client.try_say(flood.as_bytes()).await.is_ok() {} };
    let (_, lost) = tokio::join!(flooding, end(&mut reader));
    let expected = matches!(lost, Lost::Nonsense(_) | Lost::Stuck);
    assert!(expected, "{lost}");
}

#[tokio::test]
async fn a_server_that_is_silent_is_asked_and_then_left() {
    let (mut client, writer, mut reader) = Scripted::start().await.connected().await;
    let begun = Instant::now();
    client.expect("PING\r\n").await;
    client.say("PONG\r\n").await;
    client.expect("PING\r\n").await;
    assert_eq!(end(&mut reader).await, Lost::Silent);
    let (took, expected) = (begun.elapsed(), SILENCE * 3);
    assert!(took > expected - Duration::from_secs(1) && took < expected + Duration::from_secs(3), "{took:?}");
    assert!(writer.lost().is_cancelled());
}

#[tokio::test]
async fn a_server_that_takes_nothing_is_left() {
    let (mut client, writer, mut reader) = Scripted::start().await.connected().await;
    let payload = Bytes::from(vec![0; 1024 * 1024]);
    let begun = Instant::now();
    let publishing = async {
        loop {
            if let Err(error) = writer.publish(&publish(&payload)).await {
                return error;
            }
        }
    };
    // It says something all the time, so it is not silent.
    let talking = async {
        while client.try_say(b"+OK\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let publishing = tokio::time::timeout(SOON, publishing);
    let (error, lost, ()) = tokio::join!(publishing, end(&mut reader), talking);
    assert_eq!((error.expect("in time"), lost), (WriteError::Lost(Lost::Stuck), Lost::Stuck));
    assert!(begun.elapsed() > WRITE_DEADLINE - Duration::from_secs(1));
}

#[tokio::test]
async fn an_owner_that_does_not_read_stops_the_server() {
    let (mut client, _writer, mut reader) = Scripted::start().await.connected().await;
    let some = [b"MSG a 1 100000\r\n", &vec![b'x'; 100_000][..], b"\r\n"].concat();
    // More than what is read ahead and what sockets hold.
    let mut sent = 0;
    while tokio::time::timeout(Duration::from_secs(1), client.try_say(&some)).await.is_ok() {
        sent += 1;
        assert!(sent < 1000, "100 MB have been read ahead");
    }
    // What was cut off is of no use, but all before it is there.
    for _ in 0..sent {
        assert_eq!(message(&mut reader).await.payload().len(), 100_000);
    }
}

#[tokio::test]
async fn a_connection_that_nobody_reads_from_any_more_is_closed() {
    let (mut client, writer, reader) = Scripted::start().await.connected().await;
    drop(reader);
    assert!(client.is_left_within(SOON).await);
    assert_eq!(writer.why(), Some(Lost::GivenUp));
    assert_eq!(writer.round_trip().await, Err(Lost::GivenUp));
}
