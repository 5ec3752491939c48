//! The checksum of what is sent, which says whether a server has kept it.

use std::sync::{Arc, Mutex, PoisonError};

use data_encoding::{BASE64, HEXLOWER, HEXLOWER_PERMISSIVE};
use futures_util::{StreamExt as _, stream};
use md5::{Digest as _, Md5};

use crate::bucket::{BodyError, BucketError, Content, Etag, Part};

/// Bytes of an MD5.
const LEN: usize = 16;

/// The MD5 of content that passes.
#[derive(Clone, Debug, Default)]
pub(super) struct Sum(Arc<Mutex<Md5>>);

impl Sum {
    /// Takes the sum of content while it passes.
    pub(super) fn of(content: Content) -> (Self, Content) {
        let sum = Self::default();
        let taken = sum.clone();
        let body = content.body.inspect(move |chunk| {
            if let Ok(chunk) = chunk {
                taken.0.lock().unwrap_or_else(PoisonError::into_inner).update(chunk);
            }
        });
        (sum, Content { len: content.len, body: Box::pin(body) })
    }

    /// The sum of what has passed so far.
    fn now(&self) -> [u8; LEN] {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone().finalize().into()
    }

    /// The same as `Content-MD5` has it.
    pub(super) fn header(&self) -> String {
        BASE64.encode(&self.now())
    }

    /// Whether the server calls what it stored by this sum. It may call it otherwise, which says nothing.
    pub(super) fn is(&self, etag: &Etag) -> bool {
        decoded(etag) == Some(self.now())
    }
}

/// Takes content into memory, whole.
///
/// # Errors
/// When it ends early, fails, or is more than was announced.
pub(super) async fn held(content: Content) -> Result<Content, BucketError> {
    let Content { len, mut body } = content;
    let (mut missing, mut chunks) = (len, Vec::new());
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(|error| BucketError::Body(error.0))?;
        missing = missing
            .checked_sub(chunk.len() as u64)
            .ok_or_else(|| BucketError::Body(format!("more came than the {len} bytes announced")))?;
        if !chunk.is_empty() {
            chunks.push(Ok::<_, BodyError>(chunk));
        }
    }
    match missing {
        0 => Ok(Content { len, body: Box::pin(stream::iter(chunks)) }),
        missing => Err(BucketError::Body(format!("{missing} of {len} bytes never came"))),
    }
}

/// What servers call an object of these parts: the sum of the parts' sums, and how many there are. `None` when what
/// they call a part is no sum.
pub(super) fn composite(parts: &[Part]) -> Option<Etag> {
    let mut sum = Md5::new();
    for part in parts {
        sum.update(decoded(&part.etag)?);
    }
    Some(Etag(format!("{}-{}", HEXLOWER.encode(&sum.finalize()), parts.len())))
}

fn decoded(etag: &Etag) -> Option<[u8; LEN]> {
    HEXLOWER_PERMISSIVE.decode(etag.0.as_bytes()).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn etag(text: &str) -> Etag {
        Etag(text.into())
    }

    fn chunks(len: u64, chunks: Vec<Result<&'static str, &str>>) -> Content {
        let chunks: Vec<_> =
            chunks.into_iter().map(|c| c.map(Bytes::from).map_err(|e| BodyError(e.to_owned()))).collect();
        Content { len, body: Box::pin(stream::iter(chunks)) }
    }

    #[tokio::test]
    async fn content_is_held_whole_with_its_sum() {
        let (sum, content) = Sum::of(chunks(5, vec![Ok("he"), Ok(""), Ok("llo")]));
        let content = held(content).await.unwrap();
        assert_eq!(sum.header(), "XUFAKrxLKna5cZ2REBfFkg==");
        assert!(sum.is(&etag("5d41402abc4b2a76b9719d911017c592")));
        assert!(sum.is(&etag("5D41402ABC4B2A76B9719D911017C592")));
        for other in ["5d41402abc4b2a76b9719d911017c593", "5d41402abc4b2a76b9719d911017c592-1", "x", ""] {
            assert!(!sum.is(&etag(other)), "{other}");
        }
        let pieces: Vec<_> = content.body.map(|chunk| chunk.unwrap()).collect().await;
        assert_eq!(pieces, ["he", "llo"]);
    }

    #[tokio::test]
    async fn what_is_not_as_announced_is_not_held() {
        for (len, all) in [(3, vec![Ok("ab")]), (1, vec![Ok("a"), Ok("b")]), (1, vec![Ok("a"), Err("torn")])] {
            assert!(matches!(held(chunks(len, all)).await, Err(BucketError::Body(_))));
        }
    }

    #[test]
    fn an_object_of_parts_has_the_sum_of_their_sums() {
        let part = |number, text: &str| Part { number, size: 1, etag: etag(text) };
        let parts = [part(1, "5d41402abc4b2a76b9719d911017c592"), part(2, "7d793037a0760186574b0282f2f435e7")];
        // As `printf 'hello' | md5sum` and `printf 'world' | md5sum`, put together.
        let mut both = Md5::new();
        both.update([0x5d, 0x41, 0x40, 0x2a, 0xbc, 0x4b, 0x2a, 0x76, 0xb9, 0x71, 0x9d, 0x91, 0x10, 0x17, 0xc5, 0x92]);
        both.update([0x7d, 0x79, 0x30, 0x37, 0xa0, 0x76, 0x01, 0x86, 0x57, 0x4b, 0x02, 0x82, 0xf2, 0xf4, 0x35, 0xe7]);
        assert_eq!(composite(&parts), Some(etag(&format!("{:x}-2", both.finalize()))));
        assert_eq!(composite(&[part(1, "opaque")]), None);
    }
}
