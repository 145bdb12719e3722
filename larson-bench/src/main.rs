//! larson-bench: larson and its family of allocator benchmarks, under Millpond and its peers.
//!
//! This program measures nothing itself. It builds one runner per allocator ([`runners`]), starts it as a child
//! process for each run ([`child`]), and shows ([`single`]) or compares ([`compare`]) what the children report.

mod allocators;
mod child;
mod cli;
mod compare;
mod list;
mod runners;
mod single;

use std::process::ExitCode;

use clap::Parser;
use cli::{Cli, Command};

/// Why the program ends without having done what it was asked for.
#[derive(Debug)]
enum Failure {
    /// The arguments are wrong; status 2.
    Usage(String),
    /// Something went wrong on the way; status 1.
    Run(String),
}

fn main() -> ExitCode {
    let result = match Cli::try_parse() {
        Ok(cli) => run(&cli.command),
        Err(error) => return bench_support::command_line::answer("larson-bench", &error),
    };
    let (sentence, status) = match result {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Usage(sentence)) => (sentence, 2),
        Err(Failure::Run(sentence)) => (sentence, 1),
    };
    eprintln!("larson-bench: {sentence}");
    ExitCode::from(status)
}

fn run(command: &Command) -> Result<(), Failure> {
    match command {
        Command::List => {
            list::print();
            Ok(())
        }
        Command::Larson(arguments) => single::larson(arguments),
        Command::Run(arguments) => single::run(arguments),
        Command::Compare(arguments) => compare::compare(arguments),
    }
}
