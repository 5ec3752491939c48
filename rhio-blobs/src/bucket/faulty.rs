//! A bucket that fails as its test wants.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt as _;
use rhio_core::object::ObjectKey;

use super::{
    BodyError, Bucket, BucketError, Condition, Content, Etag, Labels, Limits, ListedUpload, Object, Page, Part, Upload,
    Written,
};

/// What is asked of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// [`Bucket::list`]
    List,
    /// [`Bucket::head`]
    Head,
    /// [`Bucket::open`]
    Open,
    /// [`Bucket::read`]
    Read,
    /// [`Bucket::put`]
    Put,
    /// [`Bucket::copy`]
    Copy,
    /// [`Bucket::delete`]
    Delete,
    /// [`Bucket::begin`]
    Begin,
    /// [`Bucket::put_part`]
    PutPart,
    /// [`Bucket::parts`]
    Parts,
    /// [`Bucket::complete`]
    Complete,
    /// [`Bucket::abort`]
    Abort,
    /// [`Bucket::uploads`]
    Uploads,
}

/// What becomes of a call.
#[derive(Debug, Default)]
pub enum Fault {
    /// Nothing is wrong.
    #[default]
    None,
    /// Fails without being done.
    Before(BucketError),
    /// Is done, and its answer is lost: fails all the same.
    After(BucketError),
    /// Content that is read or written fails after so many bytes.
    Cut(u64),
    /// The byte at this place of the content that is read is another.
    Corrupt(u64),
}

/// Decides what becomes of a call: the operation, and its number among those of its kind, from 1.
type Plan = dyn Fn(Operation, u64) -> Fault + Send + Sync;

/// A bucket whose calls fail by plan.
#[derive(Clone)]
pub struct Faulty {
    bucket: Arc<dyn Bucket>,
    plan: Arc<Plan>,
    calls: Arc<Mutex<HashMap<Operation, u64>>>,
}

impl Faulty {
    /// Puts faults before a bucket.
    pub fn new(bucket: Arc<dyn Bucket>, plan: impl Fn(Operation, u64) -> Fault + Send + Sync + 'static) -> Self {
        Self { bucket, plan: Arc::new(plan), calls: Arc::default() }
    }

    /// How often something was asked so far.
    pub fn calls(&self, operation: Operation) -> u64 {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).get(&operation).copied().unwrap_or(0)
    }

    fn fault(&self, operation: Operation) -> Fault {
        let number = {
            let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
            let number = calls.entry(operation).or_default();
            *number += 1;
            *number
        };
        (self.plan)(operation, number)
    }

    /// Does something that has no content, or fails.
    async fn call<T>(
        &self,
        operation: Operation,
        work: impl Future<Output = Result<T, BucketError>> + Send,
    ) -> Result<T, BucketError> {
        match self.fault(operation) {
            Fault::Before(error) => Err(error),
            Fault::After(error) => work.await.and(Err(error)),
            Fault::None | Fault::Cut(_) | Fault::Corrupt(_) => work.await,
        }
    }

    /// The same with content on its way there.
    async fn write<T, W>(
        &self,
        operation: Operation,
        content: Content,
        work: impl FnOnce(Content) -> W + Send,
    ) -> Result<T, BucketError>
    where
        W: Future<Output = Result<T, BucketError>> + Send,
    {
        match self.fault(operation) {
            Fault::Before(error) => Err(error),
            Fault::After(error) => work(content).await.and(Err(error)),
            Fault::Cut(at) => work(cut(content, at)).await,
            Fault::Corrupt(at) => work(corrupt(content, at)).await,
            Fault::None => work(content).await,
        }
    }

    fn spoil(fault: Fault, content: Content) -> Result<Content, BucketError> {
        match fault {
            Fault::Before(error) | Fault::After(error) => Err(error),
            Fault::Cut(at) => Ok(cut(content, at)),
            Fault::Corrupt(at) => Ok(corrupt(content, at)),
            Fault::None => Ok(content),
        }
    }
}

impl fmt::Debug for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Faulty").field(&self.bucket).finish()
    }
}

/// Content that fails after so many bytes.
fn cut(content: Content, at: u64) -> Content {
    let body = futures_util::stream::unfold((Some(content.body), at), |(body, left)| async move {
        let mut body = body?;
        if left == 0 {
            return Some((Err(BodyError("cut by plan".into())), (None, 0)));
        }
        match body.next().await? {
            Ok(chunk) => {
                let len = usize::try_from(left).unwrap_or(usize::MAX).min(chunk.len());
                Some((Ok(chunk.slice(..len)), (Some(body), left - len as u64)))
            }
            Err(error) => Some((Err(error), (None, 0))),
        }
    });
    Content { len: content.len, body: Box::pin(body) }
}

/// Content with another byte at this place.
fn corrupt(content: Content, at: u64) -> Content {
    let mut passed = 0;
    let body = content.body.map(move |chunk| {
        let chunk = chunk?;
        let begin = passed;
        passed += chunk.len() as u64;
        if !(begin..passed).contains(&at) {
            return Ok(chunk);
        }
        let mut bytes = chunk.to_vec();
        if let Some(byte) = usize::try_from(at - begin).ok().and_then(|index| bytes.get_mut(index)) {
            *byte ^= 0xff;
        }
        Ok(Bytes::from(bytes))
    });
    Content { len: content.len, body: Box::pin(body) }
}

#[async_trait]
impl Bucket for Faulty {
    fn name(&self) -> &str {
        self.bucket.name()
    }

    fn limits(&self) -> Limits {
        self.bucket.limits()
    }

    async fn list(&self, from: Option<&str>) -> Result<Page, BucketError> {
        self.call(Operation::List, self.bucket.list(from)).await
    }

    async fn check(&self) -> Result<(), BucketError> {
        self.call(Operation::List, self.bucket.check()).await
    }

    async fn head(&self, key: &ObjectKey) -> Result<Option<Object>, BucketError> {
        self.call(Operation::Head, self.bucket.head(key)).await
    }

    async fn open(&self, key: &ObjectKey) -> Result<Option<(Object, Content)>, BucketError> {
        let fault = match self.fault(Operation::Open) {
            Fault::Before(error) => return Err(error),
            fault => fault,
        };
        let Some((object, content)) = self.bucket.open(key).await? else { return Ok(None) };
        Ok(Some((object, Self::spoil(fault, content)?)))
    }

    async fn read(&self, key: &ObjectKey, version: &Etag, range: Range<u64>) -> Result<Content, BucketError> {
        let fault = match self.fault(Operation::Read) {
            Fault::Before(error) => return Err(error),
            fault => fault,
        };
        Self::spoil(fault, self.bucket.read(key, version, range).await?)
    }

    async fn put(
        &self,
        key: &ObjectKey,
        content: Content,
        labels: &Labels,
        condition: &Condition,
    ) -> Result<Written<Etag>, BucketError> {
        self.write(Operation::Put, content, |content| self.bucket.put(key, content, labels, condition)).await
    }

    async fn copy(
        &self,
        source: (&ObjectKey, &Etag),
        key: &ObjectKey,
        labels: &Labels,
        condition: &Condition,
    ) -> Result<Written<Etag>, BucketError> {
        self.call(Operation::Copy, self.bucket.copy(source, key, labels, condition)).await
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), BucketError> {
        self.call(Operation::Delete, self.bucket.delete(key)).await
    }

    async fn begin(&self, key: &ObjectKey, labels: &Labels) -> Result<Upload, BucketError> {
        self.call(Operation::Begin, self.bucket.begin(key, labels)).await
    }

    async fn put_part(
        &self,
        upload: &Upload,
        number: u32,
        offset: u64,
        content: Content,
    ) -> Result<Written<Part>, BucketError> {
        let put = |content| self.bucket.put_part(upload, number, offset, content);
        self.write(Operation::PutPart, content, put).await
    }

    async fn parts(&self, upload: &Upload) -> Result<Vec<Part>, BucketError> {
        self.call(Operation::Parts, self.bucket.parts(upload)).await
    }

    async fn complete(
        &self,
        upload: &Upload,
        parts: &[Part],
        condition: &Condition,
    ) -> Result<Written<Etag>, BucketError> {
        self.call(Operation::Complete, self.bucket.complete(upload, parts, condition)).await
    }

    async fn abort(&self, upload: &Upload) -> Result<(), BucketError> {
        self.call(Operation::Abort, self.bucket.abort(upload)).await
    }

    async fn uploads(&self, key: &ObjectKey) -> Result<Vec<ListedUpload>, BucketError> {
        self.call(Operation::Uploads, self.bucket.uploads(key)).await
    }
}
