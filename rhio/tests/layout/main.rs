//! Dependencies between crates point one way, and what a library is for is behind one crate.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by a panic")]

mod circles;
mod rooms;

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// What each crate of the program may use of the others.
const ALLOWED: &[(&str, &[&str])] = &[
    ("rhio-core", &[]),
    ("rhio-failpoint", &[]),
    ("rhio-nats", &["rhio-core", "rhio-failpoint"]),
    ("rhio-net", &["rhio-core"]),
    ("rhio-blobs", &["rhio-core"]),
    ("rhio-router", &["rhio-blobs", "rhio-core", "rhio-failpoint", "rhio-nats", "rhio-net"]),
    ("rhio", &["rhio-blobs", "rhio-core", "rhio-nats", "rhio-net", "rhio-router"]),
];

/// Who may use a library.
const BEHIND: &[(&str, &[&str])] = &[
    ("async-nats", &["rhio-nats"]),
    ("iroh", &["rhio-blobs", "rhio-net"]),
    ("iroh-blobs", &["rhio-blobs"]),
    ("noq-proto", &["rhio-net"]),
    ("axum", &["rhio"]),
    ("hyper", &["rhio"]),
    ("hyper-util", &["rhio"]),
    ("granit-parser", &["rhio"]),
    ("clap", &["rhio"]),
];

/// What the core knows nothing of.
const NOT_IN_CORE: &[&str] = &["tokio", "rand", "fastrand", "reqwest", "time"];

/// What each crate of the program depends on outside of its tests.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let asked = Command::new(cargo)
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(asked.status.success(), "{}", String::from_utf8_lossy(&asked.stderr));
    let metadata: Value = serde_json::from_slice(&asked.stdout).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let name = |value: &Value| value["name"].as_str().expect("a name").to_owned();
    let of = |package: &Value| {
        let all = package["dependencies"].as_array().expect("dependencies").iter();
        all.filter(|dependency| dependency["kind"] != "dev").map(name).collect()
    };
    packages.iter().map(|package| (name(package), of(package))).collect()
}

#[test]
fn dependencies_between_crates_point_one_way() {
    let all = dependencies();
    for (name, allowed) in ALLOWED {
        let own = all.get(*name).unwrap_or_else(|| panic!("there is no crate {name}"));
        let ours = own.iter().filter(|used| all.contains_key(*used));
        let wrong: Vec<_> = ours.filter(|used| !allowed.contains(&used.as_str())).collect();
        assert!(wrong.is_empty(), "{name} must not depend on {wrong:?}");
    }
}

#[test]
fn each_library_is_behind_the_crates_that_it_is_for() {
    let all = dependencies();
    for (library, allowed) in BEHIND {
        let users: Vec<_> =
            ALLOWED.iter().map(|(name, _)| *name).filter(|name| all[*name].contains(*library)).collect();
        assert!(!users.is_empty(), "nobody uses {library} any more");
        assert!(
            users.iter().all(|user| allowed.contains(user)),
            "{library} is used by {users:?}, not only {allowed:?}"
        );
    }
    let core: Vec<_> = NOT_IN_CORE.iter().filter(|library| all["rhio-core"].contains(**library)).collect();
    assert!(core.is_empty(), "rhio-core must not depend on {core:?}");
}
