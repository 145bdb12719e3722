//! Libraries that are loaded and unloaded while the program runs: plugins of a program that runs on Millpond, and
//! Millpond itself in one that doesn't.

mod support;

use std::path::PathBuf;
use std::process::Command;
use support::{compile, fresh_folder, library, needs, preloaded, succeed};

/// Copies of a library, which the loader takes for different ones.
fn copies(of: PathBuf, count: usize, name: &str) -> Vec<PathBuf> {
    let folder = fresh_folder(name);
    let copy = |number| {
        let copy = folder.join(format!("copy{number}.so"));
        std::fs::copy(&of, &copy).unwrap();
        copy
    };
    (0..count).map(copy).collect()
}

#[test]
fn plugins_come_and_go() {
    if !needs("plugins_come_and_go", &["cc", "c++"]) {
        return;
    }
    let flags = ["-std=c++17", "-shared", "-fPIC", "-fno-gnu-unique"];
    let plugins = copies(compile("plugin.cpp", "c++", &flags), 4, "plugins");
    let program = compile("plugins.c", "cc", &["-rdynamic", "-ldl"]);
    succeed(Command::new(&program).args(&plugins));
    succeed(preloaded(&program).args(&plugins));
}

/// README.md says what happens: the library works beside the program's own allocator, or the loader has no room for its
/// thread-local slot and refuses.
#[test]
fn millpond_loaded_later() {
    if !needs("millpond_loaded_later", &["cc"]) {
        return;
    }
    let program = compile("open_library.c", "cc", &["-ldl"]);
    let run = |others: &[PathBuf]| {
        let output = succeed(Command::new(&program).arg(library()).args(others));
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(run(&[]), "served\n");
    let other = compile("static_tls.c", "cc", &["-shared", "-fPIC"]);
    let refused = run(&copies(other, 120, "static_tls"));
    assert!(
        refused.starts_with("refused: ") && refused.contains("static TLS"),
        "{refused}"
    );
}
