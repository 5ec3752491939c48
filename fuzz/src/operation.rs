//! Operations: whatever arrives, only what an author signed is one.

use std::sync::OnceLock;

use arbitrary::{Result, Unstructured};
use bytes::{BufMut, Bytes, BytesMut};
use p2panda_core::{Hash, Header, SigningKey, Timestamp};
use rhio_core::id::{LogId, OpHash, OpSeq};
use rhio_core::log::chain::Chain;
use rhio_core::log::operation::{Head, Operation, VERSION};
use serde::{Deserialize, Serialize, Serializer};

use crate::decode::check_body;
use crate::{seeds, world};

/// First byte of an input whose rest is an operation as it would arrive.
pub const RAW: u8 = 0;
/// First byte of an input that describes an operation, which is then signed.
pub const SIGNED: u8 = 1;
/// First byte of an input that names an operation and a place in its header: the number there is written in a longer
/// form, which means the same to a reader of CBOR and to the signature, but has another hash.
pub const LOOSE: u8 = 2;

/// Bytes that claim to be an operation, or a script that makes one.
pub fn run(input: &[u8]) {
    match input.split_first() {
        Some((&SIGNED, script)) => {
            // A script that ends early is a short one.
            let _ = signed(Unstructured::new(script));
        }
        Some((&LOOSE, [which, at, ..])) => loose(usize::from(*which), usize::from(*at)),
        Some((_, bytes)) => raw(Bytes::copy_from_slice(bytes)),
        None => {}
    }
}

/// The operations that the author really signed, among the seeds.
fn genuine() -> &'static [Bytes] {
    static GENUINE: OnceLock<Vec<Bytes>> = OnceLock::new();
    GENUINE.get_or_init(seeds::signed_operations)
}

fn raw(bytes: Bytes) {
    let verified = Operation::verify(bytes.clone());
    if let Ok(operation) = Operation::read_stored(bytes.clone()) {
        assert_eq!(operation.raw(), &bytes);
        check(&operation);
    }
    let Ok(operation) = verified else { return };
    assert_eq!(Operation::read_stored(bytes.clone()).as_ref(), Ok(&operation));
    if operation.author() == world::author() {
        assert!(genuine().contains(&bytes), "an operation of the author's that it never signed");
    }
}

fn loose(which: usize, at: usize) {
    let mut bytes = genuine()[which % genuine().len()].to_vec();
    let len = u16::from_be_bytes([bytes[1], bytes[2]]);
    let at = 3 + at % usize::from(len);
    let (kind, value) = (bytes[at] & 0xe0, bytes[at] & 0x1f);
    if value >= 24 {
        return;
    }
    bytes.splice(at..=at, [kind | 24, value]);
    bytes[1..3].copy_from_slice(&(len + 1).to_be_bytes());
    raw(bytes.into());
}

fn check(operation: &Operation) {
    check_body(operation.body());
    assert_eq!((operation.head().seq, operation.head().hash), (operation.seq(), operation.hash()));
    let chain = Chain::new(operation.author(), operation.log(), operation.kind());
    let behind = |head| chain.at(head, operation.before()).check(operation);
    assert!(behind(Some(operation.head())).is_err(), "it follows itself");
    assert!(behind(None).is_err() || operation.seq() == OpSeq(0));
}

/// Our extension, as the author writes it.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Extensions {
    #[serde(rename = "rhio", serialize_with = "as_bytes")]
    log: Vec<u8>,
}

fn as_bytes<S: Serializer>(log: &[u8], serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.serialize_bytes(log)
}

/// An author may sign whatever it likes. What passes must say what was signed.
fn signed(mut u: Unstructured<'_>) -> Result<()> {
    let key: SigningKey = world::key(u.int_in_range(1..=2)?);
    let log: [u8; 32] = u.arbitrary()?;
    let log_len = if u.ratio(1u8, 16u8)? { u.int_in_range(0..=32usize)? } else { 32 };
    let version = if u.ratio(1u8, 16u8)? { u.arbitrary()? } else { 1 };
    let seq = u.arbitrary::<u64>()? >> u.int_in_range(0..=63u32)?;
    let backlink = if u.arbitrary()? { Some(u.arbitrary::<[u8; 32]>()?) } else { None };
    let timestamp = u.arbitrary()?;
    let size_off = if u.ratio(1u8, 16u8)? { u.arbitrary::<u64>()? } else { 0 };
    let hash = u.int_in_range(0..=15u8)?;
    let body = p2panda_core::Body::from(u.take_rest().to_vec());

    let payload_hash = match hash {
        0 => None,
        1 => Some(Hash::from_bytes([0; 32])),
        _ => Some(body.hash()),
    };
    let mut header = Header {
        version,
        verifying_key: key.verifying_key(),
        signature: None,
        payload_size: body.size().wrapping_add(size_off),
        payload_hash,
        timestamp: Timestamp::new(timestamp),
        seq_num: seq,
        backlink: backlink.map(Hash::from_bytes),
        extensions: Extensions { log: log[..log_len].to_vec() },
    };
    header.sign(&key);
    let header = header.to_bytes();
    let mut raw = BytesMut::new();
    raw.put_u8(VERSION);
    raw.put_u16(header.len() as u16);
    raw.put_slice(&header);
    raw.put_slice(body.as_bytes());

    let Ok(operation) = Operation::verify(raw.freeze()) else { return Ok(()) };
    check(&operation);
    assert!(version == 1 && size_off == 0 && hash > 1 && log_len == 32, "a header that is not right was taken");
    assert_eq!(operation.author(), key.verifying_key().into());
    assert_eq!((operation.seq(), operation.log()), (OpSeq(seq), LogId::from_bytes(log)));
    assert_eq!(operation.body().encode(), body.as_bytes());
    if let Some(backlink) = backlink.filter(|_| seq > 0) {
        let previous = Head { seq: OpSeq(seq - 1), hash: OpHash::from_bytes(backlink) };
        let chain = Chain::new(operation.author(), operation.log(), operation.kind());
        chain.at(Some(previous), operation.before()).check(&operation).expect("it follows what it links to");
    }
    Ok(())
}
