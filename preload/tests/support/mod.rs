//! What the tests of the library share: the library itself, programs in C and C++, and running one under the other.

#![allow(dead_code)]

#[path = "../../../tests/support/all_cores.rs"]
pub mod all_cores;
#[path = "../../../tests/support/callgrind.rs"]
pub mod callgrind;
#[path = "../../../tests/support/child.rs"]
pub mod child;
#[path = "../../../tests/support/skip.rs"]
mod skip;

// Not every test binary skips.
#[allow(unused_imports)]
pub use skip::skip;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// Where the tests build and write.
pub fn folder() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

/// Runs cargo with a target folder of its own.
pub fn cargo(arguments: &[&str], target: &Path) {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("CARGO_TARGET_DIR", target)
        .output()
        .expect("cargo starts");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// `libmillpond.so`, built as users build it.
pub fn library() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let target = folder().join("library");
        cargo(&["build", "--release", "-p", "millpond-preload"], &target);
        target.join("release/libmillpond.so")
    })
}

/// `libmillpond.a`, beside it.
pub fn archive() -> PathBuf {
    library().with_extension("a")
}

/// Whether a program can be started.
pub fn there_is(program: &str) -> bool {
    Command::new("sh")
        .args(["-c", &format!("command -v {program}")])
        .output()
        .is_ok_and(|found| found.status.success())
}

/// Compiles a program of `tests/c` with the system's compiler.
pub fn compile(source: &str, compiler: &str, flags: &[&str]) -> PathBuf {
    let program = folder().join(format!("{}_{compiler}", source.replace('.', "_")));
    let output = Command::new(compiler)
        .args(["-O1", "-g", "-Wall", "-Wextra", "-pthread", "-o"])
        .arg(&program)
        .arg(
            Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("tests/c")
                .join(source),
        )
        .args(flags)
        .output()
        .unwrap_or_else(|error| panic!("{compiler} doesn't start: {error}"));
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    program
}

/// Skips the test, by its name, unless all of the programs that it needs are there.
pub fn needs(test: &str, programs: &[&str]) -> bool {
    let missing = programs.iter().find(|program| !there_is(program));
    if let Some(missing) = missing {
        skip(test, &format!("there is no {missing}"));
    }
    missing.is_none()
}

/// A new empty folder among what the tests write.
pub fn fresh_folder(name: &str) -> PathBuf {
    let folder = folder().join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// A command that runs with the library preloaded.
pub fn preloaded(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env("LD_PRELOAD", library());
    command
}

/// Runs to the end; fails with what it printed unless it succeeds.
pub fn succeed(command: &mut Command) -> Output {
    let output = command.output().expect("the program starts");
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}
