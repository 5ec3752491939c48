//! The connections between nodes, and what is under way on them.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::base::{NodeId, ProcId};

/// A connection.
#[derive(Debug)]
pub struct Conn {
    /// Who dialled, and who was dialled.
    pub procs: [ProcId; 2],
    /// Whose they are.
    pub nodes: [NodeId; 2],
    pub(super) broken: bool,
    pub(super) noticed: [bool; 2],
    pub(super) opened: [VecDeque<u64>; 2],
}

/// One direction of a stream.
#[derive(Debug, Default)]
pub(super) struct Pipe {
    pub(super) flying: usize,
    pub(super) arrived: VecDeque<Option<Bytes>>,
    pub(super) busy: u64,
    /// How many frames still arrive after the connection broke.
    pub(super) grace: usize,
}

/// A stream.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) conn: u64,
    /// One per direction, named by who reads.
    pub(super) pipes: [Pipe; 2],
}

/// All connections.
#[derive(Debug, Default)]
pub struct Network {
    pub(super) conns: BTreeMap<u64, Conn>,
    pub(super) streams: BTreeMap<u64, Stream>,
    pub(super) incoming: BTreeMap<ProcId, VecDeque<u64>>,
    /// Pairs of nodes that can't reach each other.
    pub parted: Vec<(NodeId, NodeId)>,
    pub(super) next: u64,
}
