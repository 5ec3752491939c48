//! Puts the daemon together, keeps it together, and takes it apart.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use p2panda_core::SigningKey;
use rhio_core::id::PublicKey;
use rhio_core::policy::Readers;
use rhio_core::wire::Frame;
use rhio_nats::client::Client;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, error, info, warn};

use crate::config::{self, Access, Config, Loaded, Overrides};
use crate::control::checks::{self as check, Checks};
use crate::control::overview::{self, Overview, Running};
use crate::control::{http, service};
use crate::otlp::Export;
use crate::shutdown::{Signals, Told};
use rhio_nats::connect::{ConnectError, ConnectSettings, connect};
use rhio_nats::state::StateStore;
use rhio_net::endpoint::Network;
use rhio_net::links::{Directory, Incoming, Links};
use rhio_router::apply::following;
use rhio_router::apply::subscription::Subscription;
use rhio_router::blobs::publication::BucketPublication;
use rhio_router::blobs::store::Blobs;
use rhio_router::blobs::subscribing;
use rhio_router::blobs::subscription::BucketSubscription;
use rhio_router::blobs::{blob_session, notifications, publishing, upload_note};
use rhio_router::holdings::Holdings;
use rhio_router::metrics::Metrics;
use rhio_router::node::{Node, now_micros};
use rhio_router::publish::publication::Publication;
use rhio_router::publish::{pulling, sealing, watching};
use rhio_router::session_error::SessionError;
use rhio_router::supervise;

/// How long tasks may take to end when the process shuts down; Kubernetes gives 30 s for everything, users expect 10.
const GRACE: Duration = Duration::from_secs(5);
/// How long the connections may take to close after that. Over a slow link it takes a few round trips.
const CLOSE: Duration = Duration::from_secs(3);
/// How long a peer's stream may take to say what it is about.
const FIRST_FRAME: Duration = Duration::from_secs(10);
/// Streams that peers may have open in all.
const MAX_STREAMS: usize = 4096;
/// How often the configuration file is looked at.
const WATCH_FILE: Duration = Duration::from_secs(2);

/// Everything that was started from one configuration.
struct App {
    node: Node,
    config: Config,
    stop: CancellationToken,
    tasks: TaskTracker,
    subscriptions: watch::Sender<Vec<Arc<Subscription>>>,
    buckets: watch::Sender<Vec<Arc<BucketSubscription>>>,
    overview: Arc<Overview>,
    traces: Export,
}

/// Runs the daemon until it is told to stop.
///
/// # Errors
/// When it can't be started; once it runs, it goes on.
pub async fn run(loaded: Loaded, overrides: Overrides, key: SigningKey) -> Result<()> {
    let stop = CancellationToken::new();
    let mut signals = Signals::new().context("listen for signals")?;
    let Loaded { config, file, .. } = loaded;
    let me = PublicKey::from(key.verifying_key());
    summarise(&config, file.as_deref(), me);

    let listener = match config.http_bind_port {
        0 => None,
        port => Some(http::bind(config.http_bind_address, port).await?),
    };
    let (network, connections) = Network::bind(&key, &config.network_id, config.bind_port).await?;
    let listens: Vec<String> = network.sockets().iter().map(ToString::to_string).collect();
    for socket in &listens {
        info!(%socket, "listens for other nodes (UDP)");
    }
    let metrics = Arc::new(Metrics::new()?);
    let overview = Overview::new(me, config.network_id.clone(), listens.clone(), Arc::clone(&metrics));
    let overview = Arc::new(overview);
    overview.checks.name(check::Subject::Network, listens.join(", "));
    overview.checks.name(check::Subject::State, config.nats.state.stream.clone());
    let servers: Vec<String> = config.nats.endpoint.iter().map(ToString::to_string).collect();
    overview.checks.name(check::Subject::Nats, servers.join(", "));
    expect(&overview, &config);
    // From now on whoever asks is told what the node waits for.
    let http = TaskTracker::new();
    if let Some(listener) = listener {
        http.spawn(http::run(listener, Arc::clone(&overview), stop.clone()));
    }
    http.close();
    let starting = start(&config, me, key, network.clone(), connections, Arc::clone(&overview), stop.clone());
    let mut app = tokio::select! {
        app = starting => app?,
        name = stopped(&mut signals) => {
            info!(signal = name, "stopped before it was started");
            stop.cancel();
            http.wait().await;
            network.close(CLOSE).await;
            return Ok(());
        }
    };
    // Files that were being imported when the process ended: nobody goes on with those uploads.
    let node = app.node.clone();
    app.tasks.spawn(async move {
        let goes_on = |record: &upload_note::Record| {
            record.is_running_import(&node) || (!record.is_import() && node.blobs.is_destination(&record.bucket))
        };
        if let Err(failure) = upload_note::sweep(&node, goes_on).await {
            warn!("uploads that were broken off can't be tidied up now, but when rhio starts again: {failure}");
        }
    });
    info!("rhio is running");

    let mut file = crate::config_file::Watched::new(file, WATCH_FILE);
    loop {
        tokio::select! {
            told = signals.next() => match told {
                Told::Stop(name) => {
                    info!(signal = name, "stops");
                    break;
                }
                Told::Reload => app.reload(&overrides, "SIGHUP").await,
            },
            () = file.changed() => app.reload(&overrides, "the file changed").await,
        }
    }
    stop.cancel();
    app.tasks.close();
    if tokio::time::timeout(GRACE, app.tasks.wait()).await.is_err() {
        warn!("some tasks did not end in time");
    }
    http.wait().await;
    tokio::join!(network.close(CLOSE), app.traces.shutdown());
    let _ = tokio::time::timeout(Duration::from_millis(500), app.node.client.flush()).await;
    info!("stopped");
    Ok(())
}

/// Waits for a signal to stop; there is nothing to reload yet.
async fn stopped(signals: &mut Signals) -> &'static str {
    loop {
        if let Told::Stop(name) = signals.next().await {
            return name;
        }
    }
}

async fn start(
    config: &Config,
    me: PublicKey,
    key: SigningKey,
    network: Network,
    connections: mpsc::Receiver<rhio_net::connection::Connection>,
    overview: Arc<Overview>,
    stop: CancellationToken,
) -> Result<App> {
    let tasks = TaskTracker::new();
    let metrics = Arc::clone(&overview.metrics);
    let exporting = Export::start(config.tracing.as_ref(), me, &metrics);
    let (telemetry, traces) = exporting.map_err(|reason| anyhow::anyhow!("traces can't be exported: {reason}"))?;
    let blobs = Blobs::open(config.s3.as_ref(), &config.blobs_dir, Arc::clone(&metrics), tasks.clone())?;
    let client = reach_nats(&config.nats, &overview.checks).await?;
    let state = Arc::new(open_state(&client, &config.nats.state, me, &overview.checks).await);
    let (streams, incoming) = mpsc::channel(64);
    let links = Links::new(me, network, Arc::<Metrics>::clone(&metrics), streams, stop.clone());
    // Before the first connection is looked at.
    links.set_directory(directory(config));
    let node = Node {
        me,
        key,
        client,
        links: links.clone(),
        metrics,
        telemetry,
        holdings: Arc::new(Holdings::new(me, Arc::clone(&state))),
        state,
        blobs: Arc::new(blobs),
        started: now_micros() / 1000,
        poll_interval: config.s3.as_ref().map_or(config::DEFAULT_S3_POLL_INTERVAL, |s3| s3.poll_interval),
        quiet: Arc::default(),
    };
    tasks.spawn(async move { links.run(connections).await });
    let (subscriptions, buckets) = (watch::Sender::default(), watch::Sender::default());
    let running =
        Running { node: node.clone(), subscriptions: subscriptions.subscribe(), buckets: buckets.subscribe() };
    overview.set_running(running);
    tasks.spawn(check::run(node.clone(), overview.checks.clone(), stop.clone()));
    tasks.spawn(overview::record(Arc::clone(&overview), stop.clone()));
    let asked = service::Asked {
        import: config.import.clone(),
        subscriptions: buckets.subscribe(),
        overview: Arc::clone(&overview),
    };
    tasks.spawn(service::run(node.clone(), asked, stop.clone()));
    if let Some(subject) = config.s3.as_ref().and_then(|s3| s3.events.clone()) {
        tasks.spawn(notifications::run(node.clone(), subject, stop.clone()));
    }
    let mut app = App { node, config: config.clone(), stop, tasks, subscriptions, buckets, overview, traces };
    app.reconcile().await;
    // Only now it is known what there is for whom.
    app.tasks.spawn(serve_streams(app.node.clone(), incoming, app.stop.clone(), app.tasks.clone()));
    Ok(app)
}

/// Tries until NATS takes us. A wrong password is said, and tried again: it may be put right on the other side.
async fn reach_nats(config: &config::Nats, checks: &Checks) -> Result<Client> {
    let mut waits = supervise::waits();
    loop {
        let settings = ConnectSettings { subscription_capacity: 256 * 1024, ..ConnectSettings::default() };
        match connect(config, "reads", settings).await {
            Ok(client) => {
                let server = client.server_info();
                info!(server = server.server_name, version = server.version, "NATS server");
                return Ok(client);
            }
            Err(error @ ConnectError::File { .. }) => return Err(error.into()),
            Err(failure) => {
                error!("{failure}; trying on");
                checks.note(&check::Subject::Nats, Err((&failure).into()));
            }
        }
        tokio::time::sleep(waits.next().unwrap_or(supervise::LONGEST)).await;
    }
}

async fn open_state(client: &Client, config: &config::State, me: PublicKey, checks: &Checks) -> StateStore {
    checks.note(&check::Subject::Nats, Ok(()));
    let mut waits = supervise::waits();
    loop {
        match StateStore::open(client, config, me).await {
            Ok(state) => return state,
            Err(failure) => {
                error!("{failure}; is JetStream enabled? Trying on");
                checks.note(&check::Subject::State, Err((&failure).into()));
            }
        }
        tokio::time::sleep(waits.next().unwrap_or(supervise::LONGEST)).await;
    }
}

fn summarise(config: &Config, file: Option<&std::path::Path>, me: PublicKey) {
    let source = file.map_or_else(|| "defaults (no config.yaml found)".to_owned(), |path| path.display().to_string());
    info!(public_key = %me, configuration = source, network = config.network_id, "this node");
    let readers = |allow: &Option<Vec<PublicKey>>| match (allow, config.access) {
        (Some(keys), _) => format!("{} listed nodes", keys.len()),
        (None, Access::Known) => format!("{} known nodes", config.nodes.len()),
        (None, Access::Open) => "any node".to_owned(),
    };
    for entry in &config.publish.nats_subjects {
        let readers = readers(&entry.allow);
        info!(subject = %entry.subject, stream = entry.stream, readers, "publishes");
    }
    for entry in &config.subscribe.nats_subjects {
        info!(subject = %entry.subject, stream = entry.stream, author = %entry.public_key, "subscribes");
    }
    for entry in &config.publish.s3_buckets {
        info!(bucket = entry.bucket, readers = readers(&entry.allow), "publishes");
    }
    for entry in &config.subscribe.s3_buckets {
        info!(bucket = entry.remote_bucket, into = entry.local_bucket, author = %entry.public_key, "subscribes");
    }
    if config.publish == config::Publish::default() && config.subscribe == config::Subscribe::default() {
        warn!("nothing is published and nothing subscribed; add entries to the configuration");
    }
}

/// Says which streams and buckets must be there.
fn expect(overview: &Overview, config: &Config) {
    let published = config.publish.nats_subjects.iter().map(|entry| &entry.stream);
    let streams = published.chain(config.subscribe.nats_subjects.iter().map(|entry| &entry.stream));
    let offered = config.publish.s3_buckets.iter().map(|entry| &entry.bucket);
    let buckets = offered.chain(config.subscribe.s3_buckets.iter().map(|entry| &entry.local_bucket));
    overview.checks.expect(streams.cloned().collect(), buckets.cloned().collect());
    overview.checks.note(&check::Subject::Network, Ok(()));
}

fn directory(config: &Config) -> Directory {
    let subjects = config.publish.nats_subjects.iter().map(|entry| &entry.allow);
    let buckets = config.publish.s3_buckets.iter().map(|entry| &entry.allow);
    let wanted = config.subscribe.nats_subjects.iter().map(|entry| entry.public_key);
    Directory {
        nodes: config.nodes.iter().map(|node| (node.public_key, node.endpoints.clone())).collect(),
        open: config.access == Access::Open,
        allowed: subjects.chain(buckets).flatten().flatten().copied().collect(),
        wanted: wanted.chain(config.subscribe.s3_buckets.iter().map(|entry| entry.public_key)).collect(),
    }
}

impl App {
    /// Makes what runs match the configuration; what is unchanged goes on undisturbed.
    async fn reconcile(&mut self) {
        let known: BTreeSet<PublicKey> = self.config.nodes.iter().map(|node| node.public_key).collect();
        self.node.links.set_directory(directory(&self.config));
        expect(&self.overview, &self.config);
        self.reconcile_messages(&known);
        self.reconcile_buckets(&known);
    }

    fn reconcile_buckets(&self, known: &BTreeSet<PublicKey>) {
        let blobs = &self.node.blobs;
        let (published, subscribed) = (&self.config.publish.s3_buckets, &self.config.subscribe.s3_buckets);
        // First who brings objects here, so that they are not taken for local ones.
        blobs.set_destinations(subscribed.iter().map(|entry| entry.local_bucket.clone()).collect());
        let publications = supervise::reconcile(
            &self.node.holdings.buckets(),
            published,
            |running, entry| running.bucket.name() == entry.bucket,
            |running, entry| running.set_readers(self.readers(known, entry.allow.as_deref())),
            |entry| {
                let readers = self.readers(known, entry.allow.as_deref());
                let (publication, requests) =
                    BucketPublication::new(blobs.bucket(&entry.bucket)?, readers, self.stop.child_token());
                let publication = Arc::new(publication);
                self.tasks.spawn(publishing::run(self.node.clone(), Arc::clone(&publication), requests));
                Some(publication)
            },
        );
        self.node.holdings.set_buckets(publications);
        let subscriptions = supervise::reconcile(
            &self.buckets.borrow().clone(),
            subscribed,
            |running, entry| {
                running.remote == entry.remote_bucket
                    && running.bucket.name() == entry.local_bucket
                    && running.author == entry.public_key
                    && running.deletes == entry.deletes
            },
            |_, _| {},
            |entry| {
                let (bucket, remote) = (blobs.bucket(&entry.local_bucket)?, entry.remote_bucket.clone());
                let stop = self.stop.child_token();
                let subscription = BucketSubscription::new(remote, bucket, entry.public_key, entry.deletes, stop);
                let subscription = Arc::new(subscription);
                self.tasks.spawn(subscribing::run(self.node.clone(), Arc::clone(&subscription)));
                Some(subscription)
            },
        );
        self.buckets.send_replace(subscriptions);
    }

    fn reconcile_messages(&self, known: &BTreeSet<PublicKey>) {
        let publications = supervise::reconcile(
            &self.node.holdings.messages(),
            &self.config.publish.nats_subjects,
            |running, entry| running.filter == entry.subject && running.stream == entry.stream,
            |running, entry| running.set_readers(self.readers(known, entry.allow.as_deref())),
            |entry| {
                let readers = self.readers(known, entry.allow.as_deref());
                let (filter, stream) = (entry.subject.clone(), entry.stream.clone());
                let publication = Arc::new(Publication::new(filter, stream, readers, self.stop.child_token()));
                self.tasks.spawn(sealing::run(self.node.clone(), Arc::clone(&publication)));
                Some(publication)
            },
        );
        self.node.holdings.set_messages(publications);
        let subscriptions = supervise::reconcile(
            &self.subscriptions.borrow().clone(),
            &self.config.subscribe.nats_subjects,
            |running, entry| {
                running.filter == entry.subject && running.stream == entry.stream && running.author == entry.public_key
            },
            |_, _| {},
            |entry| {
                let (filter, stream) = (entry.subject.clone(), entry.stream.clone());
                let stop = self.stop.child_token();
                let subscription = Arc::new(Subscription::new(filter, stream, entry.public_key, stop));
                self.tasks.spawn(following::run(self.node.clone(), Arc::clone(&subscription)));
                Some(subscription)
            },
        );
        self.subscriptions.send_replace(subscriptions);
    }

    fn readers(&self, known: &BTreeSet<PublicKey>, allow: Option<&[PublicKey]>) -> Readers {
        Readers::of(self.config.access == Access::Open, known, allow)
    }

    async fn reload(&mut self, overrides: &Overrides, why: &str) {
        let loaded = match config::load(overrides, &config::environment()) {
            Ok(loaded) => loaded,
            Err(failure) => {
                for problem in failure.problems() {
                    error!("configuration not reloaded: {problem}");
                }
                return;
            }
        };
        if loaded.config == self.config {
            info!(why, "configuration read again, nothing changed");
            return;
        }
        let restart = self.config.needs_restart(&loaded.config);
        if !restart.is_empty() {
            warn!(keys = restart.join(", "), "these keys changed and need a restart to take effect");
        }
        self.config.nodes = loaded.config.nodes;
        self.config.publish = loaded.config.publish;
        self.config.subscribe = loaded.config.subscribe;
        self.reconcile().await;
        info!(
            why,
            publications = self.config.publish.nats_subjects.len() + self.config.publish.s3_buckets.len(),
            subscriptions = self.config.subscribe.nats_subjects.len() + self.config.subscribe.s3_buckets.len(),
            nodes = self.config.nodes.len(),
            "configuration reloaded"
        );
    }
}

/// Serves the streams that peers open.
async fn serve_streams(
    node: Node,
    mut incoming: mpsc::Receiver<Incoming>,
    stop: CancellationToken,
    tasks: TaskTracker,
) {
    let permits = Arc::new(tokio::sync::Semaphore::new(MAX_STREAMS));
    loop {
        let stream = tokio::select! {
            () = stop.cancelled() => return,
            stream = incoming.recv() => stream,
        };
        let Some(stream) = stream else { return };
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
        let (node, stop) = (node.clone(), stop.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = serve_stream(&node, stream) => {}
            }
            drop(permit);
        });
    }
}

async fn serve_stream(node: &Node, mut incoming: Incoming) {
    let peer = incoming.peer;
    let connection = incoming.connection.clone();
    let first = tokio::time::timeout(FIRST_FRAME, incoming.reader.next()).await;
    let outcome: Result<(), SessionError> = match first {
        Ok(Ok(Some(Frame::Watch(interest)))) => watching::serve(node, incoming, interest).await,
        Ok(Ok(Some(Frame::Pull(pull)))) => pulling::serve(node, incoming, pull).await,
        Ok(Ok(Some(Frame::Blob))) => match blob_session::serve(node, incoming).await {
            Err(blob_session::BlobError::Stream(error)) => Err(error.into()),
            Err(error) if error.is_violation() => {
                warn!(peer = %peer, %error, "a node asked for content in a way that is not allowed; its connection is closed");
                rhio_net::stream::close(&connection, rhio_core::wire::CloseCode::Protocol);
                Ok(())
            }
            // Said where it happened.
            Ok(()) | Err(_) => Ok(()),
        },
        Ok(Ok(Some(_))) => Err(rhio_net::stream::StreamError::Unexpected.into()),
        Ok(Ok(None)) => Ok(()),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(rhio_net::stream::StreamError::Timeout.into()),
    };
    match outcome {
        Ok(()) => {}
        Err(SessionError::Stream(error)) if error.is_violation() => {
            warn!(peer = %peer, %error, "a node broke the protocol; its connection is closed");
            rhio_net::stream::close(&connection, error.code());
        }
        Err(error) => debug!(peer = %peer, %error, "stream ended"),
    }
}
