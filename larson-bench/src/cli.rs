//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use larson_runner::options::WorkloadOptions;

const ABOUT: &str = "\
Measures memory allocators with larson and its family of multithreaded benchmarks.

Every run is a process of its own whose #[global_allocator] is the allocator under test; the program that does the \
work is built for each allocator when it is first needed. Every workload checks the blocks that it gets and fails \
if one of them was damaged.";

const EXAMPLES: &str = "\
Examples:
  larson-bench list                                   what can be run, and under what
  larson-bench larson 3 2048 32768 10000 1 12345 2    the classic larson: 3 s, 2 to 32 KiB, 2 threads
  larson-bench larson 3 2048 32768 10000 1 12345 2 --allocator mimalloc --json
  larson-bench run xmalloc --threads 4 --seconds 5    one workload under Millpond
  larson-bench run burst --free-by other --millpond-option background_thread=true
  larson-bench run mstress --allocator preload:/usr/lib/libjemalloc.so.2
  larson-bench compare --quick                        a tour in under three minutes
  larson-bench compare --all --runs 5 --json all.json everything, with figures to keep
  larson-bench compare --workloads larson,pipeline --allocators millpond,snmalloc --threads 4";

/// The whole command line.
#[derive(Parser, Debug)]
#[command(name = "larson-bench", version, about = ABOUT, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

/// What can be asked for.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// List the workloads and the allocators
    List,
    /// Run larson with its classic positional arguments
    Larson(LarsonArguments),
    /// Run one workload once
    Run(RunArguments),
    /// Compare allocators, interleaved, and print tables
    Compare(CompareArguments),
}

/// What `larson` and `run` share.
#[derive(Args, Debug, Clone)]
pub struct OneRun {
    /// Allocator to run under: one of `larson-bench list`, or preload:FILE
    #[arg(long, value_name = "NAME", default_value = "millpond")]
    pub allocator: String,
    /// Print one JSON object, on the last line of standard output
    #[arg(long)]
    pub json: bool,
    /// Set an option of Millpond before the run (may be repeated)
    #[arg(long, value_name = "NAME=VALUE")]
    pub millpond_option: Vec<String>,
    /// Damage one block, to show that the run notices
    #[arg(long, hide = true)]
    pub damage_a_block: bool,
}

/// Larson's seven positional arguments.
#[derive(Args, Debug, Clone)]
#[command(
    about = "Run larson with its classic positional arguments",
    long_about = "Runs larson with its classic positional arguments.\n\nEach thread owns an array of blocks, frees \
                  random ones and allocates others in their place. After BLOCKS x ROUNDS replacements it starts a \
                  successor, hands it the array and ends.",
    after_help = "Example:\n  larson-bench larson 3 2048 32768 10000 1 12345 1 --json"
)]
pub struct LarsonArguments {
    /// Length of the run
    #[arg(default_value_t = 3.0)]
    pub seconds: f64,
    /// Smallest block in bytes
    #[arg(default_value_t = 2_048)]
    pub min: usize,
    /// Largest block in bytes
    #[arg(default_value_t = 32_768)]
    pub max: usize,
    /// Blocks per thread
    #[arg(default_value_t = 10_000)]
    pub blocks: usize,
    /// Rounds after which a thread ends
    #[arg(default_value_t = 1)]
    pub rounds: u64,
    /// Seed of the random numbers
    #[arg(default_value_t = 12_345)]
    pub seed: u64,
    /// Threads at a time
    #[arg(default_value_t = 1)]
    pub threads: usize,
    #[command(flatten)]
    pub one: OneRun,
}

/// Arguments of `run`.
#[derive(Args, Debug, Clone)]
#[command(after_help = "Examples:
  larson-bench run sh8bench
  larson-bench run pipeline --threads 3 --seconds 30 --json
  larson-bench run burst --keep-every 1000 --free-by after-exit --idle-seconds 1")]
pub struct RunArguments {
    /// Workload to run, one of `larson-bench list`
    pub workload: String,
    /// Threads that work at the same time [default: 2, or what the workload says]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Length of the measured part in seconds [default: the workload's own]
    #[arg(long, value_name = "S")]
    pub seconds: Option<f64>,
    #[command(flatten)]
    pub options: WorkloadOptions,
    #[command(flatten)]
    pub one: OneRun,
}

/// Arguments of `compare`.
#[derive(Args, Debug, Clone)]
#[command(
    long_about = "Compares allocators: every workload under each of them in turn, several times over.\n\nRunners that \
                  are missing are built first, outside the measured time; an allocator that can't be built here is \
                  left out by name. Run nothing else meanwhile.",
    after_help = "Examples:
  larson-bench compare --quick
  larson-bench compare --all --runs 5 --json all.json
  larson-bench compare --pairs --all --runs 7
  larson-bench compare --workloads larson,burst --allocators millpond,mimalloc,preload:/usr/lib/libtcmalloc.so.4"
)]
pub struct CompareArguments {
    /// The demonstration: a representative subset in under three minutes
    #[arg(long, conflicts_with = "all")]
    pub quick: bool,
    /// All workloads under all allocators, larson also with 4 threads
    #[arg(long)]
    pub all: bool,
    /// Single sizes in single orders instead: what a pair of allocation and free costs (with --all: all allocators)
    #[arg(long, conflicts_with_all = ["quick", "workloads"])]
    pub pairs: bool,
    /// Only these workloads
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    pub workloads: Vec<String>,
    /// Only these allocators; preload:FILE is one
    #[arg(long, value_name = "X,Y", value_delimiter = ',')]
    pub allocators: Vec<String>,
    /// Threads, for every workload that can have as many
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Runs of each [default: 3]
    #[arg(long, value_name = "R")]
    pub runs: Option<usize>,
    /// Length of each run in seconds [default: the workload's own; 0.8 with --quick]
    #[arg(long, value_name = "S")]
    pub seconds: Option<f64>,
    /// burst: seconds to idle after freeing
    #[arg(long, value_name = "SECONDS", default_value_t = 0.0)]
    pub idle_seconds: f64,
    /// Set an option of Millpond in its runs (may be repeated)
    #[arg(long, value_name = "NAME=VALUE")]
    pub millpond_option: Vec<String>,
    /// Write all runs, summary and means to a file
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use bench_support::command_line::one_sentence;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn errors_become_one_sentence() {
        for arguments in [
            &["larson-bench", "run"][..],
            &["larson-bench", "larson", "x"],
            &["larson-bench", "--no"],
        ] {
            let error = Cli::try_parse_from(arguments).expect_err("these are wrong");
            let sentence = one_sentence(&error.to_string());
            assert!(
                !sentence.contains('\n') && sentence.ends_with("; see --help."),
                "{sentence}"
            );
        }
    }
}
