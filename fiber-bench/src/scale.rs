//! `fiber-bench scale`: benchmarks with several numbers of workers.

use bench_support::figures::{count, median, new_table};
use bench_support::progress::Progress;
use comfy_table::{Cell, CellAlignment};

use crate::Failure;
use crate::child::{self, Job};
use crate::cli::ScaleArguments;
use crate::contender::Contender;
use crate::runners;

/// What is scaled if nothing is named.
const DEFAULT: [&str; 10] = [
    "spawn_nursery",
    "trivial_task",
    "yield_many",
    "skynet",
    "fib_30",
    "spsc_64",
    "mpmc_64",
    "parallel_for_15",
    "parallel_for_per_chunk",
    "herd_1000",
];

/// Runs them and prints the table.
///
/// # Errors
/// When the arguments are wrong, or a run fails.
pub fn scale(arguments: &ScaleArguments) -> Result<(), Failure> {
    let common = &arguments.common;
    if arguments.runs == 0 {
        return Err(Failure::Usage(
            "The number of runs must be 1 or more.".to_owned(),
        ));
    }
    let contender = Contender::parse(&arguments.runtime, common.allocator)?;
    let names: Vec<&str> = match arguments.benchmarks.is_empty() {
        true => DEFAULT.to_vec(),
        false => arguments.benchmarks.iter().map(String::as_str).collect(),
    };
    let seconds = common.seconds.unwrap_or(1.0);
    let mut rows = Vec::new();
    for name in names {
        let jobs = arguments
            .workers
            .iter()
            .map(|&workers| Job::new(name, workers, seconds, common.scale));
        rows.push(jobs.collect::<Result<Vec<Job>, Failure>>()?);
    }
    let runner = runners::get(&contender)
        .map_err(|why| Failure::Usage(format!("{} can't be run here: {why}.", contender.name())))?;
    let progress = Progress::new(rows.len() * arguments.workers.len() * arguments.runs);
    let mut table = new_table();
    let mut header = vec!["benchmark".to_owned()];
    header.extend(
        arguments
            .workers
            .iter()
            .map(|workers| format!("{workers} worker(s)")),
    );
    table.set_header(header);
    for jobs in &rows {
        let mut speeds = vec![Vec::new(); jobs.len()];
        for _ in 0..arguments.runs {
            for (job, speeds) in jobs.iter().zip(&mut speeds) {
                progress.show(&format!(
                    "{}, {} worker(s)",
                    job.benchmark.name, job.workers
                ));
                if job.cannot_run(&contender).is_none() {
                    match child::run(job, &contender, &runner) {
                        Ok(report) => speeds.push(report.ops_per_sec),
                        Err(Failure::CannotRun(_)) => {}
                        Err(failure) => return Err(failure),
                    }
                }
                progress.advance();
            }
        }
        progress.row_done(jobs[0].benchmark.name);
        table.add_row(row(jobs, speeds));
    }
    progress.finish();
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    println!(
        "{}: median operations per second of {} run(s), and relative to the first",
        contender.name(),
        arguments.runs
    );
    println!("{table}");
    Ok(())
}

fn row(jobs: &[Job], speeds: Vec<Vec<f64>>) -> Vec<Cell> {
    let medians: Vec<Option<f64>> = speeds
        .into_iter()
        .map(|mut speeds| (!speeds.is_empty()).then(|| median(&mut speeds)))
        .collect();
    let first = medians.iter().flatten().next().copied().unwrap_or(1.0);
    let mut cells = vec![Cell::new(jobs[0].benchmark.name)];
    cells.extend(medians.into_iter().map(|median| match median {
        Some(median) => Cell::new(format!("{}/s\n{:.2}", count(median), median / first)),
        None => Cell::new("cannot run"),
    }));
    cells
}
