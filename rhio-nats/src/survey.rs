//! What a NATS account and its streams are like, for whoever looks at them before anything is started.

use std::time::Duration;

use async_nats::jetstream::context::{AccountErrorKind, GetStreamErrorKind};
use async_nats::jetstream::stream::{DiscardPolicy, Info, RetentionPolicy, StorageType};
use async_nats::jetstream::{Context, ErrorCode};
use thiserror::Error;

use super::client::Client;
use super::fault::ServerFault;
use super::state::is_missing;

/// When a stream drops messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Retention {
    /// By its limits alone.
    #[default]
    Limits,
    /// When a consumer has acknowledged them.
    WorkQueue,
    /// When every consumer has acknowledged them; at once when there is none.
    Interest,
}

/// A stream as it was when it was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamFacts {
    /// Its name.
    pub name: String,
    /// What it captures.
    pub subjects: Vec<String>,
    /// When it drops messages.
    pub retention: Retention,
    /// It refuses new messages when it is full, instead of dropping old ones.
    pub refuses_when_full: bool,
    /// It is kept in memory.
    pub in_memory: bool,
    /// Messages that it keeps at most; `None`: no limit.
    pub max_messages: Option<u64>,
    /// Bytes that it keeps at most; `None`: no limit.
    pub max_bytes: Option<u64>,
    /// Messages of one subject that it keeps at most; `None`: no limit.
    pub max_messages_per_subject: Option<u64>,
    /// How long it keeps messages; `None`: no limit.
    pub max_age: Option<Duration>,
    /// Copies of it, 1 or more.
    pub replicas: u64,
    /// Nothing can be written to it.
    pub sealed: bool,
    /// It copies another stream and takes nothing else.
    pub mirror: bool,
    /// Messages that it holds.
    pub messages: u64,
    /// Its consumers.
    pub consumers: u64,
}

impl From<&Info> for StreamFacts {
    fn from(info: &Info) -> Self {
        let config = &info.config;
        // The server says -1 for none.
        let limit = |n: i64| u64::try_from(n).ok().filter(|n| *n > 0);
        Self {
            name: config.name.clone(),
            subjects: config.subjects.clone(),
            retention: match config.retention {
                RetentionPolicy::Limits => Retention::Limits,
                RetentionPolicy::WorkQueue => Retention::WorkQueue,
                RetentionPolicy::Interest => Retention::Interest,
            },
            refuses_when_full: config.discard == DiscardPolicy::New,
            in_memory: config.storage == StorageType::Memory,
            max_messages: limit(config.max_messages),
            max_bytes: limit(config.max_bytes),
            max_messages_per_subject: limit(config.max_messages_per_subject),
            max_age: Some(config.max_age).filter(|age| !age.is_zero()),
            replicas: config.num_replicas.max(1) as u64,
            sealed: config.sealed,
            mirror: config.mirror.is_some(),
            messages: info.state.messages,
            consumers: info.state.consumer_count as u64,
        }
    }
}

/// What an account uses and may use; `None`: no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccountFacts {
    /// Its streams.
    pub streams: u64,
    /// Streams that it may have.
    pub max_streams: Option<u64>,
    /// Bytes that it stores.
    pub storage: u64,
    /// Bytes that it may store.
    pub max_storage: Option<u64>,
}

/// Why the account is not known.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AccountError {
    /// JetStream is off for this server or account.
    #[error("JetStream is not enabled")]
    Disabled,
    /// JetStream refuses to tell.
    #[error("{0}")]
    Refused(String),
    /// Nothing came that says anything.
    #[error("no answer")]
    Silent,
}

/// Why a stream is not known.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StreamError {
    /// There is no such stream.
    #[error("it does not exist")]
    Missing,
    /// JetStream answers, with an error.
    #[error("{1}")]
    Refused(ServerFault, String),
    /// JetStream does not answer.
    #[error("{0}")]
    Silent(String),
}

/// Asks JetStream, with a deadline for each answer.
#[derive(Clone, Debug)]
pub struct Survey {
    context: Context,
    within: Duration,
}

impl Survey {
    /// Asks over this connection, and waits so long for each answer.
    pub fn new(client: &Client, within: Duration) -> Self {
        let mut context = client.jetstream();
        context.set_timeout(within);
        Self { context, within }
    }

    /// The account.
    ///
    /// # Errors
    /// When JetStream is off, refuses or is silent.
    pub async fn account(&self) -> Result<AccountFacts, AccountError> {
        let asked = tokio::time::timeout(self.within, self.context.query_account()).await;
        let account = asked.map_err(|_| AccountError::Silent)?.map_err(|error| match error.kind() {
            AccountErrorKind::JetStreamUnavailable => AccountError::Disabled,
            AccountErrorKind::JetStream(error)
                if error.error_code() == ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT =>
            {
                AccountError::Disabled
            }
            AccountErrorKind::JetStream(error) => AccountError::Refused(error.to_string()),
            _ => AccountError::Silent,
        })?;
        // The server says -1 for none, and may leave it out.
        let max = |limit: Option<i64>| limit.and_then(|max| u64::try_from(max).ok()).filter(|max| *max > 0);
        Ok(AccountFacts {
            streams: account.streams as u64,
            max_streams: max(account.limits.max_streams),
            storage: account.storage,
            max_storage: max(account.limits.max_storage),
        })
    }

    /// A stream.
    ///
    /// # Errors
    /// When it is missing, or JetStream refuses or is silent.
    pub async fn stream(&self, name: &str) -> Result<StreamFacts, StreamError> {
        match tokio::time::timeout(self.within, self.context.get_stream(name)).await {
            Ok(Ok(stream)) => Ok(stream.cached_info().into()),
            Ok(Err(error)) if is_missing(&error) => Err(StreamError::Missing),
            Ok(Err(error)) => {
                let words = error.to_string();
                match (error.kind(), ServerFault::of(&error.into())) {
                    (GetStreamErrorKind::JetStream(_), fault) => Err(StreamError::Refused(fault, words)),
                    _ => Err(StreamError::Silent(words)),
                }
            }
            Err(_) => Err(StreamError::Silent("no answer in time".to_owned())),
        }
    }

    /// The stream that captures a subject. `None` also when nothing comes in time: many users may not ask.
    pub async fn captured_by(&self, subject: String, within: Duration) -> Option<String> {
        tokio::time::timeout(within, self.context.stream_by_subject(subject)).await.ok()?.ok()
    }
}
