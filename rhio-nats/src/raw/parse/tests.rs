use proptest::prelude::*;

use super::*;

/// Reads what comes in these pieces, as far as it can be read.
fn read(pieces: &[&[u8]]) -> Result<Vec<ServerOp>, ParseError> {
    let (mut parser, mut buffer, mut ops) = (Parser::default(), BytesMut::new(), Vec::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        while let Some(op) = parser.next(&mut buffer)? {
            ops.push(op);
        }
    }
    Ok(ops)
}

/// Number, subject, place for answers, headers, payload.
type Parts<'a> = (u64, &'a [u8], Option<&'a [u8]>, &'a [u8], &'a [u8]);

fn parts(op: &ServerOp) -> Parts<'_> {
    let ServerOp::Message(message) = op else { panic!("{op:?} is no message") };
    (message.sid(), message.subject(), message.reply(), message.headers(), message.payload())
}

const ALL: &[u8] = b"INFO {\"a\": \"b c\"}\r\nMSG s.\xFF 1 5\r\nhel\r\n\r\nMSG\ta  2\tr.x 0\r\n\r\nPING\r\nPONG\r\n+OK\r\n\
    HMSG s 3 18 18\r\nNATS/1.0\r\nA: \xE9\r\n\r\n\r\nHMSG s 18446744073709551615 $JS.ACK.x 12 14\r\nNATS/1.0\r\n\r\nhi\r\n\
    -ERR 'Permissions Violation for Publish to \"a\"'\r\nhmsg s 1 0 1\r\nx\r\n-err plain\r\n";

fn assert_all(ops: &[ServerOp]) {
    assert_eq!(ops.len(), 11, "{ops:?}");
    assert_eq!(ops[0], ServerOp::Info(Bytes::from_static(b"{\"a\": \"b c\"}")));
    assert_eq!(parts(&ops[1]), (1, &b"s.\xFF"[..], None, &b""[..], &b"hel\r\n"[..]));
    assert_eq!(parts(&ops[2]), (2, &b"a"[..], Some(&b"r.x"[..]), &b""[..], &b""[..]));
    assert_eq!(ops[3..6], [ServerOp::Ping, ServerOp::Pong, ServerOp::Ok]);
    assert_eq!(parts(&ops[6]), (3, &b"s"[..], None, &b"NATS/1.0\r\nA: \xE9\r\n\r\n"[..], &b""[..]));
    assert_eq!(parts(&ops[7]), (u64::MAX, &b"s"[..], Some(&b"$JS.ACK.x"[..]), &b"NATS/1.0\r\n\r\n"[..], &b"hi"[..]));
    assert_eq!(ops[8], ServerOp::Error(Bytes::from_static(b"Permissions Violation for Publish to \"a\"")));
    assert_eq!(parts(&ops[9]), (1, &b"s"[..], None, &b""[..], &b"x"[..]));
    assert_eq!(ops[10], ServerOp::Error(Bytes::from_static(b"plain")));
}

#[test]
fn everything_that_a_server_says_is_read() {
    assert_all(&read(&[ALL]).unwrap());
}

#[test]
fn it_may_come_in_halves_at_any_place() {
    for at in 0..=ALL.len() {
        assert_all(&read(&[&ALL[..at], &ALL[at..]]).unwrap());
    }
    let bytes: Vec<&[u8]> = ALL.chunks(1).collect();
    assert_all(&read(&bytes).unwrap());
}

#[test]
fn parts_share_the_memory_that_was_read_into() {
    let mut buffer = BytesMut::from(&b"HMSG s 1 r 12 14\r\nNATS/1.0\r\n\r\nhi\r\n"[..]);
    let begin = buffer.as_ptr() as usize;
    let Ok(Some(ServerOp::Message(message))) = Parser::default().next(&mut buffer) else { panic!("a message") };
    let at = |bytes: &Bytes| bytes.as_ptr() as usize - begin;
    assert_eq!(at(&message.shared_subject()), 5);
    assert_eq!(at(&message.shared_reply().unwrap()), 9);
    assert_eq!((at(&message.shared_headers()), message.shared_headers().len()), (18, 12));
    assert_eq!(at(&message.shared_payload()), 30);
    assert_eq!(message.wire_len(), 34);
}

#[test]
fn nonsense_is_told_at_once() {
    let too_large = format!("MSG s 1 {}\r\n", MAX_MESSAGE + 1);
    let largest = format!("MSG s 1 {MAX_MESSAGE}\r\n");
    for (text, error) in [
        (&b"HTTP/1.1 400 Bad Request\r\n"[..], ParseError::UnknownWord),
        (b"MSGX", ParseError::UnknownWord),
        (b"\r\n", ParseError::UnknownWord),
        (b"\x16\x03\x01", ParseError::UnknownWord),
        (b"\n", ParseError::LineEnd),
        (b"PING\n", ParseError::LineEnd),
        (b"MSG s 1\r\n", ParseError::MessageLine),
        (b"MSG s\r\n", ParseError::MessageLine),
        (b"MSG\r\n", ParseError::MessageLine),
        (b"MSG s 1 r r 5\r\n", ParseError::MessageLine),
        (b"MSG s x 5\r\n", ParseError::MessageLine),
        (b"MSG s 1 -5\r\n", ParseError::MessageLine),
        (b"MSG s 1 +5\r\n", ParseError::MessageLine),
        (b"MSG s 1 99999999999999999999\r\n", ParseError::MessageLine),
        (b"HMSG s 1 5\r\n", ParseError::MessageLine),
        (b"HMSG s 1 r r 5 5\r\n", ParseError::MessageLine),
        (b"HMSG s 1 6 5\r\n", ParseError::HeaderLength),
        (b"MSG s 1 2\r\nabc\r\n", ParseError::MessageEnd),
        (b"MSG s 1 18446744073709551615\r\n", ParseError::TooLarge(u64::MAX)),
        (too_large.as_bytes(), ParseError::TooLarge(MAX_MESSAGE as u64 + 1)),
    ] {
        assert_eq!(read(&[text]), Err(error), "{}", text.escape_ascii());
    }
    assert_eq!(read(&[largest.as_bytes()]), Ok(Vec::new()));
}

#[test]
fn a_line_without_end_is_not_kept() {
    let endless = |word: &[u8], max: usize| {
        let (mut parser, mut buffer) = (Parser::default(), BytesMut::from(word));
        for _ in 0..max / 1024 + 1 {
            buffer.extend_from_slice(&[b'x'; 1024]);
            if let Err(error) = parser.next(&mut buffer) {
                return Some(error);
            }
        }
        None
    };
    assert_eq!(endless(b"-ERR '", MAX_LINE), Some(ParseError::LongLine));
    assert_eq!(endless(b"MSG ", MAX_LINE), Some(ParseError::LongLine));
    assert_eq!(endless(b"INFO {", MAX_LINE), None);
    assert_eq!(endless(b"INFO {", MAX_INFO), Some(ParseError::LongLine));
}

#[test]
fn what_is_missing_of_a_message_is_known() {
    let (mut parser, mut buffer) = (Parser::default(), BytesMut::from(&b"MSG s 1 1000\r\nab"[..]));
    assert_eq!(parser.missing(&buffer), 0);
    assert_eq!(parser.next(&mut buffer), Ok(None));
    assert_eq!(parser.missing(&buffer), 1000);
}

/// A word of a subject: any bytes but white space.
fn subject() -> impl Strategy<Value = Vec<u8>> {
    let byte = any::<u8>().prop_filter("no white space", |b| !matches!(b, b' ' | b'\t' | b'\r' | b'\n'));
    prop::collection::vec(byte, 1..40)
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..200)
}

prop_compose! {
    fn message()(
        subject in subject(), reply in prop::option::of(subject()), sid: u64, headers in bytes(), payload in bytes(),
        blank in prop::sample::select(vec![" ", "\t", "  "]),
    ) -> (Vec<u8>, (u64, Vec<u8>, Option<Vec<u8>>, Vec<u8>, Vec<u8>)) {
        let mut wire = if headers.is_empty() { b"MSG".to_vec() } else { b"HMSG".to_vec() };
        let mut word = |bytes: &[u8]| {
            wire.extend_from_slice(blank.as_bytes());
            wire.extend_from_slice(bytes);
        };
        word(&subject);
        word(sid.to_string().as_bytes());
        reply.iter().for_each(|reply| word(reply));
        if !headers.is_empty() {
            word(headers.len().to_string().as_bytes());
        }
        word((headers.len() + payload.len()).to_string().as_bytes());
        for piece in [b"\r\n", &headers[..], &payload, b"\r\n"] {
            wire.extend_from_slice(piece);
        }
        (wire, (sid, subject, reply, headers, payload))
    }
}

proptest! {
    #[test]
    fn messages_of_any_bytes_are_read_in_any_pieces(
        messages in prop::collection::vec(message(), 1..6),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let wire: Vec<u8> = messages.iter().flat_map(|(wire, _)| wire.clone()).collect();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(wire.len() + 1)).chain([0, wire.len()]).collect();
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &wire[cut[0]..cut[1]]).collect();
        let ops = read(&pieces).unwrap();
        prop_assert_eq!(ops.len(), messages.len());
        for (op, (_, (sid, subject, reply, headers, payload))) in ops.iter().zip(&messages) {
            let expected = (*sid, &subject[..], reply.as_deref(), &headers[..], &payload[..]);
            prop_assert_eq!(parts(op), expected);
        }
    }

    #[test]
    fn any_bytes_hurt_nobody_and_mean_the_same_in_pieces(input in bytes(), cut in any::<prop::sample::Index>()) {
        let (begin, end) = input.split_at(cut.index(input.len() + 1));
        prop_assert_eq!(read(&[&input]).is_ok(), read(&[begin, end]).is_ok());
    }
}
