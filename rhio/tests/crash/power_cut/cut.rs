//! How a power is cut.

use testkit::{Cluster, StoreCopy};

use crate::support::{expect_crashes, expect_words};

/// What goes back to what it was.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum What {
    Whole,
    /// Stream S.
    Data,
    /// Stream RHIO.
    State,
}

pub use What::{Data, State, Whole};

/// Whether rhio runs while it happens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rhio {
    Runs,
    Stopped,
}

pub use Rhio::{Runs, Stopped};

/// Copies what a server holds now.
pub fn snapshot(cluster: &mut Cluster) -> StoreCopy {
    cluster.nats.pause();
    let copy = cluster.nats.snapshot_store();
    cluster.nats.resume();
    copy
}

/// Makes a server forget what came since.
pub async fn cut(cluster: &mut Cluster, copy: &StoreCopy, what: What, rhio: Rhio) {
    if rhio == Stopped {
        cluster.rhio.kill();
    }
    cluster.nats.kill();
    match what {
        Whole => cluster.nats.restore_store(copy),
        Data => cluster.nats.restore_stream(copy, "S"),
        State => cluster.nats.restore_stream(copy, "RHIO"),
    }
    cluster.nats.restart().await;
}

/// Starts rhio again where it was stopped.
pub async fn back(cluster: &mut Cluster) {
    if !cluster.rhio.is_running() {
        cluster.start().await;
    }
}

/// What power cuts make nodes say.
pub fn expect_cuts(a: &mut Cluster, b: &mut Cluster) {
    expect_crashes([&mut *a, &mut *b]);
    for cluster in [a, b] {
        expect_words(
            cluster,
            &[
                "the local stream lost messages that it had acknowledged",
                "took back operations that the state stream had lost",
                "the stream lost messages that were sealed",
                "not every reader could be asked",
                "a subscriber holds more than this node",
                "the state stream is gone",
            ],
        );
    }
}
