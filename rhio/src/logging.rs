//! Logs: one line per event to standard error, as text or JSON.

use std::fmt;
use std::io::IsTerminal;

use thiserror::Error;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

/// What is logged when nothing is set.
pub const DEFAULT_LEVEL: &str = "INFO";

/// What other crates may say unless asked for more: warnings, but nothing at all where rhio speaks for them.
///
/// The NATS client and the network stack know neither which node or server a line is about nor whether it matters. Both
/// call it an error when a process that was frozen, or a machine that was suspended, finds its timers long past, and
/// settle it by themselves a moment later. What becomes of a connection is logged by rhio, once and with the peer or
/// the server's address: in `peer` and `nats::connect`. The same holds for what works for them: the sockets that tell
/// of the machine's addresses, and TLS, whose failures end the connection that they are about.
const OTHERS: &[(&str, &str)] = &[
    ("", "warn"),
    ("async_nats", "off"),
    ("iroh", "off"),
    ("noq", "off"),
    ("irpc", "off"),
    ("netwatch", "off"),
    ("netlink", "off"),
    ("hickory", "off"),
    ("rustls", "off"),
];

const LEVELS: &[&str] = &["off", "error", "warn", "info", "debug", "trace"];

/// How a log line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Which events are logged.
///
/// - `ERROR`, `WARN`, `INFO`, `DEBUG`, `TRACE`: from rhio at this level, from other crates little.
/// - `=TRACE`: from everything at this level.
/// - `rhio=INFO,async_nats=DEBUG`: by target, as prefixes of module paths; what is not named stays as it is by default.
///
/// Levels are read in any case; in a filter, `off` is one too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFilter {
    /// Target prefix and level; an empty target is everything that no other entry matches.
    directives: Vec<(String, String)>,
}

/// A log level that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum LogFilterError {
    /// Nothing at all.
    #[error("is empty")]
    Empty,
    /// A word that is no level where only a level makes sense.
    #[error("is no log level")]
    Level,
    /// A part of a filter that is not `target=LEVEL`.
    #[error("has a part that is not target=LEVEL")]
    Part,
}

impl LogFilter {
    /// Reads a level or a filter.
    ///
    /// # Errors
    /// When it is neither.
    pub fn parse(text: &str) -> Result<Self, LogFilterError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(LogFilterError::Empty);
        }
        if let Some(level) = level(text) {
            return Ok(Self::with(vec![("rhio".into(), level.into())]));
        }
        if let Some(all) = text.strip_prefix('=').and_then(level) {
            return Ok(Self { directives: vec![(String::new(), all.into())] });
        }
        if !text.contains('=') {
            return Err(LogFilterError::Level);
        }
        let parts = text.split(',').map(|part| part_of_filter(part.trim()));
        Ok(Self::with(parts.collect::<Result<_, _>>()?))
    }

    /// The defaults, but for targets that `chosen` has an opinion on.
    fn with(chosen: Vec<(String, String)>) -> Self {
        let defaults = OTHERS.iter().chain(&[("rhio", "info")]);
        let silent = |target: &str| {
            chosen
                .iter()
                .any(|(chosen, _)| if chosen.is_empty() { target.is_empty() } else { target.starts_with(chosen) })
        };
        let kept = defaults.filter(|(target, _)| !silent(target));
        let kept = kept.map(|(target, level)| ((*target).to_owned(), (*level).to_owned())).collect::<Vec<_>>();
        Self { directives: kept.into_iter().chain(chosen).collect() }
    }
}

fn level(text: &str) -> Option<&'static str> {
    LEVELS.iter().copied().find(|level| level.eq_ignore_ascii_case(text))
}

fn part_of_filter(part: &str) -> Result<(String, String), LogFilterError> {
    if let Some(all) = level(part) {
        return Ok((String::new(), all.into()));
    }
    let (target, name) = part.rsplit_once('=').ok_or(LogFilterError::Part)?;
    let level = level(name.trim()).ok_or(LogFilterError::Level)?;
    let target = target.trim();
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '-' | '.');
    if target.chars().all(good) { Ok((target.into(), level.into())) } else { Err(LogFilterError::Part) }
}

impl fmt::Display for LogFilter {
    /// In `tracing`'s own notation.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (target, level)) in self.directives.iter().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            if target.is_empty() { write!(f, "{comma}{level}")? } else { write!(f, "{comma}{target}={level}")? }
        }
        Ok(())
    }
}

/// Sends this process's log lines to standard error from now on.
///
/// # Errors
/// When that was done before.
pub fn init(filter: &LogFilter, format: LogFormat) -> Result<(), TryInitError> {
    let registry = tracing_subscriber::registry().with(EnvFilter::new(filter.to_string()));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    match format {
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
        LogFormat::Text => {
            // NO_COLOR by its own convention: any value but the empty one.
            let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
            registry.with(lines.with_ansi(colours)).try_init()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Which of some typical events get through.
    fn logged(text: &str) -> String {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let writer = {
            let lines = Arc::clone(&lines);
            move || Lines(Arc::clone(&lines))
        };
        let filter = EnvFilter::new(LogFilter::parse(text).unwrap().to_string());
        let layer = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(false).without_time();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(filter).with(layer), || {
            tracing::info!(target: "rhio::app", "a");
            tracing::debug!(target: "rhio::app", "b");
            tracing::info!(target: "rhio_core::seal", "c");
            tracing::warn!(target: "iroh::magicsock", "d");
            tracing::error!(target: "noq_proto::connection", "e");
            tracing::warn!(target: "hyper_util", "f");
            tracing::info!(target: "hyper_util", "g");
            tracing::error!(target: "async_nats::connector", "h");
            tracing::debug!(target: "async_nats", "i");
            tracing::warn!(target: "netwatch::udp", "j");
            tracing::error!(target: "netlink_proto::connection", "k");
        });
        let text = String::from_utf8(lines.lock().unwrap().clone()).unwrap();
        text.lines().filter_map(|line| line.chars().next_back()).collect()
    }

    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_level_is_about_rhio_and_others_only_warn_where_rhio_does_not_speak_for_them() {
        assert_eq!(logged("INFO"), "acf");
        assert_eq!(logged("debug"), "abcf");
        assert_eq!(logged("Error"), "f");
    }

    #[test]
    fn with_an_equals_sign_it_is_about_everything() {
        assert_eq!(logged("=TRACE"), "abcdefghijk");
        assert_eq!(logged("=warn"), "defhjk");
    }

    #[test]
    fn a_filter_changes_what_it_names_and_leaves_the_rest() {
        assert_eq!(logged("rhio=INFO,async_nats=DEBUG"), "acfhi");
        assert_eq!(logged("iroh=warn"), "acdf");
        assert_eq!(logged("noq_proto=error"), "acef");
        assert_eq!(logged("rhio=off, info"), "fg");
        assert_eq!(logged("rhio_core=error"), "af");
    }

    #[test]
    fn anything_else_is_refused() {
        assert_eq!(LogFilter::parse(""), Err(LogFilterError::Empty));
        assert_eq!(LogFilter::parse("LOUD"), Err(LogFilterError::Level));
        assert_eq!(LogFilter::parse("=LOUD"), Err(LogFilterError::Level));
        assert_eq!(LogFilter::parse("rhio=LOUD"), Err(LogFilterError::Level));
        assert_eq!(LogFilter::parse("rhio,iroh=info"), Err(LogFilterError::Part));
        assert_eq!(LogFilter::parse("a b=info"), Err(LogFilterError::Part));
    }
}
