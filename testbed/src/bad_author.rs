//! A subscriber of two authors: one is a real rhio, the other a node that a test plays itself and that misbehaves.

use std::path::Path;
use std::sync::Arc;

use testkit::{Cluster, SubscribeBucket, eventually};

use super::SOON;
use super::blob_peer::{Author, CatalogLog};
use super::buckets::{Kind, bucket_pair, put, wait_for_object};
use super::peer::Peer;

/// The bad author's bucket.
pub const REMOTE: &str = "goods";
/// Where it goes.
pub const LOCAL: &str = "wares";

/// A subscriber `b` of a good author, `a`, and of a bad one.
pub struct Scene {
    pub a: Cluster,
    pub b: Cluster,
    pub bad: Peer,
}

impl Scene {
    pub async fn new() -> Self {
        let (mut a, mut b) = bucket_pair(Kind::Folder).await;
        b.create_bucket(LOCAL).await;
        let bad = Peer::beside(&b).await;
        let (node, public_key) = (bad.as_node(), bad.public_key());
        b.rhio.rewrite_config(|config| {
            config.nodes.push(node);
            config.subscribe_buckets.push(SubscribeBucket {
                remote_bucket: REMOTE.into(),
                local_bucket: LOCAL.into(),
                public_key,
                deletes: None,
            });
        });
        b.rhio.set_env("RHIO_TEST_STALL_SECONDS", "2");
        // Whatever is said about the bad author; the good one's entry must be quiet.
        b.rhio.allow_log("into 'wares'");
        b.rhio.allow_log("can't reach node");
        super::start(&mut a, &mut b).await;
        Self { a, b, bad }
    }

    pub fn log(&self) -> CatalogLog {
        CatalogLog::of(&self.bad.key, REMOTE)
    }

    /// The good author is heard all the same.
    pub async fn others_go_on(&self, key: &str) {
        put(&self.a, "out", key, "fine").await;
        wait_for_object(&self.b, "inbox", key, b"fine").await;
    }

    /// Nothing that was begun is left anywhere.
    pub async fn finish(self) {
        let own = self.b.folder().join(".rhio");
        for folder in ["tmp", "uploads/wares"] {
            eventually!(SOON, format!("{folder} to be empty"), {
                let left = files(&own.join(folder));
                if left.is_empty() { Ok(()) } else { Err(left.join(", ")) }
            });
        }
        super::finish(self.a, self.b).await;
    }
}

/// Every file below a folder.
pub fn files(folder: &Path) -> Vec<String> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            true => all.extend(files(&entry.path())),
            false => all.push(entry.path().display().to_string()),
        }
    }
    all
}

/// Serves one connection after the other.
pub async fn serve_all(bad: &mut Peer, author: &Arc<Author>) {
    loop {
        let connection = bad.accept().await;
        Arc::clone(author).serve(connection).await;
    }
}
