//! Where a configuration comes from.

use std::io::Read;
use std::path::{Path, PathBuf};

use super::env::{overlay_environment, overlay_options};
use super::error::{ConfigError, Problem};
use super::given::{Environment, Overrides};
use super::reader::Notes;
use super::tree::{self, Node, Origin, Value};
use super::{Config, decode};

/// Name of the file, where no path is given.
const FILE_NAME: &str = "config.yaml";

/// Largest file that is read, in bytes.
const MAX_FILE: u64 = 8 << 20;

/// A configuration without errors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The values.
    pub config: Config,
    /// The file that they come from, when there is one: what to watch for changes.
    pub file: Option<PathBuf>,
    /// What is odd but harmless, one line each, for the log.
    pub warnings: Vec<String>,
}

/// Reads the configuration, looking for the file in the working directory and in the user's configuration folder.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load(overrides: &Overrides, environment: &Environment) -> Result<Loaded, ConfigError> {
    load_from(overrides, environment, Path::new(""))
}

/// Like [`load`], with another folder in place of the working directory.
///
/// # Errors
/// Everything that is wrong with the configuration.
pub fn load_from(overrides: &Overrides, environment: &Environment, folder: &Path) -> Result<Loaded, ConfigError> {
    let file = match &overrides.config {
        Some(path) => Some(folder.join(path)),
        None => find(environment, folder),
    };
    let notes = Notes { file: file.clone(), ..Notes::default() };
    let mut root = match &file {
        Some(path) => read(path).map_err(|problem| ConfigError::new(vec![problem]))?,
        None => Node { origin: Origin::File(1), value: Value::Null },
    };
    overlay_environment(&notes, &mut root, environment);
    overlay_options(&mut root, overrides);
    let config = decode::config(&notes, &root);
    let problems = notes.problems.into_inner();
    if problems.is_empty() {
        Ok(Loaded { config, file, warnings: notes.warnings.into_inner() })
    } else {
        Err(ConfigError::new(problems))
    }
}

fn find(environment: &Environment, folder: &Path) -> Option<PathBuf> {
    let absolute = |name: &str| environment.get(name).map(PathBuf::from).filter(|path| path.is_absolute());
    // The XDG specification: a path that is not absolute is to be ignored.
    let config_home = absolute("XDG_CONFIG_HOME").or_else(|| absolute("HOME").map(|home| home.join(".config")));
    let places = [Some(folder.join(FILE_NAME)), config_home.map(|home| home.join("rhio").join(FILE_NAME))];
    places.into_iter().flatten().find(|path| path.exists())
}

fn read(path: &Path) -> Result<Node, Problem> {
    let failed = |error: std::io::Error| Problem::about_file(path, format!("cannot be read: {error}"));
    let mut text = String::new();
    let size =
        std::fs::File::open(path).map_err(failed)?.take(MAX_FILE + 1).read_to_string(&mut text).map_err(failed)?;
    if size as u64 > MAX_FILE {
        return Err(Problem::about_file(path, format!("is larger than {MAX_FILE} bytes, expected a configuration")));
    }
    tree::parse(&text, Origin::File)
        .map_err(|error| Problem::new(Some(&path.to_path_buf()), &Origin::File(error.line), "", error.message))
}
