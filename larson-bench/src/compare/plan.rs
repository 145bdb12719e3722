//! What is compared: the rows, the allocators, how often.

use larson_runner::options::WorkloadOptions;
use larson_runner::workloads::{self, Workload};

use crate::Failure;
use crate::allocators::{Choice, KNOWN};
use crate::child::Job;
use crate::cli::CompareArguments;

/// The rows of `--quick`: the workloads that tell allocators apart best in little time.
const QUICK: [(&str, Option<usize>); 10] = [
    ("larson", Some(1)),
    ("larson", Some(2)),
    ("larson-small", None),
    ("sh8bench", None),
    ("xmalloc", None),
    ("mstress", None),
    ("rptest", None),
    ("glibc-thread", None),
    ("malloc-large", None),
    ("pipeline", None),
];
/// Length of a run of `--quick`, so that the whole of it stays below three minutes with the default allocators.
const QUICK_SECONDS: f64 = 0.8;

/// One row of the tables.
#[derive(Clone, Debug)]
pub struct Row {
    pub job: Job,
}

impl Row {
    /// Name in tables and messages.
    pub fn label(&self) -> String {
        label(&self.job.workload, self.job.threads.unwrap_or(1))
    }
}

/// Name of a row: the workload with its number of threads.
pub fn label(workload: &str, threads: usize) -> String {
    format!("{workload} T={threads}")
}

/// The whole comparison.
#[derive(Debug)]
pub struct Plan {
    pub rows: Vec<Row>,
    pub allocators: Vec<Choice>,
    pub runs: usize,
    pub millpond_options: Vec<String>,
}

impl Plan {
    /// Plans what the arguments ask for.
    ///
    /// # Errors
    /// When they name something unknown or ask for a value that no workload accepts.
    pub fn new(arguments: &CompareArguments) -> Result<Self, Failure> {
        if arguments.runs == Some(0) {
            return Err(Failure::Usage(
                "The number of runs must be 1 or more.".to_owned(),
            ));
        }
        let rows = rows(arguments)?;
        let allocators = allocators(arguments)?;
        let millpond_options = arguments.millpond_option.clone();
        Ok(Self {
            rows,
            allocators,
            runs: arguments.runs.unwrap_or(3),
            millpond_options,
        })
    }
}

fn allocators(arguments: &CompareArguments) -> Result<Vec<Choice>, Failure> {
    if arguments.allocators.is_empty() {
        let wanted = KNOWN
            .iter()
            .filter(|known| known.by_default || arguments.all);
        return Ok(wanted.map(Choice::Known).collect());
    }
    let mut choices = Vec::new();
    for name in &arguments.allocators {
        let choice = Choice::parse(name).map_err(Failure::Usage)?;
        if !choices.contains(&choice) {
            choices.push(choice);
        }
    }
    Ok(choices)
}

fn rows(arguments: &CompareArguments) -> Result<Vec<Row>, Failure> {
    let mut rows = Vec::new();
    for (name, threads) in wanted(arguments) {
        let workload = workloads::find(&name).map_err(Failure::Usage)?;
        let about = workload.about();
        // --threads is for all rows; a workload that can't have that many gets what it can.
        let threads = threads.unwrap_or_else(|| {
            arguments
                .threads
                .unwrap_or(about.defaults.threads)
                .clamp(*about.threads.start(), *about.threads.end())
        });
        let idle_seconds = about
            .takes("idle-seconds")
            .then_some(arguments.idle_seconds);
        let job = Job {
            workload: name,
            threads: Some(threads),
            seconds: arguments
                .seconds
                .or(arguments.quick.then_some(QUICK_SECONDS)),
            options: WorkloadOptions {
                idle_seconds,
                ..WorkloadOptions::default()
            },
            millpond_options: Vec::new(),
            damage_a_block: false,
        };
        job.check(&Choice::Known(&KNOWN[0]))?;
        rows.push(Row { job });
    }
    Ok(rows)
}

/// Workloads with the number of threads where the row fixes it. Larson's behaviour changes most with it, so it has
/// several rows unless a number is asked for.
fn wanted(arguments: &CompareArguments) -> Vec<(String, Option<usize>)> {
    if arguments.quick && arguments.workloads.is_empty() {
        let quick = QUICK
            .iter()
            .map(|(name, threads)| ((*name).to_owned(), arguments.threads.or(*threads)));
        let mut rows: Vec<_> = quick.collect();
        rows.dedup();
        return rows
            .into_iter()
            .map(|(name, threads)| (name.clone(), threads.filter(|_| name == "larson")))
            .collect();
    }
    let named = |workload: &dyn Workload| workload.about().name.to_owned();
    let names: Vec<String> = if !arguments.workloads.is_empty() {
        arguments.workloads.clone()
    } else if arguments.pairs {
        workloads::pairs().map(named).collect()
    } else {
        workloads::all().iter().copied().map(named).collect()
    };
    let larson_threads: &[usize] = if arguments.all { &[1, 2, 4] } else { &[1, 2] };
    names
        .into_iter()
        .flat_map(|name| match arguments.threads {
            None if name == "larson" => larson_threads
                .iter()
                .map(|threads| (name.clone(), Some(*threads)))
                .collect(),
            _ => vec![(name, None)],
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(arguments: &[&str]) -> Result<Plan, Failure> {
        use clap::Parser;
        let line = ["larson-bench", "compare"].iter().chain(arguments);
        match crate::cli::Cli::parse_from(line).command {
            crate::cli::Command::Compare(arguments) => Plan::new(&arguments),
            other => panic!("{other:?}"),
        }
    }

    fn labels(arguments: &[&str]) -> Vec<String> {
        plan(arguments)
            .unwrap()
            .rows
            .iter()
            .map(Row::label)
            .collect()
    }

    #[test]
    fn larson_has_a_row_per_number_of_threads() {
        assert_eq!(
            labels(&["--workloads", "larson"]),
            ["larson T=1", "larson T=2"]
        );
        assert_eq!(
            labels(&["--workloads", "larson", "--threads", "8"]),
            ["larson T=8"]
        );
        assert!(labels(&["--all"]).contains(&"larson T=4".to_owned()));
        assert_eq!(labels(&[]).len(), 18);
        assert_eq!(labels(&["--pairs"]).len(), 24);
    }

    #[test]
    fn threads_are_bent_to_what_a_workload_can() {
        assert_eq!(
            labels(&["--workloads", "glibc-simple,xmalloc", "--threads", "1"]),
            ["glibc-simple T=1", "xmalloc T=2"]
        );
        assert_eq!(
            labels(&["--quick", "--threads", "4"])[..2],
            ["larson T=4", "larson-small T=4"]
        );
    }

    #[test]
    fn allocators_are_those_by_default_all_or_named() {
        assert_eq!(plan(&[]).unwrap().allocators.len(), 5);
        assert_eq!(plan(&["--all"]).unwrap().allocators.len(), KNOWN.len());
        assert_eq!(
            plan(&["--allocators", "system,millpond,system"])
                .unwrap()
                .allocators
                .len(),
            2
        );
        assert!(plan(&["--allocators", "none"]).is_err());
    }

    #[test]
    fn wrong_values_are_refused_before_anything_runs() {
        assert!(plan(&["--runs", "0"]).is_err());
        assert!(plan(&["--seconds", "0"]).is_err());
        assert!(plan(&["--workloads", "larsson"]).is_err());
    }
}
