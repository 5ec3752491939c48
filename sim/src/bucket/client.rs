//! A process's requests to its bucket, and to another node for content.

use std::cell::RefCell;
use std::rc::Rc;

use rhio_core::catalog::Put;
use rhio_core::id::{BlobHash, PublicKey};
use rhio_core::object::ObjectKey;

use super::{Condition, Conflict, Object, Version};
use crate::base::{MS, NodeId, SECOND, US, name};
use crate::exec::Cx;
use crate::network::Connection;
use crate::world::World;

/// How long a request waits for its answer.
const TIMEOUT: u64 = SECOND;

/// No answer, or a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failed {
    /// Whether the request was carried out is not known.
    Lost,
    /// The object under the key is another one.
    Conflict,
    /// What was asked for is not there any more.
    Unavailable,
    /// The content is not what was signed.
    Unverified,
}

type Answer<R> = Rc<RefCell<Option<Result<R, Failed>>>>;

/// Has something done at a server, and waits for the answer.
async fn request<R: 'static>(cx: &Cx, act: impl FnOnce(&mut World) -> R + 'static) -> Result<R, Failed> {
    let answer: Answer<R> = Rc::default();
    let (slot, proc) = (Rc::clone(&answer), cx.proc);
    cx.with(|w| {
        let faults = w.config.faults.clone();
        let lost = w.faulty && w.rng.chance(faults.lost_request);
        let unheard = w.faulty && w.rng.chance(faults.lost_answer);
        let (there, back) = (w.rng.between(100 * US, 8 * MS), w.rng.between(100 * US, 8 * MS));
        let fail = Rc::clone(&slot);
        w.after(TIMEOUT, move |w| {
            fail.borrow_mut().get_or_insert(Err(Failed::Lost));
            w.wake(proc);
        });
        if lost {
            return;
        }
        w.after(there, move |w| {
            let result = act(w);
            if !unheard {
                w.after(back, move |w| {
                    slot.borrow_mut().get_or_insert(Ok(result));
                    w.wake(proc);
                });
            }
        });
    });
    cx.until(|| answer.borrow_mut().take()).await
}

/// A page of a listing: objects behind a key. A listing of a server that has just been busy may leave one out; one that
/// was begun before the bucket went away fails.
pub async fn list(cx: &Cx, behind: Option<ObjectKey>, max: usize) -> Result<Vec<(ObjectKey, Object)>, Failed> {
    let site = cx.node;
    let page = request(cx, move |w| {
        if w.sites[site].bucket.hidden && behind.is_some() {
            return None;
        }
        let mut page = w.sites[site].bucket.page(behind.as_ref(), max);
        let rate = w.config.buckets.as_ref().map_or(0, |buckets| buckets.left_out);
        // Never the last: it says where the next page begins.
        if w.faulty && page.len() > 1 && w.rng.chance(rate) {
            let at = w.rng.below(page.len() as u64 - 1) as usize;
            let (key, _) = page.remove(at);
            w.note(|| format!("bucket {}: a listing leaves out {key}", name(site)));
        }
        Some(page)
    });
    page.await?.ok_or(Failed::Unavailable)
}

/// The object under a key.
pub async fn head(cx: &Cx, key: &ObjectKey) -> Result<Option<Object>, Failed> {
    let (site, key) = (cx.node, key.clone());
    request(cx, move |w| w.sites[site].bucket.get(&key).cloned()).await
}

/// Writes what an entry says, as an object of its author's. Returns the bucket's name for it.
pub async fn put(
    cx: &Cx,
    key: &ObjectKey,
    version: Version,
    origin: (BlobHash, PublicKey),
    condition: Condition,
) -> Result<u64, Failed> {
    let (site, key) = (cx.node, key.clone());
    let put = request(cx, move |w| {
        w.sites[site].bucket.admits(&key, condition)?;
        let now = w.now / MS;
        let before = w.sites[site].bucket.put(now, &key, version, Some(origin));
        w.note(|| format!("bucket {}: rhio writes {key} as {version:?}", name(site)));
        w.goods.landed(site, &key, version, origin.1, before.as_ref());
        Ok(w.sites[site].bucket.get(&key).map_or(0, |object| object.etag))
    });
    put.await?.map_err(|Conflict| Failed::Conflict)
}

/// Removes the object under a key, if it still is the one that was looked at.
pub async fn delete(cx: &Cx, key: &ObjectKey, etag: u64) -> Result<(), Failed> {
    let (site, key) = (cx.node, key.clone());
    request(cx, move |w| {
        if w.sites[site].bucket.admits(&key, Condition::Is(etag)).is_ok()
            && let Some(object) = w.sites[site].bucket.delete(&key)
        {
            w.note(|| format!("bucket {}: rhio removes {key}", name(site)));
            let rule = w.config.buckets.as_ref().is_some_and(|buckets| buckets.follow);
            w.goods.removed(site, &key, &object, rule);
        }
    })
    .await
}

/// What the author has of an entry's content, in a few steps between which anything may happen. Whether it is the content
/// that was signed is for the caller to see.
pub async fn fetch(cx: &Cx, conn: &Connection, put: &Put) -> Result<u64, Failed> {
    let author: NodeId = conn.peer;
    let (key, hash) = (put.key.clone(), put.hash);
    let mut content = None;
    for _ in 0..cx.between(1, 3) {
        conn.check().map_err(|_| Failed::Lost)?;
        let key = key.clone();
        let step = request(cx, move |w| {
            let bucket = &w.sites[author].bucket;
            let same = bucket.iter().map(|(_, object)| object).find(|object| object.version.hash() == hash);
            same.or_else(|| bucket.get(&key)).map(|object| object.version.content)
        });
        let step = step.await?.ok_or(Failed::Unavailable)?;
        content = Some(step);
    }
    conn.check().map_err(|_| Failed::Lost)?;
    content.ok_or(Failed::Unavailable)
}
