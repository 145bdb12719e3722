//! `fiber-bench compare`: the same benchmarks under several runtimes, interleaved, and what came of it.

mod plan;
mod summary;
mod table;

use std::path::{Path, PathBuf};

use bench_support::machine::Machine;
use bench_support::progress::Progress;
use fiber_bench::report::Report;
use serde::Serialize;

use self::plan::Plan;
use self::summary::Summary;
use crate::Failure;
use crate::child::{self, Job};
use crate::cli::CompareArguments;
use crate::contender::Contender;
use crate::runners;

/// What `--json FILE` writes.
#[derive(Debug, Serialize)]
struct Comparison {
    machine: Machine,
    runs: Vec<Report>,
    summary: Vec<Summary>,
    /// Runtimes that can't run a benchmark, with the reason.
    cannot_run: Vec<CannotRun>,
    /// Runs that failed, as one sentence each.
    failures: Vec<String>,
}

/// A cell without a figure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CannotRun {
    benchmark: String,
    runtime: String,
    reason: String,
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
    let contenders = prepare(&plan)?;
    let (runs, cannot_run, failures) = run_interleaved(&plan, &contenders);
    let summary = summary::summarise(&runs);
    table::print(&summary, &runs, &cannot_run, plan.runs);
    if let Some(file) = &arguments.json {
        let comparison = Comparison {
            machine: Machine::this(),
            runs,
            summary,
            cannot_run,
            failures: failures.clone(),
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
fn prepare(plan: &Plan) -> Result<Vec<(Contender, PathBuf)>, Failure> {
    let mut contenders = Vec::new();
    let mut without: Vec<(String, String)> = Vec::new();
    for contender in &plan.contenders {
        match runners::get(contender) {
            Ok(runner) => contenders.push((*contender, runner)),
            // Named by the user, it is missed; by default it is only left out.
            Err(why) if plan.named => {
                return Err(Failure::Usage(format!(
                    "{} can't be run here: {why}.",
                    contender.name()
                )));
            }
            Err(why) => without.push((contender.name(), why)),
        }
    }
    for (name, why) in without {
        eprintln!("Left out: {name}: {why}.");
    }
    if contenders.is_empty() {
        return Err(Failure::Run("No runtime is left to compare.".to_owned()));
    }
    Ok(contenders)
}

/// Each benchmark with all runtimes in turn, then again: whatever else the machine does meets all of them alike.
fn run_interleaved(
    plan: &Plan,
    contenders: &[(Contender, PathBuf)],
) -> (Vec<Report>, Vec<CannotRun>, Vec<String>) {
    let progress = Progress::new(plan.jobs.len() * contenders.len() * plan.runs);
    let (mut reports, mut cannot_run, mut failures) = (Vec::new(), Vec::new(), Vec::new());
    for job in &plan.jobs {
        let mut out = vec![false; contenders.len()];
        for round in 1..=plan.runs {
            for ((contender, runner), out) in contenders.iter().zip(&mut out) {
                let name = job.benchmark.name;
                progress.show(&format!(
                    "{name} {}, run {round} of {}",
                    contender.name(),
                    plan.runs
                ));
                if !*out {
                    match one(job, contender, runner) {
                        Ok(report) => reports.push(report),
                        Err(Failure::CannotRun(reason)) => {
                            *out = true;
                            let (benchmark, runtime) = (name.to_owned(), contender.name());
                            cannot_run.push(CannotRun {
                                benchmark,
                                runtime,
                                reason,
                            });
                        }
                        Err(Failure::Usage(sentence) | Failure::Run(sentence)) => {
                            progress.say(&format!("FAILED: {sentence}"));
                            failures.push(sentence);
                        }
                    }
                }
                progress.advance();
            }
        }
        progress.row_done(job.benchmark.name);
    }
    progress.finish();
    (reports, cannot_run, failures)
}

fn one(job: &Job, contender: &Contender, runner: &Path) -> Result<Report, Failure> {
    if let Some(why) = job.cannot_run(contender) {
        return Err(Failure::CannotRun(why.to_owned()));
    }
    child::run(job, contender, runner)
}
