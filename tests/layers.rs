//! Calls go down: no module imports one that stands above it in the layer order. Greps the sources for `crate::`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The modules of `src`, lowest first. Those on one line don't know each other.
const LAYERS: &[&[&str]] = &[
    &["units", "sync"],
    &["size_class", "stats", "abort"],
    &["config"],
    &["os"],
    &["free_list", "idle_set"],
    &["page"],
    &["arena"],
    &["large", "stack"],
    &["thread_heap"],
    &["global_alloc", "pass_through", "pool"],
    &["lib"],
];

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

/// The code of a file without comments and without its tests, which may use what they like.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let tests = [
        "#[cfg(test)]",
        "#[cfg(all(test",
        "#[cfg(loom)]\nmod ",
        "#[cfg(all(loom",
    ];
    let end = tests
        .iter()
        .filter_map(|start| text.find(start))
        .min()
        .unwrap_or(text.len());
    let uncommented = text[..end]
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default());
    uncommented.collect::<Vec<_>>().join("\n")
}

/// The first names behind each `crate::`, those in braces among them.
fn imports(code: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let name = |text: &str| -> String {
        text.trim_start()
            .chars()
            .take_while(|&c| c.is_alphanumeric() || c == '_')
            .collect()
    };
    for (at, _) in code.match_indices("crate::") {
        if at > 0 && code.as_bytes()[at - 1] == b'$' {
            continue;
        }
        let rest = &code[at + "crate::".len()..];
        let Some(group) = rest.strip_prefix('{') else {
            names.insert(name(rest));
            continue;
        };
        let mut depth = 0;
        let mut start = true;
        for (at, character) in group.char_indices() {
            match character {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => start = true,
                character if start && !character.is_whitespace() => {
                    names.insert(name(&group[at..]));
                    start = false;
                }
                _ => {}
            }
        }
    }
    names
}

#[test]
fn no_module_imports_one_above_it() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    let mut upward = BTreeSet::new();
    for path in files {
        let relative = path.strip_prefix(&src).unwrap();
        // Shared by models under loom only.
        if relative.ends_with("model.rs") {
            continue;
        }
        let first = Path::new(relative.components().next().unwrap().as_os_str());
        let module = first.file_stem().unwrap().to_str().unwrap();
        let here =
            layer(module).unwrap_or_else(|| panic!("{module} has no place in the layer order"));
        for import in imports(&code(&path)) {
            // Items of the crate's root, like `Millpond`, are the public face that the upper layers implement.
            let public = import.starts_with(char::is_uppercase);
            if import == module || public {
                continue;
            }
            let Some(there) = layer(&import) else {
                panic!(
                    "{}: crate::{import} has no place in the layer order",
                    relative.display()
                );
            };
            if there >= here {
                upward.insert(format!("{} imports crate::{import}", relative.display()));
            }
        }
    }
    assert!(upward.is_empty(), "upward imports: {upward:#?}");
}

#[test]
fn imports_are_found() {
    let code = "use crate::{Millpond, arena::registry, os::{self, reserve}}; crate::config::x(); use crate::units;";
    let found: Vec<String> = imports(code).into_iter().collect();
    assert_eq!(found, ["Millpond", "arena", "config", "os", "units"]);
}
