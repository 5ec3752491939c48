//! Times and names.

/// A microsecond, in the clock's nanoseconds.
pub const US: u64 = 1_000;
/// A millisecond.
pub const MS: u64 = 1_000_000;
/// A second.
pub const SECOND: u64 = 1_000_000_000;

/// A cluster: one NATS, and one rhio (sometimes two).
pub type NodeId = usize;
/// A process. Never used again after it ends.
pub type ProcId = u32;

/// A node's letter.
pub fn name(node: NodeId) -> char {
    (b'A' + node as u8) as char
}
