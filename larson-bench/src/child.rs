//! One run: a runner started as a child process, and its report.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Stdio};

use larson_runner::options::{Params, WorkloadOptions};
use larson_runner::report::Report;
use larson_runner::workloads;

use crate::Failure;
use crate::allocators::Choice;

/// Everything that describes a run except which binary does it.
#[derive(Clone, Debug)]
pub struct Job {
    pub workload: String,
    pub threads: Option<usize>,
    pub seconds: Option<f64>,
    pub options: WorkloadOptions,
    pub millpond_options: Vec<String>,
    pub damage_a_block: bool,
}

impl Job {
    /// Refuses what the runner would refuse, before anything is built.
    pub fn check(&self, allocator: &Choice) -> Result<Params, Failure> {
        let workload = workloads::find(&self.workload).map_err(Failure::Usage)?;
        if !self.millpond_options.is_empty() && allocator.name() != "millpond" {
            return Err(Failure::Usage(
                "--millpond-option is for the allocator millpond only.".to_owned(),
            ));
        }
        Params::resolve(workload, self.threads, self.seconds, &self.options).map_err(Failure::Usage)
    }

    fn arguments(&self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec![self.workload.clone().into()];
        let mut add =
            |name: &str, value: String| arguments.push(format!("--{name}={value}").into());
        if let Some(threads) = self.threads {
            add("threads", threads.to_string());
        }
        if let Some(seconds) = self.seconds {
            add("seconds", seconds.to_string());
        }
        for (name, value) in self.options.given() {
            add(name, value);
        }
        for option in &self.millpond_options {
            add("millpond-option", option.clone());
        }
        if self.damage_a_block {
            arguments.push("--damage-a-block".into());
        }
        arguments
    }
}

/// Runs the job and returns the child's report.
///
/// # Errors
/// When the child can't be started, reports a failed check, or ends in any other way but well.
pub fn run(job: &Job, allocator: &Choice, runner: &Path) -> Result<Report, Failure> {
    let mut command = Command::new(runner);
    command
        .args(job.arguments())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if let Choice::Preload(library) = allocator {
        command.env("LD_PRELOAD", library);
        command
            .arg("--preloaded-name")
            .arg(allocator.name())
            .arg("--preloaded-file")
            .arg(library);
    }
    let output = command.output().map_err(|error| {
        Failure::Run(format!("{} can't be started: {error}.", runner.display()))
    })?;
    let complaints = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(failure(job, allocator, &complaints, output.status));
    }
    // Warnings, such as the allocator's about a malformed option, are for the person to see.
    eprint!("{complaints}");
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().last().unwrap_or_default();
    let report: Report = serde_json::from_str(last).map_err(|error| {
        Failure::Run(format!(
            "{} under {} printed no report: {error}.",
            job.workload,
            allocator.name()
        ))
    })?;
    // All runners come from one path in cargo's folder; figures under a wrong name would be worse than none.
    if report.allocator != allocator.name() {
        let wrong = format!(
            "{} is the runner for {}, not for {}.",
            runner.display(),
            report.allocator,
            allocator.name()
        );
        return Err(Failure::Run(wrong));
    }
    Ok(report)
}

fn failure(
    job: &Job,
    allocator: &Choice,
    complaints: &str,
    status: std::process::ExitStatus,
) -> Failure {
    let last = complaints
        .lines()
        .rfind(|line| !line.trim().is_empty())
        .unwrap_or("no message");
    let last = last.strip_prefix("larson-runner: ").unwrap_or(last);
    if status.code() == Some(i32::from(larson_runner::fail::STATUS_USAGE)) {
        return Failure::Usage(last.to_owned());
    }
    Failure::Run(format!(
        "{} under {} failed ({status}): {last}",
        job.workload,
        allocator.name()
    ))
}
