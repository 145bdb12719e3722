//! The runner: one workload under one allocator, chosen when this program was built.

mod allocator;

use std::process::ExitCode;

fn main() -> ExitCode {
    larson_runner::run_from_command_line(&allocator::hooks())
}
