//! What the demo puts on the terminal.

use std::fmt::Display;
use std::io::IsTerminal;
use std::time::Duration;

use crate::files::Landed;

/// Plain lines, with colours where somebody watches.
#[derive(Debug, Clone, Copy)]
pub struct Screen {
    colours: bool,
}

impl Screen {
    pub fn new() -> Self {
        Self { colours: std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() }
    }

    fn paint(self, code: &str, text: impl Display) -> String {
        if self.colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_string() }
    }

    /// A heading, after an empty line.
    pub fn heading(self, text: &str) {
        println!("\n{}", self.paint("1;36", text));
    }

    /// A line of its own.
    pub fn line(self, text: impl Display) {
        println!("  {text}");
    }

    /// A name and what there is to know of it.
    pub fn entry(self, name: &str, value: impl Display) {
        println!("  {}  {value}", self.paint("2", format!("{name:<13}")));
    }

    /// Something that went well.
    pub fn good(self, text: impl Display) {
        println!("  {} {text}", self.paint("32", "ok"));
    }

    /// Something that did not.
    pub fn bad(self, text: impl Display) {
        println!("  {} {text}", self.paint("31", "!!"));
    }

    /// A message that arrived.
    pub fn arrival(self, subject: &str, payload: &str, took: Option<Duration>) {
        let took = took.map_or_else(|| "from elsewhere".into(), millis);
        println!("  A -> B  {subject:<22} {payload:<30} {}", self.paint("33", took));
    }

    /// A file that arrived.
    pub fn landing(self, landed: &Landed, took: Option<Duration>) {
        let took = took.map_or_else(|| "from elsewhere".into(), millis);
        let hash = landed.hash.get(..16).unwrap_or(&landed.hash);
        let what = format!("{:>8}  {hash}…", size(landed.size));
        println!("  A -> B  {:<22} {what:<30} {}", landed.key, self.paint("33", took));
    }
}

/// A number of bytes, short.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["B", "KiB", "MiB", "GiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = usize::from(unit > 0 && value < 10.0);
    format!("{value:.digits$} {}", UNITS[unit])
}

/// A time in milliseconds, short.
pub fn millis(time: Duration) -> String {
    let millis = time.as_secs_f64() * 1000.0;
    if millis < 100.0 { format!("{millis:.1} ms") } else { format!("{millis:.0} ms") }
}
