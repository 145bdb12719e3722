//! The runner under the system's allocator.

use std::process::ExitCode;

fn main() -> ExitCode {
    fiber_bench::runner::run_from_command_line("system")
}
