//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::config::Overrides;
use crate::control::show::Wish;

const ABOUT: &str =
    "Makes chosen NATS subjects and S3 buckets of one cluster appear in others, peer to peer and verified";

const AFTER_HELP: &str = "\
Without a command rhio runs as a daemon until SIGTERM or SIGINT.

Configuration:
  The file is the one given with --config, else ./config.yaml, else
  $XDG_CONFIG_HOME/rhio/config.yaml (~/.config/rhio/config.yaml); without any, the defaults hold.
  An option wins over an environment variable, that over the file, and that over the default.
  A variable is called RHIO_ and the key, with __ between levels; lists and sections are YAML or
  JSON: RHIO_BIND_PORT=9103, RHIO_NATS__ENDPOINT=nats.example.org:4222,
  RHIO_NODES='[{public_key: …, endpoints: [\"host:9102\"]}]'.
  config.example.yaml explains every key.

Examples:
  rhio keygen /etc/rhio/private-key.txt     make this node's key and print its public key
  rhio -k /etc/rhio/private-key.txt id      print the public key, for the other nodes' configuration
  rhio -c /etc/rhio/config.yaml check       look at everything that it needs, before or while it runs
  rhio -c /etc/rhio/config.yaml             run
  rhio -c /etc/rhio/config.yaml status      how the running one is; also --watch, --json
  rhio status --url http://10.0.0.7:3000    how one on another machine is
  rhio -l DEBUG                             say more
  rhio -l rhio=INFO,async_nats=DEBUG        say more about NATS only

Exit status:
  0 ended as asked; 1 failed; 2 the command line or the configuration is wrong, and nothing was
  started. `rhio check`: 1 when anything fails. `rhio status`: 1 when the node is not ready, or does
  not answer";

const CHECK_HELP: &str = "\
Each line says ok, warn or FAIL, what was looked at, what was found, and behind an arrow the next
thing to do. It runs with and without a daemon, within 20 seconds. It creates nothing, writes
nothing and leaves nothing behind, neither in NATS nor in buckets nor on disk. While the daemon does
not run, it dials the other nodes with this node's own key and hangs up again.

Examples:
  rhio -c /etc/rhio/config.yaml check
  rhio check --json | jq '.[] | select(.result == \"fail\")'

Exit status:
  0 nothing fails (there may be warnings); 1 something does; 2 the configuration is wrong";

const STATUS_HELP: &str = "\
The running daemon is asked: over HTTP at --url, else at http://127.0.0.1:<http_bind_port>; over NATS
with --nats, or when http_bind_port is 0. Where several nodes share a NATS, the one with this
configuration's private key is meant; if only others answer, one of them is shown, with a note.

Examples:
  rhio -c /etc/rhio/config.yaml status
  rhio status --watch --interval 5
  rhio status --json | jq .subscriptions

Exit status:
  0 the node is ready (with --watch: ended by Ctrl-C); 1 it is not, or does not answer; 2 the
  configuration is wrong";

/// `rhio`'s command line.
#[derive(Debug, Parser)]
#[command(name = "rhio", version, about = ABOUT, after_help = AFTER_HELP, max_term_width = 100)]
pub struct Cli {
    /// Options, which may stand before or after the command.
    #[command(flatten)]
    pub options: Options,
    /// What to do instead of running the daemon.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Options that every command takes.
#[derive(Clone, Debug, Default, Args)]
pub struct Options {
    /// The configuration file; a missing one is an error
    #[arg(short, long, value_name = "PATH", global = true)]
    pub config: Option<PathBuf>,

    /// UDP port for other nodes; 0 picks a free one [default: 9102]
    #[arg(short = 'p', long, value_name = "PORT", global = true)]
    pub bind_port: Option<u16>,

    /// File with the node's Ed25519 private key, 64 hex digits; generated when missing [default: private-key.txt]
    #[arg(short = 'k', long, visible_alias = "private-key", value_name = "PATH", global = true)]
    pub private_key_path: Option<PathBuf>,

    /// Folder for what blobs need on local disk [default: blobs]
    #[arg(short = 'b', long, value_name = "PATH", global = true)]
    pub blobs_dir: Option<PathBuf>,

    /// HTTP port; 0 turns HTTP off [default: 3000]
    #[arg(long, value_name = "PORT", global = true)]
    pub http_bind_port: Option<u16>,

    /// ERROR, WARN, INFO, DEBUG or TRACE for rhio; =TRACE for everything; or a filter [default: INFO]
    #[arg(short, long, value_name = "LEVEL", global = true)]
    pub log_level: Option<String>,
}

/// What rhio can do besides running.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Make a new private key and print its public key
    Keygen {
        /// Where to write the key; never overwrites a file [default: the configured private_key_path]
        path: Option<PathBuf>,
    },
    /// Print the public key of the configured private key
    Id,
    /// Look at everything that the configuration names, and say what to do where something is wrong
    #[command(after_help = CHECK_HELP)]
    Check {
        /// Print one JSON array with objects of check, name, result, detail and remedy
        #[arg(long)]
        json: bool,
    },
    /// Ask the running daemon how it is
    #[command(after_help = STATUS_HELP)]
    Status(StatusArgs),
}

/// What `rhio status` takes.
#[derive(Clone, Debug, Args)]
pub struct StatusArgs {
    /// The node's HTTP address [default: http://127.0.0.1 with the configured http_bind_port]
    #[arg(long, value_name = "URL", conflicts_with = "nats")]
    url: Option<String>,

    /// Ask over the configured NATS
    #[arg(long)]
    nats: bool,

    /// Show it again and again, with rates, until Ctrl-C
    #[arg(short, long)]
    watch: bool,

    /// Seconds between two looks, 0.1 to 86400
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds, requires = "watch")]
    interval: Duration,

    /// Print the daemon's own JSON, unchanged
    #[arg(long)]
    json: bool,
}

impl StatusArgs {
    /// The same for what shows it.
    pub fn wish(self) -> Wish {
        let Self { url, nats, watch, interval, json } = self;
        Wish { url, nats, watch, interval, json }
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.1..=86_400.0).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("expected a number of seconds from 0.1 to 86400".to_owned()),
    }
}

impl Options {
    /// The same for the configuration.
    pub fn overrides(&self) -> Overrides {
        let Self { config, bind_port, private_key_path, blobs_dir, http_bind_port, log_level } = self.clone();
        Overrides { config, bind_port, http_bind_port, private_key_path, blobs_dir, log_level }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn options_may_stand_before_and_after_the_command() {
        let before = Cli::parse_from(["rhio", "-k", "a", "id"]);
        let after = Cli::parse_from(["rhio", "id", "--private-key", "a"]);
        assert_eq!(before.options.overrides(), after.options.overrides());
        assert_eq!(before.options.private_key_path, Some("a".into()));
    }

    #[test]
    fn what_status_takes() {
        let wish = |line: &[&str]| match Cli::try_parse_from(line) {
            Ok(Cli { command: Some(Command::Status(args)), .. }) => Some(args.wish()),
            _ => None,
        };
        let plain = Wish { url: None, nats: false, watch: false, interval: Duration::from_secs(1), json: false };
        assert_eq!(wish(&["rhio", "status"]), Some(plain.clone()));
        let half = Duration::from_millis(500);
        let watched = Wish { url: Some("h:1".into()), watch: true, interval: half, json: true, ..plain };
        let line = ["rhio", "-c", "x", "status", "--url", "h:1", "-w", "--interval", "0.5", "--json", "-l", "DEBUG"];
        assert_eq!(wish(&line), Some(watched));
        for wrong in [&["--interval", "5"][..], &["-w", "--interval", "0"], &["-w", "--interval", "NaN"]] {
            assert_eq!(wish(&[&["rhio", "status"], wrong].concat()), None, "{wrong:?}");
        }
        assert_eq!(wish(&["rhio", "status", "--nats", "--url", "x"]), None);
    }

    #[test]
    fn every_option_has_its_short_name() {
        let line = ["rhio", "-c", "c", "-p", "1", "-k", "k", "-b", "b", "--http-bind-port", "2", "-l", "=TRACE"];
        let expected = Overrides {
            config: Some("c".into()),
            bind_port: Some(1),
            http_bind_port: Some(2),
            private_key_path: Some("k".into()),
            blobs_dir: Some("b".into()),
            log_level: Some("=TRACE".into()),
        };
        assert_eq!(Cli::parse_from(line).options.overrides(), expected);
    }
}
