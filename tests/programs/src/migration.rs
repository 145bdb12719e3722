//! A fiber that moves between threads: `migration_fiber.rs`, where the C library has contexts to switch between.

#[cfg(target_env = "gnu")]
#[path = "migration_fiber.rs"]
mod fiber;

use std::process::ExitCode;

fn main() -> ExitCode {
    #[cfg(target_env = "gnu")]
    return fiber::run();
    #[cfg(not(target_env = "gnu"))]
    ExitCode::FAILURE
}
