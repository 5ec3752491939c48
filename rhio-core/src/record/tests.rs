use proptest::prelude::*;

use super::*;

#[test]
fn the_encoding_is_the_one_that_was_agreed() {
    let record = CanonicalRecord::encode(
        "a.b",
        [(&b"Zeta"[..], &b"1"[..]), (b"Alpha", b"2"), (b"X-Rhio-PublicKey", b"dropped"), (b"Alpha", b"3")],
        b"hi",
    )
    .unwrap();
    assert_eq!(
        hex::encode(record.as_bytes()),
        "0003612e6200030005416c706861000000013200\
         05416c706861000000013300045a6574610000000131000000026869"
    );
    assert_eq!(record.digest().to_string(), "9ef43b5aed6ec35029111b48d38b8c82f4c16801a9a411e6832299a1dd72957e");
    assert_eq!(record.subject(), "a.b");
}

#[test]
fn what_no_nats_server_stores_is_no_record() {
    let none = std::iter::empty::<(&[u8], &[u8])>;
    assert_eq!(CanonicalRecord::encode("a.*", none(), b""), Err(RecordError::Subject(SubjectError::Wildcard)));
    let long = vec![b'x'; MAX_HEADERS_LEN];
    assert_eq!(CanonicalRecord::encode("a", [(&b"A"[..], &long[..])], b""), Err(RecordError::Headers));
}

#[test]
fn a_header_that_would_end_its_line_is_refused() {
    for (name, value) in [("A", "x\r\nEvil: 1"), ("A: 1\r\nB", "x"), ("", "x"), ("X-RHIO-Publickey", "x")] {
        let mut out = BytesMut::new();
        out.put_u16(1);
        out.put_slice(b"s");
        out.put_u16(1);
        out.put_u16(name.len() as u16);
        out.put_slice(name.as_bytes());
        out.put_u32(value.len() as u32);
        out.put_slice(value.as_bytes());
        out.put_u32(0);
        let result = CanonicalRecord::read(&mut Reader::new(out.freeze()));
        assert!(matches!(result, Err(DecodeError::Invalid(_))), "{name:?}: {value:?} gave {result:?}");
    }
}

#[test]
fn headers_out_of_order_are_refused() {
    let mut out = BytesMut::new();
    out.put_slice(b"\0\x01s\0\x02\0\x01B\0\0\0\0\0\x01A\0\0\0\0\0\0\0\0");
    assert_eq!(CanonicalRecord::read(&mut Reader::new(out.freeze())), Err(DecodeError::Invalid("header order")));
}

proptest! {
    #[test]
    fn records_read_back(
        subject in "[a-z]{1,8}(\\.[a-z*>]{2,5}){0,3}",
        headers in prop::collection::vec(("[A-WYZ][A-Za-z-]{0,10}", "[ -~]{0,20}"), 0..6),
        payload in prop::collection::vec(any::<u8>(), 0..300),
        rest in prop::collection::vec(any::<u8>(), 0..20),
    ) {
        let pairs: Vec<_> = headers.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes())).collect();
        let record = CanonicalRecord::encode(&subject, pairs.iter().copied(), &payload).unwrap();
        let mut bytes = record.as_bytes().to_vec();
        bytes.extend(&rest);
        let mut reader = Reader::new(bytes.into());
        let (read, parts) = CanonicalRecord::read(&mut reader).unwrap();
        prop_assert_eq!(&read, &record);
        prop_assert_eq!(reader.remaining(), rest.len());
        prop_assert_eq!(&parts.payload[..], &payload[..]);
        prop_assert_eq!(parts.headers.len(), headers.len());
        // The order of names as given makes no difference.
        let shuffled = {
            let mut by_name = pairs.clone();
            by_name.sort_by(|a, b| b.0.cmp(a.0));
            CanonicalRecord::encode(&subject, by_name, &payload).unwrap()
        };
        prop_assert_eq!(shuffled.digest(), record.digest());
    }

    #[test]
    fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = CanonicalRecord::read(&mut Reader::new(bytes.into()));
    }
}
