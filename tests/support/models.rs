//! Runs a crate's loom models, which are unit tests built with a cfg of their own, in a target directory of their own.

use super::skip;
use std::path::Path;
use std::process::Command;

/// The number before `word` in cargo's summary line.
fn count(summary: &str, word: &str) -> usize {
    let end = summary.find(word).expect("cargo's summary has changed");
    let number = summary[..end].split_whitespace().next_back();
    number.and_then(|number| number.parse().ok()).unwrap()
}

/// Runs the models of a package of this workspace, for the test of this name. `least` is as many as there were when it was
/// written: fewer mean that some are not compiled any more.
pub fn run(test: &str, package: &str, cfg: &str, least: usize) {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("loom");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["test", "--package", package, "--lib", "--release"])
        .args(["--", "model::"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("RUSTFLAGS", format!("--cfg {cfg}"))
        .env("CARGO_TARGET_DIR", target)
        .env("CARGO_TERM_COLOR", "never")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .output();
    let output = match output {
        Ok(output) => output,
        Err(error) => {
            skip(test, &format!("cargo doesn't start: {error}"));
            return;
        }
    };
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stdout}\n{stderr}");
    let summary = stdout
        .lines()
        .find(|line| line.starts_with("test result:"))
        .unwrap_or_else(|| panic!("no summary in\n{stdout}"));
    assert_eq!(count(summary, " failed"), 0);
    let passed = count(summary, " passed");
    assert!(passed >= least, "only {passed} models ran:\n{stdout}");
}
