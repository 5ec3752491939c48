//! What an operator can run into, as types: every reason why something waits, fails or is refused has a [`Cause`], and
//! every cause has a name that stays and the next thing to do.
//!
//! Errors of the crates below become a [`Trouble`] here, by matches that leave nothing out; those of this crate do so
//! beside their types. No text is looked into.

use std::fmt;

use rhio_blobs::bucket::{BucketError, Denied};
use rhio_core::wire::CloseCode;
use rhio_nats::connect::ConnectError;
use rhio_nats::fault::{Limit, ServerFault};
use rhio_nats::raw::exchange::AskError;
use rhio_nats::reader::ReadError;
use rhio_nats::sink::SinkError;
use rhio_nats::source::SourceError;
use rhio_nats::state::StateError;
use rhio_nats::survey;
use rhio_net::records::Unconnected;
use rhio_net::stream::StreamError;

/// Makes the enum and its table of one list, so that no cause can be without a name or a remedy.
macro_rules! causes {
    ($($(#[$doc:meta])* $cause:ident: $code:literal => $remedy:literal;)*) => {
        /// What is behind a trouble.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Cause {
            $($(#[$doc])* $cause,)*
        }

        impl Cause {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$cause,)*];

            /// Its name in the API and in metrics: kebab-case. It stays when the words change.
            pub fn code(self) -> &'static str {
                match self {
                    $(Self::$cause => $code,)*
                }
            }

            /// The next thing to do.
            pub fn remedy(self) -> &'static str {
                match self {
                    $(Self::$cause => $remedy,)*
                }
            }
        }
    };
}

causes! {
    // NATS

    /// No NATS server answers at the address.
    NatsUnreachable: "nats-unreachable" =>
        "is the server running, and is 'nats.endpoint' right?";
    /// The connection with NATS is gone.
    NatsLost: "nats-lost" =>
        "check that NATS runs and that 'nats.endpoint' leads to it; rhio reconnects by itself";
    /// NATS does not take our credentials.
    NatsCredentials: "nats-credentials" =>
        "check 'nats.credentials', and that the user exists on the server";
    /// No agreement on TLS with NATS.
    NatsTls: "nats-tls" =>
        "check 'nats.tls', and that the server's certificate is for the name in 'nats.endpoint'";
    /// A file for NATS that the configuration names is of no use.
    NatsFile: "nats-file" =>
        "put the file right that the configuration names";
    /// NATS does not answer a request.
    NatsSilent: "nats-silent" =>
        "look whether the server hangs or is overloaded, and what rhio's user may do there";
    /// NATS forbids our user something.
    NatsPermission: "nats-permission" =>
        "give rhio's user on the NATS server the permission that it names (README: NATS permissions)";
    /// There is no JetStream.
    JetStreamDisabled: "jetstream-disabled" =>
        "enable JetStream on the NATS server";
    /// The account or the server has no room left.
    NatsStorageFull: "nats-storage-full" =>
        "the NATS server's storage is full: make room, or raise its limit";

    // Streams

    /// There is no such stream.
    StreamMissing: "stream-missing" =>
        "create it; rhio goes on by itself";
    /// The stream has nothing under the subject.
    NotCaptured: "stream-does-not-capture" =>
        "add the subject to the stream (nats stream edit), or correct 'stream' in the configuration";
    /// The local stream changes the subjects of what is written to it.
    StreamChanges: "stream-changes-subjects" =>
        "subscribe into a stream without subject_transform, and let the stream with it source from that one";
    /// The stream has as many messages as it may.
    StreamFullMessages: "stream-full-messages" =>
        "the local stream is full and refuses new messages: raise its limits, or let it discard old ones";
    /// The stream has as many messages of one subject as it may.
    StreamFullPerSubject: "stream-full-per-subject" =>
        "the local stream is full for a subject: raise its limit per subject, or let it discard old messages";
    /// The stream has as many bytes as it may.
    StreamFullBytes: "stream-full-bytes" =>
        "the local stream is full: raise its limits, or let it discard old messages";
    /// A message is larger than the stream or the server allows.
    MessageTooLarge: "message-too-large" =>
        "raise max_payload on the local NATS servers, and the stream's largest message";
    /// The stream is sealed or a mirror.
    StreamReadOnly: "stream-read-only" =>
        "name another stream: nobody writes to one that is sealed or a mirror";
    /// The stream refuses what it is asked.
    StreamRefuses: "stream-refuses" =>
        "look at the stream with: nats stream info";
    /// Reading or writing the stream failed.
    StreamFailed: "stream-failed" =>
        "look at the stream and the NATS server's log; rhio tries again by itself";
    /// The local stream was deleted and created again, or somebody else writes to it too.
    StreamChanged: "stream-changed" =>
        "nothing, if that was meant; rhio begins anew by itself";
    /// The stream has another message where one was signed.
    StreamAltered: "stream-altered" =>
        "restore the author's stream, or delete that message from it (nats stream rmm): readers then go on without it";
    /// A message can't be replicated as it is.
    Unreplicable: "message-not-replicable" =>
        "look at the message in the author's stream and at what wrote it; the others go on";

    // What rhio keeps in NATS

    /// The state stream does not do what it is asked.
    StateFailed: "state-failed" =>
        "look at rhio's own stream with: nats stream info RHIO";
    /// The state stream holds what rhio did not write.
    StateDamaged: "state-damaged" =>
        "look at the message in rhio's own stream, and restore the stream from a backup if there is one";
    /// Another process has the same key.
    SameKey: "same-key-twice" =>
        "run one rhio per private key: stop the other one, or give it its own key";

    // Other nodes

    /// There is no connection with the node.
    NotConnected: "peer-not-connected" =>
        "check that the other rhio runs, that its address in 'nodes' is right, and that its UDP port is open in every \
         firewall between";
    /// There is no connection, and no address to make one.
    NoAddress: "peer-no-address" =>
        "add an address to the node's entry in 'nodes'";
    /// The node does not know us.
    RefusesUs: "peer-refuses-us" =>
        "add this node's public key (rhio id) to 'nodes' in the other node's configuration";
    /// The node does not give us what we ask for.
    NotPublished: "not-published-for-us" =>
        "ask the other side to publish it, and to add this node's public key to 'nodes' or 'allow'";
    /// The author has nothing under the filter.
    NothingPublished: "author-publishes-nothing" =>
        "check the subject here and 'publish' in the other node's configuration, and that it may read: 'nodes', 'allow'";
    /// The author can't serve it at present.
    PeerUnavailable: "peer-unavailable" =>
        "look at the other node's status; rhio tries again by itself";
    /// The connection went in the middle.
    ConnectionLost: "peer-connection-lost" =>
        "check the network between the nodes; rhio connects again by itself";
    /// Nothing moves although there is more.
    NoProgress: "no-progress" =>
        "check the network between the nodes; rhio begins anew by itself";
    /// The peer sent what can't be accepted.
    Violation: "peer-violation" =>
        "look at the other node's log and version; what it sent is not what was signed";
    /// The UDP port is not there.
    NoSocket: "udp-not-bound" =>
        "check that nothing else uses the UDP port, and restart rhio";

    // Buckets

    /// There is no such bucket.
    BucketMissing: "bucket-missing" =>
        "create the bucket; rhio goes on by itself";
    /// The S3 server does not take our keys.
    S3Credentials: "s3-credentials" =>
        "correct the key and the secret in 's3.credentials': the server does not know them, or they have expired";
    /// Our keys may not do this.
    S3Permission: "s3-permission" =>
        "let the key of 's3.credentials', or for folders the user that rhio runs as, list, read and write this bucket";
    /// The clocks are too far apart.
    S3Clock: "s3-clock" =>
        "set the clock of this machine or of the S3 server: they are too far apart for signatures";
    /// The signature is for another region.
    S3Region: "s3-region" =>
        "check 's3.region', and that 's3.endpoint' is this bucket's";
    /// The bucket refuses access and does not say why.
    S3Refuses: "s3-refuses" =>
        "check 's3.credentials', and what they may do with this bucket";
    /// The bucket can't be reached, is full, or failed.
    BucketUnavailable: "bucket-unavailable" =>
        "is the S3 server running, has it room, and is 's3.endpoint' right?";
    /// A bucket is named and there is no place for it.
    NoS3: "s3-not-configured" =>
        "add 's3' to the configuration";
    /// The bucket's name does not fit the place.
    BucketName: "bucket-name" =>
        "correct the bucket's name in the configuration";
    /// A bucket that had objects lists as empty.
    BucketEmpty: "bucket-lists-empty" =>
        "look whether the bucket was meant to be emptied";
    /// Somebody else's object has the key.
    KeyTaken: "object-key-taken" =>
        "delete or rename the local object, or subscribe into another bucket";
    /// The object changes all the while.
    ObjectChanging: "object-changing" =>
        "wait until nobody writes the object; rhio tries again by itself";
    /// An object that this bucket can't have.
    ObjectUnsuitable: "object-unsuitable" =>
        "rename the object where it comes from, or subscribe into a bucket that takes it";
    /// The content ended early or could not be read.
    ContentFailed: "object-content-failed" =>
        "look at rhio's log; rhio tries again by itself";
    /// The bucket does not have what it confirmed.
    ObjectNotKept: "object-not-kept" =>
        "look at the S3 server's disks and log: it confirmed an object and has another or none; rhio brings it again";
    /// A mass delete waits for a word.
    DeletesHeld: "deletes-held" =>
        "look whether the deletes were meant; if so, confirm them with that command";
    /// The folder for rhio's own files can't be used.
    BlobsDir: "blobs-dir" =>
        "check that 'blobs_dir' exists, has room, and can be written";

    /// Something in rhio itself, or what nobody has met yet.
    Internal: "internal" =>
        "look at rhio's log; rhio tries again by itself";
}

impl Cause {
    /// The cause with this name, as another rhio says it.
    pub fn find(code: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|cause| cause.code() == code)
    }

    /// Where it is in [`ALL`](Self::ALL).
    fn index(self) -> usize {
        self as usize
    }
}

/// Something that went wrong: what is behind it, and one sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    cause: Cause,
    words: String,
}

impl Trouble {
    /// A trouble with its sentence.
    pub fn new(cause: Cause, words: impl Into<String>) -> Self {
        Self { cause, words: words.into() }
    }

    /// What is behind it.
    pub fn cause(&self) -> Cause {
        self.cause
    }

    /// Its name in the API and in metrics.
    pub fn code(&self) -> &'static str {
        self.cause.code()
    }

    /// The next thing to do.
    pub fn remedy(&self) -> &'static str {
        self.cause.remedy()
    }

    /// The same trouble, told in a sentence about where it was met.
    #[must_use]
    pub fn told(self, words: impl Into<String>) -> Self {
        Self { words: words.into(), ..self }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

/// How often each cause was met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally(Box<[u64]>);

impl Default for Tally {
    fn default() -> Self {
        Self(vec![0; Cause::ALL.len()].into())
    }
}

impl Tally {
    /// Counts one more.
    pub fn count(&mut self, cause: Cause) {
        if let Some(count) = self.0.get_mut(cause.index()) {
            *count += 1;
        }
    }

    /// Those that were met.
    pub fn iter(&self) -> impl Iterator<Item = (Cause, u64)> + '_ {
        Cause::ALL.iter().copied().zip(self.0.iter().copied()).filter(|(_, count)| *count > 0)
    }
}

/// What a refusal of NATS means for a stream; `otherwise` where it is about this stream alone.
fn of_fault(fault: ServerFault, otherwise: Cause) -> Cause {
    match fault {
        ServerFault::Missing => Cause::StreamMissing,
        ServerFault::Disabled => Cause::JetStreamDisabled,
        ServerFault::Full(Limit::Messages) => Cause::StreamFullMessages,
        ServerFault::Full(Limit::PerSubject) => Cause::StreamFullPerSubject,
        ServerFault::Full(Limit::Bytes) => Cause::StreamFullBytes,
        ServerFault::Full(Limit::MessageSize) => Cause::MessageTooLarge,
        ServerFault::Full(Limit::Storage) => Cause::NatsStorageFull,
        ServerFault::ReadOnly => Cause::StreamReadOnly,
        ServerFault::Silent => Cause::NatsSilent,
        ServerFault::Lost => Cause::NatsLost,
        ServerFault::Refused(_) | ServerFault::Other => otherwise,
    }
}

/// The same for rhio's own stream, whose limits are not the local stream's.
fn of_state_fault(fault: ServerFault) -> Cause {
    match of_fault(fault, Cause::StateFailed) {
        cause @ (Cause::JetStreamDisabled | Cause::NatsStorageFull | Cause::NatsSilent | Cause::NatsLost) => cause,
        _ => Cause::StateFailed,
    }
}

impl From<&ConnectError> for Cause {
    fn from(error: &ConnectError) -> Self {
        match error {
            ConnectError::Refused { .. } => Self::NatsCredentials,
            ConnectError::Tls { .. } => Self::NatsTls,
            ConnectError::Unreachable { .. } => Self::NatsUnreachable,
            ConnectError::File { .. } => Self::NatsFile,
            ConnectError::Auth(_) => Self::NatsCredentials,
        }
    }
}

impl From<&AskError> for Cause {
    fn from(error: &AskError) -> Self {
        match error {
            AskError::Connect(error) => error.into(),
            AskError::Lost(_) => Self::NatsLost,
            AskError::Denied(_) => Self::NatsPermission,
            AskError::Write(_) => Self::StreamFailed,
            AskError::TimedOut(_) => Self::NatsSilent,
        }
    }
}

impl From<&ReadError> for Cause {
    fn from(error: &ReadError) -> Self {
        match error {
            ReadError::Nats(error) => of_fault(ServerFault::of(error), Self::StreamFailed),
            ReadError::Ask(error) => error.into(),
            ReadError::Ended { .. } | ReadError::Message(_) | ReadError::Untold(_) => Self::StreamFailed,
            ReadError::Stalled => Self::NatsSilent,
        }
    }
}

impl From<&SourceError> for Cause {
    fn from(error: &SourceError) -> Self {
        match error {
            SourceError::Missing(_) => Self::StreamMissing,
            SourceError::NotCaptured { .. } => Self::NotCaptured,
            SourceError::Consumer { fault, .. } => of_fault(*fault, Self::StreamRefuses),
            SourceError::Nats { source, .. } => of_fault(ServerFault::of(source), Self::StreamFailed),
            SourceError::Interrupted => Self::StreamFailed,
            SourceError::Read(error) => error.into(),
        }
    }
}

impl From<&SinkError> for Cause {
    fn from(error: &SinkError) -> Self {
        match error {
            SinkError::Connect(error) => error.into(),
            SinkError::Missing(_) => Self::StreamMissing,
            SinkError::NotCaptured { .. } => Self::NotCaptured,
            SinkError::Changes { .. } => Self::StreamChanges,
            SinkError::Refused { fault, .. } => of_fault(*fault, Self::StreamRefuses),
            SinkError::TooLarge { .. } => Self::MessageTooLarge,
            SinkError::Denied(_) => Self::NatsPermission,
            SinkError::Unsayable(_) => Self::Unreplicable,
            SinkError::Lost(_) => Self::NatsLost,
            SinkError::Occupied(_) => Self::SameKey,
            SinkError::Nats { source, .. } => of_fault(ServerFault::of(source), Self::StreamFailed),
            SinkError::Read(error) => error.into(),
        }
    }
}

impl From<&StateError> for Cause {
    fn from(error: &StateError) -> Self {
        match error {
            StateError::Nats { source, .. } => of_state_fault(ServerFault::of(source)),
            StateError::Refused { .. } => Self::SameKey,
            StateError::Damaged { .. } | StateError::Format { .. } => Self::StateDamaged,
            StateError::Read(ReadError::Nats(error)) => of_state_fault(ServerFault::of(error)),
            StateError::Read(ReadError::Ask(error)) => error.into(),
            StateError::Read(ReadError::Ended { .. } | ReadError::Message(_) | ReadError::Untold(_)) => {
                Self::StateFailed
            }
            StateError::Read(ReadError::Stalled) => Self::NatsSilent,
        }
    }
}

impl From<&survey::StreamError> for Cause {
    fn from(error: &survey::StreamError) -> Self {
        match error {
            survey::StreamError::Missing => Self::StreamMissing,
            survey::StreamError::Refused(fault, _) => of_fault(*fault, Self::StreamRefuses),
            survey::StreamError::Silent(_) => Self::NatsSilent,
        }
    }
}

impl From<CloseCode> for Cause {
    fn from(code: CloseCode) -> Self {
        match code {
            CloseCode::Refused => Self::NotPublished,
            CloseCode::Protocol | CloseCode::Unverified | CloseCode::Diverged => Self::Violation,
            CloseCode::Unavailable => Self::PeerUnavailable,
            CloseCode::Stalled => Self::NoProgress,
            CloseCode::Done | CloseCode::Shutdown | CloseCode::Superseded => Self::ConnectionLost,
        }
    }
}

impl From<&StreamError> for Cause {
    fn from(error: &StreamError) -> Self {
        match error {
            StreamError::Closed(code) | StreamError::Refused { code, .. } => (*code).into(),
            StreamError::Lost(_) => Self::ConnectionLost,
            StreamError::Timeout => Self::NoProgress,
            StreamError::Bad(_) | StreamError::Truncated | StreamError::Unexpected => Self::Violation,
        }
    }
}

impl From<&Unconnected> for Cause {
    fn from(why: &Unconnected) -> Self {
        if why.is_refusal() { Self::RefusesUs } else { Self::NotConnected }
    }
}

impl From<&BucketError> for Cause {
    fn from(error: &BucketError) -> Self {
        match error {
            BucketError::Missing(_) => Self::BucketMissing,
            BucketError::Forbidden { why: Denied::Credentials, .. } => Self::S3Credentials,
            BucketError::Forbidden { why: Denied::Permission, .. } => Self::S3Permission,
            BucketError::Forbidden { why: Denied::Clock, .. } => Self::S3Clock,
            BucketError::Forbidden { why: Denied::Region, .. } => Self::S3Region,
            BucketError::Forbidden { why: Denied::Unknown, .. } => Self::S3Refuses,
            BucketError::Changed | BucketError::NoUpload => Self::ObjectChanging,
            BucketError::Conflict => Self::KeyTaken,
            BucketError::Unsuitable(_) => Self::ObjectUnsuitable,
            BucketError::NotKept(_) => Self::ObjectNotKept,
            BucketError::Body(_) => Self::ContentFailed,
            BucketError::Unavailable { .. } => Self::BucketUnavailable,
        }
    }
}

/// An error that has a cause becomes a trouble in its own words.
impl<E: fmt::Display> From<&E> for Trouble
where
    for<'a> Cause: From<&'a E>,
{
    fn from(error: &E) -> Self {
        Self::new(error.into(), error.to_string())
    }
}

#[cfg(test)]
mod tests;
