//! Turns what the tasks say of themselves into the types of [`model`].

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use rhio_core::id::PublicKey;
use rhio_core::log::descriptor;
use rhio_core::log::operation::Operation;

use rhio_net::records::PeerReport;
use rhio_router::apply::subscription::Subscription;
use rhio_router::blobs::publication::BucketPublication;
use rhio_router::blobs::subscription::BucketSubscription;
use rhio_router::blobs::transfers;
use rhio_router::publish::publication::Publication;
use rhio_router::publish::readership::Readership;
use rhio_router::status::{Count, Refusal, Report, State};
use rhio_router::trouble::{Cause, Trouble};

use super::model::{self, EntryState, Kind};
use super::times::rfc3339;

/// A known node.
pub fn peer(report: PeerReport) -> model::Peer {
    let (live, record) = (report.live, report.record);
    let last_error = record.last_error.filter(|_| live.is_none());
    let cause = match &last_error {
        Some(why) => why.into(),
        None if report.addresses.is_empty() => Cause::NoAddress,
        None => Cause::NotConnected,
    };
    let code = live.is_none().then(|| cause.code().to_owned());
    model::Peer {
        public_key: report.peer.to_string(),
        configured: report.known,
        addresses: report.addresses,
        connected: live.is_some(),
        wanted: report.wanted,
        direction: live.as_ref().map(|live| if live.dialled { model::Side::Out } else { model::Side::In }),
        connected_since: live.as_ref().map(|live| rfc3339(live.since)),
        round_trip_seconds: live.as_ref().and_then(|live| live.round_trip).map(|rtt| rtt.as_secs_f64()),
        last_error: last_error.map(|why| why.to_string()),
        code,
        remote_address: live.and_then(|live| live.remote),
        received_bytes: record.received,
        sent_bytes: record.sent,
        connects: record.connects,
    }
}

fn refused_by_reason(report: &Report) -> BTreeMap<String, u64> {
    let counts = Refusal::ALL.iter().zip(report.refused).filter(|(_, count)| *count > 0);
    counts.map(|((_, reason), count)| ((*reason).to_owned(), count)).collect()
}

fn totals(count: Count) -> model::Totals {
    model::Totals { messages: count.messages, bytes: count.bytes }
}

fn state(report: &Report) -> (EntryState, Option<&Trouble>) {
    match &report.state {
        State::Starting => (EntryState::Starting, None),
        State::Active => (EntryState::Active, None),
        State::Waiting(trouble) => (EntryState::Waiting, Some(trouble)),
    }
}

fn troubles(report: &Report) -> BTreeMap<String, u64> {
    report.troubles.iter().map(|(cause, count)| (cause.code().to_owned(), count)).collect()
}

fn readers(readership: &Readership) -> Vec<model::Reader> {
    let reader = |reader: rhio_router::publish::readership::Reader| model::Reader {
        public_key: reader.peer.to_string(),
        since: rfc3339(reader.since),
        applied_operation: reader.applied.map(|seq| seq.0),
    };
    readership.list().into_iter().map(reader).collect()
}

/// What a publication has not sealed: with nothing left, its age is known too.
fn unsealed(pending: Option<u64>, kind: Kind) -> model::Lag {
    let nothing = pending == Some(0);
    model::Lag {
        messages: pending.filter(|_| kind == Kind::Subject),
        objects: pending.filter(|_| kind == Kind::Bucket),
        bytes: nothing.then_some(0),
        seconds: nothing.then_some(0.0),
    }
}

/// A publication of subjects.
pub fn subject_publication(publication: &Publication) -> model::Publication {
    let report = publication.status.report();
    let live = publication.logs().borrow().live.clone();
    let progress = live.as_ref().map(|live| (live.log, *live.progress().borrow()));
    let position = progress.map(|(log, progress)| model::LogPosition {
        log: log.to_string(),
        operation: progress.tail.head.map(|head| head.seq.0),
        messages: progress.tail.total.items,
        bytes: progress.tail.total.bytes,
        source_sequence: progress.tail.head.map(|_| progress.tail.through.seq.0),
    });
    let lag = unsealed(progress.and_then(|(_, progress)| progress.pending), Kind::Subject);
    let name = publication.filter.to_string();
    model::Publication {
        id: format!("publication:subject:{name}:{}", publication.stream),
        kind: Kind::Subject,
        stream: Some(publication.stream.clone()),
        bucket: None,
        readers: readers(&publication.readership),
        ..published(name, &report, position, lag)
    }
}

/// A publication of a bucket.
pub fn bucket_publication(publication: &BucketPublication) -> model::Publication {
    let report = publication.status.report();
    let view = publication.view().borrow().clone();
    let position = view.as_ref().map(|view| model::LogPosition {
        log: view.log.to_string(),
        operation: view.head.map(|head| head.seq.0),
        messages: view.total.items,
        bytes: view.total.bytes,
        source_sequence: None,
    });
    let lag = unsealed(view.and_then(|view| view.pending), Kind::Bucket);
    let name = publication.bucket.name().to_owned();
    model::Publication {
        id: format!("publication:bucket:{name}"),
        kind: Kind::Bucket,
        bucket: Some(name.clone()),
        readers: readers(&publication.readership),
        ..published(name, &report, position, lag)
    }
}

fn published(
    name: String,
    report: &Report,
    position: Option<model::LogPosition>,
    lag: model::Lag,
) -> model::Publication {
    let (state, trouble) = state(report);
    let last = report.last_error.as_ref();
    model::Publication {
        id: String::new(),
        kind: Kind::Subject,
        name,
        stream: None,
        bucket: None,
        state,
        waits_for: trouble.map(ToString::to_string),
        code: trouble.map(|trouble| trouble.code().to_owned()),
        remedy: trouble.map(|trouble| trouble.remedy().to_owned()),
        position,
        lag,
        sealed: totals(report.done),
        sealed_operations: report.operations,
        sent: totals(report.sent),
        unreplicable: report.unreplicable,
        readers: Vec::new(),
        last_progress: report.last_progress.map(rfc3339),
        last_error: last.map(|last| last.trouble.to_string()),
        last_error_code: last.map(|last| last.trouble.code().to_owned()),
        last_error_remedy: last.map(|last| last.trouble.remedy().to_owned()),
        last_error_at: last.map(|last| rfc3339(last.at)),
        troubles: troubles(report),
    }
}

/// A subscription to subjects.
pub fn subject_subscription(subscription: &Subscription) -> model::Subscription {
    let report = subscription.status.report();
    let (name, author) = (subscription.filter.to_string(), subscription.author);
    model::Subscription {
        id: format!("subscription:subject:{name}:{}:{}", subscription.stream, author.short()),
        stream: Some(subscription.stream.clone()),
        ..subscribed(Kind::Subject, name, author, &report)
    }
}

/// A subscription to a bucket.
pub fn bucket_subscription(subscription: &BucketSubscription) -> model::Subscription {
    let report = subscription.status.report();
    let (local, author) = (subscription.bucket.name(), subscription.author);
    model::Subscription {
        id: format!("subscription:bucket:{}:{local}:{}", subscription.remote, author.short()),
        bucket: Some(local.to_owned()),
        held_deletes: subscription.holds_deletes(),
        ..subscribed(Kind::Bucket, subscription.remote.clone(), author, &report)
    }
}

fn subscribed(kind: Kind, name: String, author: PublicKey, report: &Report) -> model::Subscription {
    let (state, trouble) = state(report);
    let last = report.last_error.as_ref();
    let position = report.end.map(|end| model::LogPosition {
        log: end.log.to_string(),
        operation: end.head.map(|head| head.seq.0),
        messages: end.total.messages,
        bytes: end.total.bytes,
        source_sequence: end.source,
    });
    let lag = model::Lag {
        messages: report.lag.messages.filter(|_| kind == Kind::Subject),
        objects: report.lag.messages.filter(|_| kind == Kind::Bucket),
        bytes: report.lag.bytes,
        seconds: report.lag_age.map(|age| age.as_secs_f64()),
    };
    model::Subscription {
        id: String::new(),
        kind,
        name,
        stream: None,
        bucket: None,
        author: author.to_string(),
        state,
        waits_for: trouble.map(ToString::to_string),
        code: trouble.map(|trouble| trouble.code().to_owned()),
        remedy: trouble.map(|trouble| trouble.remedy().to_owned()),
        position,
        lag,
        verified: totals(report.verified),
        applied: totals(report.done),
        gone: report.gone,
        refused: report.refused.iter().sum(),
        refused_by_reason: refused_by_reason(report),
        restarts: report.restarts,
        held_deletes: false,
        last_progress: report.last_progress.map(rfc3339),
        last_error: last.map(|last| last.trouble.to_string()),
        last_error_code: last.map(|last| last.trouble.code().to_owned()),
        last_error_remedy: last.map(|last| last.trouble.remedy().to_owned()),
        last_error_at: last.map(|last| rfc3339(last.at)),
        troubles: troubles(report),
    }
}

/// Content on its way.
pub fn transfer(transfer: &transfers::Transfer) -> model::Transfer {
    let left = transfer.size.saturating_sub(transfer.done);
    model::Transfer {
        direction: match transfer.direction {
            transfers::Direction::Import => model::Direction::Import,
            transfers::Direction::Send => model::Direction::Send,
            transfers::Direction::Receive => model::Direction::Receive,
        },
        bucket: transfer.bucket.clone(),
        key: transfer.key.to_string(),
        size: transfer.size,
        done: transfer.done,
        bytes_per_second: transfer.rate,
        seconds_left: (transfer.rate > 0.0).then(|| left as f64 / transfer.rate),
        peer: transfer.peer.map(|peer| peer.to_string()),
        begun: rfc3339(transfer.begun),
    }
}

/// A signed operation.
pub fn operation(operation: &Operation) -> model::Operation {
    let (describes, count) = match operation.kind() {
        descriptor::Kind::Messages => (model::OperationKind::Messages, operation.records().len()),
        descriptor::Kind::Bucket => (model::OperationKind::Catalog, operation.entries().len()),
    };
    let sequences = (!operation.records().is_empty()).then(|| (operation.first().seq.0, operation.through().seq.0));
    model::Operation {
        hash: operation.hash().to_string(),
        log: operation.log().to_string(),
        author: operation.author().to_string(),
        operation: operation.seq().0,
        backlink: operation.backlink().map(|hash| hash.to_string()),
        signed: rfc3339(SystemTime::UNIX_EPOCH + Duration::from_micros(operation.signed_at())),
        describes,
        count: count as u64,
        first_sequence: sequences.map(|(first, _)| first),
        last_sequence: sequences.map(|(_, last)| last),
        bytes: operation.raw().len() as u64,
    }
}
