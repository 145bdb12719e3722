//! Programs that know nothing of Millpond, run with it preloaded: what they print is compared with the plain run, the
//! statistics at exit must show that Millpond served them, and a count of their calls that one process made a million
//! and more. `table` prints README.md's table of them.

#[path = "../support/mod.rs"]
mod support;

mod commands;
mod redis_peers;
mod run;
mod servers;

use run::{Allocator, Process, Run};
use std::path::Path;
use std::process::Command;
use support::{fresh_folder, needs, preloaded, succeed};

const MILLION: u64 = 1_000_000;

/// A program, and what it is made to do.
struct Program {
    name: &'static str,
    /// The commands that must be there.
    needs: &'static [&'static str],
    /// The command that says its version when asked with `--version`.
    version: fn() -> Command,
    /// For the table.
    does: &'static str,
    /// The calls that one of its processes makes at least.
    least: u64,
    work: Work,
}

enum Work {
    /// A command that runs in a folder of its own, which is prepared before.
    Command {
        prepare: fn(&Path),
        command: fn() -> Command,
    },
    /// A server that is started in such a folder, asked, and ended.
    Server(fn(&Path, Allocator) -> Run),
}

impl Program {
    fn run(&self, allocator: Allocator) -> Run {
        let folder = fresh_folder(&format!("program_{}_{}", self.name, allocator.name()));
        match self.work {
            Work::Command { prepare, command } => {
                prepare(&folder);
                let mut command = command();
                command.current_dir(&folder).env("LC_ALL", "C");
                allocator.serve(&mut command, &allocator.libraries());
                Process::start(&mut command, &folder).finish()
            }
            Work::Server(run) => run(&folder, allocator),
        }
    }

    /// Compares runs on the C library's allocator and on Millpond.
    fn test(&self) {
        if !needs(self.name, self.needs) {
            return;
        }
        let plain = self.run(Allocator::Plain);
        let ours = self.run(Allocator::Statistics);
        let counted = self.run(Allocator::Counted);
        for run in [&ours, &counted] {
            assert!(
                plain.answer == run.answer,
                "{}: the outputs differ",
                self.name
            );
        }
        let (handed_out, calls) = (ours.most("allocations"), counted.most("calls"));
        println!(
            "{}: {calls} calls; {handed_out} blocks handed out in refills",
            self.name
        );
        assert!(
            handed_out > 0 && calls >= self.least,
            "{}: only {calls} calls",
            self.name
        );
    }

    /// The version that it says it has.
    fn version(&self) -> String {
        let output = succeed((self.version)().arg("--version"));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let plain = |word: &str| {
            word.trim_start_matches(['v', '=', '('])
                .trim_end_matches([')', ','])
                .to_owned()
        };
        let is_version =
            |word: &String| word.contains('.') && word.starts_with(|c: char| c.is_ascii_digit());
        text.split_whitespace()
            .map(plain)
            .find(is_version)
            .unwrap_or_default()
    }

    /// Its line of the table.
    fn line(&self) -> String {
        let counted = self.run(Allocator::Counted);
        let mut plain: Vec<Run> = Vec::new();
        let mut ours: Vec<Run> = Vec::new();
        for _ in 0..ROUNDS {
            plain.push(self.run(Allocator::Plain));
            ours.push(self.run(Allocator::Millpond));
        }
        let identical = ours
            .iter()
            .chain([&counted])
            .all(|run| run.answer == plain[0].answer);
        let seconds = |runs: &[Run]| median(runs, |run| run.cpu).as_secs_f64();
        let peak = |runs: &[Run]| median(runs, |run| run.peak) as f64 / 1e6;
        format!(
            "| {} {} | {} | {} | {} | {:.2} / {:.2} | {:.0} / {:.0} |",
            self.name,
            self.version(),
            self.does,
            grouped(counted.all("calls")),
            if identical { "identical" } else { "differs" },
            seconds(&plain),
            seconds(&ours),
            peak(&plain),
            peak(&ours),
        )
    }
}

/// Of each figure in the table the median is taken of so many runs; those of both allocators take turns.
const ROUNDS: usize = 3;

fn median<T: Ord + Copy>(runs: &[Run], of: impl Fn(&Run) -> T) -> T {
    let mut values: Vec<T> = runs.iter().map(of).collect();
    values.sort();
    values[values.len() / 2]
}

/// A number with a comma between each three digits.
fn grouped(number: u64) -> String {
    if number < 1000 {
        return number.to_string();
    }
    format!("{},{:03}", grouped(number / 1000), number % 1000)
}

macro_rules! programs {
    ($($test:ident: $program:expr,)*) => {
        $(
            #[test]
            fn $test() {
                $program.test();
            }
        )*

        const ALL: &[&Program] = &[$(&$program),*];
    };
}

programs! {
    python: commands::PYTHON,
    perl: commands::PERL,
    node: commands::NODE,
    java: commands::JAVA,
    git: commands::GIT,
    cpp_compiler: commands::CPP_COMPILER,
    sqlite: commands::SQLITE,
    redis: servers::REDIS,
    postgres: servers::POSTGRES,
    xz_with_threads: commands::XZ,
    parallel_sort: commands::SORT,
}

/// Prints README.md's table.
#[test]
#[ignore = "takes minutes, and wants an idle machine"]
fn table() {
    println!("| program | what it does | calls | result | CPU seconds | peak resident MB |");
    println!("|---|---|---|---|---|---|");
    for program in ALL {
        if needs(program.name, program.needs) {
            println!("{}", program.line());
        }
    }
    // The system counts what the test had resident when it started a program to that program's peak.
    let own = run::peak_of_this_process();
    println!("\nPeaks below {:.0} MB can't be told.", own as f64 / 1e6);
    assert!(own < 16_000_000);
}

#[test]
fn preloaded_commands_start() {
    // What a shell script starts, one after the other: each a process with the library loaded anew.
    let output = succeed(
        preloaded("sh").args(["-c", "for i in $(seq 100); do expr $i + 1; done | tail -1"]),
    );
    assert_eq!(output.stdout, b"101\n");
}
