use super::super::model::{
    BlobTotals, Direction, EntryState, Kind, Lag, OperationCount, Peer, Publication, Reader, Side, Subscription,
    Totals, Transfer,
};
use super::*;

const AUTHOR: &str = "1925c049c2b54f4a1e4e8b2b3bb4de3c1f53fdb8d4f6f4c2a6cf1a6f9d0c3e11";
const ME: &str = "7aa1d0c3e4b54f4a1e4e8b2b3bb4de3c1f53fdb8d4f6f4c2a6cf1a6f9d0c3e22";

fn check(name: &str, state: CheckState) -> Check {
    Check { name: name.into(), state, last_error: None, last_error_code: None, last_error_at: None, last_checked: None }
}

fn subscription(id: &str, kind: Kind, name: &str, into: &str) -> Subscription {
    Subscription {
        id: id.into(),
        kind,
        name: name.into(),
        stream: (kind == Kind::Subject).then(|| into.into()),
        bucket: (kind == Kind::Bucket).then(|| into.into()),
        author: AUTHOR.into(),
        state: EntryState::Active,
        waits_for: None,
        code: None,
        remedy: None,
        position: None,
        lag: Lag { messages: Some(0), bytes: Some(0), seconds: Some(0.0), objects: None },
        verified: Totals::default(),
        applied: Totals { messages: 1000, bytes: 1 << 20 },
        gone: 0,
        refused: 0,
        refused_by_reason: Default::default(),
        restarts: 0,
        held_deletes: false,
        last_progress: None,
        last_error: None,
        last_error_code: None,
        last_error_remedy: None,
        last_error_at: None,
        troubles: Default::default(),
    }
}

fn publication(id: &str, kind: Kind, name: &str) -> Publication {
    Publication {
        id: id.into(),
        kind,
        name: name.into(),
        stream: (kind == Kind::Subject).then(|| "energy".into()),
        bucket: (kind == Kind::Bucket).then(|| name.into()),
        state: EntryState::Active,
        waits_for: None,
        code: None,
        remedy: None,
        position: None,
        lag: Lag::default(),
        sealed: Totals { messages: 12_345, bytes: 58_720_256 },
        sealed_operations: 1,
        sent: Totals::default(),
        unreplicable: 0,
        readers: vec![Reader { public_key: AUTHOR.into(), since: String::new(), applied_operation: None }],
        last_progress: None,
        last_error: None,
        last_error_code: None,
        last_error_remedy: None,
        last_error_at: None,
        troubles: Default::default(),
    }
}

fn peer(connected: bool) -> Peer {
    Peer {
        public_key: AUTHOR.into(),
        addresses: vec!["rhio-a.example.org:9102".into()],
        configured: true,
        connected,
        wanted: true,
        remote_address: connected.then(|| "192.0.2.7:9102".into()),
        direction: connected.then_some(Side::Out),
        connected_since: None,
        round_trip_seconds: connected.then_some(0.0124),
        received_bytes: 58_720_256,
        sent_bytes: 5_872,
        connects: 1,
        last_error: (!connected).then(|| "does not answer: no connection within 10 s".into()),
        code: (!connected).then(|| "peer-not-connected".into()),
    }
}

/// A node with nothing to do, and nothing wrong.
fn idle() -> NodeStatus {
    NodeStatus {
        version: "0.1.0".into(),
        public_key: ME.into(),
        network_id: "rhio-default-network-1".into(),
        time: "2026-01-01T03:12:00Z".into(),
        started: "2026-01-01T00:00:00Z".into(),
        uptime_seconds: 11_520.0,
        listens: vec!["0.0.0.0:9102".into(), "[::]:9102".into()],
        health: Health {
            status: Verdict::Running,
            ready: true,
            problems: Vec::new(),
            nats: check("localhost:4222", CheckState::Ok),
            state: check("RHIO", CheckState::Ok),
            network: check("UDP port 9102", CheckState::Ok),
            streams: Vec::new(),
            buckets: Vec::new(),
        },
        peers: Vec::new(),
        publications: Vec::new(),
        subscriptions: Vec::new(),
        transfers: Vec::new(),
        operations: OperationCount { count: Some(0) },
        blobs: BlobTotals::default(),
    }
}

/// A node on which everything happens at once.
fn busy() -> NodeStatus {
    let mut status = idle();
    status.health.status = Verdict::Degraded;
    status.health.ready = false;
    status.health.problems = vec![
        Problem {
            what: "stream 'workload'".into(),
            problem: "does not exist".into(),
            code: "peer-not-connected".into(),
            remedy:
                "nats stream add workload --subjects 'workload.>' --defaults; rhio goes on by itself as soon as it \
                     is there"
                    .into(),
            blocks_readiness: true,
        },
        Problem {
            what: "node 1925c049c2".into(),
            problem: "refuses us".into(),
            code: "peer-not-connected".into(),
            remedy: format!("there, add our public key to 'nodes': {ME}"),
            blocks_readiness: false,
        },
    ];
    status.health.streams = vec![check("energy", CheckState::Ok), check("workload", CheckState::Failing)];
    status.health.buckets = vec![check("in-1", CheckState::Ok), check("out-1", CheckState::Unknown)];
    let behind = Lag { messages: Some(1234), bytes: Some(58_720_256), seconds: Some(3.2), objects: None };
    status.subscriptions = vec![
        Subscription { lag: behind, gone: 7, ..subscription("a", Kind::Subject, "energy.>", "energy") },
        Subscription {
            state: EntryState::Waiting,
            waits_for: Some("does not exist".into()),
            remedy: Some("never shown twice".into()),
            lag: Lag::default(),
            ..subscription("b", Kind::Subject, "workload.*.of.a.very.long.name.indeed", "workload")
        },
        Subscription {
            state: EntryState::Waiting,
            waits_for: Some("bucket 'in-1' refuses access: AccessDenied (403): the key may not write".into()),
            remedy: Some("give the key s3:PutObject on the bucket".into()),
            lag: Lag { objects: Some(1), bytes: Some(10), ..Lag::default() },
            held_deletes: true,
            ..subscription("c", Kind::Bucket, "bucket-out-1", "in-1")
        },
    ];
    status.publications =
        vec![publication("d", Kind::Subject, "energy.>"), publication("e", Kind::Bucket, "bucket-out-1")];
    status.transfers = vec![Transfer {
        direction: Direction::Receive,
        bucket: "in-1".into(),
        key: "a/very/long/path/to/an/object/in/a/bucket.tar.gz".into(),
        size: 1 << 30,
        done: 700 << 20,
        bytes_per_second: 34.0 * 1_048_576.0,
        seconds_left: Some(9.5),
        peer: Some(AUTHOR.into()),
        begun: String::new(),
    }];
    status.peers = vec![peer(true), peer(false)];
    status.operations.count = Some(4711);
    status.blobs = BlobTotals { count: 12, bytes: 3 << 30 };
    status
}

fn shown(status: &NodeStatus, width: usize) -> String {
    render(status, &View { width, colour: false, before: None })
}

fn assert_fits(text: &str, max: usize) {
    for line in text.lines() {
        assert!(text::width(line) <= max, "{} characters: {line}\n{text}", text::width(line));
    }
}

#[test]
fn an_idle_node() {
    assert_eq!(shown(&idle(), 80), include_str!("golden/idle.txt"));
}

#[test]
fn a_busy_node() {
    let text = shown(&busy(), 80);
    assert_eq!(text, include_str!("golden/busy.txt"));
    assert_fits(&text, 80);
}

#[test]
fn a_remedy_is_said_once() {
    let mut status = busy();
    status.health.problems[1].remedy = "give the key s3:PutObject on the bucket".into();
    assert_eq!(shown(&status, 80).matches("s3:PutObject").count(), 1);
}

#[test]
fn watching_shows_rates_and_only_of_the_same_process() {
    let before = busy();
    let mut after = busy();
    after.uptime_seconds += 2.0;
    after.subscriptions[0].applied = Totals { messages: 1024, bytes: 3 << 20 };
    after.publications[0].sealed.messages += 5000;
    let text = render(&after, &View { width: 80, colour: false, before: Some(&before) });
    assert!(text.contains("    now 12 messages/s, 1.0 MiB/s\n"), "{text}");
    assert!(text.contains("    now 2,500 messages/s, 0 B/s\n"), "{text}");
    assert_eq!(text.matches("now 0 objects/s, 0 B/s").count(), 2, "{text}");
    assert_fits(&text, 80);
    after.started = "2026-01-02T00:00:00Z".into();
    assert!(!render(&after, &View { width: 80, colour: false, before: Some(&before) }).contains("now "));
}

#[test]
fn colours_change_no_column() {
    let colourless = shown(&busy(), 80);
    let coloured = render(&busy(), &View { width: 80, colour: true, before: None });
    let mut stripped = String::new();
    for (i, part) in coloured.split('\x1b').enumerate() {
        stripped.push_str(if i == 0 { part } else { part.split_once('m').expect("a whole code").1 });
    }
    assert_ne!(coloured, colourless);
    assert_eq!(stripped, colourless);
}

#[test]
fn no_name_steers_the_terminal() {
    let mut status = busy();
    let evil = "\x1b]0;title\x07\x1b[2J\u{9b}1m\r\n\u{202e}x";
    status.network_id = evil.into();
    status.version = evil.into();
    status.public_key = evil.into();
    status.listens = vec![evil.into()];
    for problem in &mut status.health.problems {
        (problem.what, problem.problem, problem.remedy) = (evil.into(), evil.into(), evil.into());
    }
    for entry in &mut status.subscriptions {
        (entry.name, entry.author) = (evil.into(), evil.into());
        (entry.waits_for, entry.remedy) = (Some(format!("{evil}!")), Some(evil.into()));
        entry.bucket = Some(evil.into());
    }
    for entry in &mut status.publications {
        entry.name = evil.into();
        (entry.last_error, entry.last_error_at) = (Some(evil.into()), Some(status.time.clone()));
    }
    for transfer in &mut status.transfers {
        (transfer.bucket, transfer.key) = (evil.into(), evil.into());
    }
    for peer in &mut status.peers {
        (peer.public_key, peer.remote_address, peer.last_error) = (evil.into(), Some(evil.into()), Some(evil.into()));
    }
    let text = shown(&status, 80);
    let bad = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
    assert!(!text.contains(bad), "{text:?}");
}

#[test]
fn a_narrow_terminal_is_no_reason_to_panic() {
    for width in [0, 1, 20, 40, 200] {
        assert!(shown(&busy(), width).contains("Degraded"));
    }
    assert_fits(&shown(&busy(), 100), 100);
}
