//! `rhio status`: asks the running node how it is, and shows the answer.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use rhio_core::id::PublicKey;
use rhio_nats::client::Client;
use tokio::time::MissedTickBehavior;

use crate::config::{self, Config};
use crate::identity;
use crate::shutdown::Signals;
use rhio_nats::connect::{ConnectSettings, connect};

use super::ask::{Answer, AskError, Http, over_nats};
use super::render::text::plain;
use super::render::{View, render};

/// Columns where there is no terminal.
const WIDTH: usize = 80;
/// Wider than this, lines are hard to follow.
const MAX_WIDTH: usize = 160;
/// Narrower than this, nothing fits.
const MIN_WIDTH: usize = 40;

/// What is to be shown, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct Wish {
    /// The node's HTTP address; `None`: the configured port on this machine.
    pub url: Option<String>,
    /// Ask over the configured NATS.
    pub nats: bool,
    /// Show it again and again.
    pub watch: bool,
    /// Time between two looks.
    pub interval: Duration,
    /// As it came, one JSON per look.
    pub json: bool,
}

/// Whom to ask.
enum Source {
    Http(Http),
    Nats { config: Box<config::Nats>, client: Option<Client> },
}

/// Shows the status. Success means that the node is ready; with `watch`, that it was ended by a signal.
pub async fn run(config: Config, wish: Wish) -> ExitCode {
    // The node that was meant is known only when it was not named by its address.
    let wanted = match wish.url {
        Some(_) => None,
        None => identity::load(&config.private_key_path).ok().map(|identity| identity.public_key()),
    };
    let mut source = match Source::new(&config, &wish) {
        Ok(source) => source,
        Err(error) => {
            eprintln!("error: {error}; give --url as http://host:port");
            return ExitCode::FAILURE;
        }
    };
    if wish.watch {
        return watch(&mut source, wanted, &config, &wish).await;
    }
    match source.ask(wanted).await {
        Ok(answer) => {
            let shown = show(&answer, wanted, &wish);
            let meant = wanted.is_none_or(|wanted| answer.is_of(wanted));
            if shown.is_ok() && meant && answer.status.health.ready { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(problem) => {
            eprintln!("error: {}\n  → {}", plain(&problem), source.remedy(&config));
            ExitCode::FAILURE
        }
    }
}

impl Source {
    fn new(config: &Config, wish: &Wish) -> Result<Self, AskError> {
        match &wish.url {
            Some(url) => Ok(Self::Http(Http::new(url)?)),
            None if wish.nats || config.http_bind_port == 0 => {
                Ok(Self::Nats { config: Box::new(config.nats.clone()), client: None })
            }
            None => Ok(Self::Http(Http::local(config.http_bind_address, config.http_bind_port)?)),
        }
    }

    async fn ask(&mut self, wanted: Option<PublicKey>) -> Result<Answer, String> {
        match self {
            Self::Http(http) => http.ask().await.map_err(|error| error.to_string()),
            Self::Nats { config, client } => {
                let connected = match client.take() {
                    Some(client) => client,
                    None => connect(config, "status", ConnectSettings::default()).await.map_err(|e| e.to_string())?,
                };
                let connected = client.insert(connected);
                over_nats(connected, wanted).await.map_err(|error| error.to_string())
            }
        }
    }

    /// What to do when there is no answer.
    fn remedy(&self, config: &Config) -> String {
        match self {
            Self::Http(_) => format!(
                "is the daemon running (start it with `rhio`)? Is its http_bind_port {}? Else give its address with \
                 --url, or ask over NATS with --nats. `rhio check` looks at everything that it needs",
                config.http_bind_port
            ),
            Self::Nats { .. } => {
                "is the daemon running (start it with `rhio`), and on this NATS (nats.endpoint)? Else \
                                  give its HTTP address with --url. `rhio check` looks at everything that it needs"
                    .to_owned()
            }
        }
    }
}

/// Says so when another node has answered than the one that this configuration is of.
fn stranger(answer: &Answer, wanted: Option<PublicKey>) -> Option<String> {
    let wanted = wanted.filter(|wanted| !answer.is_of(*wanted))?;
    let found = plain(&answer.status.public_key);
    Some(format!(
        "this is the status of another node, {found}: the node of this configuration, {wanted}, did not answer. Is it \
         running? To see the other one without this note, give its address with --url"
    ))
}

fn show(answer: &Answer, wanted: Option<PublicKey>, wish: &Wish) -> io::Result<()> {
    if let Some(note) = stranger(answer, wanted) {
        eprintln!("note: {note}");
    }
    let mut out = io::stdout().lock();
    if wish.json {
        return writeln!(out, "{}", answer.text.trim_end());
    }
    let (width, _) = size();
    out.write_all(render(&answer.status, &View { width, colour: colour(), before: None }).as_bytes())
}

/// Columns and lines.
fn size() -> (usize, Option<usize>) {
    let found = io::stdout().is_terminal().then(terminal_size::terminal_size).flatten();
    found.map_or((WIDTH, None), |(width, height)| {
        (usize::from(width.0).clamp(MIN_WIDTH, MAX_WIDTH), Some(usize::from(height.0)))
    })
}

/// Whether standard output may be coloured: see <https://no-color.org>.
pub fn colour() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Shows it until a signal comes.
async fn watch(source: &mut Source, wanted: Option<PublicKey>, config: &Config, wish: &Wish) -> ExitCode {
    let mut signals = match Signals::new() {
        Ok(signals) => signals,
        Err(error) => {
            eprintln!("error: signals can't be listened for: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut ticks = tokio::time::interval(wish.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut screen = Screen { cleared: false };
    let mut before: Option<Answer> = None;
    loop {
        let asked = tokio::select! {
            _ = signals.next() => return ExitCode::SUCCESS,
            asked = async { ticks.tick().await; source.ask(wanted).await } => asked,
        };
        let shown = match &asked {
            Ok(answer) if wish.json => show(answer, wanted, wish),
            Ok(answer) => {
                let before = before.as_ref().map(|answer| &answer.status);
                let text = render(&answer.status, &View { width: size().0, colour: colour(), before });
                let note = stranger(answer, wanted).map(|note| format!("note: {note}\n\n")).unwrap_or_default();
                screen.show(&format!("{note}{text}"))
            }
            Err(problem) if wish.json => writeln!(io::stderr(), "error: {}", plain(problem)),
            Err(problem) => screen.show(&format!("error: {}\n  → {}\n", plain(problem), source.remedy(config))),
        };
        // Nobody reads any more.
        if shown.is_err() {
            return ExitCode::SUCCESS;
        }
        before = asked.ok();
    }
}

/// Where the status is drawn again and again. Without a terminal, each drawing is a block of its own.
struct Screen {
    cleared: bool,
}

impl Screen {
    fn show(&mut self, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if !io::stdout().is_terminal() {
            writeln!(out, "{text}")?;
            return out.flush();
        }
        // The screen is cleared once; then each line is written over the last one, so that nothing flickers.
        let begin = if std::mem::replace(&mut self.cleared, true) { "\x1b[H" } else { "\x1b[2J\x1b[H" };
        let drawn = drawn(text, size().1.unwrap_or(usize::MAX));
        out.write_all(format!("{begin}{drawn}\x1b[J").as_bytes())?;
        out.flush()
    }
}

/// As many lines as there is room for, each clearing what was to its right.
fn drawn(text: &str, height: usize) -> String {
    let lines: Vec<_> = text.lines().collect();
    // The line behind the last one is where the cursor stands.
    let room = height.saturating_sub(1).max(1);
    if lines.len() <= room {
        return lines.iter().map(|line| format!("{line}\x1b[K\n")).collect();
    }
    let shown = room.saturating_sub(1);
    let mut out: String = lines.iter().take(shown).map(|line| format!("{line}\x1b[K\n")).collect();
    out.push_str(&format!(
        "… {} more lines; make the window higher, or leave out --watch\x1b[K\n",
        lines.len() - shown
    ));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_drawn_fits_the_screen() {
        assert_eq!(drawn("a\nb\n", 3), "a\x1b[K\nb\x1b[K\n");
        assert_eq!(
            drawn("a\nb\nc\nd\n", 4),
            "a\x1b[K\nb\x1b[K\n… 2 more lines; make the window higher, or leave out --watch\x1b[K\n"
        );
    }
}
