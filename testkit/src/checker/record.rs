//! Messages as a stream holds them.

use std::collections::BTreeMap;

use anyhow::Context as _;
use async_nats::jetstream::consumer::pull::OrderedConfig;
use async_nats::{Client, HeaderMap, jetstream};
use bytes::Bytes;
use futures_util::StreamExt;

/// One message of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its sequence in the stream; 0 while unknown.
    pub sequence: u64,
    /// Its subject.
    pub subject: String,
    /// Its headers: by name, values in order.
    pub headers: BTreeMap<String, Vec<String>>,
    /// Its body.
    pub payload: Bytes,
}

impl Record {
    /// A message that is in no stream yet.
    pub fn new(subject: impl Into<String>, headers: Option<&HeaderMap>, payload: impl Into<Bytes>) -> Self {
        let mut by_name = BTreeMap::new();
        for (name, values) in headers.into_iter().flat_map(HeaderMap::iter) {
            let values: Vec<String> = values.iter().map(|value| value.as_str().to_owned()).collect();
            by_name.insert(name.to_string(), values);
        }
        Self { sequence: 0, subject: subject.into(), headers: by_name, payload: payload.into() }
    }

    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.first().map(String::as_str)
    }

    /// A few words that name it in a report.
    pub(super) fn describe(&self) -> String {
        let start = &self.payload[..self.payload.len().min(40)];
        let (sequence, subject, length) = (self.sequence, &self.subject, self.payload.len());
        format!("#{sequence} on {subject}, {length} bytes {:?}", String::from_utf8_lossy(start))
    }
}

/// All messages of a stream whose subject matches the filter, in the stream's order.
pub async fn read_stream(client: &Client, stream: &str, filter: &str) -> anyhow::Result<Vec<Record>> {
    let context = jetstream::new(client.clone());
    let stream = context.get_stream(stream).await.with_context(|| format!("cannot find stream {stream}"))?;
    let config = OrderedConfig { filter_subject: filter.into(), ..OrderedConfig::default() };
    let mut consumer = stream.create_consumer(config).await.context("cannot create a consumer")?;
    let mut waiting = consumer.info().await.context("cannot ask for what a stream holds")?.num_pending;
    let mut records = Vec::with_capacity(usize::try_from(waiting).unwrap_or_default());
    let mut messages = consumer.messages().await.context("cannot consume")?;
    while waiting > 0 {
        let message = messages.next().await.context("the consumer ended early")?.context("cannot read a message")?;
        let info = message.info().map_err(|e| anyhow::anyhow!("a message without its place in the stream: {e}"))?;
        waiting = info.pending;
        let mut record = Record::new(message.subject.as_str(), message.headers.as_ref(), message.payload.clone());
        record.sequence = info.stream_sequence;
        records.push(record);
    }
    Ok(records)
}

/// Whether a subject matches a filter, by NATS's rules for `*` and `>`.
pub fn subject_matches(filter: &str, subject: &str) -> bool {
    let (mut wanted, mut given) = (filter.split('.'), subject.split('.'));
    loop {
        match (wanted.next(), given.next()) {
            (None, None) | (Some(">"), Some(_)) => return true,
            (Some("*"), Some(_)) => {}
            (Some(a), Some(b)) if a == b => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::subject_matches;

    #[test]
    fn filters_match_as_in_nats() {
        for (filter, subject) in [("a.b", "a.b"), ("a.*", "a.b"), ("a.>", "a.b.c"), (">", "a"), ("*.b.>", "a.b.c")] {
            assert!(subject_matches(filter, subject), "{filter} {subject}");
        }
        for (filter, subject) in [("a.b", "a"), ("a", "a.b"), ("a.*", "a"), ("a.*", "a.b.c"), ("a.>", "a")] {
            assert!(!subject_matches(filter, subject), "{filter} {subject}");
        }
    }
}
