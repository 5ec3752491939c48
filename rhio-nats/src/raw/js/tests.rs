use bytes::BytesMut;
use data_encoding::BASE64;

use super::*;
use crate::raw::parse::{Parser, ServerOp};

fn message(wire: &[u8]) -> Message {
    match Parser::default().next(&mut BytesMut::from(wire)) {
        Ok(Some(ServerOp::Message(message))) => message,
        other => panic!("{other:?}"),
    }
}

/// What comes on `subject` with this block of headers and payload, as the server sends it.
fn answer(subject: &str, reply: &str, headers: &str, payload: &str) -> Message {
    let (header_len, total) = (headers.len(), headers.len() + payload.len());
    message(format!("HMSG {subject} 1 {reply} {header_len} {total}\r\n{headers}{payload}\r\n").as_bytes())
}

#[test]
fn a_delivery_is_read_in_both_forms() {
    let expected = Delivery {
        stream: b"S",
        consumer: b"c",
        times: 2,
        stream_seq: 100,
        consumer_seq: 7,
        time: 1_790_000_000_000_000_001,
        pending: 42,
    };
    let tail = "S.c.2.100.7.1790000000000000001.42";
    for reply in [
        format!("$JS.ACK.{tail}"),
        format!("$JS.ACK._.szMpdrwD.{tail}"),
        format!("$JS.ACK.hub.szMpdrwD.{tail}.random"),
        format!("$JS.ACK.hub.szMpdrwD.{tail}.random.more"),
    ] {
        assert_eq!(Delivery::read(reply.as_bytes()), Some(expected), "{reply}");
    }
    for bad in ["", "$JS.ACK", "$JS.ACK.", "$JS.ACK.S.c.1.1.1.1", "$JS.ACK.x.S.c.1.1.1.1.1", "$JS.ACK.S.c.1.1.1.1.x"] {
        assert_eq!(Delivery::read(bad.as_bytes()), None, "{bad}");
    }
}

#[test]
fn stored_messages_are_told_from_statuses_by_where_they_come() {
    let read = |message: &Message| format!("{:?}", Pulled::read(message, b"_INBOX.x", b"S", b"c"));
    let timeout = "NATS/1.0 408 Request Timeout\r\nNats-Pending-Messages: 3\r\nNats-Pending-Bytes: 9\r\n\r\n";
    let delivered = answer("s.a", "$JS.ACK.S.c.1.1.1.1.0", timeout, "");
    assert!(read(&delivered).starts_with("Delivered"));
    // Even a stream that has taken what was sent to the inbox.
    assert!(read(&answer("_INBOX.x", "$JS.ACK.S.c.1.1.1.1.0", timeout, "")).starts_with("Delivered"));
    assert_eq!(
        Pulled::read(&answer("_INBOX.x", "", timeout, ""), b"_INBOX.x", b"S", b"c"),
        Pulled::Status(Pull::Over(Left { messages: 3, bytes: 9 }))
    );
    assert!(read(&answer("_INBOX.x.17", "", timeout, "")).starts_with("Status"));
    for stray in [
        answer("_INBOX.x", "$JS.ACK.OTHER.c.1.1.1.1.0", timeout, ""),
        answer("_INBOX.x", "somewhere", timeout, ""),
        answer("_INBOX.xy", "", timeout, ""),
        answer("_INBOX.x", "", timeout, "a payload"),
        answer("_INBOX.x", "", "NATS/1.0\r\n\r\n", ""),
    ] {
        assert_eq!(read(&stray), "Stray");
    }
}

#[test]
fn a_status_says_how_a_request_ended() {
    let status = |line: &str| {
        let message = answer("i", "", &format!("NATS/1.0 {line}\r\n\r\n"), "");
        match Pulled::read(&message, b"i", b"S", b"c") {
            Pulled::Status(status) => format!("{status:?}"),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(status("100 Idle Heartbeat"), "Heartbeat");
    assert!(status("404 No Messages").starts_with("Over"));
    assert!(status("409 Batch Completed").starts_with("Over"));
    assert!(status("409 Message Size Exceeds MaxBytes").starts_with("Full"));
    assert_eq!(status("503"), "NoConsumer");
    assert!(status("409 Consumer Deleted").starts_with("Failed { code: 409"));
    assert!(status("400 Bad Request").starts_with("Failed { code: 400"));
}

#[test]
fn what_became_of_a_message_is_read() {
    let stored = answer("i.17", "", "", r#"{"stream":"S","domain":"d","seq":7,"duplicate":true}"#);
    assert_eq!(Stored::read(&stored), Ok(Stored { stream: "S".into(), seq: 7, duplicate: true }));
    assert_eq!(mark(stored.subject()), Some(17));
    assert_eq!(mark(b"i.x"), None);
    let text = r#"{"error":{"code":503,"err_code":10077,"description":"maximum bytes exceeded"},"stream":"S","seq":0}"#;
    let expected = Refusal::Server { code: 503, err_code: 10077, description: "maximum bytes exceeded".into() };
    assert_eq!(Stored::read(&answer("i", "", "", text)), Err(expected));
    assert_eq!(Stored::read(&answer("i", "", "NATS/1.0 503\r\n\r\n", "")), Err(Refusal::Nobody));
    for bad in ["", "{", "{}", r#"{"stream":"S"}"#, r#"{"seq":1}"#] {
        assert_eq!(Stored::read(&answer("i", "", "", bad)), Err(Refusal::Unreadable), "{bad}");
    }
}

#[test]
fn a_single_message_is_read_with_its_bytes() {
    let (headers, data) = (BASE64.encode(b"NATS/1.0 408\r\nA:\xE9\r\n\r\n"), BASE64.encode(b"\xFF"));
    let answer_of = |subject: &str| {
        let text = format!(
            r#"{{"type":"x","message":{{"subject":"{subject}","seq":3,"hdrs":"{headers}","data":"{data}","time":"2026-01-01T00:00:00Z"}}}}"#
        );
        Single::read(&answer("i", "", "", &text)).unwrap().unwrap()
    };
    let single = answer_of("s.a");
    assert_eq!((single.seq, single.subject.as_deref()), (3, Some(&b"s.a"[..])));
    assert_eq!((&single.headers[..], &single.payload[..]), (&b"NATS/1.0 408\r\nA:\xE9\r\n\r\n"[..], &b"\xFF"[..]));
    assert_eq!(single.time, 1_767_225_600_000_000_000);
    assert_eq!(answer_of("s.\u{FFFD}").subject, None);
    let none = r#"{"error":{"code":404,"err_code":10037,"description":"no message found"}}"#;
    assert_eq!(Single::read(&answer("i", "", "", none)), Ok(None));
    assert_eq!(Single::read(&answer("i", "", "", "{}")), Err(Refusal::Unreadable));
}

#[test]
fn a_message_that_is_read_directly_loses_what_the_server_has_added() {
    let added =
        "Nats-Stream: S\r\nNats-Subject: s.a\r\nNats-Sequence: 3\r\nNats-Time-Stamp: 2026-01-01T00:00:00.5Z\r\n";
    let read = |block: &str| Single::read_direct(&answer("i", "", block, "x"));
    let headers_of = |sent: &str| {
        let single = read(&format!("{sent}{added}\r\n")).unwrap().unwrap();
        assert_eq!((single.seq, single.time), (3, 1_767_225_600_500_000_000));
        assert_eq!((single.subject.as_deref(), &single.payload[..]), (Some(&b"s.a"[..]), &b"x"[..]));
        String::from_utf8(single.headers).unwrap()
    };
    assert_eq!(headers_of("NATS/1.0\r\n"), "");
    assert_eq!(headers_of("NATS/1.0 404 No\r\nA: 1\r\n"), "NATS/1.0 404 No\r\nA: 1\r\n\r\n");
    // A message that was itself made of such an answer.
    assert_eq!(headers_of(&format!("NATS/1.0\r\n{added}")), format!("NATS/1.0\r\n{added}\r\n"));
    assert_eq!(read("NATS/1.0 404 Message Not Found\r\n\r\n"), Ok(None));
    assert!(matches!(read("NATS/1.0 408 Bad Request\r\n\r\n"), Err(Refusal::Server { code: 408, .. })));
    assert_eq!(read("NATS/1.0\r\n\r\n"), Err(Refusal::Unreadable));
    assert_eq!(Single::read_direct(&answer("i", "", "NATS/1.0 503\r\n\r\n", "")), Err(Refusal::Nobody));
}

#[test]
fn requests_are_written_as_the_server_takes_them() {
    let (expires, idle_heartbeat) = (Duration::from_secs(30), Duration::from_secs(5));
    let mut request = PullRequest { batch: 100, max_bytes: 4096, expires, idle_heartbeat };
    let text = String::from_utf8(request.json()).unwrap();
    assert_eq!(text, r#"{"batch":100,"max_bytes":4096,"expires":30000000000,"idle_heartbeat":5000000000}"#);
    request.max_bytes = 0;
    assert!(!String::from_utf8(request.json()).unwrap().contains("max_bytes"));
    assert_eq!(GetRequest { seq: 3, filter: None }.json(), br#"{"seq":3}"#);
    assert_eq!(GetRequest { seq: 3, filter: Some("s.>") }.json(), br#"{"seq":3,"next_by_subj":"s.>"}"#);
    let settings = Nats { domain: Some("hub".into()), inbox_prefix: "_mine".into(), ..Nats::default() };
    assert_eq!(Api::new(&settings).next("S", "c"), "$JS.hub.API.CONSUMER.MSG.NEXT.S.c");
    assert_eq!(Api::new(&Nats::default()).get("S"), "$JS.API.STREAM.MSG.GET.S");
    let (one, other) = (inbox(&settings), inbox(&settings));
    assert!(one.starts_with("_mine.") && one.len() == 28 && one != other);
}
