//! Tells the program which versions of the peers it is built from, as the lock file has them, and for which target, so
//! that it builds its runners for the same one.

use std::path::Path;
use std::{env, fs};

/// The crates whose versions a report states, with the environment variable that carries each.
const CRATES: [(&str, &str); 4] = [
    ("millpond-fiber", "VERSION_MILLPOND"),
    ("tokio", "VERSION_TOKIO"),
    ("may", "VERSION_MAY"),
    ("rayon", "VERSION_RAYON"),
];

fn main() {
    let manifest = env::var("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
    let lock_file = Path::new(&manifest).join("../Cargo.lock");
    println!("cargo::rerun-if-changed={}", lock_file.display());
    println!("cargo::rerun-if-changed=build.rs");
    let lock = fs::read_to_string(&lock_file).unwrap_or_default();
    for (name, variable) in CRATES {
        let version = locked_version(&lock, name).unwrap_or("unknown");
        println!("cargo::rustc-env={variable}={version}");
    }
    for name in ["TARGET", "HOST"] {
        let value = env::var(name).expect("cargo sets it");
        println!("cargo::rustc-env=FIBER_BENCH_{name}={value}");
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
