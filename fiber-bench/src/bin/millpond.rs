//! The runner under Millpond.

use std::process::ExitCode;

#[global_allocator]
static GLOBAL: millpond::Millpond = millpond::Millpond;

fn main() -> ExitCode {
    fiber_bench::runner::run_from_command_line("millpond")
}
