//! Files of a crate import each other in one direction: of two files, at most one knows the other, however long the way.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The crates that are looked at: those of the program, and what tests stand on.
const CRATES: [&str; 9] =
    ["rhio-core", "rhio-failpoint", "rhio-nats", "rhio-net", "rhio-blobs", "rhio-router", "rhio", "testkit", "sim"];

/// A module's path in its crate; the crate's own is empty.
type Module = Vec<String>;

fn sources(folder: &Path, all: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry")) {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, all);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            all.push(path);
        }
    }
}

/// Which module a file is; `None` for tests and for programs beside the library.
fn module_of(source: &Path, file: &Path) -> Option<Module> {
    let below = file.strip_prefix(source).expect("below the source").with_extension("");
    let mut parts: Module = below.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if parts.iter().any(|part| part == "tests") || parts.first().is_some_and(|first| first == "bin") {
        return None;
    }
    if parts.last().is_some_and(|last| matches!(last.as_str(), "mod" | "lib" | "main")) {
        parts.pop();
    }
    Some(parts)
}

/// The code without comments, and without the tests at its end.
fn code(file: &Path) -> String {
    let text = std::fs::read_to_string(file).expect("a source file");
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// Every path from `crate`, `super` or `self` that the code names, lists in braces written out.
fn paths(code: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for root in ["crate::", "super::", "self::"] {
        for (at, _) in code.match_indices(root) {
            let before = code[..at].chars().next_back();
            if before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != ':') {
                expand(&code[at..], Vec::new(), &mut found);
            }
        }
    }
    found
}

/// Reads a path, with lists in braces, from the front of a text. Returns what is behind it.
fn expand<'a>(mut text: &'a str, mut path: Vec<String>, found: &mut Vec<Vec<String>>) -> &'a str {
    loop {
        text = text.trim_start();
        if let Some(mut list) = text.strip_prefix('{') {
            loop {
                list = expand(list, path.clone(), found).trim_start();
                // What is renamed keeps its path.
                if let Some(renamed) = list.strip_prefix("as ") {
                    list =
                        renamed.trim_start().trim_start_matches(|c: char| c.is_alphanumeric() || c == '_').trim_start();
                }
                match list.strip_prefix(',') {
                    Some(more) if !more.trim_start().starts_with('}') => list = more,
                    Some(more) => return more.trim_start().strip_prefix('}').unwrap_or_default(),
                    None => return list.strip_prefix('}').unwrap_or_default(),
                }
            }
        }
        let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
        let (name, rest) = text.split_at(end);
        path.push(name.to_owned());
        match rest.strip_prefix("::") {
            Some(more) => text = more,
            None => {
                found.push(path);
                return rest;
            }
        }
    }
}

/// The module that a path leads to, as deep as there is a file for it.
fn resolve(from: &Module, path: &[String], modules: &BTreeMap<Module, PathBuf>) -> Module {
    let mut at = from.clone();
    for part in path {
        match part.as_str() {
            "crate" => at.clear(),
            "super" => drop(at.pop()),
            "self" => {}
            name => at.push(name.to_owned()),
        }
    }
    while !modules.contains_key(&at) && at.pop().is_some() {}
    at
}

/// A way from a module back to itself.
fn circle(start: &Module, edges: &BTreeMap<Module, BTreeSet<Module>>) -> Option<Vec<String>> {
    let mut before: BTreeMap<&Module, &Module> = BTreeMap::new();
    let mut next = vec![start];
    while let Some(at) = next.pop() {
        for to in &edges[at] {
            if to == start {
                let way = std::iter::successors(Some(at), |at| before.get(at).copied().filter(|_| *at != start));
                return Some(way.map(|module| module.join("::")).collect());
            }
            if !before.contains_key(to) {
                before.insert(to, at);
                next.push(to);
            }
        }
    }
    None
}

#[test]
fn files_import_each_other_in_one_direction() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    for name in CRATES {
        let source = root.join(name).join("src");
        let mut files = Vec::new();
        sources(&source, &mut files);
        let modules: BTreeMap<Module, PathBuf> =
            files.into_iter().filter_map(|file| Some((module_of(&source, &file)?, file))).collect();
        let edges: BTreeMap<Module, BTreeSet<Module>> = modules
            .iter()
            .map(|(module, file)| {
                let named = paths(&code(file)).into_iter().map(|path| resolve(module, &path, &modules));
                (module.clone(), named.filter(|to| to != module && !to.is_empty()).collect())
            })
            .collect();
        assert!(edges.values().any(|to| !to.is_empty()) || modules.len() < 3, "{name}: no import was found");
        for module in edges.keys().filter(|module| !module.is_empty()) {
            let circle = circle(module, &edges);
            assert!(circle.is_none(), "{name}: a circle of imports: {}", circle.unwrap_or_default().join(" <- "));
        }
    }
}

#[test]
fn a_circle_is_found_through_lists_and_parents() {
    let paths = paths("use super::{b::{C, D as E}, f};\nuse crate::g::H;\nlet x = crate::i::j();");
    let text: Vec<String> = paths.iter().map(|path| path.join("::")).collect();
    assert_eq!(text, ["crate::g::H", "crate::i::j", "super::b::C", "super::b::D", "super::f"]);
    let module = |text: &str| -> Module { text.split("::").map(str::to_owned).collect() };
    let edge = |from: &str, to: &str| (module(from), BTreeSet::from([module(to)]));
    let edges = BTreeMap::from([edge("a", "b"), edge("b", "c"), edge("c", "b")]);
    assert_eq!(circle(&module("a"), &edges), None);
    assert_eq!(circle(&module("b"), &edges), Some(vec!["c".to_owned(), "b".to_owned()]));
}
