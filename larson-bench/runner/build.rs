//! Tells the runner which versions of the allocators' crates it is built from, as the lock file has them.

use std::path::Path;
use std::{env, fs};

/// The crates whose versions a report states, with the environment variable that carries each.
const CRATES: [(&str, &str); 8] = [
    ("millpond", "VERSION_MILLPOND"),
    ("libmimalloc-sys", "VERSION_MIMALLOC"),
    ("tikv-jemallocator", "VERSION_JEMALLOC"),
    ("snmalloc-rs", "VERSION_SNMALLOC"),
    ("tcmalloc-better", "VERSION_TCMALLOC"),
    ("rpmalloc", "VERSION_RPMALLOC"),
    ("rpmalloc-sys", "VERSION_RPMALLOC_SYS"),
    ("rusty_alloc", "VERSION_RUSTY_ALLOC"),
];

fn main() {
    let manifest = env::var("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
    let lock_file = Path::new(&manifest).join("../../Cargo.lock");
    println!("cargo::rerun-if-changed={}", lock_file.display());
    println!("cargo::rerun-if-changed=build.rs");
    let lock = fs::read_to_string(&lock_file).unwrap_or_default();
    for (name, variable) in CRATES {
        let version = locked_version(&lock, name).unwrap_or("unknown");
        println!("cargo::rustc-env={variable}={version}");
    }
}

/// The version on the line after `name = "NAME"`; where a crate is locked twice, the first one.
fn locked_version<'a>(lock: &'a str, name: &str) -> Option<&'a str> {
    let wanted = format!("name = \"{name}\"");
    let mut lines = lock.lines();
    lines.find(|line| *line == wanted)?;
    lines
        .next()?
        .strip_prefix("version = \"")?
        .strip_suffix('"')
}
