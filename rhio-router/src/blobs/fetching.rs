//! Brings content of an object here from the author, verified while it arrives.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::StreamExt;
use rhio_blobs::bucket::{BodyError, BucketError, Content};
use rhio_blobs::fetch::fetch;
use rhio_core::catalog::Put;
use rhio_core::wire::Frame;
use rhio_net::connection::Connection;
use rhio_net::stream;
use tokio::sync::SemaphorePermit;

use crate::deadlines::within;
use crate::node::Node;

use super::land_error::{LandError, stall};
use super::store::MAX_LANDING_KIB;
use super::subscription::BucketSubscription;
use super::transfers::Progress;

/// Content goes after everything else.
const PRIORITY: i32 = -1;

/// Bytes of content that are in memory where it is not held as a whole.
const MOVING: u64 = 256 * 1024;

/// What is needed to bring an object here.
pub(super) struct Landing {
    pub(super) node: Node,
    pub(super) subscription: Arc<BucketSubscription>,
    pub(super) connection: Connection,
}

impl Landing {
    /// Waits until there is memory for content of this length on its way into the bucket.
    pub(super) async fn room(&self, len: u64) -> Result<SemaphorePermit<'_>, LandError> {
        let held = self.subscription.bucket.limits().held;
        let most = if len <= held { len } else { len.min(MOVING) };
        let kib = u32::try_from(most.div_ceil(1024)).unwrap_or(u32::MAX).clamp(1, MAX_LANDING_KIB);
        self.node.blobs.landing.acquire_many(kib).await.map_err(|_| LandError::Stopped)
    }

    /// Asks the author for a range of an object's content.
    pub(super) async fn fetch(
        &self,
        put: &Put,
        range: Range<u64>,
        progress: &Progress,
    ) -> Result<(Content, Watch), LandError> {
        let asking = async {
            let (mut writer, reader) = stream::open(&self.connection).await?;
            writer.set_priority(PRIORITY);
            writer.send(&Frame::Blob).await?;
            Ok((writer, reader))
        };
        let (writer, reader) = within::<_, LandError>(stall(), asking).await?;
        let (send, recv) = (writer.into_stream()?, reader.into_stream()?);
        let len = range.end - range.start;
        let watch = Watch::default();
        let (seen, count) = (watch.clone(), progress.counter());
        let body = fetch(recv, send, put.hash, put.size, range);
        let body = futures_util::stream::unfold(Some(body), move |body| {
            let (seen, count) = (seen.clone(), count.clone());
            async move {
                let mut body = body?;
                let error = match tokio::time::timeout(stall(), body.next()).await {
                    Ok(Some(Ok(bytes))) => {
                        count.add(bytes.len() as u64);
                        failpoint::hit("bytes-verified");
                        return Some((Ok(bytes), Some(body)));
                    }
                    Ok(None) => return None,
                    Ok(Some(Err(error))) => LandError::Fetch(error),
                    Err(_) => LandError::Stalled,
                };
                let words = error.to_string();
                seen.note(error);
                Some((Err(BodyError(words)), None))
            }
        });
        Ok((Content { len, body: Box::pin(body) }, watch))
    }
}

/// Why content failed, which a bucket only tells as words.
#[derive(Clone, Default)]
pub(super) struct Watch(Arc<Mutex<Option<LandError>>>);

impl Watch {
    fn note(&self, error: LandError) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    /// What really happened when a bucket reports an error.
    pub(super) fn explain(&self, error: BucketError) -> LandError {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or(LandError::Bucket(error))
    }
}
