//! What the server's refusals and the library's errors are, as kinds.
//!
//! Wherever the server gives a code, the code decides. For two things it gives words alone: why it ends a connection,
//! and which limit of a stream has been reached. These words are read here and nowhere else.

use async_nats::jetstream::consumer::pull;
use async_nats::jetstream::context::{
    AccountErrorKind, ConsumerInfoErrorKind, CreateStreamErrorKind, GetStreamErrorKind, PublishErrorKind,
    RequestErrorKind,
};
use async_nats::jetstream::stream::{
    ConsumerErrorKind, DeleteMessageErrorKind, LastRawMessageErrorKind, PurgeErrorKind,
};
use async_nats::jetstream::{self, ErrorCode, context, stream};

/// What a server or the connection to it did instead of what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerFault {
    /// There is no such stream.
    Missing,
    /// JetStream is off for this server or account.
    Disabled,
    /// A limit is reached.
    Full(Limit),
    /// The stream is sealed or a mirror: nobody writes to it.
    ReadOnly,
    /// JetStream refused, with this code of its own.
    Refused(u64),
    /// Nothing came in time, or nobody is there to answer: a user that may not ask gets no answer either.
    Silent,
    /// The connection is gone.
    Lost,
    /// The library gives no reason that is known here.
    Other,
}

/// What there is too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Messages of the stream.
    Messages,
    /// Messages of one subject in the stream.
    PerSubject,
    /// Bytes of the stream.
    Bytes,
    /// Bytes of one message in the stream.
    MessageSize,
    /// Storage of the account or of the server.
    Storage,
}

/// JetStream's numbers for its own errors.
const STREAM_NOT_FOUND: u64 = ErrorCode::STREAM_NOT_FOUND.0;
const NOT_ENABLED: u64 = ErrorCode::JETSTREAM_NOT_ENABLED.0;
const NOT_ENABLED_FOR_ACCOUNT: u64 = ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT.0;
const STORE_FAILED: u64 = ErrorCode::STREAM_STORE_FAILED.0;
const MESSAGE_EXCEEDS_MAXIMUM: u64 = ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM.0;
const HEADER_EXCEEDS_MAXIMUM: u64 = ErrorCode::STREAM_HEADER_EXCEEDS_MAXIMUM.0;
const SEALED: u64 = ErrorCode::STREAM_SEALED.0;
const OUT_OF_STORAGE: [u64; 4] = [
    ErrorCode::ACCOUNT_RESOURCES_EXCEEDED.0,
    ErrorCode::INSUFFICIENT_RESOURCES.0,
    ErrorCode::STORAGE_RESOURCES_EXCEEDED.0,
    ErrorCode::MEMORY_RESOURCES_EXCEEDED.0,
];

impl ServerFault {
    /// What JetStream's answer says: its code for the error, and its words. The words count for one code alone, that of a
    /// message that could not be stored, which is one code for all limits.
    pub fn answered(code: u64, words: &str) -> Self {
        match code {
            STREAM_NOT_FOUND => Self::Missing,
            NOT_ENABLED | NOT_ENABLED_FOR_ACCOUNT => Self::Disabled,
            MESSAGE_EXCEEDS_MAXIMUM | HEADER_EXCEEDS_MAXIMUM => Self::Full(Limit::MessageSize),
            SEALED => Self::ReadOnly,
            STORE_FAILED => limit(words).map_or(Self::Refused(code), Self::Full),
            code if OUT_OF_STORAGE.contains(&code) => Self::Full(Limit::Storage),
            code => Self::Refused(code),
        }
    }

    /// What an error of the library is, by the first of it and its causes that says.
    pub fn of(error: &async_nats::Error) -> Self {
        let first: &(dyn std::error::Error + 'static) = error.as_ref();
        let mut causes = std::iter::successors(Some(first), |cause| cause.source());
        causes.find_map(one).unwrap_or(Self::Other)
    }
}

/// Which limit the server names. It has words alone for this.
fn limit(words: &str) -> Option<Limit> {
    [
        ("maximum messages per subject", Limit::PerSubject),
        ("maximum messages", Limit::Messages),
        ("maximum bytes", Limit::Bytes),
        ("insufficient", Limit::Storage),
        ("no space left", Limit::Storage),
    ]
    .into_iter()
    .find(|(known, _)| words.contains(known))
    .map(|(_, limit)| limit)
}

/// Whether the server ends a connection, or does not take it, because of who we are. It has words alone for this:
/// "authorization violation", "authentication expired", "authentication timeout".
pub(crate) fn is_refusal(words: &str) -> bool {
    let words = words.to_lowercase();
    words.contains("authorization") || words.contains("authentication")
}

fn answer(error: &jetstream::Error) -> ServerFault {
    ServerFault::answered(error.error_code().0, &error.to_string())
}

/// What one error says by itself, apart from its causes.
fn one(error: &(dyn std::error::Error + 'static)) -> Option<ServerFault> {
    if let Some(error) = error.downcast_ref::<jetstream::Error>() {
        return Some(answer(error));
    }
    requested(error).or_else(|| of_streams(error)).or_else(|| of_messages(error))
}

fn requested(error: &(dyn std::error::Error + 'static)) -> Option<ServerFault> {
    if let Some(error) = error.downcast_ref::<context::RequestError>() {
        return match error.kind() {
            RequestErrorKind::NoResponders | RequestErrorKind::TimedOut => Some(ServerFault::Silent),
            RequestErrorKind::InvalidSubject | RequestErrorKind::Other => None,
        };
    }
    if let Some(error) = error.downcast_ref::<async_nats::RequestError>() {
        use async_nats::RequestErrorKind as Kind;
        return match error.kind() {
            Kind::NoResponders | Kind::TimedOut => Some(ServerFault::Silent),
            Kind::MaxPayloadExceeded => Some(ServerFault::Full(Limit::MessageSize)),
            Kind::InvalidSubject | Kind::Other => None,
        };
    }
    let error = error.downcast_ref::<context::PublishError>()?;
    match error.kind() {
        PublishErrorKind::StreamNotFound => Some(ServerFault::Missing),
        PublishErrorKind::TimedOut => Some(ServerFault::Silent),
        PublishErrorKind::BrokenPipe => Some(ServerFault::Lost),
        PublishErrorKind::MaxPayloadExceeded => Some(ServerFault::Full(Limit::MessageSize)),
        _ => None,
    }
}

fn of_streams(error: &(dyn std::error::Error + 'static)) -> Option<ServerFault> {
    if let Some(error) = error.downcast_ref::<context::GetStreamError>() {
        return match error.kind() {
            GetStreamErrorKind::JetStream(error) => Some(answer(&error)),
            _ => None,
        };
    }
    if let Some(error) = error.downcast_ref::<context::CreateStreamError>() {
        return match error.kind() {
            CreateStreamErrorKind::JetStream(error) => Some(answer(&error)),
            CreateStreamErrorKind::JetStreamUnavailable => Some(ServerFault::Disabled),
            CreateStreamErrorKind::TimedOut => Some(ServerFault::Silent),
            _ => None,
        };
    }
    if let Some(error) = error.downcast_ref::<context::AccountError>() {
        return match error.kind() {
            AccountErrorKind::JetStream(error) => Some(answer(&error)),
            AccountErrorKind::JetStreamUnavailable => Some(ServerFault::Disabled),
            AccountErrorKind::TimedOut => Some(ServerFault::Silent),
            _ => None,
        };
    }
    let error = error.downcast_ref::<stream::PurgeError>()?;
    match error.kind() {
        PurgeErrorKind::JetStream(error) => Some(answer(&error)),
        PurgeErrorKind::TimedOut => Some(ServerFault::Silent),
        _ => None,
    }
}

fn of_messages(error: &(dyn std::error::Error + 'static)) -> Option<ServerFault> {
    if let Some(error) = error.downcast_ref::<stream::ConsumerError>() {
        return match error.kind() {
            ConsumerErrorKind::JetStream(error) => Some(answer(&error)),
            ConsumerErrorKind::TimedOut => Some(ServerFault::Silent),
            _ => None,
        };
    }
    if let Some(error) = error.downcast_ref::<context::ConsumerInfoError>() {
        return match error.kind() {
            ConsumerInfoErrorKind::JetStream(error) => Some(answer(&error)),
            ConsumerInfoErrorKind::TimedOut => Some(ServerFault::Silent),
            _ => None,
        };
    }
    if let Some(error) = error.downcast_ref::<stream::LastRawMessageError>() {
        return match error.kind() {
            LastRawMessageErrorKind::JetStream(error) => Some(answer(&error)),
            _ => None,
        };
    }
    if let Some(error) = error.downcast_ref::<stream::DeleteMessageError>() {
        return match error.kind() {
            DeleteMessageErrorKind::JetStream(error) => Some(answer(&error)),
            DeleteMessageErrorKind::TimedOut => Some(ServerFault::Silent),
            _ => None,
        };
    }
    let error = error.downcast_ref::<pull::MessagesError>()?;
    matches!(error.kind(), pull::MessagesErrorKind::MissingHeartbeat | pull::MessagesErrorKind::NoResponders)
        .then_some(ServerFault::Silent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jetstreams_codes_decide() {
        for (code, fault) in [
            (10059, ServerFault::Missing),
            (10039, ServerFault::Disabled),
            (10076, ServerFault::Disabled),
            (10023, ServerFault::Full(Limit::Storage)),
            (10047, ServerFault::Full(Limit::Storage)),
            (10054, ServerFault::Full(Limit::MessageSize)),
            (10109, ServerFault::ReadOnly),
            (10001, ServerFault::Refused(10001)),
        ] {
            assert_eq!(ServerFault::answered(code, "maximum messages exceeded"), fault, "{code}");
        }
    }

    #[test]
    fn a_message_that_is_not_stored_is_told_apart_by_the_limit() {
        for (words, fault) in [
            ("maximum messages exceeded", ServerFault::Full(Limit::Messages)),
            ("maximum messages per subject exceeded", ServerFault::Full(Limit::PerSubject)),
            ("maximum bytes exceeded", ServerFault::Full(Limit::Bytes)),
            ("write /data/1.blk: no space left on device", ServerFault::Full(Limit::Storage)),
            ("something new", ServerFault::Refused(10077)),
        ] {
            assert_eq!(ServerFault::answered(10077, words), fault, "{words}");
        }
    }

    #[test]
    fn causes_are_looked_through() {
        let inner = async_nats::RequestError::new(async_nats::RequestErrorKind::TimedOut);
        let outer = context::GetStreamError::with_source(GetStreamErrorKind::Request, inner);
        assert_eq!(ServerFault::of(&async_nats::Error::from(outer)), ServerFault::Silent);
        assert_eq!(ServerFault::of(&async_nats::Error::from("something else")), ServerFault::Other);
    }

    #[test]
    fn what_the_server_says_of_credentials_is_known() {
        for words in ["Authorization Violation", "authentication expired", "User Authentication Timeout"] {
            assert!(is_refusal(words), "{words}");
        }
        assert!(!is_refusal("maximum connections exceeded"));
    }
}
