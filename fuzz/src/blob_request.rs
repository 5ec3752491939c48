//! Requests for content, which any node that may connect can send: what is taken is bounded, and is what was asked for.

use rhio_blobs::serve::{BlobRequest, MAX_RANGES, MAX_REQUEST_LEN, RequestError, decode_request};

/// Where the hash is in every request that is taken.
const HASH: std::ops::Range<usize> = 1..33;

/// A request as a peer's stream delivers it.
pub fn run(input: &[u8]) {
    match decode_request(input) {
        Ok(request) => check(input, &request),
        Err(error) => assert!(error != RequestError::TooLong || input.len() > MAX_REQUEST_LEN),
    }
    // The same behind a beginning that is right, so that changes of it are no dead end.
    let mut bytes = vec![0; HASH.end];
    bytes.extend_from_slice(&[2, 0]);
    bytes.extend_from_slice(input);
    bytes.extend_from_slice(&[1, 0]);
    if let Ok(request) = decode_request(&bytes) {
        check(&bytes, &request);
    }
}

fn check(bytes: &[u8], request: &BlobRequest) {
    assert!(bytes.len() <= MAX_REQUEST_LEN);
    assert_eq!((bytes[0], &bytes[HASH]), (0, &request.hash.as_bytes()[..]));
    let bounds: Vec<u64> = request.ranges.boundaries().iter().map(|chunk| chunk.0).collect();
    assert!(!bounds.is_empty() && bounds.len() <= 2 * MAX_RANGES);
    assert!(bounds.windows(2).all(|pair| pair[0] < pair[1]), "ranges that touch or go back");
    // It says nothing else: what was understood, written again, is understood the same way.
    assert_eq!(decode_request(&encode(request.hash.as_bytes(), &bounds)).as_ref(), Ok(request));
    // A request ends where it ends.
    assert!(decode_request(&[bytes, &[0]].concat()).is_err());
    assert!(decode_request(&bytes[..bytes.len() - 1]).is_err());
}

/// A request as the protocol writes it; `bounds` are where ranges begin and end, in turn.
fn encode(hash: &[u8; 32], bounds: &[u64]) -> Vec<u8> {
    let mut bytes = vec![0];
    bytes.extend_from_slice(hash);
    let mut before = 0;
    let widths = bounds.iter().map(|bound| bound - std::mem::replace(&mut before, *bound));
    let numbers = [2, 0, bounds.len() as u64].into_iter().chain(widths).chain([1, 0]);
    for mut number in numbers {
        while number >= 0x80 {
            bytes.push(number as u8 | 0x80);
            number >>= 7;
        }
        bytes.push(number as u8);
    }
    bytes
}

/// Whole blobs, the last chunk, groups, many ranges, and what is not answered.
pub fn seeds() -> Vec<Vec<u8>> {
    let many: Vec<u64> = (0..2 * MAX_RANGES as u64).map(|number| number * 3).collect();
    let all: [&[u64]; 7] =
        [&[0], &[0, 1], &[16, 32], &[u64::MAX], &[u64::MAX - 1, u64::MAX], &[0, 16, 48, 64, 1 << 40], &many];
    let mut seeds: Vec<Vec<u8>> = all.iter().map(|bounds| encode(&[7; 32], bounds)).collect();
    for kind in [1, 8, 9] {
        let mut other = encode(&[7; 32], &[0]);
        other[0] = kind;
        seeds.push(other);
    }
    // Only what follows the hash, for the second way.
    seeds.extend(all.iter().map(|bounds| {
        let bytes = encode(&[7; 32], bounds);
        bytes[HASH.end + 2..bytes.len() - 2].to_vec()
    }));
    seeds
}
