//! What these tests share.

use std::collections::BTreeMap;
use std::time::Duration;

use testkit::checker::read_stream;
use testkit::{Cluster, eventually};

use common::buckets::{self, content};

/// How long everything may take to arrive after the last crash.
pub const SETTLED: Duration = Duration::from_secs(60);
/// Bytes of a part.
pub const PART: usize = 8 * 1024 * 1024;

/// What a node may say when others crash around it.
const EXPECTED: &[&str] = &[
    "can't reach node",
    "not connected to",
    ": waiting: ",
    "connection to the local NATS was lost",
    "lost the connection to NATS",
    "no connection to NATS",
    "is not here yet",
    "it is brought again",
    "can't be read",
    "is not what it was",
    "no progress",
    "trying on",
    "Trying on",
    "can't be tidied up",
    "could not be tidied up",
];

/// Lets both nodes say what crashes make them say.
pub fn expect_crashes(clusters: [&mut Cluster; 2]) {
    for cluster in clusters {
        EXPECTED.iter().for_each(|words| cluster.rhio.allow_log(words));
    }
}

/// Everything that was put into a bucket last.
#[derive(Default)]
pub struct Source {
    pub objects: BTreeMap<String, Vec<u8>>,
}

impl Source {
    /// Puts an object whose content is its number's.
    pub async fn put(&mut self, a: &Cluster, key: &str, number: u64, len: usize) {
        let bytes = content(number, len);
        buckets::put(a, "out", key, bytes.clone()).await;
        self.objects.insert(key.to_owned(), bytes);
    }

    /// A large object, and small ones.
    pub async fn fill(&mut self, a: &Cluster) {
        self.put(a, "large", 1, 2 * PART + 12_345).await;
        for number in 2..30 {
            self.put(a, &format!("small/{number}"), number, 100 * number as usize).await;
        }
    }

    /// Changes, new objects.
    pub async fn change(&mut self, a: &Cluster) {
        self.put(a, "large", 100, 2 * PART + 4_321).await;
        for number in 20..40 {
            self.put(a, &format!("small/{number}"), 1000 + number, 77 * number as usize).await;
        }
    }

    /// Waits until the other bucket holds exactly this, and looks for what must not be left behind.
    pub async fn settle(&self, b: &Cluster) {
        for (key, bytes) in &self.objects {
            eventually!(SETTLED, format!("'{key}' at the destination"), {
                match buckets::get(b, "inbox", key).await {
                    Some(found) if found == *bytes => Ok(()),
                    Some(found) => Err(format!("it has {} bytes of something else", found.len())),
                    None => Err("it is not there".to_owned()),
                }
            });
        }
        if let Some(weed) = &b.weed {
            let bucket = weed.bucket("inbox");
            let keys = bucket.keys().await;
            assert_eq!(keys.len(), self.objects.len(), "only these objects: {keys:?}");
            eventually!(SETTLED, "no upload is left behind", {
                let left = bucket.uploads().await;
                if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
            });
        }
        nothing_is_noted(b).await;
    }
}

/// Waits until no upload is noted any more.
pub async fn nothing_is_noted(b: &Cluster) {
    eventually!(SETTLED, "no upload is noted any more", {
        match read_stream(&b.client().await, "RHIO", "$RHIO.*.upload.*").await {
            Ok(notes) if notes.is_empty() => Ok(()),
            Ok(notes) => Err(format!("there are {}", notes.len())),
            Err(error) => Err(error.to_string()),
        }
    });
}
