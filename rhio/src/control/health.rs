//! The verdict on the node, and what is wrong in words: pure.

use super::checks::Subject;
use super::model::{
    Check, CheckState, EntryState, Health, Peer, Problem, Publication, Readiness, Subscription, Verdict,
};
use rhio_router::trouble::Cause;

/// The code of what was not looked at yet.
const NOT_KNOWN: &str = "not-known-yet";

/// Everything that a verdict rests on.
#[derive(Debug)]
pub struct Evidence<'a> {
    /// Results of looking.
    pub checks: &'a [(Subject, Check)],
    /// What the node offers.
    pub publications: &'a [Publication],
    /// What it wants.
    pub subscriptions: &'a [Subscription],
    /// Known nodes.
    pub peers: &'a [Peer],
}

/// Judges.
pub fn judge(evidence: &Evidence) -> Health {
    let find = |wanted: &Subject| {
        let found = evidence.checks.iter().find(|(subject, _)| subject == wanted);
        found.map_or_else(|| unknown(wanted.kind()), |(_, check)| check.clone())
    };
    let all = |wanted: fn(&Subject) -> bool| {
        evidence.checks.iter().filter(|(subject, _)| wanted(subject)).map(|(_, check)| check.clone()).collect()
    };
    let (nats, state, network) = (find(&Subject::Nats), find(&Subject::State), find(&Subject::Network));
    let streams: Vec<Check> = all(|subject| matches!(subject, Subject::Stream(_)));
    let buckets: Vec<Check> = all(|subject| matches!(subject, Subject::Bucket(_)));

    let mut problems = Vec::new();
    problems.extend(failing("NATS", &nats));
    if nats.state == CheckState::Ok {
        problems.extend(failing("state stream", &state));
        for stream in &streams {
            problems.extend(failing("stream", stream));
        }
    }
    problems.extend(failing("UDP port", &network));
    for bucket in &buckets {
        problems.extend(failing("bucket", bucket));
    }
    let dead = [&nats, &state, &network].iter().any(|check| check.state != CheckState::Ok);
    let works = |check: &Check| check.state == CheckState::Ok;
    let ready = !dead && streams.iter().chain(&buckets).all(works);

    let away: Vec<&Peer> = evidence.peers.iter().filter(|peer| peer.wanted && !peer.connected).collect();
    if nats.state == CheckState::Ok {
        problems.extend(away.iter().map(|peer| not_connected(peer)));
        let is_away = |author: &str| away.iter().any(|peer| peer.public_key == author);
        let broken = |local: Option<&String>, checks: &[Check]| {
            local.is_some_and(|local| checks.iter().any(|check| check.name == *local && !works(check)))
        };
        for entry in evidence.subscriptions {
            let told = is_away(&entry.author)
                || broken(entry.stream.as_ref(), &streams)
                || broken(entry.bucket.as_ref(), &buckets);
            let what = format!("subscription to '{}' of {}", entry.name, short(&entry.author));
            problems
                .extend(waiting(what, entry.state, (&entry.waits_for, &entry.code, &entry.remedy)).filter(|_| !told));
        }
        for entry in evidence.publications {
            let told = broken(entry.stream.as_ref(), &streams) || broken(entry.bucket.as_ref(), &buckets);
            let what = format!("publication of '{}'", entry.name);
            problems
                .extend(waiting(what, entry.state, (&entry.waits_for, &entry.code, &entry.remedy)).filter(|_| !told));
        }
    }
    let status = match (dead, problems.is_empty() && ready) {
        (true, _) => Verdict::Error,
        (false, true) => Verdict::Running,
        (false, false) => Verdict::Degraded,
    };
    Health { status, ready, problems, nats, state, network, streams, buckets }
}

/// The part of it that `/readyz` tells.
pub fn readiness(health: &Health) -> Readiness {
    let reasons = health.problems.iter().filter(|problem| problem.blocks_readiness).cloned().collect();
    Readiness { ready: health.ready, reasons }
}

fn unknown(name: &str) -> Check {
    Check {
        name: name.to_owned(),
        state: CheckState::Unknown,
        last_error: None,
        last_error_code: None,
        last_error_at: None,
        last_checked: None,
    }
}

fn failing(kind: &str, check: &Check) -> Option<Problem> {
    let what = format!("{kind} '{}'", check.name);
    match check.state {
        CheckState::Ok => None,
        CheckState::Unknown => Some(Problem {
            what,
            problem: "it is not known yet whether it answers".to_owned(),
            code: NOT_KNOWN.to_owned(),
            remedy: "wait some seconds; rhio is starting, or busy".to_owned(),
            blocks_readiness: true,
        }),
        CheckState::Failing => {
            let problem = check.last_error.clone().unwrap_or_else(|| "it does not answer".to_owned());
            let cause = cause(check.last_error_code.as_ref());
            let remedy = match cause {
                Cause::StreamMissing => {
                    format!("create it: nats stream add {} --subjects …; rhio goes on by itself", check.name)
                }
                cause => cause.remedy().to_owned(),
            };
            let code = cause.code().to_owned();
            Some(Problem { what, problem, code, remedy, blocks_readiness: true })
        }
    }
}

/// What is behind a trouble that is known by its code; a newer program may have codes that this one has not.
fn cause(code: Option<&String>) -> Cause {
    code.and_then(|code| Cause::find(code)).unwrap_or(Cause::Internal)
}

fn not_connected(peer: &Peer) -> Problem {
    let cause = peer.code.as_ref().map_or(Cause::NotConnected, |code| cause(Some(code)));
    let problem = match (cause, &peer.last_error) {
        (Cause::RefusesUs, _) => "it refuses us: this node's public key must be added to its 'nodes'".to_owned(),
        (Cause::NoAddress, _) => "not connected to it, and no address of it is known".to_owned(),
        (_, Some(error)) => format!("not connected to it: {error}"),
        (_, None) => "not connected to it".to_owned(),
    };
    Problem {
        what: format!("node {}", short(&peer.public_key)),
        problem,
        code: cause.code().to_owned(),
        remedy: cause.remedy().to_owned(),
        blocks_readiness: false,
    }
}

type Reason<'a> = (&'a Option<String>, &'a Option<String>, &'a Option<String>);

fn waiting(what: String, state: EntryState, (reason, code, remedy): Reason) -> Option<Problem> {
    let problem = reason.clone().filter(|_| state == EntryState::Waiting)?;
    let cause = cause(code.as_ref());
    let remedy = remedy.clone().unwrap_or_else(|| cause.remedy().to_owned());
    Some(Problem { what, problem, code: cause.code().to_owned(), remedy, blocks_readiness: false })
}

fn short(key: &str) -> &str {
    key.get(..10).unwrap_or(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, state: CheckState, error: Option<(&str, Cause)>) -> Check {
        let last_error_code = error.map(|(_, cause)| cause.code().to_owned());
        Check { state, last_error: error.map(|(words, _)| words.to_owned()), last_error_code, ..unknown(name) }
    }

    fn checks(nats: CheckState, stream: CheckState) -> Vec<(Subject, Check)> {
        vec![
            (Subject::Nats, check("localhost:4222", nats, Some(("no connection", Cause::NatsLost)))),
            (Subject::State, check("RHIO", nats, None)),
            (Subject::Network, check("0.0.0.0:9102", CheckState::Ok, None)),
            (Subject::Stream("s".to_owned()), check("s", stream, Some(("it does not exist", Cause::StreamMissing)))),
        ]
    }

    fn peer(connected: bool) -> Peer {
        Peer {
            public_key: "ab".repeat(32),
            configured: true,
            addresses: vec!["b:9102".to_owned()],
            connected,
            wanted: true,
            remote_address: None,
            direction: None,
            connected_since: None,
            round_trip_seconds: None,
            received_bytes: 0,
            sent_bytes: 0,
            connects: 0,
            last_error: None,
            code: (!connected).then(|| Cause::NotConnected.code().to_owned()),
        }
    }

    fn judged(checks: &[(Subject, Check)], peers: &[Peer]) -> Health {
        judge(&Evidence { checks, publications: &[], subscriptions: &[], peers })
    }

    #[test]
    fn everything_works() {
        let health = judged(&checks(CheckState::Ok, CheckState::Ok), &[peer(true)]);
        assert_eq!((health.status, health.ready, health.problems.len()), (Verdict::Running, true, 0));
    }

    #[test]
    fn without_nats_nothing_works_and_the_rest_is_not_told() {
        let health = judged(&checks(CheckState::Failing, CheckState::Failing), &[peer(false)]);
        assert_eq!((health.status, health.ready), (Verdict::Error, false));
        let [problem] = &health.problems[..] else { panic!("{:?}", health.problems) };
        assert!(problem.what.contains("localhost:4222") && problem.remedy.contains("nats.endpoint"), "{problem:?}");
        assert_eq!(readiness(&health).reasons, health.problems);
    }

    #[test]
    fn a_missing_stream_is_not_ready_and_names_the_command() {
        let health = judged(&checks(CheckState::Ok, CheckState::Failing), &[]);
        assert_eq!((health.status, health.ready), (Verdict::Degraded, false));
        assert!(health.problems[0].remedy.contains("nats stream add s"), "{:?}", health.problems);
    }

    #[test]
    fn a_peer_that_is_away_degrades_and_leaves_the_node_ready() {
        let health = judged(&checks(CheckState::Ok, CheckState::Ok), &[peer(false)]);
        assert_eq!((health.status, health.ready, health.problems.len()), (Verdict::Degraded, true, 1));
        assert!(readiness(&health).reasons.is_empty());
        assert!(health.problems[0].remedy.contains("UDP"), "{:?}", health.problems);
    }

    #[test]
    fn a_node_that_refuses_us_is_not_taken_for_a_firewall() {
        let code = Some(Cause::RefusesUs.code().to_owned());
        let refused = Peer { last_error: Some("closed by the peer: access refused".to_owned()), code, ..peer(false) };
        let health = judged(&checks(CheckState::Ok, CheckState::Ok), &[refused]);
        assert!(health.problems[0].problem.contains("refuses us"), "{:?}", health.problems);
        assert!(health.problems[0].remedy.contains("rhio id"), "{:?}", health.problems);
    }

    #[test]
    fn a_wrong_key_is_not_taken_for_a_missing_bucket() {
        let words = "bucket 'b' refuses access: The access key Id you provided does not exist in our records.";
        let mut checks = checks(CheckState::Ok, CheckState::Ok);
        for (cause, answer) in [(Cause::S3Credentials, "s3.credentials"), (Cause::BucketMissing, "create the bucket")] {
            let bucket = (Subject::Bucket("b".to_owned()), check("b", CheckState::Failing, Some((words, cause))));
            checks.truncate(4);
            checks.push(bucket);
            let health = judged(&checks, &[]);
            let [problem] = &health.problems[..] else { panic!("{:?}", health.problems) };
            assert_eq!(problem.code, cause.code());
            assert!(problem.remedy.contains(answer), "{problem:?}");
        }
    }

    #[test]
    fn before_the_first_look_nothing_is_claimed() {
        let health = judged(&[], &[]);
        assert_eq!((health.status, health.ready), (Verdict::Error, false));
        assert!(!health.problems.is_empty());
    }
}
