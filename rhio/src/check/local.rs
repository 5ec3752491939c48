//! What is on this machine: the configuration, the key, and folders.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::config::{Publish, Subscribe};
use crate::identity::IdentityError;

use super::world::World;
use super::{Item, Plan, Seen};

pub(super) fn plan(plan: &mut Plan, world: &Arc<World>, file: Option<&Path>, warnings: &[String]) {
    let shown = file.map_or_else(|| "defaults".to_owned(), |path| path.display().to_string());
    let item = Item::single("configuration", "configuration", shown.clone());
    let config = &world.config;
    let idle = config.publish == Publish::default() && config.subscribe == Subscribe::default();
    let seen = match file {
        None => Seen::warn(
            "there is no config.yaml here, so the defaults hold",
            "name the file with --config, or copy config.example.yaml to config.yaml",
        ),
        Some(_) if idle => Seen::warn(
            format!("{shown}: nothing is published and nothing subscribed"),
            "add entries to 'publish' or 'subscribe'",
        ),
        Some(_) => {
            let number = |n: usize, noun| crate::control::render::numbers::counted(n as u64, noun);
            let published = config.publish.nats_subjects.len() + config.publish.s3_buckets.len();
            let subscribed = config.subscribe.nats_subjects.len() + config.subscribe.s3_buckets.len();
            let (published, subscribed) = (number(published, "publication"), number(subscribed, "subscription"));
            Seen::ok(format!("{shown}: {published}, {subscribed}, {}", number(config.nodes.len(), "node")))
        }
    };
    plan.known(item.clone(), seen);
    for warning in warnings {
        plan.known(item.clone(), Seen::warn(warning, "put it right, or leave it: rhio starts all the same"));
    }
    plan.known(Item::single("private_key", "private key", config.private_key_path.display().to_string()), key(world));
}

fn key(world: &World) -> Seen {
    let path = world.config.private_key_path.display();
    match &world.identity {
        Ok(identity) => match &identity.warning {
            None => Seen::ok(format!("{path}: the public key is {}", identity.public_key())),
            Some(_) => Seen::warn(
                format!("{path}: others on this machine can use it; the public key is {}", identity.public_key()),
                format!("chmod 600 {path}"),
            ),
        },
        Err(IdentityError::Missing(_)) => Seen::ok(format!(
            "there is none at {path} yet: the first start makes one (or make it now, to tell others its public key: \
             rhio keygen)"
        )),
        Err(error @ IdentityError::Content { .. }) => Seen::fail(
            error.to_string(),
            "restore the right file; a new key is a new identity, which every other node must be told",
        ),
        Err(error) => Seen::fail(error.to_string(), "let the user that rhio runs as read it"),
    }
}

/// Folders that rhio works with.
pub(super) fn plan_folders(plan: &mut Plan, world: &Arc<World>) {
    let path = world.config.blobs_dir.clone();
    let item = Item::single("blobs_dir", "blobs_dir", path.display().to_string());
    plan.add(item, blocking(move || working_folder(&path)));
    for dir in world.config.import.dirs.clone() {
        let item = Item::named("import_dir", "import folder", &dir.display().to_string());
        plan.add(item, blocking(move || import_folder(&dir)));
    }
}

/// Looks at a file system, which may hang.
async fn blocking(look: impl FnOnce() -> Seen + Send + 'static) -> Seen {
    match tokio::task::spawn_blocking(look).await {
        Ok(seen) => seen,
        Err(error) => Seen::fail(format!("the check itself failed: {error}"), "report this as a bug"),
    }
}

fn working_folder(path: &Path) -> Seen {
    match fs::metadata(path) {
        Ok(found) if !found.is_dir() => {
            Seen::fail(format!("{} is no folder", path.display()), "remove the file, or set another blobs_dir")
        }
        Ok(found) if found.permissions().readonly() => {
            Seen::fail(format!("{} is read-only", path.display()), "let the user that rhio runs as write it")
        }
        Ok(_) => Seen::ok(format!("{} is a folder (not written to)", path.display())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // The nearest folder above it that exists.
            let above =
                path.ancestors().skip(1).map(|above| if above.as_os_str().is_empty() { Path::new(".") } else { above });
            match above.map(|above| (above, fs::metadata(above))).find_map(|(above, found)| Some((above, found.ok()?)))
            {
                Some((_, found)) if found.is_dir() && !found.permissions().readonly() => {
                    Seen::ok(format!("{} does not exist yet and will be created", path.display()))
                }
                Some((above, _)) => Seen::fail(
                    format!("{} can't be created below {}", path.display(), above.display()),
                    "create it, or set another blobs_dir",
                ),
                None => Seen::fail(format!("{} can't be created", path.display()), "set another blobs_dir"),
            }
        }
        Err(error) => Seen::fail(format!("{}: {error}", path.display()), "set another blobs_dir"),
    }
}

fn import_folder(path: &Path) -> Seen {
    match fs::read_dir(path) {
        Ok(_) => Seen::ok("can be read"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Seen::fail("does not exist", "create or mount it, or take it out of import.dirs")
        }
        Err(error) => Seen::fail(error.to_string(), "let the user that rhio runs as read it"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Outcome;
    use super::*;

    #[test]
    fn folders() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "x").unwrap();
        let outcome = |path: &Path| working_folder(path).outcome;
        assert_eq!(outcome(folder.path()), Outcome::Ok);
        assert_eq!(outcome(&folder.path().join("not/yet")), Outcome::Ok);
        assert_eq!(outcome(Path::new("surely-not-here-yet")), Outcome::Ok);
        assert_eq!(outcome(&file), Outcome::Fail);
        assert_eq!(outcome(&file.join("below")), Outcome::Fail);
        assert!(!folder.path().join("not").exists(), "nothing was created");
        assert_eq!(import_folder(folder.path()).outcome, Outcome::Ok);
        assert_eq!(import_folder(&file).outcome, Outcome::Fail);
        assert_eq!(import_folder(&folder.path().join("missing")).detail, "does not exist");
    }
}
