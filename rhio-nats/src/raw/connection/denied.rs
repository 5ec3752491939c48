//! What a server says when it forbids something and goes on.

/// What was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Sending to a subject.
    Publish,
    /// Asking for an answer on a subject.
    Reply,
    /// Listening to a subject.
    Subscribe,
}

/// Something that this user may not do. The server drops it and goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    /// What was tried.
    pub operation: Operation,
    /// On which subject.
    pub subject: Vec<u8>,
    /// The server's own words.
    pub text: String,
}

impl Denied {
    /// Reads the text of an `-ERR`; `None` when it is about something else, which ends the connection.
    pub fn read(text: &[u8]) -> Option<Self> {
        const WORDS: [(&[u8], Operation); 3] = [
            (b"permissions violation for publish with reply of ", Operation::Reply),
            (b"permissions violation for publish to ", Operation::Publish),
            (b"permissions violation for subscription to ", Operation::Subscribe),
        ];
        WORDS.into_iter().find_map(|(words, operation)| {
            let (begin, rest) = text.split_at_checked(words.len())?;
            begin.eq_ignore_ascii_case(words).then(|| Self {
                operation,
                subject: unquote(rest),
                text: String::from_utf8_lossy(text).into_owned(),
            })
        })
    }
}

/// The server writes subjects the way Go writes texts: in quotes, with escapes for whatever is no plain text. Whatever is
/// behind the closing quote is left out.
fn unquote(text: &[u8]) -> Vec<u8> {
    let Some(mut rest) = text.strip_prefix(b"\"") else { return text.to_vec() };
    let mut plain = Vec::with_capacity(rest.len());
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        match byte {
            b'"' => break,
            b'\\' => rest = unescape(rest, &mut plain),
            byte => plain.push(byte),
        }
    }
    plain
}

/// Reads what is behind a backslash; returns what is behind that.
fn unescape<'a>(text: &'a [u8], plain: &mut Vec<u8>) -> &'a [u8] {
    let Some((&kind, rest)) = text.split_first() else { return text };
    let digits = match kind {
        b'x' => 2,
        b'u' => 4,
        b'U' => 8,
        _ => 0,
    };
    let simple = match kind {
        b'a' => 7,
        b'b' => 8,
        b't' => b'\t',
        b'n' => b'\n',
        b'v' => 11,
        b'f' => 12,
        b'r' => b'\r',
        other => other,
    };
    let number = rest.split_at_checked(digits).filter(|_| digits > 0).and_then(|(digits, behind)| {
        let number = u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        Some((number, behind))
    });
    match number {
        // One byte, whatever it is.
        Some((number, behind)) if kind == b'x' => {
            plain.push(number as u8);
            behind
        }
        Some((number, behind)) => {
            let letter = char::from_u32(number).unwrap_or(char::REPLACEMENT_CHARACTER);
            plain.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
            behind
        }
        None => {
            plain.push(simple);
            rest
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(text: &[u8]) -> Option<(Operation, Vec<u8>)> {
        Denied::read(text).map(|denied| (denied.operation, denied.subject))
    }

    #[test]
    fn a_violation_names_what_was_tried() {
        let publish = |subject: &[u8]| Some((Operation::Publish, subject.to_vec()));
        assert_eq!(subject(br#"Permissions Violation for Publish to "s.secret.x""#), publish(b"s.secret.x"));
        assert_eq!(subject(br#"permissions violation for publish to "s.\xff\"\\\tz""#), publish(b"s.\xFF\"\\\tz"));
        assert_eq!(subject(br#"Permissions Violation for Publish to "\u00ad\U000e0001""#), {
            publish("\u{ad}\u{e0001}".as_bytes())
        });
        assert_eq!(
            subject(br#"Permissions Violation for Subscription to "a.>" using queue "q""#),
            Some((Operation::Subscribe, b"a.>".to_vec()))
        );
        assert_eq!(
            subject(br#"Permissions Violation for Publish with Reply of "r""#),
            Some((Operation::Reply, b"r".to_vec()))
        );
        for other in [&b""[..], b"Authorization Violation", b"Permissions Violation", b"Stale Connection"] {
            assert_eq!(subject(other), None);
        }
    }

    #[test]
    fn a_text_that_is_cut_off_hurts_nobody() {
        let text = br#"Permissions Violation for Publish to "s.\xff\u00ad\"""#;
        for end in 0..text.len() {
            Denied::read(&text[..end]);
        }
    }
}
