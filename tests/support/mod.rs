//! What the integration tests share: threads and blocks whose every step is the test's own, child processes that run
//! one scenario, and measures of the process.

// Each test binary uses a part of this.
#![allow(dead_code)]

pub mod block;
pub mod child;
pub mod harness;
pub mod process;
pub mod program;
pub mod thread;

/// Leaves a test out by name, with the reason; a failure where everything has to run (`MILLPOND_REQUIRE_ALL=1`).
pub fn skip(test: &str, reason: &str) {
    let line = format!("{test} is skipped: {reason}");
    assert!(
        std::env::var_os("MILLPOND_REQUIRE_ALL").is_none_or(|value| value != "1"),
        "{line}, but MILLPOND_REQUIRE_ALL=1"
    );
    eprintln!("{line}");
}
