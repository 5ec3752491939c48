//! What is asked and answered, and the connections that it goes over.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::base::{NodeId, ProcId};
use crate::jetstream::Message;

/// No answer: whether the request was carried out is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost;

/// One of a cluster's two streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The users'.
    Data,
    /// rhio's own.
    State,
}

/// What is asked.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum Request {
    Info(Which),
    /// The message with this number.
    Get(Which, u64),
    /// The first message of the users' stream that was stored after this time.
    After(u64),
    /// Messages from a number on; of one subject, when one is named.
    Read {
        which: Which,
        from: u64,
        max: usize,
        subject: Option<String>,
    },
    Append {
        which: Which,
        subject: String,
        headers: Vec<(String, String)>,
        payload: Bytes,
        expected: Option<u64>,
    },
    Delete(Which, u64),
    /// Everything in the state stream under a subject, below a number.
    Purge(String, u64),
}

/// What is answered.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum Response {
    Info(Info),
    Messages(Vec<Message>, Info),
    Stored(u64),
    /// The compare-and-set failed.
    Refused,
    Deleted,
}

/// What a stream says of itself.
#[derive(Clone, Copy, Debug)]
pub struct Info {
    /// When it was created.
    pub created: u64,
    /// The first sequence number that is there.
    pub first: u64,
    /// The last one that was given.
    pub last: u64,
}

pub(super) type ClientId = u64;
pub(super) type RequestId = u64;

/// A connection.
#[derive(Debug)]
pub struct Client {
    /// Whose.
    pub proc: ProcId,
    /// Where to.
    pub site: NodeId,
    pub(super) pending: VecDeque<(RequestId, Request)>,
    pub(super) answers: BTreeMap<RequestId, Result<Response, Lost>>,
    /// When the last request that was sent will be carried out.
    pub(super) busy: u64,
    pub(super) broken: bool,
    /// The process has noticed.
    pub(super) lost: bool,
    /// A message was stored in the users' stream since the process last looked.
    pub(super) news: bool,
    /// What this connection alone may write.
    pub(super) claim: Option<NodeId>,
}

/// All connections.
#[derive(Debug, Default)]
pub struct Clients {
    pub(super) all: BTreeMap<ClientId, Client>,
    pub(super) next: u64,
}
