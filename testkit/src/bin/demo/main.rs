//! Two complete clusters on this machine: what is published in A, or put into its bucket, appears in B.
//!
//! `make demo` runs it until Ctrl-C; with `ONCE=1`, or `--once`, it ends after the check.

#![forbid(unsafe_code)]

mod files;
mod screen;
mod traffic;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use testkit::checker::{Report, read_stream};
use testkit::{Cluster, NatsOptions, Rhio, create_stream, link, patience};
use tokio::signal::unix::{SignalKind, signal};

use files::{Files, Landings};
use screen::{Screen, millis, size};
use traffic::{Arrivals, Meters};

const STREAM: &str = "energy";
const FILTER: &str = "energy.>";
/// Published before rhio ever ran.
const EARLY: u64 = 200;
/// Published one by one afterwards.
const LIVE: u64 = 10;
const LIVE_PACE: Duration = Duration::from_millis(150);
const TRICKLE_PACE: Duration = Duration::from_secs(2);
/// How long a rhio that somebody ended stays away, in messages of the trickle.
const DOWN_FOR_TICKS: u32 = 3;
const ARRIVED_WITHIN: Duration = Duration::from_secs(30);
/// Files from before rhio ever ran, with their bytes. The last one is brought in several parts.
const EARLY_FILES: [(&str, usize); 3] =
    [("hello.txt", 14), ("reports/2026 März.csv", 300 * 1024), ("maps/berlin.tiles", 24 * 1024 * 1024)];
/// Files that are put there while it runs.
const LIVE_FILES: [(&str, usize); 3] =
    [("photos/1.jpg", 20 * 1024), ("photos/2.jpg", 2 * 1024 * 1024), ("photos/3.jpg", 10 * 1024 * 1024)];
/// A file that rhio imports.
const IMPORT: (&str, usize) = ("video.mp4", 40 * 1024 * 1024);
/// The trickle has a file now and then.
const FILE_EVERY_TICKS: u64 = 5;

#[tokio::main]
async fn main() -> ExitCode {
    let screen = Screen::new();
    let once = std::env::args().skip(1).any(|argument| argument == "--once");
    match run(screen, once).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            screen.bad(format_args!("{e:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Sets both clusters up, shows them at work, and takes them down whatever happened.
async fn run(screen: Screen, once: bool) -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let started = tokio::select! {
        clusters = set_up(screen) => clusters?,
        _ = interrupt.recv() => bail!("interrupted"),
        _ = terminate.recv() => bail!("interrupted"),
    };
    let (mut a, mut b) = started;
    let mut shown = false;
    let result = tokio::select! {
        result = show(screen, once, &mut a, &mut b, &mut shown) => result,
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
    };
    if result.is_err() {
        for cluster in [&a, &b] {
            screen.heading(&format!("The last lines of rhio {}'s log", cluster.rhio.name()));
            cluster.rhio.log_tail(15).lines().for_each(|line| screen.line(line));
        }
    }
    println!();
    screen.line("stopping both clusters");
    for cluster in [&mut a, &mut b] {
        if cluster.rhio.is_running() {
            cluster.rhio.terminate().await;
        }
        cluster.nats.stop().await;
        // The rest of it goes with its owner; there is no data to be careful with.
        cluster.weed = None;
    }
    result?;
    ensure!(shown, "interrupted before everything was shown");
    Ok(())
}

/// One cluster whose NATS and S3 servers run, with the stream and the bucket that rhio will work on.
async fn cluster(name: &str, bucket: &str) -> anyhow::Result<Cluster> {
    let cluster = Cluster::try_with_s3(name, NatsOptions::new().name(&format!("nats-{name}")), |rhio| {
        rhio.allow_any_log().configure(|config| config.log_format = "text".into())
    })
    .await?;
    create_stream(&cluster.client().await, STREAM, &[FILTER], serde_json::json!({})).await?;
    cluster.create_bucket(bucket).await;
    Ok(cluster)
}

/// The folder that A's rhio may import from.
fn import_folder(a: &Cluster) -> PathBuf {
    a.rhio.folder().join("import")
}

async fn set_up(screen: Screen) -> anyhow::Result<(Cluster, Cluster)> {
    screen.heading("Two clusters on this machine");
    let (mut a, mut b) = tokio::try_join!(cluster("a", files::OUT), cluster("b", files::IN))?;
    a.publish(FILTER, STREAM);
    a.publish_bucket(files::OUT);
    b.subscribe(FILTER, STREAM, &a);
    b.subscribe_bucket(files::OUT, files::IN, &a);
    link(&mut a, &mut b);
    let folder = import_folder(&a);
    std::fs::create_dir(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    a.rhio.rewrite_config(|config| config.import_dirs.push(folder.display().to_string()));
    let roles = [
        ("A", format!("publishes {FILTER} and the bucket {}", files::OUT), &a),
        ("B", format!("subscribes to both, and has the bucket {}", files::IN), &b),
    ];
    for (name, role, cluster) in roles {
        screen.line(format_args!("cluster {name} {role}"));
        screen.entry("  NATS", cluster.nats.url());
        let s3 = cluster.s3();
        screen.entry("  S3", format_args!("{}, keys {} {}", s3.endpoint(), s3.access_key(), s3.secret_key()));
        screen
            .entry("  rhio", format_args!("UDP {}, public key {}", cluster.rhio.endpoint(), cluster.rhio.public_key()));
        screen.entry("  config", cluster.rhio.config_path().display());
        screen.entry("  log", cluster.rhio.log_path().display());
    }
    Ok((a, b))
}

/// The demo itself. `shown` tells whether it got through to the end, before it goes on until Ctrl-C.
async fn show(screen: Screen, once: bool, a: &mut Cluster, b: &mut Cluster, shown: &mut bool) -> anyhow::Result<()> {
    let mut meters = Meters::new(a.client().await);
    let mut arrivals = Arrivals::watch(&b.client().await, FILTER).await?;
    let mut landings = Landings::watch(&b.client().await).await?;
    let mut files = Files::new(a);

    screen.heading("Messages and files from before rhio ever ran");
    for _ in 0..EARLY {
        meters.publish_next().await?;
    }
    for (number, (name, len)) in (0..).zip(EARLY_FILES) {
        files.put(name, files::content(number, len)).await;
    }
    let (messages, keys) = (b.stream_len(STREAM).await, b.s3().bucket(files::IN).keys().await.len());
    screen
        .line(format_args!("A holds {EARLY} messages and {} files; B holds {messages} and {keys}", EARLY_FILES.len()));
    let starting = Instant::now();
    a.rhio.try_start().await?;
    b.rhio.try_start().await?;
    screen.line(format_args!("both rhios are started, which took {}", millis(starting.elapsed())));
    let linked = Instant::now();
    for count in 0..EARLY {
        arrivals.next(ARRIVED_WITHIN).await.with_context(|| format!("{count} of {EARLY} messages arrived in B"))?;
    }
    screen.good(format_args!("{EARLY} messages arrived in B, the last one {} after that", millis(linked.elapsed())));
    for _ in EARLY_FILES {
        let landed = landings.next(ARRIVED_WITHIN).await?;
        screen.landing(&landed, Some(landed.at.saturating_duration_since(linked)));
    }

    screen.heading("Live messages, and the time from publishing in A to arrival in B");
    let mut pace = tokio::time::interval(LIVE_PACE);
    let mut times = Vec::new();
    for _ in 0..LIVE {
        pace.tick().await;
        let sent = meters.publish_next().await?;
        let arrived = arrivals.next(ARRIVED_WITHIN).await.context("a live message did not arrive in B")?;
        let took = arrived.at.saturating_duration_since(sent);
        screen.arrival(&arrived.subject, &arrived.payload, Some(took));
        times.push(took);
    }
    times.sort_unstable();
    screen.good(format_args!("half of them took less than {}", millis(times[times.len() / 2])));

    screen.heading("Live files: found by listing the bucket five times a second, verified against their BLAKE3 hash");
    for (number, (name, len)) in (100..).zip(LIVE_FILES) {
        let sent = files.put(name, files::content(number, len)).await;
        let landed = landings.next(ARRIVED_WITHIN).await?;
        ensure!(landed.key == name, "'{}' arrived in B instead of '{name}'", landed.key);
        screen.landing(&landed, Some(landed.at.saturating_duration_since(sent)));
    }
    import(screen, a, &mut files, &mut landings).await?;

    screen.heading("Is everything there, once, in order and unchanged?");
    let check = a.check(STREAM, FILTER, b, STREAM).await;
    let report: Report = check.now().await?;
    if !report.is_clean() {
        bail!("{report}");
    }
    screen.good(&report);
    let (count, bytes) = files.check(b).await?;
    screen.good(format_args!("{count} files, {}: all are in B, byte for byte", size(bytes as u64)));
    let example = read_stream(&b.client().await, STREAM, FILTER).await?.pop().context("a message in B")?;
    screen.line("In B each message says where it comes from:");
    for (name, values) in example.headers.iter().filter(|(name, _)| name.starts_with("X-Rhio-")) {
        screen.entry(&format!("  {name}"), values.join(", "));
    }
    *shown = true;
    if once {
        return Ok(());
    }

    play_on(screen, a, b);
    trickle(screen, a, b, (&mut meters, &mut arrivals), (&mut files, &mut landings)).await
}

/// Has A's rhio put a file into the bucket.
async fn import(screen: Screen, a: &Cluster, files: &mut Files, landings: &mut Landings) -> anyhow::Result<()> {
    let (name, len) = IMPORT;
    let path = import_folder(a).join(name);
    let content = files::content(200, len);
    std::fs::write(&path, &content).with_context(|| format!("cannot write {}", path.display()))?;
    screen.heading("nats request rhio.import <a file of A's>");
    let asked = Instant::now();
    let hash = files::import(&a.client().await, &path.display().to_string(), ARRIVED_WITHIN).await?;
    screen.line(format_args!("rhio answers after {}: {hash}", millis(asked.elapsed())));
    files.imported(name, content);
    let landed = landings.next(ARRIVED_WITHIN).await?;
    ensure!(landed.key == name && landed.hash == hash, "'{}' with hash {} arrived in B", landed.key, landed.hash);
    screen.landing(&landed, Some(landed.at.saturating_duration_since(asked)));
    Ok(())
}

/// What there is to try while it runs.
fn play_on(screen: Screen, a: &Cluster, b: &Cluster) {
    screen.heading("Look at it");
    for (name, cluster) in [("A", a), ("B", b)] {
        screen.line(format_args!("  dashboard of {name}: {}/   metrics: {0}/metrics", cluster.rhio.http_url()));
    }
    screen.heading("Play on with it, in another terminal");
    screen.line("publish in A and read in B, with the NATS command line tool:");
    screen.line(format_args!("  nats --server {} pub energy.mine.meter1 hello", a.nats.url()));
    screen.line(format_args!("  nats --server {} stream view {STREAM}", b.nats.url()));
    screen.line("or without it, in bash:");
    let publish = r"CONNECT {}\r\nPUB energy.mine.meter1 5\r\nhello\r\nPING\r\n";
    screen.line(format_args!("  printf '{publish}' > /dev/tcp/127.0.0.1/{}", a.nats.port()));
    let (from, to) = (a.s3(), b.s3());
    screen.line("put a file into A and get it from B, with curl:");
    for (what, url) in [
        ("-T README.md", format!("{}/{}/README.md", from.endpoint(), files::OUT)),
        ("-O", format!("{}/{}/README.md", to.endpoint(), files::IN)),
    ] {
        let user = format!("{}:{}", from.access_key(), from.secret_key());
        screen.line(format_args!("  curl --aws-sigv4 aws:amz:us-east-1:s3 --user {user} {what} {url}"));
    }
    screen.line("or with the AWS command line tool:");
    let keys = format!("AWS_ACCESS_KEY_ID={} AWS_SECRET_ACCESS_KEY={}", from.access_key(), from.secret_key());
    screen.line(format_args!("  export {keys} AWS_DEFAULT_REGION=us-east-1"));
    screen.line(format_args!("  aws --endpoint-url {} s3 cp README.md s3://{}/", from.endpoint(), files::OUT));
    screen.line(format_args!("  aws --endpoint-url {} s3 ls --recursive s3://{}", to.endpoint(), files::IN));
    screen.line("or let rhio put it there:");
    let folder = import_folder(a);
    screen.line(format_args!("  cp README.md {}", folder.display()));
    screen.line(format_args!("  nats --server {} request rhio.import {}/README.md", a.nats.url(), folder.display()));
    screen.line("crash the subscriber: it is started again after some seconds, and nothing is lost:");
    screen.line(format_args!("  kill -9 {}", b.rhio.process_id()));
    screen.line("or edit one of the config files above: rhio reads it again");
    println!();
    screen.line("One message comes every two seconds now, and a file every ten. Ctrl-C ends both clusters and removes");
    screen.line("everything.");
    println!();
}

/// Publishes slowly and shows whatever arrives, until it is dropped.
async fn trickle(
    screen: Screen,
    a: &mut Cluster,
    b: &mut Cluster,
    (meters, arrivals): (&mut Meters, &mut Arrivals),
    (files, landings): (&mut Files, &mut Landings),
) -> anyhow::Result<()> {
    let mut pace = tokio::time::interval(TRICKLE_PACE);
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut on_their_way: Vec<(String, Instant)> = Vec::new();
    let mut files_on_their_way: Vec<(String, Instant)> = Vec::new();
    let mut warned = false;
    let mut down = [0; 2];
    let mut ticks = 0;
    loop {
        tokio::select! {
            _ = pace.tick() => {
                revive(screen, &mut a.rhio, &mut down[0]).await?;
                revive(screen, &mut b.rhio, &mut down[1]).await?;
                match meters.publish_next().await {
                    Ok(sent) => on_their_way.push((meters.last_payload().to_owned(), sent)),
                    Err(e) => screen.bad(format_args!("{e:#}")),
                }
                if ticks % FILE_EVERY_TICKS == 0 {
                    let name = format!("trickle/{}.bin", ticks / FILE_EVERY_TICKS + 1);
                    let sent = files.put(&name, files::content(1000 + ticks, 100 * 1024)).await;
                    files_on_their_way.push((name, sent));
                }
                ticks += 1;
                let late = on_their_way.iter().filter(|(_, sent)| sent.elapsed() > patience(TRICKLE_PACE * 2)).count();
                if late > 0 && !warned {
                    screen.bad(format_args!("{late} messages have not arrived in B yet"));
                }
                warned = late > 0;
            }
            arrived = arrivals.next(Duration::MAX) => {
                let arrived = arrived?;
                let place = on_their_way.iter().position(|(payload, _)| *payload == arrived.payload);
                let sent = place.map(|place| on_their_way.swap_remove(place).1);
                let took = sent.map(|sent| arrived.at.saturating_duration_since(sent));
                screen.arrival(&arrived.subject, &arrived.payload, took);
            }
            landed = landings.next(Duration::MAX) => {
                let landed = landed?;
                let place = files_on_their_way.iter().position(|(name, _)| *name == landed.key);
                let sent = place.map(|place| files_on_their_way.swap_remove(place).1);
                screen.landing(&landed, sent.map(|sent| landed.at.saturating_duration_since(sent)));
            }
        }
    }
}

/// Starts a rhio again that somebody ended, once it has been down for a while.
async fn revive(screen: Screen, rhio: &mut Rhio, down: &mut u32) -> anyhow::Result<()> {
    if rhio.is_running() {
        return Ok(());
    }
    *down += 1;
    if *down == 1 {
        screen.bad(format_args!("rhio {} is gone", rhio.name()));
    } else if *down > DOWN_FOR_TICKS {
        *down = 0;
        rhio.try_start().await?;
        screen.good(format_args!("rhio {} is started again, process {}", rhio.name(), rhio.process_id()));
    }
    Ok(())
}
