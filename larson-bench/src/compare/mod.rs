//! `larson-bench compare`: the same workloads under several allocators, interleaved, and what came of it.

mod plan;
mod summary;
mod table;

use std::path::{Path, PathBuf};

use bench_support::machine::Machine;
use bench_support::progress::Progress;
use larson_runner::report::Report;
use serde::Serialize;

use self::plan::{Plan, Row};
use self::summary::{Geomean, Summary};
use crate::Failure;
use crate::allocators::Choice;
use crate::child;
use crate::cli::CompareArguments;
use crate::runners::Runners;

/// What `--json FILE` writes.
#[derive(Debug, Serialize)]
struct Comparison {
    machine: Machine,
    larson_bench: &'static str,
    runs: Vec<Report>,
    summary: Vec<Summary>,
    geomean: Vec<Geomean>,
    /// Allocators that could not be compared, with the reason.
    left_out: Vec<LeftOut>,
    /// Runs that failed, as one sentence each.
    failures: Vec<String>,
}

/// An allocator without a runner.
#[derive(Debug, Serialize)]
struct LeftOut {
    allocator: String,
    reason: String,
}

/// An allocator with its runner.
struct Contender {
    choice: Choice,
    runner: PathBuf,
}

/// Runs the comparison.
///
/// # Errors
/// When the arguments are wrong, nothing can be compared, the file can't be written, or a run failed.
pub fn compare(arguments: &CompareArguments) -> Result<(), Failure> {
    let plan = Plan::new(arguments)?;
    if let Some(file) = &arguments.json {
        // A comparison takes minutes; that its result can't be kept should show before, not after.
        write_file(file, "")?;
    }
    let (contenders, left_out) = prepare(&plan);
    for LeftOut { allocator, reason } in &left_out {
        eprintln!("Left out: {allocator} can't be built here: {reason}");
    }
    if contenders.is_empty() {
        return Err(Failure::Run("No allocator is left to compare.".to_owned()));
    }
    let (runs, failures) = run_interleaved(&plan, &contenders);
    let summary = summary::summarise(&runs);
    let geomean = summary::geometric_means(&summary);
    table::print(&summary, &geomean, &runs, plan.runs);
    for LeftOut { allocator, reason } in &left_out {
        println!("Left out: {allocator}: {reason}");
    }
    if let Some(file) = &arguments.json {
        let failures = failures.clone();
        let comparison = Comparison {
            machine: Machine::this(),
            larson_bench: env!("CARGO_PKG_VERSION"),
            runs,
            summary,
            geomean,
            left_out,
            failures,
        };
        let mut text =
            serde_json::to_string_pretty(&comparison).expect("a comparison has only string keys");
        text.push('\n');
        write_file(file, &text)?;
    }
    if failures.is_empty() {
        return Ok(());
    }
    for failure in &failures {
        println!("FAILED: {failure}");
    }
    Err(Failure::Run(format!(
        "{} of the runs failed; see above.",
        failures.len()
    )))
}

fn write_file(path: &Path, text: &str) -> Result<(), Failure> {
    let sentence = |error| Failure::Run(format!("{} can't be written: {error}.", path.display()));
    std::fs::write(path, text).map_err(sentence)
}

/// Builds what is missing. All of it before the first run: compiling beside a measurement would spoil it.
fn prepare(plan: &Plan) -> (Vec<Contender>, Vec<LeftOut>) {
    let mut runners = Runners::new();
    let (mut contenders, mut left_out) = (Vec::new(), Vec::new());
    for choice in &plan.allocators {
        match runners.get(choice.runner()) {
            Ok(runner) => contenders.push(Contender {
                choice: choice.clone(),
                runner,
            }),
            Err(reason) => left_out.push(LeftOut {
                allocator: choice.name(),
                reason,
            }),
        }
    }
    (contenders, left_out)
}

/// Each workload with all allocators in turn, then again: whatever else the machine does meets all of them alike.
fn run_interleaved(plan: &Plan, contenders: &[Contender]) -> (Vec<Report>, Vec<String>) {
    let progress = Progress::new(plan.rows.len() * contenders.len() * plan.runs);
    let (mut reports, mut failures) = (Vec::new(), Vec::new());
    for row in &plan.rows {
        for round in 1..=plan.runs {
            for contender in contenders {
                progress.show(&format!(
                    "{} {}, run {round} of {}",
                    row.label(),
                    contender.choice.name(),
                    plan.runs
                ));
                match run_one(row, plan, contender) {
                    Ok(report) => reports.push(report),
                    Err(sentence) => {
                        progress.say(&format!("FAILED: {sentence}"));
                        failures.push(sentence);
                    }
                }
                progress.advance();
            }
        }
        progress.row_done(&row.label());
    }
    progress.finish();
    (reports, failures)
}

fn run_one(row: &Row, plan: &Plan, contender: &Contender) -> Result<Report, String> {
    let mut job = row.job.clone();
    if contender.choice.name() == "millpond" {
        job.millpond_options.clone_from(&plan.millpond_options);
    }
    child::run(&job, &contender.choice, &contender.runner).map_err(|failure| match failure {
        Failure::Usage(sentence) | Failure::Run(sentence) => sentence,
    })
}
