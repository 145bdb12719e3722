//! fiber-bench: benchmarks of fiber runtimes, under Millpond and its peers.
//!
//! This program measures nothing itself. It builds its runners ([`runners`]), starts one as a child process for each
//! run ([`child`]), and shows ([`single`]), compares ([`compare`]) or scales ([`scale`]) what the children report.

mod child;
mod cli;
mod compare;
mod contender;
mod list;
mod runners;
mod scale;
mod single;

use std::process::ExitCode;

use clap::Parser;
use cli::{Cli, Command};

/// Why the program ends without having done what it was asked for.
#[derive(Debug)]
enum Failure {
    /// The arguments are wrong; status 2.
    Usage(String),
    /// This runtime or this machine can't do the run; status 2.
    CannotRun(String),
    /// Something went wrong on the way; status 1.
    Run(String),
}

fn main() -> ExitCode {
    let result = match Cli::try_parse() {
        Ok(cli) => run(&cli.command),
        Err(error) => return bench_support::command_line::answer("fiber-bench", &error),
    };
    let (sentence, status) = match result {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Usage(sentence) | Failure::CannotRun(sentence)) => (sentence, 2),
        Err(Failure::Run(sentence)) => (sentence, 1),
    };
    eprintln!("fiber-bench: {sentence}");
    ExitCode::from(status)
}

fn run(command: &Command) -> Result<(), Failure> {
    match command {
        Command::List => {
            list::print();
            Ok(())
        }
        Command::Run(arguments) => single::run(arguments),
        Command::Compare(arguments) => compare::compare(arguments),
        Command::Scale(arguments) => scale::scale(arguments),
    }
}
