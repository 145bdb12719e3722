//! What is compared: the benchmarks, the runtimes, how often.

use fiber_bench::catalog::BENCHMARKS;

use crate::Failure;
use crate::child::Job;
use crate::cli::CompareArguments;
use crate::contender::Contender;

/// Length of a run of `--quick`, so that the whole of it stays below eight minutes with all runtimes.
const QUICK_SECONDS: f64 = 0.2;

/// The whole comparison.
#[derive(Debug)]
pub struct Plan {
    pub jobs: Vec<Job>,
    pub contenders: Vec<Contender>,
    /// Whether the user named the contenders.
    pub named: bool,
    pub runs: usize,
}

impl Plan {
    /// Plans what the arguments ask for.
    ///
    /// # Errors
    /// When they name something unknown or ask for what nothing accepts.
    pub fn new(arguments: &CompareArguments) -> Result<Self, Failure> {
        if arguments.runs == 0 {
            return Err(Failure::Usage(
                "The number of runs must be 1 or more.".to_owned(),
            ));
        }
        let common = &arguments.common;
        let seconds = common
            .seconds
            .unwrap_or(if arguments.quick { QUICK_SECONDS } else { 1.0 });
        let names: Vec<&str> = if arguments.benchmarks.is_empty() {
            let wanted = BENCHMARKS
                .iter()
                .filter(|benchmark| benchmark.quick || !arguments.quick);
            wanted.map(|benchmark| benchmark.name).collect()
        } else {
            arguments.benchmarks.iter().map(String::as_str).collect()
        };
        let jobs = names
            .into_iter()
            .map(|name| Job::new(name, arguments.workers, seconds, common.scale));
        let jobs = jobs.collect::<Result<Vec<Job>, Failure>>()?;
        let named = !arguments.runtimes.is_empty();
        let contenders = if named {
            named_contenders(arguments)?
        } else {
            Contender::all(common.allocator)
        };
        Ok(Self {
            jobs,
            contenders,
            named,
            runs: arguments.runs,
        })
    }
}

/// Those that are named; a Rust library under the allocator that is named with it, or asked for, or under both.
fn named_contenders(arguments: &CompareArguments) -> Result<Vec<Contender>, Failure> {
    let mut contenders: Vec<Contender> = Vec::new();
    let mut add = |contender: Contender| {
        if contenders
            .iter()
            .all(|known| known.name() != contender.name())
        {
            contenders.push(contender);
        }
    };
    for name in &arguments.runtimes {
        // Those that have only one allocator don't mind which one the others get.
        let plain = Contender::parse(name, None)?;
        match arguments.common.allocator {
            _ if !plain.runtime.is_rust_peer || plain.on_millpond => add(plain),
            Some(_) => add(Contender::parse(name, arguments.common.allocator)?),
            None => {
                add(plain);
                add(Contender {
                    on_millpond: true,
                    ..plain
                });
            }
        }
    }
    Ok(contenders)
}
