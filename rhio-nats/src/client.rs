//! A connection to NATS, as the rest of rhio sees it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{HeaderMap, RequestErrorKind, Subject, jetstream};
use bytes::Bytes;
use futures_util::Stream;
use thiserror::Error;

use crate::raw::exchange::Pool;

/// NATS did not do what it was asked for, in the words of the library.
#[derive(Debug, Error)]
#[error(transparent)]
pub struct ClientError(#[from] async_nats::Error);

impl ClientError {
    pub(crate) fn of(error: impl Into<async_nats::Error>) -> Self {
        Self(error.into())
    }
}

/// Why a request has no answer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RequestError {
    /// Nobody serves the subject.
    #[error("nobody answers there")]
    NobodyServes,
    /// Nothing came in time.
    #[error("no answer in time")]
    TimedOut,
    /// The library's words.
    #[error("{0}")]
    Failed(String),
}

/// What a service answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The content.
    pub payload: Bytes,
    /// The error that the service named, by the rules of NATS services.
    pub error: Option<String>,
}

/// The server at the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerInfo {
    /// Another one after every restart.
    pub server_id: String,
    /// Its name.
    pub server_name: String,
    /// Its version.
    pub version: String,
    /// Its TCP port.
    pub port: u16,
}

/// A message that was delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its content.
    pub payload: Bytes,
}

/// What is delivered under a subject, until it is dropped.
#[derive(Debug)]
pub struct Subscription(async_nats::Subscriber);

impl Stream for Subscription {
    type Item = Message;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Message>> {
        let next = Pin::new(&mut self.0).poll_next(context);
        next.map(|message| message.map(|message| Message { payload: message.payload }))
    }
}

/// Where a message of a work queue is acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack(pub(crate) Subject);

/// A connection to NATS. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    pub(crate) sdk: async_nats::Client,
    /// Connections for what is read in bulk, and as bytes.
    pub(crate) pool: Arc<Pool>,
}

impl Client {
    /// JetStream of the domain that is configured.
    pub(crate) fn jetstream(&self) -> jetstream::Context {
        match &self.pool.settings().domain {
            Some(domain) => jetstream::with_domain(self.sdk.clone(), domain),
            None => jetstream::new(self.sdk.clone()),
        }
    }

    /// The server that this connection leads to now, or led to last.
    pub fn server_info(&self) -> ServerInfo {
        let info = self.sdk.server_info();
        ServerInfo { server_id: info.server_id, server_name: info.server_name, version: info.version, port: info.port }
    }

    /// Whether there is a connection at this moment.
    pub fn is_connected(&self) -> bool {
        self.sdk.connection_state() == State::Connected
    }

    /// Connections made so far, the first one included.
    pub fn connects(&self) -> u64 {
        self.sdk.statistics().connects.load(Ordering::Relaxed)
    }

    /// Bytes that a message may have with its headers, as the server says.
    pub fn max_payload(&self) -> usize {
        self.sdk.max_payload()
    }

    /// Sends a message; it is on its way when [`Self::flush`] has returned.
    ///
    /// # Errors
    /// When the subject is none, or the connection is closed for good.
    pub async fn publish(&self, subject: impl Into<String>, payload: Bytes) -> Result<(), ClientError> {
        self.sdk.publish(subject.into(), payload).await.map_err(ClientError::of)
    }

    /// The same with an id, by which streams leave out what they have.
    ///
    /// # Errors
    /// As [`Self::publish`].
    pub async fn publish_once(&self, subject: &str, id: &str, payload: Bytes) -> Result<(), ClientError> {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Msg-Id", id);
        self.sdk.publish_with_headers(subject.to_owned(), headers, payload).await.map_err(ClientError::of)
    }

    /// Takes a message out of a work queue. Nothing is lost when that fails: it is delivered again.
    pub async fn acknowledge(&self, ack: Ack) {
        let _ = self.sdk.publish(ack.0, Bytes::from_static(b"+ACK")).await;
    }

    /// Waits until the server has all that was published. It needs a deadline while there is no connection.
    ///
    /// # Errors
    /// When the connection is closed for good.
    pub async fn flush(&self) -> Result<(), ClientError> {
        self.sdk.flush().await.map_err(ClientError::of)
    }

    /// Listens under a subject; wildcards are allowed.
    ///
    /// # Errors
    /// When the subject is none, or the connection is closed for good.
    pub async fn subscribe(&self, subject: impl Into<String>) -> Result<Subscription, ClientError> {
        Ok(Subscription(self.sdk.subscribe(subject.into()).await.map_err(ClientError::of)?))
    }

    /// Asks a service and waits so long for its answer.
    ///
    /// # Errors
    /// When there is none.
    pub async fn request(&self, subject: &str, within: Duration) -> Result<Reply, RequestError> {
        let request = async_nats::Request::new().timeout(Some(within));
        match self.sdk.send_request(subject.to_owned(), request).await {
            Ok(answer) => {
                let error = answer.headers.as_ref().and_then(|headers| headers.get("Nats-Service-Error"));
                Ok(Reply { error: error.map(ToString::to_string), payload: answer.payload })
            }
            Err(error) => Err(match error.kind() {
                RequestErrorKind::NoResponders => RequestError::NobodyServes,
                RequestErrorKind::TimedOut => RequestError::TimedOut,
                _ => RequestError::Failed(error.to_string()),
            }),
        }
    }
}
