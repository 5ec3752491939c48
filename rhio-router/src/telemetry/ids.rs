//! What names a batch's trace, and which batches are traced: pure, and the same on every node.

use std::fmt;
use std::str::FromStr;

use rhio_core::id::OpHash;

/// Domain of the root span's id.
const ROOT: &[u8] = b"rhio trace root";

/// The trace of an operation: the beginning of its hash, which its author's signature covers. So both nodes know it
/// although nothing is sent for it, and nobody else can choose it.
pub fn trace_id(operation: &OpHash) -> [u8; 16] {
    first(operation.as_bytes())
}

/// The span that the author emits for an operation, and that other nodes name as their spans' parent.
pub fn root_id(operation: &OpHash) -> [u8; 8] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(ROOT).update(operation.as_bytes());
    first(hasher.finalize().as_bytes())
}

fn first<const N: usize>(bytes: &[u8; 32]) -> [u8; N] {
    std::array::from_fn(|i| bytes[i])
}

/// The id of any other span.
pub fn span_id() -> [u8; 8] {
    // All zero means none.
    fastrand::u64(1..).to_be_bytes()
}

/// Which share of the batches is traced.
///
/// An operation's hash decides, by the rule of OpenTelemetry's `TraceIdRatioBased` sampler. So nodes with one share
/// trace the same batches, and of two with different shares the one with the smaller traces a part of the other's.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Trace ids below are traced; 2^63 is all of them.
    below: u64,
}

impl Sample {
    /// Every batch.
    pub const ALL: Self = Self { below: 1 << 63 };

    /// A share from 0 to 1; `None` for any other number.
    pub fn of(share: f64) -> Option<Self> {
        (0.0..=1.0).contains(&share).then_some(Self { below: (share * Self::ALL.below as f64) as u64 })
    }

    /// Whether an operation's batch is traced.
    pub fn takes(self, operation: &OpHash) -> bool {
        let id = u128::from_be_bytes(trace_id(operation));
        (id as u64) >> 1 < self.below
    }
}

impl FromStr for Sample {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().ok().and_then(Self::of).ok_or("is no share")
    }
}

impl fmt::Debug for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sample({})", self.below as f64 / Self::ALL.below as f64)
    }
}

/// A span of somebody else's, as a W3C `traceparent` header names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// Its trace.
    pub trace: [u8; 16],
    /// The span.
    pub span: [u8; 8],
    /// The header's flags.
    pub flags: u8,
}

/// Name of the header, compared without regard to case.
pub const TRACEPARENT: &str = "traceparent";

impl Context {
    /// Reads `version-trace-span-flags`. Later versions may append fields; what is no valid header is nothing.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (head, rest) = value.split_at_checked(55)?;
        let mut parts = head.split(|byte| *byte == b'-');
        let version = field::<1>(parts.next()?)?;
        let trace = field::<16>(parts.next()?)?;
        let span = field::<8>(parts.next()?)?;
        let flags = field::<1>(parts.next()?)?;
        let whole = match version {
            [0] => rest.is_empty(),
            [0xff] => false,
            _ => rest.first().is_none_or(|byte| *byte == b'-'),
        };
        let known = trace != [0; 16] && span != [0; 8];
        (parts.next().is_none() && whole && known).then_some(Self { trace, span, flags: flags[0] })
    }
}

/// Lower case hex digits, exactly as many as needed.
fn field<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let lower = text.iter().all(|byte| !byte.is_ascii_uppercase());
    (lower && hex::decode_to_slice(text, &mut bytes).is_ok()).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(byte: u8) -> OpHash {
        OpHash::from_bytes([byte; 32])
    }

    /// Other nodes derive the same: these values never change. The roots were computed by b3sum.
    #[test]
    fn ids_of_known_hashes() {
        let hash = OpHash::from_bytes(std::array::from_fn(|i| i as u8));
        assert_eq!(hex::encode(trace_id(&hash)), "000102030405060708090a0b0c0d0e0f");
        assert_eq!(hex::encode(root_id(&hash)), "6d7eaf589a92a910");
        assert_eq!(hex::encode(root_id(&self::hash(0xff))), "6cbaa594cb01dfd2");
    }

    #[test]
    fn span_ids_differ() {
        assert_ne!(span_id(), span_id());
    }

    #[test]
    fn a_share_takes_its_part_and_a_smaller_one_a_part_of_it() {
        let share = |share| Sample::of(share).unwrap();
        let hashes: Vec<OpHash> =
            (0..10_000u32).map(|i| OpHash::from_bytes(*blake3::hash(&i.to_be_bytes()).as_bytes())).collect();
        let taken = |sample: Sample| hashes.iter().filter(|hash| sample.takes(hash)).count();
        assert_eq!((taken(share(0.0)), taken(share(1.0)), taken(Sample::ALL)), (0, 10_000, 10_000));
        assert!((900..1100).contains(&taken(share(0.1))), "{}", taken(share(0.1)));
        let (less, more) = (share(0.1), share(0.4));
        assert!(hashes.iter().all(|hash| !less.takes(hash) || more.takes(hash)));
        // The largest and the smallest trace id.
        assert!(Sample::ALL.takes(&hash(0xff)) && !share(0.999).takes(&hash(0xff)) && share(0.001).takes(&hash(0)));
    }

    #[test]
    fn only_numbers_from_0_to_1_are_shares() {
        for text in ["0", "1", "1.0", "0.25", "1e-3"] {
            assert!(text.parse::<Sample>().is_ok(), "{text}");
        }
        for text in ["", "-0.1", "1.01", "NaN", "inf", "half", "50%"] {
            assert!(text.parse::<Sample>().is_err(), "{text}");
        }
        assert_eq!(format!("{:?}", Sample::of(0.25)), "Some(Sample(0.25))");
    }

    #[test]
    fn a_traceparent_is_read_as_w3c_says() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let context = Context::parse(good.as_bytes()).unwrap();
        assert_eq!(hex::encode(context.trace), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!((hex::encode(context.span).as_str(), context.flags), ("b7ad6b7169203331", 1));
        assert!(Context::parse(format!("cc{}-what-comes", &good[2..]).as_bytes()).is_some(), "a later version");
        for bad in [
            "",
            "00",
            &good[..54],
            &format!("{good}-more"),
            &format!("{good}x"),
            &good.to_uppercase(),
            &good.replace("00-", "ff-"),
            &format!("cc{}x", &good[2..]),
            &good.replace("b7ad6b7169203331", "0000000000000000"),
            &good.replace("0af7651916cd43dd8448eb211c80319c", "00000000000000000000000000000000"),
            &good.replace('-', "_"),
            "00-0af7651916cd43dd8448eb211c80319cb7-ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319ü-b7ad6b7169203331-1",
        ] {
            assert_eq!(Context::parse(bad.as_bytes()), None, "{bad}");
        }
    }
}
