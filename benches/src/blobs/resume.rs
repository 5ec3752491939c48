//! What a crash of B's rhio in the middle of a large object costs.
//!
//! Both rhios reach their S3 servers through proxies that count. B writes verified content as it comes, so what it wrote
//! is what it had received, but for what was in its own buffers; what A read is what it sent at most, with what it read
//! ahead for a peer that was gone.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use super::nodes::{Bucket, Nodes};
use super::proxy::Proxy;
use super::report::Who;
use super::servers::{Place, Servers, Source};
use super::{MIB, note_complaints, time_for};
use crate::report::Report;
use crate::usage::settle;

const POLL: Duration = Duration::from_millis(1);
/// A proxy that has counted nothing for so long has got all that was on its way.
const QUIET: Duration = Duration::from_millis(300);

/// One crash.
pub async fn run(servers: &mut Servers, source: &Source, turn: usize, report: &mut Report) -> anyhow::Result<()> {
    let bucket = servers.bucket(Place::B).await;
    let (at_a, at_b) = (Proxy::to(&servers.a.endpoint()).await?, Proxy::to(&servers.b.endpoint()).await?);
    let from = Bucket { endpoint: Some(at_a.endpoint()), ..Bucket::new(&servers.a, &source.bucket) };
    let to = Bucket { endpoint: Some(at_b.endpoint()), ..Bucket::new(&servers.b, &bucket) };
    let mut nodes = Nodes::new(&from, &to).await?;
    nodes.prepare().await?;
    settle().await;
    let read_before = at_a.sent_by_server();
    nodes.start().await?;
    let deadline = Instant::now() + time_for(source.bytes);
    // Somewhere in the middle, another place each time.
    let share = 0.3 + 0.4 * fastrand::f64();
    while (at_b.to_server() as f64) < source.bytes as f64 * share {
        ensure!(Instant::now() < deadline, "the transfer does not get to its middle");
        tokio::time::sleep(POLL).await;
    }
    nodes.of_b.kill();
    quiet(&at_b).await;
    let written = at_b.to_server();
    let begun = Instant::now();
    nodes.start().await?;
    let arrived = nodes.arrived(source.len(), time_for(source.bytes)).await?;
    let total = at_b.to_server();
    let line = nodes.of_b.wait_for_log("goes on with an upload", Duration::from_secs(5)).await;
    let Some(there) = number(&line.raw, "there") else { bail!("no number of bytes in {}", line.raw) };
    servers.check(source, &bucket).await.context("after the crash")?;
    let again = |bytes: u64| bytes.saturating_sub(source.bytes) as f64 / MIB;
    for (key, value) in [
        ("resume_at", written as f64 / MIB),
        ("resume_there", there as f64 / MIB),
        ("resume_again", again(total)),
        ("resume_read_again", again(at_a.sent_by_server() - read_before)),
        ("resume_seconds", (arrived - begun).as_secs_f64()),
    ] {
        report.blobs.add(key, Who::Rhio, turn, value);
    }
    note_complaints(report, nodes.finish().await?);
    servers.remove(Place::B, &bucket).await;
    Ok(())
}

/// Waits until a proxy counts nothing more.
async fn quiet(proxy: &Proxy) {
    let (mut seen, mut since) = (proxy.to_server(), Instant::now());
    while since.elapsed() < QUIET {
        tokio::time::sleep(POLL).await;
        if proxy.to_server() != seen {
            (seen, since) = (proxy.to_server(), Instant::now());
        }
    }
}

/// A field of a line of the log.
fn number(line: &str, name: &str) -> Option<u64> {
    let rest = line.split_once(&format!("\"{name}\":"))?.1;
    let digits: String = rest.trim_start_matches('"').chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_in_log_lines() {
        assert_eq!(number(r#"{"message":"x","size":12,"there":8388608}"#, "there"), Some(8_388_608));
        assert_eq!(number(r#"{"message":"x","there":"77"}"#, "there"), Some(77));
        assert_eq!(number(r#"{"message":"x"}"#, "there"), None);
    }
}
