//! Runs the loom models, which are unit tests of the crate built with `--cfg loom`, in a target directory of their own.

mod support;

use std::path::Path;
use std::process::Command;

/// As many models as there were when this was written: fewer mean that some are not compiled any more.
const MODELS: usize = 28;

/// The number before `word` in cargo's summary line.
fn count(summary: &str, word: &str) -> usize {
    let end = summary.find(word).expect("cargo's summary has changed");
    let number = summary[..end].split_whitespace().next_back();
    number.and_then(|number| number.parse().ok()).unwrap()
}

#[test]
#[cfg_attr(miri, ignore = "Miri starts no processes")]
fn every_model_holds() {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("loom");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["test", "--package", "millpond", "--lib", "--release"])
        .args(["--", "model::"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("RUSTFLAGS", "--cfg loom")
        .env("CARGO_TARGET_DIR", target)
        .env("CARGO_TERM_COLOR", "never")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .output();
    let output = match output {
        Ok(output) => output,
        Err(error) => {
            support::skip(
                "every_model_holds",
                &format!("cargo doesn't start: {error}"),
            );
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
    assert!(passed >= MODELS, "only {passed} models ran:\n{stdout}");
}
