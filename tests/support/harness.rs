//! Tests that compare counters or resident memory, and so need a process without libtest's threads: each runs alone in
//! a process of its own, on its main thread. Speaks as much of libtest's language as `cargo test` and `cargo nextest`
//! use.

use super::child;
use std::process::{Command, ExitCode};

/// A test by its name.
pub type Test = (&'static str, fn());

/// The `main` of such a test binary.
pub fn main(tests: &[Test]) -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| args.iter().any(|arg| arg == flag);
    let filter = args
        .iter()
        .find(|arg| !arg.starts_with('-') && *arg != "terse");
    let wanted = |name: &str| match filter {
        Some(filter) if has("--exact") => name == filter,
        Some(filter) => name.contains(filter.as_str()),
        None => true,
    };
    let tests = tests
        .iter()
        .filter(|(name, _)| wanted(name) && !has("--ignored"));
    if has("--list") {
        tests.for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    if let Some(alone) = child::scenario() {
        for (_, test) in tests.filter(|(name, _)| *name == alone) {
            // Before anything else happens in this process.
            test();
        }
        return ExitCode::SUCCESS;
    }
    let (mut passed, mut failed) = (0, 0);
    for (name, _) in tests {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.env("TEST_SCENARIO", name);
        let ended = child::run(command);
        if ended.status.success() {
            println!("test {name} ... ok");
            passed += 1;
        } else {
            println!("test {name} ... FAILED\n{}\n{}", ended.stdout, ended.stderr);
            failed += 1;
        }
    }
    println!("\ntest result: {passed} passed, {failed} failed");
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// The `main` of a test binary with these tests.
#[allow(unused_macros)]
macro_rules! each_alone {
    ($($name:ident,)*) => {
        fn main() -> std::process::ExitCode {
            support::harness::main(&[$((stringify!($name), $name)),*])
        }
    };
}
#[allow(unused_imports)]
pub(crate) use each_alone;
