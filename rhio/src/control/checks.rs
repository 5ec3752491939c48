//! Looks at what the node needs, all the time, so that an answer about its health costs nothing and is never old.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;

use rhio_nats::survey::Survey;
use rhio_router::node::Node;
use rhio_router::status::LastError;
use rhio_router::trouble::{Cause, Trouble};

use super::model::{Check, CheckState};
use super::times::rfc3339;

/// Time between two looks.
const PERIOD: Duration = Duration::from_secs(3);
/// How long an answer may take.
const DEADLINE: Duration = Duration::from_secs(3);
/// A result that is older counts for nothing: whoever looks must be stuck.
const STALE: Duration = Duration::from_secs(20);
/// Requests under way at once to look at streams and buckets.
const MAX_TOGETHER: usize = 32;

/// What is looked at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// The NATS server and its JetStream.
    Nats,
    /// rhio's own stream.
    State,
    /// The UDP port.
    Network,
    /// A stream that the configuration names.
    Stream(String),
    /// A bucket that the configuration names.
    Bucket(String),
}

impl Subject {
    /// What kind of thing it is, as metrics have it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Nats => "nats",
            Self::State => "state",
            Self::Network => "network",
            Self::Stream(_) => "stream",
            Self::Bucket(_) => "bucket",
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Probe {
    ok: Option<bool>,
    error: Option<LastError>,
    at: Option<SystemTime>,
}

/// The results. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Checks {
    probes: Arc<RwLock<BTreeMap<Subject, Probe>>>,
    names: Arc<RwLock<BTreeMap<Subject, String>>>,
}

impl Checks {
    /// What is to be looked at besides NATS, the state stream and the network. Results of the rest are dropped.
    pub fn expect(&self, streams: BTreeSet<String>, buckets: BTreeSet<String>) {
        let mut probes = self.probes.write().unwrap_or_else(PoisonError::into_inner);
        let streams = streams.into_iter().map(Subject::Stream);
        let wanted: BTreeSet<Subject> = [Subject::Nats, Subject::State, Subject::Network]
            .into_iter()
            .chain(streams)
            .chain(buckets.into_iter().map(Subject::Bucket))
            .collect();
        probes.retain(|subject, _| wanted.contains(subject));
        for subject in wanted {
            probes.entry(subject).or_default();
        }
    }

    /// Gives NATS, the state stream or the network a name.
    pub fn name(&self, subject: Subject, name: String) {
        self.names.write().unwrap_or_else(PoisonError::into_inner).insert(subject, name);
    }

    /// Notes what a look showed.
    pub fn note(&self, subject: &Subject, result: Result<(), Trouble>) {
        let mut probes = self.probes.write().unwrap_or_else(PoisonError::into_inner);
        // What is not expected any more is not looked at.
        let Some(probe) = probes.get_mut(subject) else { return };
        let now = SystemTime::now();
        probe.ok = Some(result.is_ok());
        probe.at = Some(now);
        if let Err(trouble) = result {
            probe.error = Some(LastError { trouble, at: now });
        }
    }

    /// All results.
    pub fn list(&self) -> Vec<(Subject, Check)> {
        let probes = self.probes.read().unwrap_or_else(PoisonError::into_inner);
        let names = self.names.read().unwrap_or_else(PoisonError::into_inner);
        let now = SystemTime::now();
        let check = |(subject, probe): (&Subject, &Probe)| {
            let name = match subject {
                Subject::Stream(name) | Subject::Bucket(name) => name.clone(),
                other => names.get(other).cloned().unwrap_or_else(|| other.kind().to_owned()),
            };
            let stale = probe.at.is_some_and(|at| now.duration_since(at).is_ok_and(|age| age > STALE));
            let state = match probe.ok {
                Some(true) if !stale => CheckState::Ok,
                Some(false) if !stale => CheckState::Failing,
                _ => CheckState::Unknown,
            };
            let check = Check {
                name,
                state,
                last_error: probe.error.as_ref().map(|error| error.trouble.to_string()),
                last_error_code: probe.error.as_ref().map(|error| error.trouble.code().to_owned()),
                last_error_at: probe.error.as_ref().map(|error| rfc3339(error.at)),
                last_checked: probe.at.map(rfc3339),
            };
            (subject.clone(), check)
        };
        probes.iter().map(check).collect()
    }

    fn subjects(&self) -> Vec<Subject> {
        self.probes.read().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }
}

/// Looks until stopped.
pub async fn run(node: Node, checks: Checks, stop: CancellationToken) {
    let mut tick = tokio::time::interval(PERIOD);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = look(&node, &checks) => {}
        }
    }
}

async fn look(node: &Node, checks: &Checks) {
    let subjects = checks.subjects();
    for some in subjects.chunks(MAX_TOGETHER) {
        join_all(some.iter().map(|subject| async {
            let probe = tokio::time::timeout(DEADLINE, probe(node, subject));
            let result = probe.await.unwrap_or_else(|_| Err(silent(subject)));
            checks.note(subject, result);
        }))
        .await;
    }
}

fn silent(subject: &Subject) -> Trouble {
    let cause = match subject {
        Subject::Nats | Subject::State | Subject::Stream(_) => Cause::NatsSilent,
        Subject::Bucket(_) => Cause::BucketUnavailable,
        Subject::Network => Cause::NoSocket,
    };
    Trouble::new(cause, format!("no answer within {} s", DEADLINE.as_secs()))
}

async fn probe(node: &Node, subject: &Subject) -> Result<(), Trouble> {
    match subject {
        // Whether JetStream answers, the state stream shows.
        Subject::Nats => connected(node),
        Subject::State => {
            connected(node)?;
            node.state.look().await.map_err(|error| (&error).into())
        }
        Subject::Network if node.links.sockets().is_empty() => Err(Trouble::new(Cause::NoSocket, "no socket is bound")),
        Subject::Network => Ok(()),
        Subject::Stream(name) => {
            connected(node)?;
            let found = Survey::new(&node.client, DEADLINE).stream(name).await;
            found.map(|_| ()).map_err(|error| (&error).into())
        }
        Subject::Bucket(name) => {
            let bucket = node.blobs.find_bucket(name)?;
            bucket.check().await.map_err(|error| (&error).into())
        }
    }
}

/// A client without a connection waits for one, so nothing is asked of it.
fn connected(node: &Node) -> Result<(), Trouble> {
    if node.client.is_connected() { Ok(()) } else { Err(Trouble::new(Cause::NatsLost, "no connection")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_is_kept_while_it_is_expected() {
        let checks = Checks::default();
        let stream = Subject::Stream("s".to_owned());
        checks.note(&stream, Ok(()));
        assert!(checks.list().is_empty(), "nobody expects it");
        checks.expect(["s".to_owned()].into(), BTreeSet::new());
        let state = |checks: &Checks| checks.list().into_iter().find(|(s, _)| *s == stream).map(|(_, c)| c.state);
        assert_eq!(state(&checks), Some(CheckState::Unknown));
        checks.note(&stream, Err(Trouble::new(Cause::StreamMissing, "gone")));
        assert_eq!(state(&checks), Some(CheckState::Failing));
        checks.note(&stream, Ok(()));
        let (_, check) = checks.list().into_iter().find(|(s, _)| *s == stream).unwrap();
        assert_eq!((check.state, check.last_error.as_deref()), (CheckState::Ok, Some("gone")));
        checks.expect(BTreeSet::new(), BTreeSet::new());
        assert_eq!(state(&checks), None);
    }
}
