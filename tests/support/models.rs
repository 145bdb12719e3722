//! Runs a crate's loom models, which are unit tests built with a cfg of their own, in a target directory of their own.

use super::all_cores::all_cores;
use super::skip;
use std::path::Path;
use std::process::{Command, Output};

/// Runs the models of a package of this workspace, for the test of this name. `least` is as many as there were when it was
/// written: fewer mean that some are not compiled any more.
pub fn run(test: &str, package: &str, cfg: &str, least: usize) {
    let Some(program) = build(test, package, cfg) else {
        return;
    };
    let list = output(Command::new(&program).args(["model::", "--list"]));
    // From the last to the first: the longest of the allocator's is near the end, and would run alone there.
    let models: Vec<&str> = list
        .lines()
        .rev()
        .filter_map(|line| line.strip_suffix(": test"))
        .collect();
    assert!(
        models.len() >= least,
        "only {} models:\n{list}",
        models.len()
    );
    // A process for each: loom maps and unmaps a stack for each thread of each execution, and threads of one process wait
    // for each other there, half of the time on two cores.
    all_cores(&models, |model| {
        let ran = output(Command::new(&program).args(["--exact", model, "--test-threads=1"]));
        assert!(ran.contains("test result: ok. 1 passed"), "{ran}");
    });
}

/// The program with the models; none where there is no cargo.
fn build(test: &str, package: &str, cfg: &str) -> Option<String> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("loom");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args(["test", "--package", package, "--lib", "--no-run"])
        .args(["--profile", "tests", "--message-format", "json"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("RUSTFLAGS", format!("--cfg {cfg}"))
        .env("CARGO_TARGET_DIR", target)
        .env("CARGO_TERM_COLOR", "never")
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    let messages = match command.output() {
        Ok(output) => printed(&command, output),
        Err(error) => {
            skip(test, &format!("cargo doesn't start: {error}"));
            return None;
        }
    };
    let program = messages
        .split("\"executable\":\"")
        .nth(1)
        .and_then(|rest| rest.split('"').next())
        .unwrap_or_else(|| panic!("no program in\n{messages}"));
    Some(program.to_owned())
}

/// What a command prints, which must succeed.
fn output(command: &mut Command) -> String {
    let output = command.output().expect("the program starts");
    printed(command, output)
}

fn printed(command: &Command, output: Output) -> String {
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{command:?}: {}\n{stdout}\n{stderr}",
        output.status
    );
    stdout
}
