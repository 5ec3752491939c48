//! A NATS service (micro API): requests that this node answers.

use async_nats::HeaderMap;
use async_nats::service::ServiceExt;
use async_nats::service::endpoint::Endpoint;
use bytes::Bytes;
use futures_util::StreamExt;

use super::client::{Client, ClientError};

/// A service that is offered until it is dropped.
#[derive(Debug)]
pub struct Service(async_nats::service::Service);

impl Service {
    /// Offers a service. `public_key` is told to whoever asks what it is.
    ///
    /// # Errors
    /// When the version is none, or NATS does not answer.
    pub async fn offer(
        client: &Client,
        name: &str,
        version: &str,
        description: &str,
        public_key: String,
    ) -> Result<Self, ClientError> {
        let builder = client.sdk.service_builder().description(description);
        let builder = builder.metadata([("public_key".to_owned(), public_key)].into());
        Ok(Self(builder.start(name, version).await?))
    }

    /// Begins to take requests under a subject.
    ///
    /// # Errors
    /// When NATS does not answer.
    pub async fn endpoint(&self, name: &str, subject: &str) -> Result<Requests, ClientError> {
        Ok(Requests(self.0.endpoint_builder().name(name).add(subject).await?))
    }
}

/// The requests under one subject.
pub struct Requests(Endpoint);

impl Requests {
    /// The next one; `None` when the service is over. Cancel-safe.
    pub async fn next(&mut self) -> Option<Request> {
        self.0.next().await.map(Request)
    }
}

/// A request.
#[derive(Debug)]
pub struct Request(async_nats::service::Request);

impl Request {
    /// What is asked.
    pub fn payload(&self) -> &Bytes {
        &self.0.message.payload
    }

    /// Answers.
    ///
    /// # Errors
    /// When the connection is closed for good.
    pub async fn answer(&self, content_type: &str, content: Bytes) -> Result<(), ClientError> {
        self.respond(HeaderMap::new(), content_type, content).await
    }

    /// Answers that it can't be done: a code as in HTTP, and one sentence.
    ///
    /// # Errors
    /// When the connection is closed for good.
    pub async fn refuse(&self, code: u16, reason: String) -> Result<(), ClientError> {
        let mut headers = HeaderMap::new();
        // A header is one line.
        let line = reason.replace(|c: char| c.is_control(), " ");
        headers.insert("Nats-Service-Error", line.as_str());
        headers.insert("Nats-Service-Error-Code", code.to_string().as_str());
        self.respond(headers, "text/plain", Bytes::from(reason)).await
    }

    async fn respond(&self, mut headers: HeaderMap, content_type: &str, content: Bytes) -> Result<(), ClientError> {
        headers.insert("Content-Type", content_type);
        self.0.respond_with_headers(Ok(content), headers).await.map_err(ClientError::of)
    }
}
