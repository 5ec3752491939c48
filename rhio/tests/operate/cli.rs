//! The program as it is called from a shell.

use std::path::Path;
use std::process::{Command, Output};

/// Runs rhio in a folder, with an empty environment so that nothing of this machine's gets in.
fn rhio(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rhio"))
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .output()
        .expect("rhio runs")
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap().trim_end().to_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn keygen_makes_a_key_that_id_knows() {
    let folder = tempfile::tempdir().unwrap();
    let made = rhio(folder.path(), &["keygen", "keys/node.txt"]);
    assert!(made.status.success(), "{}", err(&made));
    let public_key = out(&made);
    assert!(public_key.parse::<rhio_core::id::PublicKey>().is_ok(), "{public_key}");
    let private_key = std::fs::read_to_string(folder.path().join("keys/node.txt")).unwrap();
    assert_eq!((private_key.trim_end().len(), private_key.lines().count()), (64, 1));
    assert_ne!(private_key.trim_end(), public_key);
    for option in ["-k", "--private-key", "--private-key-path"] {
        let shown = rhio(folder.path(), &[option, "keys/node.txt", "id"]);
        assert_eq!((shown.status.code(), out(&shown)), (Some(0), public_key.clone()), "{}", err(&shown));
        assert_eq!(err(&shown), "");
    }
    std::fs::write(folder.path().join("config.yaml"), "private_key_path: keys/node.txt\n").unwrap();
    assert_eq!(out(&rhio(folder.path(), &["id"])), public_key);
}

#[test]
fn keygen_without_a_path_uses_the_configured_one_and_never_overwrites() {
    let folder = tempfile::tempdir().unwrap();
    let made = rhio(folder.path(), &["keygen"]);
    assert!(made.status.success(), "{}", err(&made));
    let before = std::fs::read(folder.path().join("private-key.txt")).unwrap();
    for arguments in [&["keygen"][..], &["keygen", "private-key.txt"]] {
        let again = rhio(folder.path(), arguments);
        assert_eq!(again.status.code(), Some(1));
        assert!(err(&again).contains("private-key.txt exists already"), "{}", err(&again));
    }
    assert_eq!(std::fs::read(folder.path().join("private-key.txt")).unwrap(), before);
}

#[test]
fn id_makes_no_key() {
    let folder = tempfile::tempdir().unwrap();
    let missing = rhio(folder.path(), &["id"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(err(&missing).contains("no private key at private-key.txt"), "{}", err(&missing));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[cfg(unix)]
#[test]
fn a_key_that_others_can_read_is_warned_about() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    rhio(folder.path(), &["keygen"]);
    let path = folder.path().join("private-key.txt");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let shown = rhio(folder.path(), &["id"]);
    assert!(shown.status.success());
    assert!(err(&shown).contains("chmod 600 private-key.txt"), "{}", err(&shown));
}

#[test]
fn a_wrong_configuration_ends_with_status_2_and_starts_nothing() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.yaml"), "bind_port: 0\n\nnats:\n  endpont: x\n").unwrap();
    for arguments in [&[][..], &["id"], &["-c", "config.yaml"]] {
        let output = rhio(folder.path(), arguments);
        assert_eq!(output.status.code(), Some(2), "{}", err(&output));
        assert!(err(&output).contains("config.yaml:4: nats.endpont: "), "{}", err(&output));
        assert!(err(&output).contains("did you mean \"endpoint\""), "{}", err(&output));
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no key was made");
}

#[test]
fn a_named_file_must_exist() {
    let folder = tempfile::tempdir().unwrap();
    let output = rhio(folder.path(), &["-c", "missing.yaml"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(err(&output).contains("missing.yaml: cannot be read"), "{}", err(&output));
}

#[test]
fn a_wrong_command_line_ends_with_status_2() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [&["--bind-port", "many"][..], &["--bogus"], &["fly"], &["-l", "LOUD", "id"], &["-p", "70000"]] {
        let output = rhio(folder.path(), arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", err(&output));
        assert_eq!(out(&output), "");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn the_environment_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let key = out(&rhio(folder.path(), &["keygen", "a.txt"]));
    let run = |variables: &[(&str, &str)]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rhio"));
        command.arg("id").current_dir(folder.path()).env_clear();
        command.envs(variables.iter().copied()).output().unwrap()
    };
    assert_eq!(out(&run(&[("RHIO_PRIVATE_KEY_PATH", "a.txt")])), key);
    let wrong = run(&[("RHIO_PRIVATE_KEY_PATH", "a.txt"), ("RHIO_BIND_PORT", "x")]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(err(&wrong).contains("RHIO_BIND_PORT: "), "{}", err(&wrong));
}

#[test]
fn help_helps_and_version_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let help = rhio(folder.path(), &["--help"]);
    assert!(help.status.success());
    let text = out(&help);
    for part in [
        "--config",
        "--bind-port",
        "-p",
        "--private-key-path",
        "--private-key",
        "-k",
        "--blobs-dir",
        "-b",
        "--http-bind-port",
        "--log-level",
        "-l",
        "keygen",
        "id",
        "RHIO_NATS__ENDPOINT",
        "$XDG_CONFIG_HOME/rhio/config.yaml",
        "Examples:",
        "9102",
        "3000",
        "Exit status:",
    ] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    assert_eq!(out(&rhio(folder.path(), &["-V"])), format!("rhio {}", env!("CARGO_PKG_VERSION")));
}
