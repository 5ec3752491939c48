//! What is wrong with a configuration, and where.

use std::fmt;
use std::path::PathBuf;

use super::tree::Origin;

/// One thing that is wrong, in one line: place, key, what was found and what was expected. Never shows a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    place: String,
    line: usize,
    key: String,
    message: String,
}

impl Problem {
    pub(super) fn new(file: Option<&PathBuf>, origin: &Origin, key: &str, message: String) -> Self {
        let (place, line) = match origin {
            Origin::File(line) => {
                let name = file.map_or_else(|| "config.yaml".into(), |path| path.display().to_string());
                (format!("{name}:{line}"), *line)
            }
            Origin::Env(name) => (name.clone(), usize::MAX),
            Origin::Flag(name) => ((*name).to_owned(), usize::MAX),
        };
        Self { place, line, key: key.to_owned(), message }
    }

    /// Something about a file as a whole: missing, unreadable.
    pub(super) fn about_file(path: &std::path::Path, message: String) -> Self {
        Self { place: path.display().to_string(), line: 0, key: String::new(), message }
    }

    /// The file and line (`config.yaml:12`), the environment variable or the option that it is about.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// The key's full path, like `publish.nats_subjects[0].subject`; empty when it is about the file as a whole.
    pub fn key(&self) -> &str {
        &self.key
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key.is_empty() {
            write!(f, "{}: {}", self.place, self.message)
        } else {
            write!(f, "{}: {}: {}", self.place, self.key, self.message)
        }
    }
}

/// A configuration that cannot be used. Displays one line per problem; the process ends with status 2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    problems: Vec<Problem>,
}

impl ConfigError {
    pub(super) fn new(mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| problem.line);
        Self { problems }
    }

    /// All problems that were found, those of the file first and by line.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.problems.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}
