//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::config::Overrides;

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
  rhio -c /etc/rhio/config.yaml             run
  rhio -l DEBUG                             say more
  rhio -l rhio=INFO,async_nats=DEBUG        say more about NATS only

Exit status:
  0 ended as asked; 1 failed; 2 the command line or the configuration is wrong, and nothing was
  started";

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
