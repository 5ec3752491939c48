//! What crash tests and power cuts share.

use std::collections::HashMap;
use std::time::Duration;

use rhio_core::log::commit::Commit;
use rhio_core::log::operation::Operation;
use testkit::Cluster;
use testkit::checker::{Publisher, read_stream};

/// How long everything may take to arrive after the last crash.
pub const SETTLED: Duration = Duration::from_secs(40);

/// What a node may say when others crash around it. Everything else that is loud fails a test.
const EXPECTED: &[&str] = &[
    "can't reach node",
    "not connected to",
    ": waiting: ",
    "the author publishes nothing",
    "connection to the local NATS was lost",
    "lost the connection to NATS",
    // A reader was down for as long as the publisher waits for it.
    "not every reader could be asked",
    "no connection to NATS",
    "; trying on",
    "Trying on",
];

/// Lets both nodes say what crashes make them say.
pub fn expect_crashes(clusters: [&mut Cluster; 2]) {
    for cluster in clusters {
        EXPECTED.iter().for_each(|words| cluster.rhio.allow_log(words));
    }
}

/// Lets a node say these words, too.
pub fn expect_words(cluster: &mut Cluster, words: &[&str]) {
    words.iter().for_each(|words| cluster.rhio.allow_log(words));
}

/// Every operation that a node's state stream holds.
pub async fn operations(cluster: &Cluster) -> Vec<Operation> {
    let records = read_stream(&cluster.client().await, "RHIO", "$RHIO.*.ops.>").await.unwrap_or_default();
    let mut operations = Vec::new();
    for record in records {
        let commit = Commit::decode(record.payload.clone()).expect("a commit");
        operations.extend(commit.operations.into_iter().map(|raw| Operation::verify(raw).expect("an operation")));
    }
    operations
}

/// Fails the test when two different operations have one name: the log was forked.
pub async fn assert_no_fork(clusters: &[&Cluster]) {
    let mut seen = HashMap::new();
    for cluster in clusters {
        for operation in operations(cluster).await {
            let name = (operation.author(), operation.log(), operation.seq());
            let before = *seen.entry(name).or_insert_with(|| operation.hash());
            assert_eq!(before, operation.hash(), "operation {} of log {} was forked", name.2, name.1.short());
        }
    }
}

/// Waits until everything arrived, looks once more after a while, and looks for forks.
pub async fn settle(a: &Cluster, b: &Cluster, stream: &str) {
    let check = a.check(stream, "s.>", b, stream).await;
    let _ = check.until_clean(SETTLED).await;
    // Time for what must not come.
    tokio::time::sleep(Duration::from_millis(300)).await;
    check.now().await.expect("both streams are there").assert_clean();
    assert_no_fork(&[a, b]).await;
}

/// The same with all that was ever acknowledged, for a source that lost some of it.
pub async fn settle_against(a: &Cluster, b: &Cluster, publisher: &Publisher) {
    assert!(publisher.uncertain.is_empty(), "the source took everything");
    let check = a.check("S", "s.>", b, "S").await;
    let _ = check.until_clean_against(&publisher.acknowledged, SETTLED).await;
    // Time for what must not come.
    tokio::time::sleep(Duration::from_millis(300)).await;
    check.against(&publisher.acknowledged).await.expect("the stream is there").assert_clean();
    assert_no_fork(&[a, b]).await;
}

/// Waits until `b` has applied and committed everything that `a` holds.
pub async fn settle_commits(a: &Cluster, b: &Cluster) {
    let check = a.check("S", "s.>", b, "S").await;
    let _ = check.until_clean(SETTLED).await;
    testkit::eventually!(SETTLED, "the last operation to be committed by the subscriber", {
        let (ours, theirs) = (operations(a).await, operations(b).await);
        ours.last().is_some_and(|last| theirs.iter().any(|theirs| theirs.hash() == last.hash()))
    });
}
