//! What a NATS server sends: read at once and in pieces it means the same, and nothing in it makes anything panic.

use bytes::BytesMut;
use rhio_nats::raw::connection::Denied;
use rhio_nats::raw::headers;
use rhio_nats::raw::info::ServerInfo;
use rhio_nats::raw::js::{Pulled, Single, Stored};
use rhio_nats::raw::parse::{MAX_MESSAGE, Message, ParseError, Parser, ServerOp};

/// The first two bytes say how the rest is cut.
pub fn run(input: &[u8]) {
    let Some(([first, second], text)) = input.split_first_chunk() else { return };
    let (whole, end) = read([text]);
    let (first, second) = (usize::from(*first) % (text.len() + 1), usize::from(*second) + 1);
    let (begin, rest) = text.split_at(first);
    let (pieces, end_of_pieces) = read(std::iter::once(begin).chain(rest.chunks(second)));
    assert_eq!((&whole, end.is_some()), (&pieces, end_of_pieces.is_some()), "it means something else in pieces");
    whole.iter().for_each(look);
}

fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<ServerOp>, Option<ParseError>) {
    let (mut parser, mut buffer, mut ops) = (Parser::default(), BytesMut::new(), Vec::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match parser.next(&mut buffer) {
                Ok(Some(op)) => ops.push(op),
                Ok(None) => break,
                Err(error) => return (ops, Some(error)),
            }
            assert!(parser.missing(&buffer) <= MAX_MESSAGE + 2);
        }
    }
    (ops, None)
}

fn look(op: &ServerOp) {
    match op {
        ServerOp::Info(json) => _ = ServerInfo::read(json),
        ServerOp::Error(text) => _ = Denied::read(text),
        ServerOp::Message(message) => look_into(message),
        ServerOp::Ping | ServerOp::Pong | ServerOp::Ok => {}
    }
}

fn look_into(message: &Message) {
    assert!(!message.subject().is_empty());
    assert_eq!(message.shared_headers(), message.headers());
    assert_eq!(message.shared_payload(), message.payload());
    let lines: usize = headers::lines(message.headers()).map(|line| line.raw.len()).sum();
    assert!(lines <= message.headers().len());
    let _ = headers::status(message.headers());
    let _ = (Stored::read(message), Single::read(message), Single::read_direct(message));
    if let Pulled::Delivered(delivery) = Pulled::read(message, b"_INBOX.x", b"S", b"c") {
        assert!(message.reply().is_some_and(|reply| reply.starts_with(b"$JS.ACK.")));
        assert_eq!((delivery.stream, delivery.consumer), (&b"S"[..], &b"c"[..]));
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let texts: [&[u8]; 8] = [
        b"INFO {\"server_id\":\"N1\",\"max_payload\":1048576,\"headers\":true}\r\nPING\r\n+OK\r\nPONG\r\n",
        b"MSG s.a 1 5\r\nhello\r\nMSG s.\xFF 1 $JS.ACK.S.c.1.1.1.1.0 0\r\n\r\n",
        b"HMSG s 1 $JS.ACK._.h.S.c.1.2.3.4.5 18 20\r\nNATS/1.0\r\nA: \xE9\r\n\r\nhi\r\n",
        b"HMSG _INBOX.x 1 36 36\r\nNATS/1.0 408 Request Timeout\r\nA:\r\n\r\n\r\n",
        b"-ERR 'Permissions Violation for Publish to \"s.\\xff\"'\r\n-ERR 'Stale Connection'\r\n",
        b"MSG i 1 23\r\n{\"stream\":\"S\",\"seq\":12}\r\n",
        b"MSG i 1 74\r\n{\"message\":{\"subject\":\"s\",\"seq\":1,\"hdrs\":\"TkFU\",\"data\":\"aGk=\",\"time\":\"x\"}}\r\n",
        b"HMSG i 1 102 103\r\nNATS/1.0\r\nNats-Stream: S\r\nNats-Subject: s\r\nNats-Sequence: 1\r\n\
            Nats-Time-Stamp: 2026-01-01T00:00:00Z\r\n\r\nx\r\n",
    ];
    texts.iter().map(|text| [b"\x03\x07", *text].concat()).collect()
}
