//! What entries must not do to each other.

use super::decode::Located;
use super::reader::{At, Notes};
use super::{Node, PublishBucket, PublishSubject, SubscribeBucket, SubscribeSubject};

/// Calls `clash` for every entry and each one before it; what it returns is what is wrong with the later one.
fn each_pair<T>(notes: &Notes, entries: &Located<T>, clash: impl Fn(&T, &T, &At) -> Option<String>) {
    for (i, (at, entry)) in entries.iter().enumerate() {
        let problem = entries[..i].iter().find_map(|(before, other)| clash(entry, other, before));
        if let Some(message) = problem {
            notes.problem(&at.origin, &at.key, message);
        }
    }
}

fn values<T>(entries: Located<T>) -> Vec<T> {
    entries.into_iter().map(|(_, entry)| entry).collect()
}

/// A node that is listed twice is one node with all the addresses.
pub(super) fn nodes(notes: &Notes, entries: Located<Node>) -> Vec<Node> {
    let mut nodes: Vec<Node> = Vec::new();
    for (at, node) in entries {
        match nodes.iter_mut().find(|known| known.public_key == node.public_key) {
            None => nodes.push(node),
            Some(known) => {
                notes.warning(&at.origin, &at.key, format!("{} is listed before: addresses joined", node.public_key));
                known.endpoints.extend(node.endpoints);
            }
        }
    }
    nodes
}

pub(super) fn published_buckets(notes: &Notes, entries: Located<PublishBucket>) -> Vec<PublishBucket> {
    each_pair(notes, &entries, |entry, other, before| {
        let same = entry.bucket == other.bucket;
        same.then(|| format!("\"{}\" is published already by {}, expected it once", entry.bucket, before.describe()))
    });
    values(entries)
}

/// One filter inside of another is fine: two logs, each complete. With two that overlap in part nobody could tell which
/// one a message belongs to.
pub(super) fn published_subjects(notes: &Notes, entries: Located<PublishSubject>) -> Vec<PublishSubject> {
    each_pair(notes, &entries, |entry, other, before| {
        let (a, b) = (&entry.subject, &other.subject);
        if entry.stream != other.stream || !a.overlaps(b) {
            return None;
        }
        let (stream, before) = (&entry.stream, before.describe());
        if a == b {
            return Some(format!("\"{a}\" of stream \"{stream}\" is published already by {before}, expected it once"));
        }
        (!a.covers(b) && !b.covers(a)).then(|| {
            format!(
                "\"{a}\" overlaps in part with \"{b}\" of the same stream \"{stream}\" ({before}), \
                 expected subjects that are apart, or one inside of the other"
            )
        })
    });
    values(entries)
}

pub(super) fn subscribed_buckets(notes: &Notes, entries: Located<SubscribeBucket>) -> Vec<SubscribeBucket> {
    each_pair(notes, &entries, |entry, other, before| {
        let same = entry.local_bucket == other.local_bucket;
        same.then(|| {
            let (bucket, before) = (&entry.local_bucket, before.describe());
            format!("two subscriptions into the bucket \"{bucket}\" ({before}), expected a bucket for each")
        })
    });
    values(entries)
}

pub(super) fn subscribed_subjects(notes: &Notes, entries: Located<SubscribeSubject>) -> Vec<SubscribeSubject> {
    each_pair(notes, &entries, |entry, other, before| {
        let same = entry.public_key == other.public_key && entry.stream == other.stream;
        (same && entry.subject.overlaps(&other.subject)).then(|| {
            format!(
                "\"{}\" overlaps with \"{}\" from the same author into the same stream \"{}\" ({}), \
                 expected subjects that are apart, else messages would arrive twice",
                entry.subject,
                other.subject,
                entry.stream,
                before.describe()
            )
        })
    });
    values(entries)
}
