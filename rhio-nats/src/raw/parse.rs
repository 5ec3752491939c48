//! Reads what a NATS server sends, as far as it has come.
//!
//! A server is believed no length before it is within bounds, and nothing that it sends makes this panic or take more
//! memory than what has arrived. Subjects and headers are bytes: NATS allows all but white space in a subject, and
//! does not look at headers.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use rhio_core::codec::decimal;
use thiserror::Error;

#[cfg(test)]
mod tests;

/// Longest line but for `INFO`, in bytes. A server takes lines of 4 KiB from its clients unless it is told otherwise.
pub const MAX_LINE: usize = 128 * 1024;
/// Longest `INFO` line, in bytes: it lists all servers of a cluster.
pub const MAX_INFO: usize = 1024 * 1024;
/// Largest message, headers included, in bytes. A server's `max_payload` is 64 MiB at most; JetStream adds headers of
/// its own to some messages.
pub const MAX_MESSAGE: usize = 64 * 1024 * 1024 + 128 * 1024;

/// Why what a server sent can't be read. There is no going on behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ParseError {
    /// It begins with no word of the protocol.
    #[error("it sent an unknown word")]
    UnknownWord,
    /// A line of more than [`MAX_LINE`] bytes, or [`MAX_INFO`].
    #[error("it sent a line that is too long")]
    LongLine,
    /// A line that ends otherwise than with CR LF.
    #[error("it sent a line without a proper end")]
    LineEnd,
    /// A `MSG` or `HMSG` line with too few words, too many, or numbers that are none.
    #[error("it sent a message whose first line can't be read")]
    MessageLine,
    /// A message of more than [`MAX_MESSAGE`] bytes.
    #[error("it announced a message of {0} bytes, more than NATS allows")]
    TooLarge(u64),
    /// More headers than message.
    #[error("it announced a message whose headers are larger than the message")]
    HeaderLength,
    /// A message that does not end where its first line said.
    #[error("it sent a message that is longer than announced")]
    MessageEnd,
}

/// What a server said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerOp {
    /// `INFO`: about the server, in JSON.
    Info(Bytes),
    /// `MSG` or `HMSG`.
    Message(Message),
    /// `PING`.
    Ping,
    /// `PONG`.
    Pong,
    /// `+OK`.
    Ok,
    /// `-ERR`: its text, without the quotes.
    Error(Bytes),
}

/// A message as it came. Its parts are views of one piece of memory, which may be shared with the messages that came
/// along with it: whoever keeps a part for long
/// should copy it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    frame: Bytes,
    head: Head,
}

/// What the first line says, and where everything is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Head {
    sid: u64,
    subject: Range<usize>,
    reply: Option<Range<usize>>,
    /// Where the headers begin, where the payload does, and where that ends.
    headers: usize,
    payload: usize,
    end: usize,
}

impl Message {
    /// Which subscription it is for.
    pub fn sid(&self) -> u64 {
        self.head.sid
    }

    /// Its subject.
    pub fn subject(&self) -> &[u8] {
        &self.frame[self.head.subject.clone()]
    }

    /// Where an answer is wanted.
    pub fn reply(&self) -> Option<&[u8]> {
        self.head.reply.clone().map(|range| &self.frame[range])
    }

    /// The block of headers, from `NATS/1.0` to its empty line; empty when it has none.
    pub fn headers(&self) -> &[u8] {
        &self.frame[self.head.headers..self.head.payload]
    }

    /// Its payload.
    pub fn payload(&self) -> &[u8] {
        &self.frame[self.head.payload..self.head.end]
    }

    /// Its subject, to keep.
    pub fn shared_subject(&self) -> Bytes {
        self.frame.slice(self.head.subject.clone())
    }

    /// Where an answer is wanted, to keep.
    pub fn shared_reply(&self) -> Option<Bytes> {
        self.head.reply.clone().map(|range| self.frame.slice(range))
    }

    /// Its block of headers, to keep.
    pub fn shared_headers(&self) -> Bytes {
        self.frame.slice(self.head.headers..self.head.payload)
    }

    /// Its payload, to keep.
    pub fn shared_payload(&self) -> Bytes {
        self.frame.slice(self.head.payload..self.head.end)
    }

    /// Bytes that it took on the wire.
    pub fn wire_len(&self) -> usize {
        self.frame.len()
    }
}

/// Reads one connection, step by step.
#[derive(Debug, Default)]
pub struct Parser {
    /// So much of the buffer holds no end of a line.
    scanned: usize,
    /// The message whose first line was read already.
    head: Option<Head>,
}

impl Parser {
    /// Takes the next thing that the server said out of the buffer; `None` when it is not all there yet.
    ///
    /// # Errors
    /// When it makes no sense. The connection is of no use any more.
    pub fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<ServerOp>, ParseError> {
        if self.head.is_none() {
            let Some(end) = self.line(buffer)? else { return Ok(None) };
            let line = &buffer[..end - 2];
            let word = line.split(|b| is_blank(*b)).next().unwrap_or_default();
            let op = match Word::of(word).ok_or(ParseError::UnknownWord)? {
                word @ (Word::Msg | Word::Hmsg) => {
                    self.head = Some(Head::read(line, word == Word::Hmsg)?);
                    None
                }
                Word::Info => Some(ServerOp::Info(rest(buffer, end, 4))),
                Word::Error => Some(ServerOp::Error(unquoted(rest(buffer, end, 4)))),
                simple => {
                    let _ = buffer.split_to(end);
                    Some(match simple {
                        Word::Ping => ServerOp::Ping,
                        Word::Pong => ServerOp::Pong,
                        _ => ServerOp::Ok,
                    })
                }
            };
            if op.is_some() {
                return Ok(op);
            }
        }
        self.body(buffer)
    }

    /// How many bytes more the message needs whose beginning is there, as far as is known; 0 between messages.
    pub fn missing(&self, buffer: &BytesMut) -> usize {
        self.head.as_ref().map_or(0, |head| (head.end + 2).saturating_sub(buffer.len()))
    }

    /// Where the first line ends, behind its LF.
    fn line(&mut self, buffer: &BytesMut) -> Result<Option<usize>, ParseError> {
        let found = memchr::memchr(b'\n', &buffer[self.scanned..]).map(|at| self.scanned + at);
        let len = found.unwrap_or(buffer.len());
        let max = if is_info(buffer) { MAX_INFO } else { MAX_LINE };
        if len > max {
            return Err(ParseError::LongLine);
        }
        let Some(lf) = found else {
            // What can't become a word is told now, not when a line of any length has come.
            Word::check_beginning(buffer)?;
            self.scanned = len;
            return Ok(None);
        };
        self.scanned = 0;
        if lf == 0 || buffer[lf - 1] != b'\r' {
            return Err(ParseError::LineEnd);
        }
        Ok(Some(lf + 1))
    }

    fn body(&mut self, buffer: &mut BytesMut) -> Result<Option<ServerOp>, ParseError> {
        let Some(head) = self.head.take_if(|head| buffer.len() >= head.end + 2) else { return Ok(None) };
        if &buffer[head.end..head.end + 2] != b"\r\n" {
            return Err(ParseError::MessageEnd);
        }
        let frame = buffer.split_to(head.end + 2).freeze();
        Ok(Some(ServerOp::Message(Message { frame, head })))
    }
}

impl Head {
    /// Reads `MSG subject sid [reply] length` or `HMSG subject sid [reply] length-of-headers length`.
    fn read(line: &[u8], with_headers: bool) -> Result<Self, ParseError> {
        let mut words: [Range<usize>; 5] = Default::default();
        let mut count = 0;
        let mut at = if with_headers { 4 } else { 3 };
        while at < line.len() {
            if is_blank(line[at]) {
                at += 1;
                continue;
            }
            let len = line[at..].iter().position(|b| is_blank(*b)).unwrap_or(line.len() - at);
            *words.get_mut(count).ok_or(ParseError::MessageLine)? = at..at + len;
            count += 1;
            at += len;
        }
        let numbers = 1 + usize::from(with_headers);
        let reply = match count.checked_sub(2 + numbers) {
            Some(0) => None,
            Some(1) => Some(words[2].clone()),
            _ => return Err(ParseError::MessageLine),
        };
        let number = |word: &Range<usize>| decimal(&line[word.clone()]).ok_or(ParseError::MessageLine);
        let total = number(&words[count - 1])?;
        let header_len = if with_headers { number(&words[count - 2])? } else { 0 };
        if total > MAX_MESSAGE as u64 {
            return Err(ParseError::TooLarge(total));
        }
        if header_len > total {
            return Err(ParseError::HeaderLength);
        }
        // Both fit: they are at most MAX_MESSAGE.
        let (headers, header_len, total) = (line.len() + 2, header_len as usize, total as usize);
        Ok(Self {
            sid: number(&words[1])?,
            subject: words[0].clone(),
            reply,
            headers,
            payload: headers + header_len,
            end: headers + total,
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    Msg,
    Hmsg,
    Info,
    Ping,
    Pong,
    Ok,
    Error,
}

impl Word {
    const ALL: [(&'static [u8], Self); 7] = [
        (b"MSG", Self::Msg),
        (b"HMSG", Self::Hmsg),
        (b"PING", Self::Ping),
        (b"PONG", Self::Pong),
        (b"+OK", Self::Ok),
        (b"INFO", Self::Info),
        (b"-ERR", Self::Error),
    ];

    fn of(word: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(word)).map(|(_, word)| word)
    }

    /// The line has not ended, and may still become one of them.
    fn check_beginning(line: &[u8]) -> Result<(), ParseError> {
        let fits = |(name, _): (&[u8], Self)| {
            let begun = line.len().min(name.len());
            name[..begun].eq_ignore_ascii_case(&line[..begun])
                && line.get(begun).is_none_or(|b| is_blank(*b) || *b == b'\r')
        };
        if Self::ALL.into_iter().any(fits) { Ok(()) } else { Err(ParseError::UnknownWord) }
    }
}

fn is_info(buffer: &[u8]) -> bool {
    buffer.get(..4).is_some_and(|word| word.eq_ignore_ascii_case(b"INFO"))
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// Takes a line out of the buffer and gives what is behind its word.
fn rest(buffer: &mut BytesMut, end: usize, word: usize) -> Bytes {
    let line = buffer.split_to(end).freeze();
    let content = line[word..end - 2].trim_ascii();
    line.slice_ref(content)
}

fn unquoted(text: Bytes) -> Bytes {
    match &*text {
        [b'\'', inner @ .., b'\''] => text.slice_ref(inner),
        _ => text,
    }
}
