//! What a process does: the daemon's driver logic around rhio-core's machines, as thin as it can be. The machines decide;
//! the driver moves bytes, and keeps the few rules that lie between the machines and the outside. Those rules are what
//! the daemon must keep as well; each stands where it is kept.

mod author;
mod copies;
mod goods;
mod recover;
mod serve;
mod shared;
mod store;
mod subscriber;
mod take;

use crate::exec::Cx;

/// Runs a process until it is killed.
pub async fn run(cx: Cx) {
    let node = cx.with(|w| w.config.nodes[cx.node].clone());
    for (author, filter) in node.subscriptions {
        cx.spawn(subscriber::run(cx.clone(), author, filter));
    }
    if let Some(filter) = node.publishes {
        cx.spawn(author::run(cx.clone(), filter));
    }
    let (authors, readers) = cx.with(|w| (w.config.catalog_authors(), w.config.catalog_readers()));
    for (_, author) in readers.into_iter().filter(|(reader, _)| *reader == cx.node) {
        cx.spawn(goods::follower::run(cx.clone(), author));
    }
    if authors.contains(&cx.node) {
        cx.spawn(goods::author::run(cx.clone()));
    }
}
