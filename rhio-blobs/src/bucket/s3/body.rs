//! Content on its way to and from a server.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use reqwest::Response;

use super::words::words;
use crate::bucket::{Body, BodyError, BucketError, Content};

/// Progress is seen in steps of at most this, so that a slow link does not look like none.
const STEP: usize = 64 << 10;

/// When a byte moved last.
#[derive(Debug)]
pub(super) struct Progress(Mutex<Instant>);

impl Progress {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Instant::now()))
    }

    pub(super) fn idle(&self) -> Duration {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    fn moved(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}

/// Why content ended early, once it did.
#[derive(Clone, Debug, Default)]
pub(super) struct Failed(Arc<Mutex<Option<String>>>);

impl Failed {
    pub(super) fn take(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn set(&self, reason: &str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason.to_owned());
    }
}

/// Exactly as many bytes as were announced, or an error before the last one.
///
/// A server makes an object of what it got once it has the announced number of bytes. So the last of them are held back
/// until the content has ended without an error: a hash that turns out wrong at the end stores nothing.
pub(super) struct Outgoing {
    body: Option<Body>,
    len: u64,
    missing: u64,
    first: Option<Bytes>,
    held: Bytes,
    ready: Bytes,
    progress: Arc<Progress>,
    failed: Failed,
}

impl Outgoing {
    /// Takes content, and waits for what can be sent first, so that a request never stops between its headers and its
    /// first byte: SeaweedFS (4.48 at least) makes an empty object of that. Of content without bytes that is its end.
    pub(super) async fn new(content: Content) -> Result<Self, BucketError> {
        let mut outgoing = Self {
            body: Some(content.body),
            len: content.len,
            missing: content.len,
            first: None,
            held: Bytes::new(),
            ready: Bytes::new(),
            progress: Arc::new(Progress::new()),
            failed: Failed::default(),
        };
        if let Some(first) = outgoing.next().await {
            let first = first.map_err(|e| BucketError::Body(e.0))?;
            outgoing.first = Some(first);
        }
        Ok(outgoing)
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }

    pub(super) fn failed(&self) -> Failed {
        self.failed.clone()
    }

    fn fail(&mut self, error: BodyError) -> Poll<Option<Result<Bytes, BodyError>>> {
        self.body = None;
        self.failed.set(&error.0);
        Poll::Ready(Some(Err(error)))
    }
}

impl Stream for Outgoing {
    type Item = Result<Bytes, BodyError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if let Some(first) = this.first.take() {
            this.progress.moved();
            return Poll::Ready(Some(Ok(first)));
        }
        loop {
            if !this.ready.is_empty() {
                let step = this.ready.split_to(this.ready.len().min(STEP));
                this.progress.moved();
                return Poll::Ready(Some(Ok(step)));
            }
            let Some(body) = &mut this.body else { return Poll::Ready(None) };
            match std::task::ready!(body.as_mut().poll_next(context)) {
                Some(Err(error)) => return this.fail(error),
                Some(Ok(chunk)) if chunk.len() as u64 > this.missing => {
                    return this.fail(BodyError(format!("more came than the {} bytes announced", this.len)));
                }
                Some(Ok(chunk)) if chunk.is_empty() => {}
                Some(Ok(chunk)) => {
                    this.missing -= chunk.len() as u64;
                    if this.missing == 0 { this.held = chunk } else { this.ready = chunk }
                }
                None if this.missing > 0 => {
                    return this.fail(BodyError(format!("{} of {} bytes never came", this.missing, this.len)));
                }
                None => {
                    this.body = None;
                    this.ready = std::mem::take(&mut this.held);
                }
            }
        }
    }
}

/// The content of an answer. It fails when it is not as long as it should be, or when it stalls.
pub(super) fn incoming(answer: Response, len: u64, stall: Duration) -> Content {
    let body = futures_util::stream::unfold((Some(answer), len), move |(answer, missing)| async move {
        let mut answer = answer?;
        let error = match tokio::time::timeout(stall, answer.chunk()).await {
            Ok(Ok(Some(chunk))) if chunk.len() as u64 <= missing => {
                let missing = missing - chunk.len() as u64;
                return Some((Ok(chunk), (Some(answer), missing)));
            }
            Ok(Ok(Some(_))) => "the server sends more than it announced".to_owned(),
            Ok(Ok(None)) if missing == 0 => return None,
            Ok(Ok(None)) => format!("the server sent {missing} bytes less than it announced"),
            Ok(Err(error)) => words(&error.without_url()),
            Err(_) => format!("the server sent nothing for {} s", stall.as_secs_f64()),
        };
        Some((Err(BodyError(error)), (None, 0)))
    });
    Content { len, body: Box::pin(body) }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn sent(len: u64, chunks: Vec<Result<&'static str, &str>>) -> (Vec<u8>, Option<String>) {
        let chunks: Vec<_> =
            chunks.into_iter().map(|c| c.map(Bytes::from).map_err(|e| BodyError(e.to_owned()))).collect();
        let content = Content { len, body: Box::pin(futures_util::stream::iter(chunks)) };
        let mut outgoing = match Outgoing::new(content).await {
            Ok(outgoing) => outgoing,
            Err(error) => return (Vec::new(), Some(error.to_string())),
        };
        let mut bytes = Vec::new();
        while let Some(step) = outgoing.next().await {
            match step {
                Ok(step) => bytes.extend_from_slice(&step),
                Err(error) => return (bytes, Some(error.0)),
            }
        }
        (bytes, None)
    }

    #[tokio::test]
    async fn the_last_bytes_leave_only_when_all_is_well() {
        assert_eq!(sent(6, vec![Ok("abc"), Ok(""), Ok("def")]).await, (b"abcdef".to_vec(), None));
        assert_eq!(sent(0, vec![Ok("")]).await, (Vec::new(), None));
        for (len, chunks) in [
            (6, vec![Ok("abc"), Ok("def"), Err("wrong hash")]),
            (6, vec![Ok("abc"), Ok("def"), Ok("g")]),
            (6, vec![Ok("abc"), Ok("defg")]),
            (6, vec![Ok("abc"), Ok("de")]),
            (0, vec![Ok("a")]),
            (0, vec![Err("bad")]),
        ] {
            let (bytes, error) = sent(len, chunks).await;
            assert!((bytes.len() as u64) < len.max(1) && error.is_some(), "{bytes:?} {error:?}");
        }
    }
}
