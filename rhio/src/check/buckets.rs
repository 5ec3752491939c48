//! The buckets, and where their server's notifications arrive.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rhio_blobs::bucket::s3::S3Server;
use rhio_blobs::bucket::{Bucket, BucketError};
use tokio::time::timeout;

use crate::config::{S3, S3Endpoint};
use crate::control::render::numbers::counted;
use rhio_router::blobs::store;
use rhio_router::trouble::Cause;

use super::finding::quoted;
use super::nats::NO_NATS;
use super::world::World;
use super::{Item, Plan, Seen};

/// How long a server may take to list a bucket's first objects.
const LIST: Duration = Duration::from_secs(8);

/// What is done with a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    Publish,
    Subscribe,
}

impl Use {
    fn about(self) -> &'static str {
        match self {
            Self::Publish => "published",
            Self::Subscribe => "subscribed into",
        }
    }

    /// What a listing does not show.
    fn unseen(self) -> &'static str {
        match self {
            Self::Publish => "",
            Self::Subscribe => "; whether it can be written shows only when something is written",
        }
    }
}

pub(super) fn plan(plan: &mut Plan, world: &Arc<World>) {
    let config = &world.config;
    let published = config.publish.s3_buckets.iter().map(|entry| (Use::Publish, entry.bucket.clone()));
    let subscribed = config.subscribe.s3_buckets.iter().map(|entry| (Use::Subscribe, entry.local_bucket.clone()));
    let entries: Vec<_> = published.chain(subscribed).collect();
    // One server, with the connections that its buckets share.
    let server = config.s3.as_ref().and_then(|s3| match &s3.endpoint {
        S3Endpoint::Server(endpoint) => Some(store::server(s3, endpoint).map_err(|error| format!("{error:#}"))),
        S3Endpoint::Folder(_) => None,
    });
    for (used, name) in entries {
        let check = if used == Use::Publish { "publish_bucket" } else { "subscribe_bucket" };
        let item = Item::named(check, "bucket", &name);
        match (&config.s3, &server) {
            (Some(S3 { endpoint: S3Endpoint::Folder(root), .. }), _) => {
                let root = root.clone();
                let look = tokio::task::spawn_blocking(move || folder(&root, &name, used));
                plan.add(item, async move {
                    look.await.unwrap_or_else(|error| Seen::fail(error.to_string(), "report this as a bug"))
                });
            }
            (Some(s3), Some(Ok(server))) => {
                let (server, s3) = (server.clone(), s3.clone());
                plan.add(item, async move { on_server(&server, &s3, &name, used).await });
            }
            (Some(_), Some(Err(reason))) => {
                plan.known(item, Seen::fail(format!("{}: {reason}", used.about()), "put 's3' right"));
            }
            _ => plan.known(
                item,
                Seen::fail(format!("{}, but the configuration has no 's3'", used.about()), "add the section 's3'"),
            ),
        }
    }
    if let Some(subject) = config.s3.as_ref().and_then(|s3| s3.events.clone()) {
        let shared = Arc::clone(world);
        plan.add(Item::named("s3_events", "s3.events", subject.as_str()), async move {
            if shared.nats().await.is_err() {
                return Seen::skipped(NO_NATS);
            }
            Seen::ok("whether the S3 server sends its notifications there shows only when an object changes")
        });
    }
}

async fn on_server(server: &S3Server, s3: &S3, name: &str, used: Use) -> Seen {
    let about = used.about();
    let S3Endpoint::Server(endpoint) = &s3.endpoint else { return Seen::skipped("it is a folder") };
    let bucket = match server.bucket(name) {
        Ok(bucket) => bucket,
        Err(error) => return Seen::fail(format!("{about}: {error}"), "correct the name"),
    };
    let answer = timeout(LIST, bucket.list(None)).await;
    match answer {
        Ok(Ok(page)) => {
            let more = if page.next.is_some() { " or more" } else { "" };
            let number = counted(page.objects.len() as u64, "object");
            Seen::ok(format!("{about}, on {endpoint}: can be listed ({number}{more}){}", used.unseen()))
        }
        Ok(Err(BucketError::Missing(_))) => Seen::fail(
            format!("{about}: does not exist on {endpoint}"),
            format!("create it: aws --endpoint-url {} s3 mb {}", quoted(endpoint), quoted(&format!("s3://{name}"))),
        ),
        Ok(Err(ref error @ BucketError::Forbidden { why, ref reason, .. })) => Seen::fail(
            format!("{about}: {endpoint} refuses access{}: {reason}", why.words()),
            Cause::from(error).remedy(),
        ),
        Ok(Err(ref error @ BucketError::Unavailable { ref reason, .. })) => {
            Seen::fail(format!("{about}: {endpoint}: {reason}"), Cause::from(error).remedy())
        }
        Ok(Err(error)) => Seen::fail(format!("{about}: {error}"), "is s3.endpoint an S3 server?"),
        Err(_) => Seen::fail(
            format!("{about}: {endpoint} does not answer within {} s", LIST.as_secs()),
            "is s3.endpoint right, and does a firewall let us through?",
        ),
    }
}

/// Looks at a folder without opening it as the daemon does: that would tidy up what a running daemon works with.
fn folder(root: &Path, name: &str, used: Use) -> Seen {
    let path = root.join(name);
    let (about, shown) = (used.about(), path.display());
    match fs::metadata(&path) {
        Ok(found) if !found.is_dir() => {
            return Seen::fail(format!("{about}: {shown} is no folder"), "make it a folder, or correct the name");
        }
        Ok(found) if found.permissions().readonly() && used == Use::Subscribe => {
            return Seen::fail(format!("{about}: {shown} is read-only"), "let the user that rhio runs as write it");
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Seen::fail(
                format!("{about}: {shown} does not exist"),
                format!("mkdir -p {}", quoted(&shown.to_string())),
            );
        }
        Err(error) => return Seen::fail(format!("{about}: {shown}: {error}"), "let the user that rhio runs as use it"),
    }
    match fs::read_dir(&path) {
        Ok(_) => Seen::ok(format!("{about}: the folder {shown} can be read{}", used.unseen())),
        Err(error) => Seen::fail(format!("{about}: {shown}: {error}"), "let the user that rhio runs as read it"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Outcome;
    use super::*;

    #[test]
    fn folders_as_buckets_are_not_touched() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("in")).unwrap();
        fs::write(root.path().join("file"), "x").unwrap();
        assert_eq!(folder(root.path(), "in", Use::Subscribe).outcome, Outcome::Ok);
        assert_eq!(folder(root.path(), "file", Use::Publish).outcome, Outcome::Fail);
        let missing = folder(root.path(), "out", Use::Publish);
        assert!(missing.outcome == Outcome::Fail && missing.detail.ends_with("does not exist"), "{missing:?}");
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 2, "no folder of rhio's was made");
    }
}
