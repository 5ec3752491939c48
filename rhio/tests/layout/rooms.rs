//! `docs/architecture.md` has each file of the program once: in the table of its crate, by its own path or by that of the
//! folder that it is in.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const CRATES: [&str; 6] = ["rhio-core", "rhio-nats", "rhio-net", "rhio-blobs", "rhio-router", "rhio"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// How often the first cells of each crate's table name a path.
fn named() -> BTreeMap<String, BTreeMap<String, usize>> {
    let text = fs::read_to_string(root().join("docs/architecture.md")).expect("there is a description");
    let mut tables: BTreeMap<String, BTreeMap<String, usize>> = BTreeMap::new();
    let mut of = None;
    for line in text.lines() {
        let cell = line.strip_prefix("| ").and_then(|rest| rest.split(" | ").next());
        match (cell, &of) {
            (Some(cell), _) if cell.starts_with("module of ") => of = Some(cell["module of ".len()..].to_owned()),
            (Some(cell), Some(name)) => {
                let table = tables.entry(name.clone()).or_default();
                for path in cell.split('`').skip(1).step_by(2) {
                    *table.entry(path.to_owned()).or_default() += 1;
                }
            }
            (None, _) => of = None,
            (Some(_), None) => {}
        }
    }
    tables
}

/// The files of a folder and below, as paths of modules.
fn files(folder: &Path, prefix: &str, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_stem().and_then(|name| name.to_str()).expect("a name").to_owned();
        if path.is_dir() {
            files(&path, &format!("{prefix}{name}/"), found);
        } else if path.extension().is_some_and(|extension| extension == "rs")
            && !["lib", "mod"].contains(&name.as_str())
        {
            found.push(format!("{prefix}{name}"));
        }
    }
}

fn is_test(module: &str) -> bool {
    module.split('/').any(|part| part == "tests")
}

#[test]
fn the_description_has_every_file_once() {
    let named = named();
    let mut wrong = Vec::new();
    for name in CRATES {
        let table = named.get(name).unwrap_or_else(|| panic!("no table of {name}"));
        let mut modules = Vec::new();
        files(&root().join(name).join("src"), "", &mut modules);
        assert!(!modules.is_empty());
        for module in modules.iter().filter(|module| !is_test(module)) {
            let own = table.get(module).copied().unwrap_or_default();
            let above = module.match_indices('/').map(|(at, _)| &module[..=at]);
            let in_folder: usize = above.filter_map(|folder| table.get(folder)).sum();
            // A folder that is named leaves room for those of its files that are named by themselves.
            if own > 1 || own + in_folder == 0 {
                wrong.push(format!("{name}: {module} ({own} times, in a folder {in_folder} times)"));
            }
        }
        let exists = |path: &String| {
            let at = root().join(name).join("src").join(path);
            at.is_dir() || at.with_extension("rs").is_file()
        };
        wrong.extend(table.keys().filter(|path| !exists(path)).map(|path| format!("{name}: there is no {path}")));
    }
    assert!(wrong.is_empty(), "docs/architecture.md:\n{}", wrong.join("\n"));
}
