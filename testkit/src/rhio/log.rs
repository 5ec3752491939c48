//! What a rhio under test wrote to its log.

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde_json::Value;

/// One line of a log.
#[derive(Debug, Clone)]
pub struct LogLine {
    /// `INFO` and so on; empty when the line is not a log record, such as a panic's.
    pub level: String,
    /// The module that wrote it.
    pub target: String,
    /// The sentence.
    pub message: String,
    /// The record as written, with its fields; `Null` when the line is not a log record.
    pub json: Value,
    /// The line as written.
    pub raw: String,
}

impl LogLine {
    fn parse(raw: &str) -> Self {
        let json = serde_json::from_str::<Value>(raw).ok().filter(Value::is_object).unwrap_or(Value::Null);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let message = json.get("fields").and_then(|fields| fields.get("message")).or_else(|| json.get("message"));
        Self {
            level: text(&json["level"]),
            target: text(&json["target"]),
            message: message.map_or_else(|| if json.is_null() { raw.to_owned() } else { String::new() }, text),
            raw: raw.to_owned(),
            json,
        }
    }

    /// The value of a field beside the message.
    pub fn field(&self, name: &str) -> Option<&Value> {
        self.json.get("fields").and_then(|fields| fields.get(name)).or_else(|| self.json.get(name))
    }

    /// Whether somebody should look at it: a warning, an error, or a panic.
    pub fn is_loud(&self) -> bool {
        matches!(self.level.as_str(), "WARN" | "ERROR")
            || (self.json.is_null() && (self.raw.contains("panicked at") || self.raw.contains("overflowed its stack")))
    }
}

/// The log file, over all starts.
#[derive(Debug)]
pub(super) struct LogFile {
    pub(super) path: PathBuf,
}

impl LogFile {
    pub(super) fn new(folder: &Path) -> Self {
        Self { path: folder.join("rhio.log") }
    }

    /// The position after the last byte.
    pub(super) fn end(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |meta| meta.len())
    }

    /// The complete lines from a position on.
    pub(super) fn lines_from(&self, position: u64) -> Vec<LogLine> {
        let mut bytes = Vec::new();
        if let Ok(mut file) = fs::File::open(&self.path) {
            file.seek(SeekFrom::Start(position)).expect("a file can be read from anywhere");
            file.read_to_end(&mut bytes).unwrap_or_else(|e| panic!("cannot read {}: {e}", self.path.display()));
        }
        let complete = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        String::from_utf8_lossy(&bytes[..complete]).lines().map(LogLine::parse).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_and_other_lines_are_told_apart() {
        let warning = LogLine::parse(r#"{"level":"WARN","target":"rhio::x","fields":{"message":"slow","peer":"ab"}}"#);
        assert!(warning.is_loud());
        assert_eq!((warning.message.as_str(), warning.field("peer")), ("slow", Some(&Value::from("ab"))));
        let flat = LogLine::parse(r#"{"level":"INFO","message":"fine","n":3}"#);
        assert!(!flat.is_loud());
        assert_eq!((flat.message.as_str(), flat.field("n")), ("fine", Some(&Value::from(3))));
        assert!(LogLine::parse("thread 'main' panicked at src/main.rs:1:1:").is_loud());
        assert!(!LogLine::parse("anything else").is_loud());
    }
}
