//! Writes what a client says.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use rhio_core::codec::put_decimal;
use rhio_core::secret::Secret;
use serde::Serialize;
use thiserror::Error;

/// Payloads from here on are not copied between others but sent as they are.
const OWN_SEGMENT: usize = 64 * 1024;
/// A buffer that grew beyond this is given back when it is empty.
const KEEP: usize = 1024 * 1024;

/// Why something can't be said. Nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum EncodeError {
    /// It is empty, or has white space in it: it would end early, or be taken for something else.
    #[error("a subject that is empty or has white space in it can't be sent")]
    Subject,
}

/// What a client says first.
#[derive(Debug, Serialize)]
pub struct ClientInfo<'a> {
    /// Ask for `+OK` after everything.
    pub verbose: bool,
    /// Ask for strict checks of subjects.
    pub pedantic: bool,
    /// Whether this connection is to be secure.
    pub tls_required: bool,
    /// What the server's lists of connections show.
    pub name: &'a str,
    /// The language of the client.
    pub lang: &'a str,
    /// Its version.
    pub version: &'a str,
    /// 1: it understands an `INFO` that comes later.
    pub protocol: u8,
    /// Whether own messages are delivered to own subscriptions.
    pub echo: bool,
    /// It understands headers.
    pub headers: bool,
    /// It wants to know when nobody listens to a request.
    pub no_responders: bool,
    /// Who it is.
    #[serde(flatten)]
    pub login: Login,
}

/// What proves who a client is. What it holds is never shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Login {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "exposed")]
    pub(super) pass: Option<Secret>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "exposed")]
    pub(super) auth_token: Option<Secret>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) nkey: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "exposed")]
    pub(super) jwt: Option<Secret>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "exposed")]
    pub(super) sig: Option<Secret>,
}

fn exposed<S: serde::Serializer>(secret: &Option<Secret>, serializer: S) -> Result<S::Ok, S::Error> {
    secret.as_ref().map(Secret::expose).serialize(serializer)
}

/// A message to send.
#[derive(Clone, Copy, Debug)]
pub struct Publish<'a> {
    /// Where to.
    pub subject: &'a [u8],
    /// Where an answer is wanted.
    pub reply: Option<&'a [u8]>,
    /// The block of headers, from `NATS/1.0` to its empty line, in any number of pieces; none for a message without.
    pub headers: &'a [&'a [u8]],
    /// The payload.
    pub payload: &'a Bytes,
}

impl Publish<'_> {
    /// Its size as the server counts it.
    pub fn len(&self) -> usize {
        self.header_len() + self.payload.len()
    }

    /// Whether it has neither headers nor payload.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn header_len(&self) -> usize {
        self.headers.iter().map(|piece| piece.len()).sum()
    }
}

/// What is to be sent, in order.
#[derive(Debug, Default)]
pub struct Outbox {
    segments: VecDeque<Bytes>,
    tail: BytesMut,
    len: usize,
}

impl Outbox {
    /// How many bytes wait.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What waits, piece by piece, in order.
    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        self.segments.iter().map(|segment| &**segment).chain(Some(&*self.tail).filter(|tail| !tail.is_empty()))
    }

    /// Forgets what waits.
    pub fn clear(&mut self) {
        self.segments.clear();
        self.len = 0;
        if self.tail.capacity() > KEEP { self.tail = BytesMut::new() } else { self.tail.clear() }
    }

    /// `CONNECT`.
    pub fn connect(&mut self, client: &ClientInfo<'_>) {
        // A struct of texts and flags can always be written as JSON.
        let json = serde_json::to_vec(client).unwrap_or_default();
        self.put(b"CONNECT ");
        self.put(&json);
        self.put(b"\r\n");
    }

    /// `PING`.
    pub fn ping(&mut self) {
        self.put(b"PING\r\n");
    }

    /// `PONG`.
    pub fn pong(&mut self) {
        self.put(b"PONG\r\n");
    }

    /// `SUB`: messages under a subject come with this number from now on.
    ///
    /// # Errors
    /// When it is no subject.
    pub fn subscribe(&mut self, subject: &[u8], sid: u64) -> Result<(), EncodeError> {
        check(subject)?;
        self.put(b"SUB ");
        self.put(subject);
        self.put(b" ");
        self.number(sid);
        self.put(b"\r\n");
        Ok(())
    }

    /// `UNSUB`: no more messages with this number, at once or after so many in all.
    pub fn unsubscribe(&mut self, sid: u64, after: Option<u64>) {
        self.put(b"UNSUB ");
        self.number(sid);
        if let Some(after) = after {
            self.put(b" ");
            self.number(after);
        }
        self.put(b"\r\n");
    }

    /// `PUB`, or `HPUB` for a message with headers.
    ///
    /// # Errors
    /// When the subject, or the one for answers, is none.
    pub fn publish(&mut self, message: &Publish<'_>) -> Result<(), EncodeError> {
        check(message.subject)?;
        message.reply.map_or(Ok(()), check)?;
        let header_len = message.header_len();
        self.put(if header_len > 0 { b"HPUB " } else { b"PUB " });
        self.put(message.subject);
        self.put(b" ");
        if let Some(reply) = message.reply {
            self.put(reply);
            self.put(b" ");
        }
        if header_len > 0 {
            self.number(header_len as u64);
            self.put(b" ");
        }
        self.number(message.len() as u64);
        self.put(b"\r\n");
        message.headers.iter().for_each(|piece| self.put(piece));
        if message.payload.len() >= OWN_SEGMENT {
            self.segments.extend([self.tail.split().freeze(), message.payload.clone()]);
            self.len += message.payload.len();
        } else {
            self.put(message.payload);
        }
        self.put(b"\r\n");
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(bytes);
        self.len += bytes.len();
    }

    fn number(&mut self, number: u64) {
        let before = self.tail.len();
        put_decimal(&mut self.tail, number);
        self.len += self.tail.len() - before;
    }
}

fn check(subject: &[u8]) -> Result<(), EncodeError> {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
    if subject.is_empty() || subject.iter().any(blank) { Err(EncodeError::Subject) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(say: impl FnOnce(&mut Outbox)) -> Vec<u8> {
        let mut outbox = Outbox::default();
        say(&mut outbox);
        let bytes = outbox.pieces().collect::<Vec<_>>().concat();
        assert_eq!(outbox.len(), bytes.len());
        bytes
    }

    #[test]
    fn every_word_is_written_as_the_protocol_has_it() {
        let payload = Bytes::from_static(b"hello");
        let plain = Publish { subject: b"s.\xFF", reply: None, headers: &[], payload: &payload };
        let answered = Publish { reply: Some(b"_INBOX.1"), ..plain };
        let headers: [&[u8]; 2] = [b"NATS/1.0\r\n", b"A: 1\r\n\r\n"];
        let with_headers = Publish { headers: &headers, ..answered };
        let bytes = written(|out| {
            out.ping();
            out.pong();
            out.subscribe(b"a.>", 17).unwrap();
            out.unsubscribe(17, None);
            out.unsubscribe(u64::MAX, Some(0));
            out.publish(&plain).unwrap();
            out.publish(&answered).unwrap();
            out.publish(&with_headers).unwrap();
        });
        let expected = b"PING\r\nPONG\r\nSUB a.> 17\r\nUNSUB 17\r\nUNSUB 18446744073709551615 0\r\n\
            PUB s.\xFF 5\r\nhello\r\nPUB s.\xFF _INBOX.1 5\r\nhello\r\n\
            HPUB s.\xFF _INBOX.1 18 23\r\nNATS/1.0\r\nA: 1\r\n\r\nhello\r\n";
        assert_eq!(bytes, expected);
    }

    #[test]
    fn a_large_payload_is_sent_in_its_place_and_not_copied() {
        let (large, small) = (Bytes::from(vec![7; OWN_SEGMENT]), Bytes::from_static(b"x"));
        let mut outbox = Outbox::default();
        for payload in [&small, &large, &small] {
            outbox.publish(&Publish { subject: b"s", reply: None, headers: &[], payload }).unwrap();
        }
        assert!(outbox.pieces().any(|piece| piece.as_ptr() == large.as_ptr()));
        let expected = [&b"PUB s 1\r\nx\r\nPUB s 65536\r\n"[..], &large, b"\r\nPUB s 1\r\nx\r\n"].concat();
        assert_eq!(outbox.pieces().collect::<Vec<_>>().concat(), expected);
        outbox.clear();
        assert!(outbox.is_empty() && outbox.pieces().next().is_none());
    }

    #[test]
    fn what_would_be_taken_for_something_else_is_refused() {
        let payload = Bytes::new();
        for bad in [&b""[..], b"a b", b"a\tb", b"a\r\nPUB x 0", b"a\n"] {
            let message = Publish { subject: bad, reply: None, headers: &[], payload: &payload };
            let reply = Publish { subject: b"s", reply: Some(bad), headers: &[], payload: &payload };
            let bytes = written(|out| {
                assert_eq!(out.publish(&message), Err(EncodeError::Subject));
                assert_eq!(out.publish(&reply), Err(EncodeError::Subject));
                assert_eq!(out.subscribe(bad, 1), Err(EncodeError::Subject));
            });
            assert!(bytes.is_empty());
        }
    }

    #[test]
    fn only_the_wire_gets_to_know_a_secret() {
        let login = Login { user: Some("me".into()), pass: Some(Secret::new("geheim")), ..Login::default() };
        let client = ClientInfo {
            verbose: false,
            pedantic: false,
            tls_required: false,
            name: "rhio",
            lang: "rust",
            version: "1",
            protocol: 1,
            echo: true,
            headers: true,
            no_responders: true,
            login,
        };
        assert!(!format!("{client:?}").contains("geheim"));
        let text = String::from_utf8(written(|out| out.connect(&client))).unwrap();
        assert!(text.starts_with("CONNECT {\"verbose\":false,\"pedantic\":false,"), "{text}");
        assert!(text.ends_with("\"user\":\"me\",\"pass\":\"geheim\"}\r\n"), "{text}");
    }
}
