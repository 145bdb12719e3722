//! `fiber-bench run`: one run, shown.

use fiber_bench::report::Report;

use crate::Failure;
use crate::child::{self, Job};
use crate::cli::RunArguments;
use crate::contender::Contender;
use crate::runners;

/// Runs a benchmark once.
///
/// # Errors
/// When the arguments are wrong, the runtime can't run it, or the run fails.
pub fn run(arguments: &RunArguments) -> Result<(), Failure> {
    let common = &arguments.common;
    let job = Job::new(
        &arguments.benchmark,
        arguments.workers,
        common.seconds.unwrap_or(1.0),
        common.scale,
    )?;
    let contender = Contender::parse(&arguments.runtime, common.allocator)?;
    let cannot = |why: &str| {
        Failure::CannotRun(format!(
            "{} cannot run {}: {why}.",
            contender.name(),
            job.benchmark.name
        ))
    };
    if let Some(why) = job.cannot_run(&contender) {
        return Err(cannot(why));
    }
    let runner = runners::get(&contender).map_err(|why| match contender.is_go() {
        true => Failure::Usage(format!("{} can't be run here: {why}.", contender.name())),
        false => Failure::Run(format!("The runner can't be had: {why}.")),
    })?;
    let report = child::run(&job, &contender, &runner).map_err(|failure| match failure {
        Failure::CannotRun(why) => cannot(&why),
        other => other,
    })?;
    if arguments.json {
        println!(
            "{}",
            serde_json::to_string(&report).expect("a report has only string keys")
        );
    } else {
        show(&report, job.benchmark.operation);
    }
    Ok(())
}

fn show(report: &Report, operation: &str) {
    println!(
        "{} under {} {}, {} worker(s)",
        report.benchmark, report.runtime, report.version, report.workers
    );
    line(
        "operations per second",
        format!("{:.3} million ({operation})", report.ops_per_sec / 1e6),
    );
    line("time per operation", nanoseconds(1e9 / report.ops_per_sec));
    line(
        "median, 99th percentile",
        format!(
            "{}, {}",
            nanoseconds(report.p50_ns),
            nanoseconds(report.p99_ns)
        ),
    );
    line(
        "operations",
        format!("{} in {:.3} s", report.ops, report.seconds),
    );
    line(
        "processor time",
        format!(
            "{:.2} s user, {:.2} s system",
            report.user_seconds, report.sys_seconds
        ),
    );
    line("context switches", report.context_switches.to_string());
    line("peak memory", megabytes(report.peak_rss_bytes));
    line("checks", report.checks.clone());
    for (name, value) in &report.extra {
        let value = match value.as_u64() {
            Some(bytes) if name.starts_with("rss_bytes") || name.ends_with("_bytes") => {
                megabytes(bytes)
            }
            _ => value.to_string(),
        };
        line(name, value);
    }
}

fn line(name: &str, value: String) {
    println!("  {name:<36} {value}");
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

/// A time with its unit.
pub fn nanoseconds(time: f64) -> String {
    match time {
        long if long >= 1e6 => format!("{:.2} ms", long / 1e6),
        middle if middle >= 1e4 => format!("{:.1} us", middle / 1e3),
        short => format!("{short:.1} ns"),
    }
}
