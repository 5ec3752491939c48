//! The node's private key and the file that holds it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use p2panda_core::SigningKey;
use rhio_core::id::PublicKey;
use thiserror::Error;

/// Most bytes of a key file that are read: the digits and some white space.
const MAX_FILE: u64 = 1024;

/// A private key that cannot be used. Never shows the key.
#[derive(Debug, Error)]
pub enum IdentityError {
    /// No such file.
    #[error("there is no private key at {}; `rhio keygen {}` makes one", .0.display(), .0.display())]
    Missing(PathBuf),
    /// Something is there already, and a key is never overwritten.
    #[error("{} exists already and is not overwritten: whoever loses the key loses the node's identity", .0.display())]
    Exists(PathBuf),
    /// The file does not hold a key.
    #[error("{} is no private key: expected 64 hex digits, {found}", .path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is in it, in words.
        found: String,
    },
    /// The file cannot be read.
    #[error("the private key {} cannot be read: {source}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file cannot be written.
    #[error("the private key {} cannot be written: {source}", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A node's key pair. Debug shows the public key only.
#[derive(Clone)]
pub struct Identity {
    key: SigningKey,
    /// Where it was read from or written to.
    pub path: PathBuf,
    /// It did not exist before.
    pub generated: bool,
    /// Something that the operator should change, for the log.
    pub warning: Option<String>,
}

impl Identity {
    /// What signs this node's operations.
    pub fn signing_key(&self) -> &SigningKey {
        &self.key
    }

    /// The node's name.
    pub fn public_key(&self) -> PublicKey {
        self.key.verifying_key().into()
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("public_key", &self.public_key()).field("path", &self.path).finish()
    }
}

/// Reads a key file.
///
/// # Errors
/// When it is missing, cannot be read or holds no key.
pub fn load(path: &Path) -> Result<Identity, IdentityError> {
    let read = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => IdentityError::Missing(path.into()),
        _ => IdentityError::Read { path: path.into(), source },
    };
    let file = File::open(path).map_err(read)?;
    let warning = others_can_read(&file, path).map_err(read)?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(read)?;
    let key = parse(&bytes).map_err(|found| IdentityError::Content { path: path.into(), found })?;
    Ok(Identity { key, path: path.into(), generated: false, warning })
}

/// Reads a key file, or makes one where there is none.
///
/// # Errors
/// When it cannot be read or written, or holds no key.
pub fn load_or_generate(path: &Path) -> Result<Identity, IdentityError> {
    match load(path) {
        Err(IdentityError::Missing(_)) => match generate(path) {
            // Somebody else was faster: theirs counts.
            Err(IdentityError::Exists(_)) => load(path),
            generated => generated,
        },
        loaded => loaded,
    }
}

/// Makes a new key and writes it to a file that does not exist yet, readable by its owner only. The file appears with
/// its whole content or not at all.
///
/// # Errors
/// When something is there already, or it cannot be written.
pub fn generate(path: &Path) -> Result<Identity, IdentityError> {
    let key = SigningKey::generate();
    write_new(path, format!("{}\n", key.to_hex()).as_bytes()).map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => IdentityError::Exists(path.into()),
        _ => IdentityError::Write { path: path.into(), source },
    })?;
    Ok(Identity { key, path: path.into(), generated: true, warning: None })
}

fn parse(bytes: &[u8]) -> Result<SigningKey, String> {
    let text = bytes.trim_ascii();
    let mut key = [0; 32];
    match hex::decode_to_slice(text, &mut key) {
        Ok(()) => Ok(SigningKey::from_bytes(&key)),
        _ if text.is_empty() => Err("found an empty file".into()),
        _ if bytes.len() as u64 > MAX_FILE => Err(format!("found more than {MAX_FILE} bytes")),
        _ if text.len() != 64 => Err(format!("found {} characters", text.len())),
        _ => Err("found other characters".into()),
    }
}

fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    if path.symlink_metadata().is_ok() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    let name = path.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "it names no file"))?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut temporary_name = name.to_owned();
    temporary_name.push(format!(".{}.tmp", std::process::id()));
    let temporary = folder.join(temporary_name);
    let written = write_private(&temporary, content).and_then(|()| publish(&temporary, path));
    // After a rename it is gone already.
    let _ = fs::remove_file(&temporary);
    written?;
    // The new name is safe only once the folder is on disk. Some file systems cannot do that for a folder.
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
    Ok(())
}

fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    // Left over from a process with the same id that was killed right here.
    let _ = fs::remove_file(path);
    let mut file = options.open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// A link, unlike a rename, never takes the place of a file that another process has put there meanwhile. Where the
/// file system has no links, a rename must do.
fn publish(temporary: &Path, path: &Path) -> io::Result<()> {
    match fs::hard_link(temporary, path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => fs::rename(temporary, path),
        linked => linked,
    }
}

#[cfg(unix)]
fn others_can_read(file: &File, path: &Path) -> io::Result<Option<String>> {
    use std::os::unix::fs::MetadataExt;
    let metadata = file.metadata()?;
    let mode = metadata.mode() & 0o777;
    // The owner of what the kernel tells of this process is who it runs as.
    let own = std::fs::metadata("/proc/self").is_ok_and(|me| me.uid() == metadata.uid());
    let warning = || {
        let path = path.display();
        format!("the private key {path} can be used by others on this machine (mode {mode:04o}): chmod 600 {path}")
    };
    Ok(is_loose(mode, own).then(warning))
}

/// Whether others can use a file with this mode. In Kubernetes a mounted secret is root's, and the pod reads it by its
/// group: that is as closed as it gets.
fn is_loose(mode: u32, own: bool) -> bool {
    let others = if own { 0o077 } else { 0o037 };
    mode & others != 0
}

#[cfg(not(unix))]
fn others_can_read(_: &File, _: &Path) -> io::Result<Option<String>> {
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_back_and_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/er/key.txt");
        let made = load_or_generate(&path).unwrap();
        assert!(made.generated);
        let read = load_or_generate(&path).unwrap();
        assert!(!read.generated && read.warning.is_none());
        assert_eq!(read.public_key(), made.public_key());
        let names: Vec<_> = fs::read_dir(path.parent().unwrap()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["key.txt"], "nothing is left over");
        #[cfg(unix)]
        assert_eq!(std::os::unix::fs::MetadataExt::mode(&fs::metadata(&path).unwrap()) & 0o777, 0o600);
    }

    #[test]
    fn an_existing_file_is_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.txt");
        fs::write(&path, "precious").unwrap();
        assert!(matches!(generate(&path), Err(IdentityError::Exists(_))));
        assert!(matches!(load_or_generate(&path), Err(IdentityError::Content { .. })));
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }

    #[test]
    fn what_is_no_key_is_said_without_showing_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.txt");
        let too_long = "a".repeat(5000);
        let odd = format!("{}g", "a".repeat(63));
        for (content, reason) in
            [("", "empty"), ("abc123", "6 characters"), (&*too_long, "more than"), (&*odd, "other characters")]
        {
            fs::write(&path, content).unwrap();
            let error = load(&path).unwrap_err().to_string();
            assert!(error.contains("64 hex digits") && error.contains(reason), "{error}");
            assert!(content.is_empty() || !error.contains(content), "{error}");
        }
    }

    #[test]
    fn a_secret_that_only_the_group_may_read_is_closed_when_it_is_somebody_elses() {
        assert!(!is_loose(0o600, true) && !is_loose(0o400, true) && !is_loose(0o440, false) && !is_loose(0o640, false));
        assert!(is_loose(0o640, true) && is_loose(0o444, false) && is_loose(0o660, false));
    }

    #[test]
    fn white_space_around_the_digits_is_fine_and_loose_modes_are_warned_about() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.txt");
        fs::write(&path, format!("{}\r\n", "1F".repeat(32))).unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
            assert!(load(&path).unwrap().warning.unwrap().contains("0640"));
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        }
        assert_eq!(load(&path).unwrap().warning, None);
        assert_eq!(load(&path).unwrap().signing_key().as_bytes(), &[0x1f; 32]);
    }

    #[test]
    fn a_missing_file_says_how_to_make_one() {
        let error = load(Path::new("/nowhere/key.txt")).unwrap_err();
        assert!(matches!(error, IdentityError::Missing(_)));
        assert!(error.to_string().contains("rhio keygen /nowhere/key.txt"));
    }
}
