//! One run: a runner started as a child process, and its report.

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use fiber_bench::catalog::{self, Benchmark};
use fiber_bench::fail;
use fiber_bench::report::Report;

use crate::Failure;
use crate::contender::Contender;

/// Everything that describes a run but who does it.
#[derive(Clone, Debug)]
pub struct Job {
    pub benchmark: &'static Benchmark,
    pub workers: usize,
    pub seconds: f64,
    pub scale: f64,
}

impl Job {
    /// Refuses what no runner could do, before anything is built.
    ///
    /// # Errors
    /// A sentence.
    pub fn new(benchmark: &str, workers: usize, seconds: f64, scale: f64) -> Result<Self, Failure> {
        let benchmark = catalog::benchmark(benchmark).map_err(Failure::Usage)?;
        if !(1..=256).contains(&workers) {
            let sentence =
                format!("The number of workers must be between 1 and 256, not {workers}.");
            return Err(Failure::Usage(sentence));
        }
        if !(seconds > 0.0 && seconds <= 3_600.0) {
            let sentence =
                format!("The length of a run must be between 0 and 3,600 seconds, not {seconds}.");
            return Err(Failure::Usage(sentence));
        }
        if !(scale > 0.0 && scale <= 1.0) {
            return Err(Failure::Usage(format!(
                "The scale must be between 0 and 1, not {scale}."
            )));
        }
        Ok(Self {
            benchmark,
            workers,
            seconds,
            scale,
        })
    }

    /// Why a contender can't do it; `None` if it can.
    pub fn cannot_run(&self, contender: &Contender) -> Option<&'static str> {
        catalog::cannot_run(contender.runtime.name, self.benchmark.name, self.workers)
    }

    /// After so long a run hangs: several times what the slowest takes.
    fn limit(&self) -> Duration {
        Duration::from_secs_f64(90.0 + 20.0 * self.seconds)
    }
}

/// Runs the job and returns the child's report.
///
/// # Errors
/// When the child can't be started or do the run, reports a failed check, hangs, or ends in any other way but well.
pub fn run(job: &Job, contender: &Contender, runner: &Path) -> Result<Report, Failure> {
    let child = command(job, contender, runner).spawn();
    let child = child.map_err(|error| {
        Failure::Run(format!("{} can't be started: {error}.", runner.display()))
    })?;
    let name = format!("{} under {}", job.benchmark.name, contender.name());
    let (status, output, complaints) = wait(child, job.limit(), &name)?;
    if !status.success() {
        return Err(failure(&name, &complaints, status));
    }
    eprint!("{complaints}");
    let last = output.lines().last().unwrap_or_default();
    let report: Report = serde_json::from_str(last)
        .map_err(|error| Failure::Run(format!("{name} printed no report: {error}.")))?;
    if report.runtime != contender.name() {
        return Err(Failure::Run(format!(
            "{} ran {} and not {name}.",
            runner.display(),
            report.runtime
        )));
    }
    Ok(report)
}

fn command(job: &Job, contender: &Contender, runner: &Path) -> Command {
    let mut command = Command::new(runner);
    command
        .arg(job.benchmark.name)
        .arg("--runtime")
        .arg(contender.runtime.name);
    command.arg("--workers").arg(job.workers.to_string());
    command.arg("--seconds").arg(job.seconds.to_string());
    command.arg("--scale").arg(job.scale.to_string());
    if contender.is_go() {
        command
            .env("GOMAXPROCS", job.workers.to_string())
            .env_remove("GOMEMLIMIT");
        if contender.runtime.name == "go-nogc" {
            command.env("GOGC", "off");
        } else {
            command.env_remove("GOGC");
        }
    }
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Waits for the child's end without looking again and again, which would disturb it.
fn wait(
    mut child: Child,
    limit: Duration,
    name: &str,
) -> Result<(ExitStatus, String, String), Failure> {
    let mut stdout = child.stdout.take().expect("it is piped");
    let mut stderr = child.stderr.take().expect("it is piped");
    let (sender, read) = mpsc::channel();
    let complaining = thread::spawn(move || {
        let mut text = Vec::new();
        let _ = stderr.read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    });
    let reading = thread::spawn(move || {
        let mut text = Vec::new();
        let _ = stdout.read_to_end(&mut text);
        let _ = sender.send(String::from_utf8_lossy(&text).into_owned());
    });
    let output = match read.recv_timeout(limit) {
        Ok(output) => output,
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
            let _ = child.kill();
            let _ = child.wait();
            return Err(Failure::Run(format!(
                "{name} had not ended after {:.0} s.",
                limit.as_secs_f64()
            )));
        }
    };
    let status = child
        .wait()
        .map_err(|error| Failure::Run(format!("{name} can't be waited for: {error}.")))?;
    let _ = reading.join();
    Ok((status, output, complaining.join().unwrap_or_default()))
}

fn failure(name: &str, complaints: &str, status: ExitStatus) -> Failure {
    let last = complaints
        .lines()
        .rfind(|line| !line.trim().is_empty())
        .unwrap_or("no message");
    let last = last.strip_prefix("fiber-runner: ").unwrap_or(last);
    match status.code().map(u8::try_from) {
        Some(Ok(fail::STATUS_USAGE)) => Failure::Usage(last.to_owned()),
        Some(Ok(fail::STATUS_CANNOT_RUN)) => Failure::CannotRun(last.to_owned()),
        _ => Failure::Run(format!("{name} failed ({status}): {last}")),
    }
}
