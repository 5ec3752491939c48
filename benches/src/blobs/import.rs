//! A file into a bucket, and how much of that is hashing.

use std::num::NonZero;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use testkit::{NatsOptions, NatsServer, PublishBucket, Rhio, S3Section};

use super::rclone::Rclone;
use super::report::Who;
use super::servers::{Place, Servers, hash_file};
use super::{MIB, note_complaints, program, time_for};
use crate::options::{Options, Side};
use crate::report::Report;
use crate::usage::{quiet, settle};

const NO_B3SUM: &str = "b3sum is missing, so hashing is measured beside nothing: apt-get install b3sum";

/// One turn. The file is in the kernel's cache.
pub async fn run(
    options: &Options,
    servers: &mut Servers,
    rclone: Option<&Rclone>,
    turn: usize,
    report: &mut Report,
) -> anyhow::Result<()> {
    let (path, hash) = servers.file("file", options.object_size())?;
    let rate = |seconds: f64| options.object_size() as f64 / MIB / seconds;
    for who in [Who::Plain, Who::Tuned] {
        let Some(rclone) = rclone else { break };
        let bucket = servers.bucket(Place::A).await;
        settle().await;
        quiet(options.wait()).await;
        let took = rclone.upload(who, &path, (&servers.a, &bucket)).await?;
        servers.check_import(&bucket, "file", hash).await?;
        report.blobs.add("import", who, turn, rate(took.time.as_secs_f64()));
        report.blobs.add("import_peak", who, turn, took.peak as f64 / MIB);
        servers.remove(Place::A, &bucket).await;
    }
    if options.wants_side(Side::Source) {
        if let Some(b3sum) = program::find("b3sum") {
            for (who, key, threads) in [(Who::Plain, "hash", "1"), (Who::Tuned, "hash_threads", "0")] {
                let mut command = Command::new(&b3sum);
                // Its own default is every processor.
                command.args((threads != "0").then(|| format!("--num-threads={threads}"))).arg(&path);
                let took = program::run(command).await?;
                report.blobs.add(key, who, turn, rate(took.time.as_secs_f64()));
            }
        } else {
            report.note(NO_B3SUM.to_owned());
        }
    }
    if !options.wants_side(Side::Rhio) {
        return Ok(());
    }
    let all = std::thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN);
    for (key, threads) in [("hash", NonZero::<usize>::MIN), ("hash_threads", all)] {
        let begun = Instant::now();
        ensure!(hash_file(&path, threads)? == hash, "the file's hash changes");
        report.blobs.add(key, Who::Rhio, turn, rate(begun.elapsed().as_secs_f64()));
    }
    let bucket = servers.bucket(Place::A).await;
    let nats = NatsServer::try_start(NatsOptions::new()).await?;
    let folder = path.parent().context("a file lies in a folder")?.display().to_string();
    let rhio = Rhio::builder("a").nats(&nats).s3(S3Section::server(&servers.a)).allow_any_log();
    let mut rhio = rhio.configure(|config| config.import_dirs.push(folder)).try_build()?;
    let entry = PublishBucket { bucket: bucket.clone(), allow: None };
    rhio.rewrite_config(|config| config.publish_buckets.push(entry));
    rhio.try_start().await?;
    rhio.wait_for_log("the catalog is complete", time_for(0)).await;
    let client = nats.client().await;
    settle().await;
    quiet(options.wait()).await;
    let begun = Instant::now();
    let wish = path.display().to_string();
    let answer = client.send_request("rhio.import", request(wish, time_for(options.object_size()))).await?;
    let took = begun.elapsed();
    let text = String::from_utf8_lossy(&answer.payload);
    ensure!(text == hash.to_string(), "rhio.import answers {text}");
    servers.check_import(&bucket, "file", hash).await?;
    report.blobs.add("import", Who::Rhio, turn, rate(took.as_secs_f64()));
    report.blobs.add("import_peak", Who::Rhio, turn, rhio.rss_peak_bytes() as f64 / MIB);
    ensure!(rhio.terminate().await.code() == Some(0), "rhio ends badly");
    let loud = rhio.logs().into_iter().filter(testkit::LogLine::is_loud);
    note_complaints(report, loud.map(|line| line.raw).collect());
    servers.remove(Place::A, &bucket).await;
    Ok(())
}

fn request(payload: String, within: std::time::Duration) -> async_nats::Request {
    async_nats::Request::new().payload(payload.into()).timeout(Some(within))
}
