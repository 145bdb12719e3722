//! Building and finding the runner of each allocator.
//!
//! Whether a runner is up to date is cargo's business: it is asked before every first use, so that a change in the
//! allocator's sources is never missed. Where there is no cargo or no workspace (an installed larson-bench), a runner
//! that lies in the folder `runners` beside this program is used as it is.

use bench_support::places;
use std::collections::HashMap;
use std::env;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{ChildStderr, Command, Stdio};
use std::time::Duration;

use fs4::FileExt;
use indicatif::ProgressBar;

use crate::allocators::Known;

/// Names a folder of runners to use as they are, without cargo.
const READY_MADE: &str = "LARSON_BENCH_RUNNERS";

/// The runners found so far in this process.
#[derive(Debug, Default)]
pub struct Runners {
    found: HashMap<&'static str, Result<PathBuf, String>>,
}

impl Runners {
    /// None found yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The runner's path; builds it if need be.
    ///
    /// # Errors
    /// The reason why there is none, the build's last error line for example.
    pub fn get(&mut self, allocator: &'static Known) -> Result<PathBuf, String> {
        self.found
            .entry(allocator.name)
            .or_insert_with(|| find_or_build(allocator))
            .clone()
    }
}

fn file_name(allocator: &Known) -> String {
    format!(
        "larson-runner-{}{}",
        allocator.name,
        env::consts::EXE_SUFFIX
    )
}

fn find_or_build(allocator: &Known) -> Result<PathBuf, String> {
    if let Some(folder) = env::var_os(READY_MADE) {
        let path = Path::new(&folder).join(file_name(allocator));
        return if path.is_file() {
            Ok(path)
        } else {
            Err(format!("{} is not there", path.display()))
        };
    }
    let folder = places::own_folder()?.join("runners");
    match workspace() {
        Some(workspace) => build(allocator, &workspace, &folder),
        None => {
            let path = folder.join(file_name(allocator));
            let missing =
                || "there is no workspace to build it in and no ready-made one".to_owned();
            path.is_file().then_some(path).ok_or_else(missing)
        }
    }
}

/// The workspace that this program was built from, or the one around the current folder.
fn workspace() -> Option<PathBuf> {
    places::workspace(env!("CARGO_MANIFEST_DIR"), "larson-bench/runner/Cargo.toml")
}

fn build(allocator: &Known, workspace: &Path, folder: &Path) -> Result<PathBuf, String> {
    fs::create_dir_all(folder)
        .map_err(|error| format!("{} can't be made: {error}", folder.display()))?;
    // All runners are built at the same path before they are copied away; a second larson-bench must not come
    // between the two steps.
    let lock =
        File::create(folder.join("lock")).map_err(|error| format!("no lock file: {error}"))?;
    FileExt::lock(&lock).map_err(|error| format!("the lock file can't be locked: {error}"))?;
    let built = run_cargo(allocator, workspace)?;
    let path = folder.join(file_name(allocator));
    copy_if_different(&built, &path)
        .map_err(|error| format!("{} can't be written: {error}", path.display()))?;
    Ok(path)
}

/// Writes beside the target and renames, since a program that is running can't be overwritten.
fn copy_if_different(from: &Path, to: &Path) -> std::io::Result<()> {
    let fresh = fs::read(from)?;
    if fs::read(to).is_ok_and(|old| old == fresh) {
        return Ok(());
    }
    let beside = to.with_extension("new");
    fs::copy(from, &beside)?;
    fs::rename(beside, to)
}

fn cargo_command(allocator: &Known, workspace: &Path) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace);
    command.args([
        "build",
        "--release",
        "--package",
        "larson-runner",
        "--bin",
        "larson-runner",
    ]);
    command.arg("--message-format=json-render-diagnostics");
    if let Some(feature) = allocator.feature {
        command.args(["--features", feature]);
    }
    let (target, host) = (env!("LARSON_BENCH_TARGET"), env!("LARSON_BENCH_HOST"));
    if target != host {
        command.args(["--target", target]);
    }
    // `cargo run` describes larson-bench to it in these; a build script that looks at one would run again.
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            command.env_remove(name);
        }
    }
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn run_cargo(allocator: &Known, workspace: &Path) -> Result<PathBuf, String> {
    let mut child = cargo_command(allocator, workspace)
        .spawn()
        .map_err(|error| format!("cargo can't be started: {error}"))?;
    let stderr = child.stderr.take().expect("it is piped");
    let name = allocator.name;
    // cargo's standard output has to be read all the while, or a long build would block on a full pipe.
    let watcher = std::thread::spawn(move || watch(name, stderr));
    let mut messages = String::new();
    let read = child
        .stdout
        .take()
        .expect("it is piped")
        .read_to_string(&mut messages);
    let complaints = watcher.join().expect("the watcher doesn't panic");
    let status = child
        .wait()
        .map_err(|error| format!("cargo can't be waited for: {error}"))?;
    read.map_err(|error| format!("cargo's messages can't be read: {error}"))?;
    if !status.success() {
        return Err(last_error(&complaints));
    }
    executable(&messages).ok_or_else(|| "cargo named no program".to_owned())
}

/// Shows what cargo is doing, and keeps all that it says.
fn watch(name: &str, stderr: ChildStderr) -> Vec<String> {
    let bar = ProgressBar::new_spinner();
    bar.enable_steady_tick(Duration::from_millis(120));
    bar.set_message(format!("runner for {name}: checking"));
    let mut announced = !bar.is_hidden();
    let mut lines = Vec::new();
    for line in BufReader::new(stderr).lines().map_while(Result::ok) {
        let step = line.trim();
        if step.starts_with("Compiling") {
            if !announced {
                eprintln!("Building the runner for {name} ...");
                announced = true;
            }
            bar.set_message(format!("runner for {name}: {step}"));
        }
        lines.push(line);
    }
    bar.finish_and_clear();
    lines
}

/// The last line that says what went wrong: a compiler's or linker's own line rather than cargo's summary of it.
fn last_error(complaints: &[String]) -> String {
    let is_error = |line: &&String| {
        line.trim_start().to_lowercase().starts_with("error") || line.contains(" error: ")
    };
    let is_summary = |line: &String| {
        line.contains("could not compile") || line.contains("failed to run custom build")
    };
    let own = complaints
        .iter()
        .rev()
        .filter(is_error)
        .find(|line| !is_summary(line));
    let any = || complaints.iter().rev().find(|line| !line.trim().is_empty());
    own.or_else(any).map_or_else(
        || "cargo failed without a word".to_owned(),
        |line| line.trim().to_owned(),
    )
}

fn executable(messages: &str) -> Option<PathBuf> {
    let mut paths = messages.lines().filter_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let is_runner = message["target"]["name"] == "larson-runner";
        let path = message["executable"].as_str()?;
        is_runner.then(|| PathBuf::from(path))
    });
    paths.next_back()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn the_reason_is_the_compilers_line_not_cargos_summary() {
        let complaints = lines(
            "  x.cc:3:1: error: no such thing\nerror: failed to run custom build command for `x`\n\n",
        );
        assert_eq!(last_error(&complaints), "x.cc:3:1: error: no such thing");
        assert_eq!(last_error(&lines("warning: a\nkilled\n")), "killed");
        assert_eq!(last_error(&[]), "cargo failed without a word");
    }

    #[test]
    fn the_program_is_found_among_cargos_messages() {
        let messages = "{\"reason\":\"build-script-executed\"}\n\
            {\"target\":{\"name\":\"larson-runner\"},\"executable\":null}\n\
            {\"target\":{\"name\":\"larson-runner\"},\"executable\":\"/t/larson-runner\"}\n";
        assert_eq!(
            executable(messages),
            Some(PathBuf::from("/t/larson-runner"))
        );
    }
}
