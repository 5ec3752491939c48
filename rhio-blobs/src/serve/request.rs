//! Requests of the iroh-blobs protocol, decoded by hand: what a peer sends must neither overflow nor cost more than its
//! length, and most kinds of requests are refused.
//!
//! A request for ranges of one blob is, in postcard's encoding: the variant 0; the hash; two pairs: (0, the ranges) for
//! the blob itself and (1, nothing) for everything after it. Ranges are the widths of alternating spans, the first of
//! which is not wanted; an odd number of them means that the last range is open.

use bao_tree::{ChunkNum, ChunkRanges};
use rhio_core::id::BlobHash;
use thiserror::Error;

/// Longest request that is read.
pub const MAX_REQUEST_LEN: usize = 64 * 1024;
/// Most ranges of one request. Each costs a request to the bucket.
pub const MAX_RANGES: usize = 256;

/// Chunks of one blob, as a peer asks for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobRequest {
    /// The blob.
    pub hash: BlobHash,
    /// BLAKE3 chunks of 1 KiB, at least one. What is behind the end asks for the last chunk, which proves the size.
    pub ranges: ChunkRanges,
}

/// Why a request is refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum RequestError {
    /// Longer than [`MAX_REQUEST_LEN`].
    #[error("the request is longer than {MAX_REQUEST_LEN} bytes")]
    TooLong,
    /// It ends early, has bytes too many, or numbers that make no sense.
    #[error("the request is malformed")]
    Malformed,
    /// A request that others answer: for collections, several blobs, or to store something.
    #[error("requests for {0} are not answered here")]
    Unsupported(&'static str),
    /// More than [`MAX_RANGES`].
    #[error("the request has more than {MAX_RANGES} ranges")]
    TooManyRanges,
    /// It asks for nothing.
    #[error("the request asks for nothing")]
    Empty,
}

/// Decodes a request, which must be the whole of `bytes`.
///
/// # Errors
/// When it is not a request for ranges of one blob, or beyond the limits.
pub fn decode_request(bytes: &[u8]) -> Result<BlobRequest, RequestError> {
    if bytes.len() > MAX_REQUEST_LEN {
        return Err(RequestError::TooLong);
    }
    let mut reader = Reader(bytes);
    match reader.byte()? {
        0 => {}
        1 => return Err(RequestError::Unsupported("what is there")),
        8 => return Err(RequestError::Unsupported("storing")),
        9 => return Err(RequestError::Unsupported("several blobs")),
        _ => return Err(RequestError::Malformed),
    }
    let hash = BlobHash::from_bytes(reader.hash()?);
    let entries = reader.number()?;
    if entries == 0 {
        return Err(RequestError::Empty);
    }
    if reader.number()? != 0 {
        return Err(RequestError::Unsupported("collections"));
    }
    let ranges = reader.ranges()?;
    // Without an empty second entry the first one counts for all blobs that the blob may list.
    if entries != 2 || reader.number()? != 1 || !reader.ranges()?.is_empty() {
        return Err(RequestError::Unsupported("collections"));
    }
    if !reader.0.is_empty() {
        return Err(RequestError::Malformed);
    }
    if ranges.is_empty() {
        return Err(RequestError::Empty);
    }
    Ok(BlobRequest { hash, ranges })
}

/// Encodes a request for one range of chunks; `None` as its end leaves it open.
pub(crate) fn encode_request(hash: BlobHash, start: u64, end: Option<u64>) -> Vec<u8> {
    let mut bytes = vec![0];
    bytes.extend_from_slice(hash.as_bytes());
    let mut number = |mut value: u64| {
        while value >= 0x80 {
            bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        bytes.push(value as u8);
    };
    number(2);
    number(0);
    match end {
        Some(end) => [2, start, end.saturating_sub(start)].into_iter().for_each(&mut number),
        None => [1, start].into_iter().for_each(&mut number),
    }
    number(1);
    number(0);
    bytes
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn byte(&mut self) -> Result<u8, RequestError> {
        let (byte, rest) = self.0.split_first().ok_or(RequestError::Malformed)?;
        self.0 = rest;
        Ok(*byte)
    }

    fn hash(&mut self) -> Result<[u8; 32], RequestError> {
        let (hash, rest) = self.0.split_first_chunk().ok_or(RequestError::Malformed)?;
        self.0 = rest;
        Ok(*hash)
    }

    fn number(&mut self) -> Result<u64, RequestError> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                return Err(RequestError::Malformed);
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(RequestError::Malformed)
    }

    fn ranges(&mut self) -> Result<ChunkRanges, RequestError> {
        let widths = self.number()?;
        if widths > 2 * MAX_RANGES as u64 {
            return Err(RequestError::TooManyRanges);
        }
        let mut ranges = ChunkRanges::empty();
        let mut end = 0u64;
        let mut open = None;
        for index in 0..widths {
            let width = self.number()?;
            if width == 0 && index > 0 {
                return Err(RequestError::Malformed);
            }
            end = end.checked_add(width).ok_or(RequestError::Malformed)?;
            match open.take() {
                None => open = Some(end),
                Some(start) => ranges |= ChunkRanges::from(ChunkNum(start)..ChunkNum(end)),
            }
        }
        if let Some(start) = open {
            ranges |= ChunkRanges::from(ChunkNum(start)..);
        }
        Ok(ranges)
    }
}

#[cfg(test)]
mod tests {
    use iroh_blobs::protocol::{ChunkRangesExt, ChunkRangesSeq, GetManyRequest, GetRequest, Request};
    use proptest::prelude::*;

    use super::*;

    const HASH: BlobHash = BlobHash::from_bytes([7; 32]);

    /// The protocol's own encoding.
    fn encode(request: impl Into<Request>) -> Vec<u8> {
        postcard::to_stdvec(&request.into()).unwrap()
    }

    fn blob(ranges: ChunkRanges) -> GetRequest {
        GetRequest::blob_ranges((*HASH.as_bytes()).into(), ranges)
    }

    fn ranges() -> impl Strategy<Value = ChunkRanges> {
        let number = prop_oneof![0..200u64, any::<u64>()];
        (proptest::collection::btree_set(number, 1..40)).prop_map(|set| {
            let set: Vec<u64> = set.into_iter().collect();
            let mut ranges = ChunkRanges::empty();
            for range in set.chunks(2) {
                match *range {
                    [start, end] => ranges |= ChunkRanges::from(ChunkNum(start)..ChunkNum(end)),
                    [start, ..] => ranges |= ChunkRanges::from(ChunkNum(start)..),
                    [] => {}
                }
            }
            ranges
        })
    }

    #[test]
    fn other_requests_are_refused() {
        let unsupported = |bytes: &[u8]| matches!(decode_request(bytes), Err(RequestError::Unsupported(_)));
        let hash = (*HASH.as_bytes()).into();
        assert!(unsupported(&encode(GetRequest::all(hash))));
        assert!(unsupported(&encode(GetRequest::new(hash, ChunkRangesSeq::verified_child_sizes()))));
        let child = ChunkRangesSeq::from_ranges([ChunkRanges::empty(), ChunkRanges::all()]);
        assert!(unsupported(&encode(GetRequest::new(hash, child))));
        let both = ChunkRangesSeq::from_ranges([ChunkRanges::all(), ChunkRanges::chunk(3)]);
        assert!(unsupported(&encode(GetRequest::new(hash, both))));
        assert!(unsupported(&encode(GetManyRequest::new(vec![hash], ChunkRangesSeq::root()))));
        assert!(unsupported(&encode(iroh_blobs::protocol::ObserveRequest::new(hash))));
        assert!(unsupported(&encode(iroh_blobs::protocol::PushRequest::new(hash, ChunkRangesSeq::root()))));
        let nothing = encode(GetRequest::new(hash, ChunkRangesSeq::empty()));
        assert_eq!(decode_request(&nothing), Err(RequestError::Empty));
        assert_eq!(decode_request(&[4]), Err(RequestError::Malformed));
    }

    #[test]
    fn limits_hold() {
        assert_eq!(decode_request(&vec![0; MAX_REQUEST_LEN + 1]), Err(RequestError::TooLong));
        let many = |count: u64| (0..count).fold(ChunkRanges::empty(), |all, n| all | ChunkRanges::chunk(2 * n));
        assert!(decode_request(&encode(blob(many(MAX_RANGES as u64)))).is_ok());
        assert_eq!(decode_request(&encode(blob(many(MAX_RANGES as u64 + 1)))), Err(RequestError::TooManyRanges));
    }

    #[test]
    fn numbers_that_overflow_are_refused() {
        let request = |widths: &[&[u8]]| {
            let mut bytes = vec![0];
            bytes.extend_from_slice(HASH.as_bytes());
            bytes.extend_from_slice(&[2, 0, widths.len() as u8]);
            widths.iter().for_each(|width| bytes.extend_from_slice(width));
            bytes.extend_from_slice(&[1, 0]);
            bytes
        };
        let max: &[u8] = &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
        let over: &[u8] = &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2];
        let long: &[u8] = &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0];
        assert_eq!(decode_request(&request(&[max])).unwrap().ranges, ChunkRanges::last_chunk());
        for widths in [&[over][..], &[long], &[max, &[1]], &[&[0], max, &[1]], &[&[3], &[0]]] {
            assert_eq!(decode_request(&request(widths)), Err(RequestError::Malformed), "{widths:?}");
        }
    }

    proptest! {
        #[test]
        fn ranges_of_one_blob_decode_as_they_were_encoded(ranges in ranges()) {
            let decoded = decode_request(&encode(blob(ranges.clone())));
            prop_assert_eq!(decoded, Ok(BlobRequest { hash: HASH, ranges }));
        }

        #[test]
        fn a_request_of_ours_is_the_protocols(start in any::<u64>(), len in 1..u64::MAX) {
            let closed = start.checked_add(len);
            let ranges = match closed {
                Some(end) => ChunkRanges::from(ChunkNum(start)..ChunkNum(end)),
                None => ChunkRanges::from(ChunkNum(start)..),
            };
            prop_assert_eq!(encode_request(HASH, start, closed), encode(blob(ranges)));
        }

        #[test]
        fn a_request_that_is_cut_or_has_more_is_refused(ranges in ranges(), cut in any::<prop::sample::Index>()) {
            let mut bytes = encode(blob(ranges));
            prop_assert!(decode_request(&bytes[..cut.index(bytes.len())]).is_err());
            bytes.push(0);
            prop_assert_eq!(decode_request(&bytes), Err(RequestError::Malformed));
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), get in any::<bool>()) {
            if get && let Some(first) = bytes.first_mut() {
                *first = 0;
            }
            if let Ok(request) = decode_request(&bytes) {
                prop_assert!(!request.ranges.is_empty());
            }
        }
    }
}
