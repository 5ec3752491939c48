use proptest::prelude::*;

use super::*;

#[test]
fn the_encoding_is_the_one_that_was_agreed() {
    let record = CanonicalRecord::encode("a.b", b"NATS/1.0\r\nZeta: 1\r\n\r\n", b"hi").unwrap();
    assert_eq!(hex::encode(record.as_bytes()), "0003612e6200154e4154532f312e300d0a5a6574613a20310d0a0d0a000000026869");
    assert_eq!(record.digest().to_string(), "1219c1f148789a9f07311e14075bb24195bb2bc6a5b46627fd1b5f2538f700db");
    assert_eq!(record.subject(), b"a.b");
    assert_eq!(record.headers(), b"NATS/1.0\r\nZeta: 1\r\n\r\n");
}

#[test]
fn what_no_nats_server_stores_is_no_record() {
    assert_eq!(CanonicalRecord::encode("a..b", b"", b""), Err(RecordError::Subject(SubjectError::EmptyToken)));
    assert_eq!(CanonicalRecord::encode("a b", b"", b""), Err(RecordError::Subject(SubjectError::Whitespace)));
    let long = vec![b'x'; MAX_HEADERS_LEN + 1];
    assert_eq!(CanonicalRecord::encode("a", &long, b""), Err(RecordError::Headers));
}

#[test]
fn a_subject_that_would_end_its_line_is_refused() {
    for subject in [&b"a b"[..], b"a\r\nPUB x 0", b"a\tb", b"", b"a..b"] {
        let mut out = BytesMut::new();
        out.put_u16(subject.len() as u16);
        out.put_slice(subject);
        out.put_slice(&[0; 6]);
        let result = CanonicalRecord::read(&mut Reader::new(out.freeze()));
        assert_eq!(result, Err(DecodeError::Invalid("subject")), "{subject:?}");
    }
}

#[test]
fn every_byte_counts() {
    let record = |subject: &[u8], headers: &[u8], payload: &[u8]| {
        CanonicalRecord::encode(subject, headers, payload).unwrap().digest()
    };
    let all = [
        record(b"a", b"", b"bc"),
        record(b"a", b"b", b"c"),
        record(b"a", b"bc", b""),
        record(b"ab", b"", b"c"),
        record(b"a\xff", b"", b"bc"),
        record(b"a", b"", b"bC"),
    ];
    let different: std::collections::HashSet<_> = all.iter().map(|digest| *digest.as_bytes()).collect();
    assert_eq!(different.len(), all.len());
}

fn subjects() -> impl Strategy<Value = Vec<u8>> {
    let token = prop::collection::vec(any::<u8>().prop_filter("ends a token", |b| !b" .\t\r\n".contains(b)), 1..6);
    prop::collection::vec(token, 1..4).prop_map(|tokens| tokens.join(&b'.'))
}

proptest! {
    #[test]
    fn records_read_back(
        subject in subjects(),
        headers in prop::collection::vec(any::<u8>(), 0..60),
        payload in prop::collection::vec(any::<u8>(), 0..300),
        rest in prop::collection::vec(any::<u8>(), 0..20),
    ) {
        let record = CanonicalRecord::encode(&subject, &headers, &payload).unwrap();
        let mut bytes = record.as_bytes().to_vec();
        bytes.extend(&rest);
        let mut reader = Reader::new(bytes.into());
        let (read, parts) = CanonicalRecord::read(&mut reader).unwrap();
        prop_assert_eq!(&read, &record);
        prop_assert_eq!(reader.remaining(), rest.len());
        prop_assert_eq!((&parts.subject[..], &parts.headers[..]), (&subject[..], &headers[..]));
        prop_assert_eq!(&parts.payload[..], &payload[..]);
        prop_assert_eq!((read.subject(), read.headers()), (&subject[..], &headers[..]));
    }

    #[test]
    fn a_subject_is_proved_without_the_record_and_no_other_is(subject in subjects(), other in subjects()) {
        let record = CanonicalRecord::encode(&subject, b"", b"payload").unwrap();
        let proof = SubjectProof::from_bytes(*record.proof().as_bytes());
        prop_assert_eq!(proof.digest(&subject), record.digest());
        prop_assert_eq!(proof.digest(&other) == record.digest(), other == subject);
    }

    #[test]
    fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = CanonicalRecord::read(&mut Reader::new(bytes.into()));
    }
}
