//! `larson-bench larson` and `larson-bench run`: one run, shown.

use larson_runner::options::WorkloadOptions;
use larson_runner::report::Report;

use crate::Failure;
use crate::allocators::Choice;
use crate::child::{self, Job};
use crate::cli::{LarsonArguments, OneRun, RunArguments};
use crate::runners::Runners;

/// Runs larson with its positional arguments.
pub fn larson(arguments: &LarsonArguments) -> Result<(), Failure> {
    let options = WorkloadOptions {
        min: Some(arguments.min),
        max: Some(arguments.max),
        blocks: Some(arguments.blocks),
        rounds: Some(arguments.rounds),
        seed: Some(arguments.seed),
        ..WorkloadOptions::default()
    };
    one(
        "larson",
        Some(arguments.threads),
        Some(arguments.seconds),
        options,
        &arguments.one,
    )
}

/// Runs any workload.
pub fn run(arguments: &RunArguments) -> Result<(), Failure> {
    one(
        &arguments.workload,
        arguments.threads,
        arguments.seconds,
        arguments.options.clone(),
        &arguments.one,
    )
}

fn one(
    workload: &str,
    threads: Option<usize>,
    seconds: Option<f64>,
    options: WorkloadOptions,
    one: &OneRun,
) -> Result<(), Failure> {
    let allocator = Choice::parse(&one.allocator).map_err(Failure::Usage)?;
    let job = Job {
        workload: workload.to_owned(),
        threads,
        seconds,
        options,
        millpond_options: one.millpond_option.clone(),
        damage_a_block: one.damage_a_block,
    };
    job.check(&allocator)?;
    let runner = Runners::new().get(allocator.runner()).map_err(|reason| {
        Failure::Run(format!(
            "The runner for {} can't be built here: {reason}",
            allocator.runner().name
        ))
    })?;
    let report = child::run(&job, &allocator, &runner)?;
    if one.json {
        println!(
            "{}",
            serde_json::to_string(&report).expect("a report has only string keys")
        );
    } else {
        show(&report);
    }
    Ok(())
}

fn show(report: &Report) {
    let usage = &report.usage;
    println!(
        "{} under {} {}, {} thread(s)",
        report.workload, report.allocator, report.version, report.threads
    );
    line(
        "operations per second",
        format!("{:.3} million", report.ops_per_sec / 1e6),
    );
    line(
        "operations",
        format!("{} in {:.3} s", report.ops, report.seconds),
    );
    line("peak memory", megabytes(usage.peak_rss_bytes));
    line("minor page faults", usage.minor_faults.to_string());
    line(
        "processor time",
        format!(
            "{:.2} s user, {:.2} s system",
            usage.user_seconds, usage.sys_seconds
        ),
    );
    line("checks", report.checks.clone());
    for (name, value) in &report.extra {
        let value = match value.as_u64() {
            Some(bytes) if name.ends_with("_bytes") => megabytes(bytes),
            _ => value.to_string(),
        };
        line(name, value);
    }
    for (name, value) in report.allocator_stats.iter().flatten() {
        line(&format!("millpond {name}"), value.to_string());
    }
}

fn line(name: &str, value: String) {
    println!("  {name:<36} {value}");
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
