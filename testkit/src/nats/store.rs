//! Copies of a server's JetStream store: how a test plays a power cut.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// What a server's store held at one moment.
#[derive(Debug)]
pub struct StoreCopy {
    folder: TempDir,
}

impl StoreCopy {
    pub(super) fn take(store: &Path) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        copy_tree(store, folder.path()).unwrap_or_else(|e| panic!("cannot copy {}: {e}", store.display()));
        Self { folder }
    }

    /// Makes the store what it was.
    pub(super) fn restore(&self, store: &Path) {
        replace(self.folder.path(), store);
    }

    /// Makes one stream what it was, and leaves the others.
    pub(super) fn restore_stream(&self, store: &Path, stream: &str) {
        let inside = stream_folder(self.folder.path(), stream)
            .unwrap_or_else(|| panic!("the copy of the store has no stream {stream}"));
        let place = store.join(inside.strip_prefix(self.folder.path()).expect("it lies below"));
        replace(&inside, &place);
    }
}

/// `<store>/jetstream/<account>/streams/<stream>`.
fn stream_folder(store: &Path, stream: &str) -> Option<PathBuf> {
    let accounts = fs::read_dir(store.join("jetstream")).ok()?;
    accounts.flatten().map(|account| account.path().join("streams").join(stream)).find(|path| path.is_dir())
}

fn replace(from: &Path, to: &Path) {
    let result = match fs::remove_dir_all(to) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => copy_tree(from, to),
    };
    result.unwrap_or_else(|e| panic!("cannot put {} back: {e}", to.display()));
}

fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let place = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &place)?;
        } else {
            fs::copy(entry.path(), place)?;
        }
    }
    Ok(())
}
